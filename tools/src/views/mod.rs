//! What is shown of volumes, snapshots, keys and stores: the fields of the JSON form.

mod head;
mod heads;
mod key;
mod quota;
mod stats;
mod store;

use offshoot::{KeyId, ResourceId};

pub use crate::views::head::{ExtentView, PinView, SnapshotView, VolumeView};
pub use crate::views::heads::Heads;
pub use crate::views::key::{AliasView, AuditView, KeyView};
pub use crate::views::quota::QuotaView;
pub use crate::views::stats::StatsView;
pub use crate::views::store::StoreView;

/// A time as RFC 3339 in UTC.
pub fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| ms.to_string(), |time| format!("{time:.3}"))
}

/// A time that may not be.
pub fn optional_time(ms: Option<u64>) -> Option<String> {
    ms.map(time)
}

fn id_text(id: Option<ResourceId>) -> Option<String> {
    id.map(|id| id.to_string())
}

/// A key's id as text.
pub fn key_text(key: KeyId) -> String {
    key.to_string()
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::Value;

    use super::*;
    use crate::output::View;

    /// The fields that the printers know are those of the JSON form.
    fn check<V: View + Serialize>(view: &V) {
        let Ok(Value::Object(fields)) = serde_json::to_value(view) else {
            panic!("{} is no object", V::NOUN);
        };
        let names: Vec<_> = fields.keys().map(String::as_str).collect();
        assert_eq!(names, V::FIELDS, "{}", V::NOUN);
        assert!(
            V::COLUMNS.iter().all(|column| V::FIELDS.contains(column)),
            "{}",
            V::NOUN
        );
        assert!(V::FIELDS.contains(&V::NAME), "{}", V::NOUN);
    }

    #[test]
    fn the_fields_of_every_view_are_listed() {
        check(&VolumeView::default());
        check(&SnapshotView::default());
        check(&PinView::default());
        check(&ExtentView::default());
        check(&KeyView::default());
        check(&AliasView::default());
        check(&AuditView::default());
        check(&StoreView::default());
        check(&QuotaView::default());
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert!(!time(u64::MAX).is_empty());
    }
}

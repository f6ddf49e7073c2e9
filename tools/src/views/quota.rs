//! How much a store may take.

use offshoot::QuotaInfo;
use serde::Serialize;

use crate::output::View;

/// How much a store may take and how much it takes.
#[derive(Debug, Default, Serialize)]
pub struct QuotaView {
    quota_bytes: Option<u64>,
    used_bytes: u64,
    quota_heads: Option<u64>,
    used_heads: u64,
    keep_free_bytes: Option<u64>,
    free_bytes: u64,
}

impl View for QuotaView {
    const NOUN: &'static str = "quota";
    const PLURAL: &'static str = "quotas";
    const LIST: &'static str = "quota-list/1";
    const NAME: &'static str = "quota_bytes";
    const FIELDS: &'static [&'static str] = &[
        "quota_bytes",
        "used_bytes",
        "quota_heads",
        "used_heads",
        "keep_free_bytes",
        "free_bytes",
    ];
    const COLUMNS: &'static [&'static str] = Self::FIELDS;
}

impl From<QuotaInfo> for QuotaView {
    fn from(info: QuotaInfo) -> Self {
        Self {
            quota_bytes: info.quota.bytes,
            used_bytes: info.used_bytes,
            quota_heads: info.quota.heads,
            used_heads: info.heads,
            keep_free_bytes: info.quota.keep_free,
            free_bytes: info.free_bytes,
        }
    }
}

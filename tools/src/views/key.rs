//! KMS keys.

use offshoot::KeyInfo;
use serde::Serialize;

use crate::output::View;
use crate::views::{key_text, time};

/// A KMS key.
#[derive(Debug, Default, Serialize)]
pub struct KeyView {
    id: String,
    arn: String,
    aliases: Vec<String>,
    status: String,
    region: String,
    version: u32,
    created_at: String,
}

impl View for KeyView {
    const NOUN: &'static str = "key";
    const PLURAL: &'static str = "keys";
    const LIST: &'static str = "key-list/1";
    const NAME: &'static str = "id";
    const FIELDS: &'static [&'static str] = &[
        "id",
        "arn",
        "aliases",
        "status",
        "region",
        "version",
        "created_at",
    ];
    const COLUMNS: &'static [&'static str] = &["id", "aliases", "status", "version", "created_at"];
}

impl From<KeyInfo> for KeyView {
    fn from(key: KeyInfo) -> Self {
        Self {
            id: key_text(key.id),
            arn: key.arn,
            aliases: key.aliases,
            status: key.state.to_string(),
            region: key.region,
            version: key.version,
            created_at: time(key.created_at_ms),
        }
    }
}

//! KMS keys, their aliases, and what was done with them.

use offshoot::{AliasInfo, KeyInfo};
use serde::Serialize;

use crate::output::View;
use crate::views::{key_text, optional_time, time};

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
    deletion_at: Option<String>,
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
        "deletion_at",
    ];
    const COLUMNS: &'static [&'static str] = &["id", "aliases", "status", "version", "created_at"];
}

impl From<KeyInfo> for KeyView {
    fn from(key: KeyInfo) -> Self {
        Self {
            id: key_text(key.id),
            arn: key.arn,
            aliases: key.aliases,
            status: key.state.as_str().to_owned(),
            region: key.region,
            version: key.version,
            created_at: time(key.created_at_ms),
            deletion_at: optional_time(key.deletion_at_ms),
        }
    }
}

/// A name that stands for a KMS key.
#[derive(Debug, Default, Serialize)]
pub struct AliasView {
    name: String,
    arn: String,
    key_id: String,
}

impl View for AliasView {
    const NOUN: &'static str = "alias";
    const PLURAL: &'static str = "aliases";
    const LIST: &'static str = "alias-list/1";
    const FIELDS: &'static [&'static str] = &["name", "arn", "key_id"];
    const COLUMNS: &'static [&'static str] = &["name", "key_id"];
}

impl From<AliasInfo> for AliasView {
    fn from(alias: AliasInfo) -> Self {
        Self {
            name: alias.name,
            arn: alias.arn,
            key_id: key_text(alias.key),
        }
    }
}

/// A line of the KMS's audit.
#[derive(Debug, Default, Serialize)]
pub struct AuditView {
    /// Its number in the file.
    pub line: u64,
    /// When it was written.
    pub time: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// With which key.
    pub key_id: Option<String>,
    /// What for.
    pub purpose: Option<String>,
    /// For which store.
    pub store_id: Option<String>,
    /// For which volume, snapshot or store.
    pub resource_id: Option<String>,
    /// Whether it continues the chain of hashes.
    pub in_chain: bool,
}

impl View for AuditView {
    const NOUN: &'static str = "line";
    const PLURAL: &'static str = "lines";
    const LIST: &'static str = "audit/1";
    const NAME: &'static str = "line";
    const FIELDS: &'static [&'static str] = &[
        "line",
        "time",
        "action",
        "key_id",
        "purpose",
        "store_id",
        "resource_id",
        "in_chain",
    ];
    const COLUMNS: &'static [&'static str] = &[
        "time",
        "action",
        "key_id",
        "purpose",
        "resource_id",
        "in_chain",
    ];
}

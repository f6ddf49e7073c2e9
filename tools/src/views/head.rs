//! Volumes and snapshots, and what is mapped in them.

use offshoot::{Extent, ExtentKind, PinInfo, Usage};
use serde::Serialize;

use crate::output::View;
use crate::views::{key_text, time};

/// A volume.
#[derive(Debug, Default, Serialize)]
pub struct VolumeView {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) region: String,
    pub(super) status: &'static str,
    pub(super) deletion_protection: bool,
    pub(super) kms_key_id: String,
    pub(super) kms_key_arn: Option<String>,
    pub(super) origin_id: Option<String>,
    pub(super) origin_name: Option<String>,
    pub(super) clone_group_id: Option<String>,
    pub(super) created_at: String,
    pub(super) size_bytes: u64,
    #[serde(flatten)]
    pub(super) usage: UsageView,
}

impl View for VolumeView {
    const NOUN: &'static str = "volume";
    const PLURAL: &'static str = "volumes";
    const LIST: &'static str = "volume-list/1";
    const FIELDS: &'static [&'static str] = &[
        "name",
        "id",
        "arn",
        "region",
        "status",
        "deletion_protection",
        "kms_key_id",
        "kms_key_arn",
        "origin_id",
        "origin_name",
        "clone_group_id",
        "created_at",
        "size_bytes",
        "referenced_bytes",
        "exclusive_bytes",
        "exclusive_settled",
        "shared_bytes",
        "charged_bytes",
        "split_bytes",
    ];
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "status",
        "size_bytes",
        "referenced_bytes",
        "exclusive_bytes",
        "shared_bytes",
        "origin_name",
        "created_at",
    ];
}

/// A snapshot.
#[derive(Debug, Default, Serialize)]
pub struct SnapshotView {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) region: String,
    pub(super) status: &'static str,
    pub(super) kms_key_id: String,
    pub(super) kms_key_arn: Option<String>,
    pub(super) snapshot_type: &'static str,
    pub(super) volume_id: String,
    pub(super) volume_name: Option<String>,
    pub(super) created_at: String,
    pub(super) size_bytes: u64,
    #[serde(flatten)]
    pub(super) usage: UsageView,
}

impl View for SnapshotView {
    const NOUN: &'static str = "snapshot";
    const PLURAL: &'static str = "snapshots";
    const LIST: &'static str = "snapshot-list/1";
    const FIELDS: &'static [&'static str] = &[
        "name",
        "id",
        "arn",
        "region",
        "status",
        "kms_key_id",
        "kms_key_arn",
        "snapshot_type",
        "volume_id",
        "volume_name",
        "created_at",
        "size_bytes",
        "referenced_bytes",
        "exclusive_bytes",
        "exclusive_settled",
        "shared_bytes",
        "charged_bytes",
        "split_bytes",
    ];
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "volume_name",
        "snapshot_type",
        "status",
        "size_bytes",
        "referenced_bytes",
        "exclusive_bytes",
        "shared_bytes",
        "created_at",
    ];
}

/// What a head holds; nothing is said where it cannot be known.
#[derive(Debug, Default, Serialize)]
pub(super) struct UsageView {
    pub(super) referenced_bytes: Option<u64>,
    pub(super) exclusive_bytes: Option<u64>,
    pub(super) exclusive_settled: Option<bool>,
    pub(super) shared_bytes: Option<u64>,
    pub(super) charged_bytes: Option<u64>,
    pub(super) split_bytes: Option<u64>,
}

/// A pin.
#[derive(Debug, Default, Serialize)]
pub struct PinView {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) kms_key_id: String,
    pub(super) held_id: String,
    pub(super) held_name: Option<String>,
    pub(super) created_at: String,
    pub(super) age_seconds: u64,
    pub(super) size_bytes: u64,
    #[serde(flatten)]
    pub(super) usage: UsageView,
}

impl View for PinView {
    const NOUN: &'static str = "pin";
    const PLURAL: &'static str = "pins";
    const LIST: &'static str = "pin-list/1";
    const FIELDS: &'static [&'static str] = &[
        "name",
        "id",
        "kms_key_id",
        "held_id",
        "held_name",
        "created_at",
        "age_seconds",
        "size_bytes",
        "referenced_bytes",
        "exclusive_bytes",
        "exclusive_settled",
        "shared_bytes",
        "charged_bytes",
        "split_bytes",
    ];
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "held_name",
        "created_at",
        "age_seconds",
        "referenced_bytes",
        "exclusive_bytes",
    ];
}

impl PinView {
    /// Of a pin, as of now.
    pub(super) fn new(info: PinInfo, held_name: Option<String>, usage: UsageView) -> Self {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let age_ms = u64::try_from(now_ms)
            .unwrap_or(0)
            .saturating_sub(info.created_at_ms);
        Self {
            id: info.id.to_string(),
            kms_key_id: key_text(info.kms_key),
            held_id: info.held_id.to_string(),
            held_name,
            created_at: time(info.created_at_ms),
            age_seconds: age_ms / 1000,
            size_bytes: info.len,
            usage,
            name: info.name,
        }
    }
}

/// What is mapped in one range.
#[derive(Debug, Default, Serialize)]
pub struct ExtentView {
    offset_bytes: u64,
    length_bytes: u64,
    kind: &'static str,
    depth: u32,
}

impl View for ExtentView {
    const NOUN: &'static str = "extent";
    const PLURAL: &'static str = "extents";
    const LIST: &'static str = "volume-map/1";
    const NAME: &'static str = "offset_bytes";
    const FIELDS: &'static [&'static str] = &["offset_bytes", "length_bytes", "kind", "depth"];
    const COLUMNS: &'static [&'static str] = Self::FIELDS;
}

impl From<Extent> for ExtentView {
    fn from(extent: Extent) -> Self {
        let kind = match extent.kind {
            ExtentKind::Data => "data",
            ExtentKind::Zero => "zero",
            ExtentKind::Hole => "hole",
        };
        let (offset_bytes, length_bytes) = (extent.offset, extent.len);
        Self {
            offset_bytes,
            length_bytes,
            kind,
            depth: extent.depth,
        }
    }
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self {
            referenced_bytes: Some(usage.referenced_bytes),
            exclusive_bytes: Some(usage.exclusive_bytes),
            exclusive_settled: Some(usage.exclusive_settled),
            shared_bytes: Some(usage.shared_bytes),
            charged_bytes: None,
            split_bytes: None,
        }
    }
}

//! Stores.

use std::path::Path;

use offshoot::StoreInfo;
use serde::Serialize;

use crate::output::View;
use crate::views::{key_text, time};

/// A store.
#[derive(Debug, Default, Serialize)]
pub struct StoreView {
    id: String,
    region: String,
    path: String,
    kms_path: String,
    kms_key_id: String,
    created_at: String,
    format_version: u32,
    generation: u64,
    page_bytes: u32,
    segment_bytes: u64,
    atomic_write_bytes: u64,
    segment_count: u32,
    volume_count: u64,
    snapshot_count: u64,
}

impl View for StoreView {
    const NOUN: &'static str = "store";
    const PLURAL: &'static str = "stores";
    const LIST: &'static str = "store-list/1";
    const NAME: &'static str = "id";
    const FIELDS: &'static [&'static str] = &[
        "id",
        "region",
        "path",
        "kms_path",
        "kms_key_id",
        "created_at",
        "format_version",
        "generation",
        "page_bytes",
        "segment_bytes",
        "atomic_write_bytes",
        "segment_count",
        "volume_count",
        "snapshot_count",
    ];
    const COLUMNS: &'static [&'static str] = Self::FIELDS;
}

impl StoreView {
    /// Of a store in its places.
    pub fn new(info: &StoreInfo, region: String, path: &Path, kms_path: &Path) -> Self {
        Self {
            id: info.id.to_string(),
            region,
            path: path.display().to_string(),
            kms_path: kms_path.display().to_string(),
            kms_key_id: key_text(info.kms_key),
            created_at: time(info.created_at_ms),
            format_version: info.format_version,
            generation: info.generation,
            page_bytes: info.page_len,
            segment_bytes: info.segment_len,
            atomic_write_bytes: info.atomic_write_len,
            segment_count: info.segment_count,
            volume_count: info.volume_count,
            snapshot_count: info.snapshot_count,
        }
    }
}

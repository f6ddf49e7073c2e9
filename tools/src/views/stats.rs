//! What a store takes and what is in it.

use offshoot::check::Stats as Checked;
use offshoot::{StoreInfo, StoreStats};
use serde::Serialize;

use crate::output::View;

/// What a store takes and what is in it.
#[derive(Debug, Default, Serialize)]
pub struct StatsView {
    id: String,
    segment_count: u32,
    allocated_bytes: u64,
    used_bytes: u64,
    spare_bytes: u64,
    log_bytes: u64,
    kept_log_bytes: u64,
    generation: u64,
    volume_count: u64,
    snapshot_count: u64,
    deleted_count: u64,
    lineage_epoch_count: u64,
    key_epoch_count: u64,
    tree_levels: u64,
    live_bytes: Option<u64>,
    node_bytes: Option<u64>,
    live_percent: Option<u64>,
}

impl View for StatsView {
    const NOUN: &'static str = "store-stats";
    const PLURAL: &'static str = "stats";
    const LIST: &'static str = "store-stats-list/1";
    const NAME: &'static str = "id";
    const FIELDS: &'static [&'static str] = &[
        "id",
        "segment_count",
        "allocated_bytes",
        "used_bytes",
        "spare_bytes",
        "log_bytes",
        "kept_log_bytes",
        "generation",
        "volume_count",
        "snapshot_count",
        "deleted_count",
        "lineage_epoch_count",
        "key_epoch_count",
        "tree_levels",
        "live_bytes",
        "node_bytes",
        "live_percent",
    ];
    const COLUMNS: &'static [&'static str] = Self::FIELDS;
}

impl StatsView {
    /// Of an open store.
    pub fn new(info: &StoreInfo, stats: &StoreStats) -> Self {
        Self {
            id: info.id.to_string(),
            segment_count: info.segment_count,
            allocated_bytes: u64::from(info.segment_count) * info.segment_len,
            used_bytes: info.used_bytes,
            spare_bytes: stats.spare_bytes,
            log_bytes: stats.log_len,
            kept_log_bytes: stats.kept_log_len,
            generation: info.generation,
            volume_count: info.volume_count,
            snapshot_count: info.snapshot_count,
            deleted_count: stats.deleted_heads,
            lineage_epoch_count: stats.lineage_epochs,
            key_epoch_count: stats.key_epochs,
            tree_levels: stats.tree_levels,
            ..Self::default()
        }
    }

    /// Adds what a walk of all page tables found.
    pub fn walked(mut self, checked: &Checked) -> Self {
        let node_bytes = checked.nodes * 4096;
        let live = checked.data_bytes + node_bytes;
        self.live_bytes = Some(checked.data_bytes);
        self.node_bytes = Some(node_bytes);
        self.live_percent = (live * 100).checked_div(self.used_bytes);
        self
    }
}

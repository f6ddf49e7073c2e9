//! What a store takes and what is in it.

use offshoot::check::Stats as Checked;
use offshoot::{ScrubState, SpaceInfo, StoreInfo, StoreStats};
use serde::Serialize;

use crate::output::View;
use crate::views::time;

/// What a store takes and what is in it.
#[derive(Debug, Default, Serialize)]
pub struct StatsView {
    id: String,
    segment_count: u32,
    allocated_bytes: u64,
    used_bytes: u64,
    log_bytes: u64,
    kept_log_bytes: u64,
    generation: u64,
    volume_count: u64,
    snapshot_count: u64,
    deleted_count: u64,
    lineage_epoch_count: u64,
    key_epoch_count: u64,
    tree_levels: u64,
    page_bytes: u64,
    table_bytes: u64,
    log_held_bytes: u64,
    waiting_bytes: u64,
    reclaimable_bytes: u64,
    spare_bytes: u64,
    snapshot_only_bytes: u64,
    pin_only_bytes: u64,
    pin_count: u64,
    deleted_bytes: u64,
    space_settled: bool,
    scrub_finding_count: Option<u64>,
    scrubbed_at: Option<String>,
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
        "page_bytes",
        "table_bytes",
        "log_held_bytes",
        "waiting_bytes",
        "reclaimable_bytes",
        "spare_bytes",
        "snapshot_only_bytes",
        "pin_only_bytes",
        "pin_count",
        "deleted_bytes",
        "space_settled",
        "scrub_finding_count",
        "scrubbed_at",
        "live_bytes",
        "node_bytes",
        "live_percent",
    ];
    const COLUMNS: &'static [&'static str] = Self::FIELDS;
}

impl StatsView {
    /// Of an open store.
    pub fn new(info: &StoreInfo, stats: &StoreStats, space: &SpaceInfo, pins: usize) -> Self {
        Self {
            id: info.id.to_string(),
            segment_count: info.segment_count,
            allocated_bytes: space.allocated_bytes,
            used_bytes: info.used_bytes,
            log_bytes: stats.log_len,
            kept_log_bytes: stats.kept_log_len,
            generation: info.generation,
            volume_count: info.volume_count,
            snapshot_count: info.snapshot_count,
            deleted_count: stats.deleted_heads,
            lineage_epoch_count: stats.lineage_epochs,
            key_epoch_count: stats.key_epochs,
            tree_levels: stats.tree_levels,
            page_bytes: space.page_bytes,
            table_bytes: space.node_bytes,
            log_held_bytes: space.log_bytes,
            waiting_bytes: space.waiting_bytes,
            reclaimable_bytes: space.reclaimable_bytes,
            spare_bytes: space.spare_bytes,
            snapshot_only_bytes: space.snapshot_bytes,
            pin_only_bytes: space.pin_bytes,
            pin_count: pins as u64,
            deleted_bytes: space.deleted_bytes,
            space_settled: space.is_settled,
            ..Self::default()
        }
    }

    /// Adds what scrubs have come to, if that can be read.
    pub fn scrubbed(mut self, state: Option<&ScrubState>) -> Self {
        let count = |state: &ScrubState| state.findings.len() as u64 + state.more_findings;
        self.scrub_finding_count = state.map(count);
        self.scrubbed_at = state.and_then(|state| state.ended_at_ms).map(time);
        self
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

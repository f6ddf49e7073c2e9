//! What a store has done since it was opened, and what it takes now.

use crate::error::Result;
use crate::store::inner::Inner;
use crate::sync::{AtomicU64, Ordering};
use crate::units::{SLOT_LEN, SlotAddr};

/// What a store has done since it was opened, and what it takes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Read calls.
    pub reads: u64,
    /// Bytes that they asked for.
    pub read_bytes: u64,
    /// Write calls: writes, zeroes, discards.
    pub writes: u64,
    /// Bytes that were given to be written; zeroes and discards have none.
    pub written_bytes: u64,
    /// Batches appended to the log.
    pub batches: u64,
    /// Bytes appended to the log: written pages, their headers, and checkpoints.
    pub appended_bytes: u64,
    /// Flushes asked for, also by calls that are durable on return.
    pub flushes: u64,
    /// Syncs of segment files: fewer than flushes where flushes share them.
    pub syncs: u64,
    /// Superblocks written.
    pub checkpoints: u64,
    /// Packed files that reclaim made.
    pub packs: u64,
    /// Bytes that it copied into them.
    pub moved_bytes: u64,
    /// Bytes that it gave back.
    pub freed_bytes: u64,
    /// Bytes of log since the last checkpoint: what an open after a crash would read.
    pub log_len: u64,
    /// Bytes of log that are kept, counted in whole segments but for the first and the last: since
    /// the checkpoint before the last one, from which an open goes on should the last one be
    /// damaged.
    pub kept_log_len: u64,
    /// Segments that a flush would sync.
    pub unsynced_segments: u64,
    /// Segments open now: each takes a descriptor and a map.
    pub open_segments: u64,
    /// Files of a segment's length that are kept for a full disk or to be written next.
    pub spares: u64,
    /// Bytes that they take.
    pub spare_bytes: u64,
    /// Leaves of page tables that were in the cache when they were asked for.
    pub leaf_hits: u64,
    /// Leaves that had to be read.
    pub leaf_misses: u64,
    /// Nodes in the cache.
    pub cached_nodes: u64,
    /// Bytes of memory that the cache takes.
    pub cache_bytes: u64,
    /// Volumes and snapshots.
    pub heads: u64,
    /// Heads that were deleted and whose space was not reclaimed yet.
    pub deleted_heads: u64,
    /// Lineage epochs.
    pub lineage_epochs: u64,
    /// Key epochs.
    pub key_epochs: u64,
    /// Levels of the highest page table: nodes on the way to a page.
    pub tree_levels: u64,
}

/// Counts what is done. Nothing depends on the counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    reads: [Stripe; 8],
    pub writes: Counter,
    pub written_bytes: Counter,
    pub batches: Counter,
    pub appended_bytes: Counter,
    pub flushes: Counter,
    pub syncs: Counter,
    pub checkpoints: Counter,
    pub packs: Counter,
    pub moved_bytes: Counter,
    pub freed_bytes: Counter,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

/// Reads of some threads, on a cache line of its own: readers share nothing that they write to.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    calls: Counter,
    bytes: Counter,
}

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Counts a read of `len` bytes.
    pub fn read(&self, len: usize) {
        // Threads have stacks of their own, far apart: so where this is tells them apart.
        let here = (&raw const len).addr() >> 16;
        let stripe = &self.reads[here % self.reads.len()];
        stripe.calls.add(1);
        stripe.bytes.add(len as u64);
    }
}

impl Inner {
    /// Bytes of segments from one place of the log to another.
    fn distance(&self, from: SlotAddr, to: SlotAddr) -> u64 {
        let per_segment = u64::from(self.segments.geometry().segment_slots);
        let slots = |at: SlotAddr| u64::from(at.segment.0) * per_segment + u64::from(at.slot);
        slots(to).saturating_sub(slots(from)) * SLOT_LEN as u64
    }

    /// What the store has done, and what it takes now.
    pub fn stats(&self) -> Result<StoreStats> {
        self.open()?;
        let (counters, cache) = (&self.counters, self.nodes.counts());
        let reads = counters.reads.iter();
        let (log_len, kept_log_len, unsynced) = {
            let commit = self.commit.lock();
            let kept_len = self.distance(commit.kept_from, commit.log.position().end);
            (commit.log_len, kept_len, commit.unsynced.len() as u64)
        };
        let catalog = self.state.read().counts();
        Ok(StoreStats {
            reads: reads.clone().map(|stripe| stripe.calls.get()).sum(),
            read_bytes: reads.map(|stripe| stripe.bytes.get()).sum(),
            writes: counters.writes.get(),
            written_bytes: counters.written_bytes.get(),
            batches: counters.batches.get(),
            appended_bytes: counters.appended_bytes.get(),
            flushes: counters.flushes.get(),
            syncs: counters.syncs.get(),
            checkpoints: counters.checkpoints.get(),
            packs: counters.packs.get(),
            moved_bytes: counters.moved_bytes.get(),
            freed_bytes: counters.freed_bytes.get(),
            log_len,
            kept_log_len,
            unsynced_segments: unsynced,
            open_segments: self.segments.open_count() as u64,
            spares: self.segments.spare_count() as u64,
            spare_bytes: self.segments.spare_len() + self.segments.kept_len(),
            leaf_hits: cache.leaf_hits,
            leaf_misses: cache.leaf_misses,
            cached_nodes: cache.nodes,
            cache_bytes: cache.bytes,
            heads: catalog.heads,
            deleted_heads: catalog.deleted_heads,
            lineage_epochs: catalog.lineage_epochs,
            key_epochs: catalog.key_epochs,
            tree_levels: catalog.tree_levels,
        })
    }
}

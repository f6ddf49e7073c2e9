//! A cache of page-table nodes, and how they are loaded.

mod frames;

use crate::btree::{Look, Node, NodeSource, damaged};
use crate::error::Result;
use crate::format::node::{DiskNode, NodeRef};
use crate::segment::Segments;
use crate::store::nodes::frames::{FRAME_COST, Frames, Known};
use crate::sync::{Arc, AtomicU64, Ordering, RwLock};
use crate::units::{PageNo, SLOT_LEN, SlotAddr};

/// The least that a shard holds: a few nodes, or every look-up would read a file.
const SHARD_BYTES_MIN: usize = 64 << 10;
/// Most shards. Threads that look up different nodes mostly take different locks.
const SHARDS_MAX: usize = 16;

/// Written nodes in memory.
///
/// Shards by address, each with a clock: whoever was used since the hand passed last stays.
#[derive(Debug)]
pub(super) struct NodeCache {
    segments: Arc<Segments>,
    shards: Vec<Shard>,
}

/// What the cache did, and what it takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CacheCounts {
    /// Leaves that were there when they were asked for.
    pub leaf_hits: u64,
    /// Leaves that had to be read.
    pub leaf_misses: u64,
    /// Nodes now.
    pub nodes: u64,
    /// Bytes that they take.
    pub bytes: u64,
}

/// On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    nodes: RwLock<Frames>,
    leaf_hits: AtomicU64,
    leaf_misses: AtomicU64,
}

impl NodeCache {
    /// A cache that takes up to `bytes`.
    pub fn new(segments: Arc<Segments>, bytes: usize) -> Self {
        let count = (bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let nodes_max = (bytes / count).max(SHARD_BYTES_MIN) / FRAME_COST;
        Self {
            segments,
            shards: (0..count).map(|_| Shard::new(nodes_max)).collect(),
        }
    }

    /// Adds a node that was just written there, as that slot.
    pub fn insert(&self, at: SlotAddr, node: &DiskNode, slot: &[u8]) {
        if let Some(known) = Known::of(node) {
            self.shard(at).nodes.write().insert(at, known, slot);
        }
    }

    /// What the cache did so far, and what it takes now.
    pub fn counts(&self) -> CacheCounts {
        let mut counts = CacheCounts::default();
        for shard in &self.shards {
            let nodes = shard.nodes.read();
            counts.leaf_hits += shard.leaf_hits.load(Ordering::Relaxed);
            counts.leaf_misses += shard.leaf_misses.load(Ordering::Relaxed);
            counts.nodes += nodes.len() as u64;
            counts.bytes += (nodes.len() * FRAME_COST) as u64;
        }
        counts
    }

    fn shard(&self, at: SlotAddr) -> &Shard {
        // Nodes are written one after the other, so neighbours are in different shards.
        &self.shards[at.slot as usize % self.shards.len()]
    }

    /// Reads a node, and adds it.
    fn read(&self, node: &NodeRef) -> Result<DiskNode> {
        let mut slot = [0; SLOT_LEN];
        let mut read = || {
            self.segments.read_slots(node.at, &mut slot)?;
            DiskNode::decode(&slot, node).map_err(|damage| damaged(node, damage))
        };
        // Its file may have been packed, and then used for something else, while it was read.
        let disk = read().or_else(|_| read())?;
        self.insert(node.at, &disk, &slot);
        Ok(disk)
    }
}

impl NodeSource for NodeCache {
    fn load(&self, node: &NodeRef) -> Result<Arc<Node>> {
        let shard = self.shard(node.at);
        let nodes = shard.nodes.read();
        let cached = nodes.get(node.at).map(|(known, slot)| known.decode(slot));
        drop(nodes);
        shard.count(node.level, cached.is_some());
        let disk = match cached {
            Some(decoded) => decoded.map_err(|damage| damaged(node, damage))?,
            None => self.read(node)?,
        };
        Ok(Arc::new(Node::from_disk(disk, *node)))
    }

    fn look(&self, node: &NodeRef, page: PageNo) -> Result<Look> {
        let shard = self.shard(node.at);
        let nodes = shard.nodes.read();
        let seen = nodes
            .get(node.at)
            .map(|(known, slot)| known.look(slot, page));
        drop(nodes);
        shard.count(node.level, seen.is_some());
        let looked = match seen {
            Some(looked) => looked,
            None => Node::from_disk(self.read(node)?, *node).look(page),
        };
        looked.map_err(|damage| damaged(node, damage))
    }
}

impl Shard {
    fn new(nodes_max: usize) -> Self {
        Self {
            nodes: RwLock::new(Frames::new(nodes_max)),
            leaf_hits: AtomicU64::new(0),
            leaf_misses: AtomicU64::new(0),
        }
    }

    fn count(&self, level: u8, is_hit: bool) {
        if level == 0 {
            let count = if is_hit {
                &self.leaf_hits
            } else {
                &self.leaf_misses
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;

//! A cache of page-table nodes, and how they are loaded.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt};

use crate::btree::{Node, NodeSource};
use crate::error::{Error, Result};
use crate::format::node::{DiskNode, NodeRef};
use crate::segment::Segments;
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, RwLock};
use crate::units::{Location, SLOT_LEN, SlotAddr};

/// What a cached node takes beside itself: counts of references, its place in the hash table and
/// in the order, and what the allocator adds.
const ENTRY_COST: usize = 128;
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
    shard_bytes: usize,
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
    nodes: RwLock<Clock>,
    leaf_hits: AtomicU64,
    leaf_misses: AtomicU64,
}

#[derive(Debug)]
struct Clock {
    nodes: HashMap<SlotAddr, Cached>,
    /// The hand is at the front.
    order: VecDeque<SlotAddr>,
    bytes: usize,
}

#[derive(Debug)]
struct Cached {
    node: Arc<Node>,
    /// Whether it was used since the hand passed.
    used: AtomicBool,
}

impl NodeCache {
    /// A cache that takes up to `bytes`, but for nodes that somebody holds.
    pub fn new(segments: Arc<Segments>, bytes: usize) -> Self {
        let count = (bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        Self {
            segments,
            shards: (0..count).map(|_| Shard::new()).collect(),
            shard_bytes: (bytes / count).max(SHARD_BYTES_MIN),
        }
    }

    /// Adds a node that was just written.
    pub fn insert(&self, at: SlotAddr, node: Arc<Node>) {
        let mut nodes = self.shard(at).nodes.write();
        let dropped = nodes.insert(at, node, self.shard_bytes);
        drop(nodes);
        // Readers need not wait for memory to be given back.
        drop(dropped);
    }

    /// What the cache did so far, and what it takes now.
    pub fn counts(&self) -> CacheCounts {
        let mut counts = CacheCounts::default();
        for shard in &self.shards {
            let nodes = shard.nodes.read();
            counts.leaf_hits += shard.leaf_hits.load(Ordering::Relaxed);
            counts.leaf_misses += shard.leaf_misses.load(Ordering::Relaxed);
            counts.nodes += nodes.nodes.len() as u64;
            counts.bytes += nodes.bytes as u64;
        }
        counts
    }

    fn shard(&self, at: SlotAddr) -> &Shard {
        // Nodes are written one after the other, so neighbours are in different shards.
        &self.shards[at.slot as usize % self.shards.len()]
    }

    fn read(&self, node: &NodeRef) -> Result<DiskNode> {
        let mut slot = [0; SLOT_LEN];
        self.segments.read_slots(node.at, &mut slot)?;
        DiskNode::decode(&slot, node).map_err(|damage| Error::Corrupt {
            location: Location::Slot(node.at),
            damage,
        })
    }

    fn cached(&self, node: &NodeRef) -> Option<Arc<Node>> {
        let shard = self.shard(node.at);
        let found = shard.nodes.read().get(node.at);
        if node.level == 0 {
            let count = match found {
                Some(_) => &shard.leaf_hits,
                None => &shard.leaf_misses,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        found
    }
}

impl NodeSource for NodeCache {
    fn load(&self, node: &NodeRef) -> Result<Arc<Node>> {
        if let Some(node) = self.cached(node) {
            return Ok(node);
        }
        // Its file may have been packed, and then used for something else, while it was read.
        let disk = self.read(node).or_else(|_| self.read(node))?;
        let loaded = Arc::new(Node::from_disk(disk, *node));
        self.insert(node.at, loaded.clone());
        Ok(loaded)
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            nodes: RwLock::new(Clock {
                nodes: HashMap::new(),
                order: VecDeque::new(),
                bytes: 0,
            }),
            leaf_hits: AtomicU64::new(0),
            leaf_misses: AtomicU64::new(0),
        }
    }
}

impl Clock {
    fn get(&self, at: SlotAddr) -> Option<Arc<Node>> {
        let cached = self.nodes.get(&at)?;
        // Looking is cheaper than writing to memory that all readers share.
        if !cached.used.load(Ordering::Relaxed) {
            cached.used.store(true, Ordering::Relaxed);
        }
        Some(cached.node.clone())
    }

    /// Adds a node; takes out what must go for it.
    #[must_use]
    fn insert(&mut self, at: SlotAddr, node: Arc<Node>, bytes_max: usize) -> Vec<Arc<Node>> {
        let cost = cost(&node);
        let cached = Cached {
            node,
            used: AtomicBool::new(false),
        };
        let mut dropped = Vec::new();
        match self.nodes.insert(at, cached) {
            Some(old) => {
                self.bytes -= self::cost(&old.node);
                dropped.push(old.node);
            }
            None => self.order.push_back(at),
        }
        self.bytes += cost;
        while self.bytes > bytes_max && self.order.len() > 1 {
            dropped.extend(self.pass());
        }
        dropped
    }

    /// Moves the hand by one: gives the node there unless it was used.
    fn pass(&mut self) -> Option<Arc<Node>> {
        let at = self.order.pop_front()?;
        let was_used = |cached: &mut Cached| std::mem::take(cached.used.get_mut());
        if self.nodes.get_mut(&at).is_some_and(was_used) {
            self.order.push_back(at);
            return None;
        }
        let cached = self.nodes.remove(&at)?;
        self.bytes -= cost(&cached.node);
        Some(cached.node)
    }
}

/// Bytes that a cached node takes. It does not change any more, so neither does this.
fn cost(node: &Node) -> usize {
    node.memory_len() + ENTRY_COST
}

#[cfg(test)]
mod tests;

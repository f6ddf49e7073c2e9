//! A cache of page-table nodes, and how they are loaded.

use std::collections::HashMap;

use crate::btree::{Node, NodeSource};
use crate::error::{Error, Result};
use crate::format::node::{DiskNode, NodeRef};
use crate::segment::Segments;
use crate::sync::{Arc, Mutex};
use crate::units::{Location, SLOT_LEN, SlotAddr};

/// What a decoded node takes in memory, roughly.
const NODE_COST: usize = 8 << 10;

/// Written nodes in memory.
///
/// Two generations stand in for an order of use: what is used moves to the young one, and when
/// that is full, the old one goes.
#[derive(Debug)]
pub(super) struct NodeCache {
    segments: Arc<Segments>,
    generation_len: usize,
    nodes: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<SlotAddr, Arc<Node>>,
    old: HashMap<SlotAddr, Arc<Node>>,
}

impl NodeCache {
    /// A cache that takes about `bytes`.
    pub fn new(segments: Arc<Segments>, bytes: usize) -> Self {
        let generation_len = (bytes / NODE_COST / 2).max(16);
        Self {
            segments,
            generation_len,
            nodes: Mutex::default(),
        }
    }

    /// Adds a node that was just written.
    pub fn insert(&self, at: SlotAddr, node: Arc<Node>) {
        let mut nodes = self.nodes.lock();
        if nodes.young.len() >= self.generation_len {
            nodes.old = std::mem::take(&mut nodes.young);
        }
        nodes.young.insert(at, node);
    }

    fn cached(&self, at: SlotAddr) -> Option<Arc<Node>> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.young.get(&at) {
            return Some(node.clone());
        }
        let node = nodes.old.remove(&at)?;
        nodes.young.insert(at, node.clone());
        Some(node)
    }
}

impl NodeSource for NodeCache {
    fn load(&self, node: &NodeRef) -> Result<Arc<Node>> {
        if let Some(node) = self.cached(node.at) {
            return Ok(node);
        }
        let mut slot = vec![0; SLOT_LEN];
        self.segments.read_slots(node.at, &mut slot)?;
        let disk = DiskNode::decode(&slot, node).map_err(|damage| Error::Corrupt {
            location: Location::Slot(node.at),
            damage,
        })?;
        let loaded = Arc::new(Node::from_disk(disk, *node));
        self.insert(node.at, loaded.clone());
        Ok(loaded)
    }
}

//! Which nodes and pages of a head a step reads: those that no step before has read.

use std::collections::HashMap;

use crate::btree::{Node, NodeSource, Visitor};
use crate::catalog::Head;
use crate::error::{Error, Result};
use crate::format::entry::{DataEntry, Entry};
use crate::format::node::{DiskNode, NodeRef};
use crate::format::scrub::{ScrubFault, ScrubFinding};
use crate::io::AlignedBuf;
use crate::slots::SlotSet;
use crate::store::inner::Inner;
use crate::store::scrub::{ScrubStep, finding};
use crate::sync::Arc;
use crate::units::{HeadId, Location, PageNo, SLOT_LEN, SlotAddr};

/// Bytes of pages after which a step ends, and most nodes that it reads.
const STEP_LEN: u64 = 2 << 20;
const STEP_NODES: u64 = 512;
/// So many times a step begins again because a node was let go of meanwhile; then it goes past it.
const STALE_MAX: u32 = 8;

/// What a pass has read.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Slots of pages.
    pages: SlotSet,
    /// Nodes with all that lies below them.
    nodes: SlotSet,
    /// Nodes that the last step left in the middle, and where.
    left: HashMap<SlotAddr, PageNo>,
    /// Bytes that an earlier process has read.
    passed_bytes: u64,
    stale: u32,
}

/// A walk over a head's page table for one step.
struct Look<'a> {
    inner: &'a Inner,
    walk: &'a mut Walk,
    head: HeadId,
    page_len: u64,
    page_slots: u32,
    read_before: Option<(HeadId, PageNo)>,
    left: HashMap<SlotAddr, PageNo>,
    wanted: Vec<(PageNo, DataEntry)>,
    nodes: u64,
    /// Nodes that are broken though in use.
    found: Vec<ScrubFinding>,
}

impl Walk {
    /// Reads the next part of a head; gives the page to go on from, if there is one.
    pub fn go(
        &mut self,
        inner: &Inner,
        head: &Head,
        from: PageNo,
        read_before: Option<(HeadId, PageNo)>,
        step: &mut ScrubStep,
    ) -> Option<PageNo> {
        let mut look = Look {
            inner,
            head: head.record.head,
            page_len: inner.page_len().into(),
            page_slots: inner.segments.geometry().page_slots(),
            read_before,
            left: HashMap::new(),
            wanted: Vec::new(),
            nodes: 0,
            found: Vec::new(),
            walk: self,
        };
        let next = head.tree.visit(&FromDisk(inner), from, &mut look);
        let Look {
            wanted,
            nodes,
            found,
            left,
            ..
        } = look;
        self.left = left;
        step.bytes += nodes * SLOT_LEN as u64;
        step.found
            .extend(found.into_iter().map(|found| ScrubFinding {
                head: Some(inner.describe(head)),
                ..found
            }));
        let page_slots = inner.segments.geometry().page_slots();
        for at in inner.verify(head, wanted, step) {
            self.pages.insert_run(at, page_slots);
        }
        if next != Some(from) {
            self.stale = 0;
        }
        next
    }

    /// Bytes that an earlier process has read, since this was last asked.
    pub fn take_passed_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.passed_bytes)
    }
}

impl Visitor for Look<'_> {
    fn enters(&mut self, at: &NodeRef) -> bool {
        let is_new = !self.walk.nodes.contains(at.at);
        self.nodes += u64::from(is_new);
        is_new
    }

    fn broken(&mut self, at: &NodeRef, error: Error, first: PageNo) -> bool {
        let mut slot = SlotSet::default();
        slot.insert(at.at);
        if !self.inner.are_live(&slot) {
            // It was let go of since the head was looked up: whatever took its place is to be read.
            self.walk.stale += 1;
            return self.walk.stale > STALE_MAX;
        }
        // It will not be any better for the next head that has it.
        self.walk.nodes.insert(at.at);
        self.found.push(ScrubFinding {
            at: Some(at.at),
            page: Some(first),
            ..finding(ScrubFault::NodeDamaged, what(&error))
        });
        true
    }

    fn entry(&mut self, page: PageNo, entry: &Entry) {
        let Entry::Data(data) = entry else { return };
        if self.walk.pages.contains(data.at) {
            return;
        }
        if self
            .read_before
            .is_some_and(|before| (self.head, page) < before)
        {
            self.walk.pages.insert_run(data.at, self.page_slots);
            self.walk.passed_bytes += self.page_len;
            return;
        }
        self.wanted.push((page, *data));
    }

    fn is_full(&self) -> bool {
        self.wanted.len() as u64 * self.page_len >= STEP_LEN || self.nodes >= STEP_NODES
    }

    fn done(&mut self, at: &NodeRef) {
        self.walk.nodes.insert(at.at);
    }

    fn left(&mut self, at: &NodeRef, next: PageNo) {
        self.left.insert(at.at, next);
    }

    fn was_left(&self, at: &NodeRef, next: PageNo) -> bool {
        self.walk.left.get(&at.at) == Some(&next)
    }
}

/// Nodes as they are in their files, whatever is in memory.
struct FromDisk<'a>(&'a Inner);

impl FromDisk<'_> {
    fn read(&self, node: &NodeRef) -> Result<Arc<Node>> {
        let mut slot = AlignedBuf::zeroed(SLOT_LEN);
        self.0.segments.read_slots_directly(node.at, &mut slot)?;
        let disk = DiskNode::decode(&slot, node).map_err(|damage| Error::Corrupt {
            location: Location::Slot(node.at),
            damage,
        })?;
        Ok(Arc::new(Node::from_disk(disk, *node)))
    }
}

impl NodeSource for FromDisk<'_> {
    fn load(&self, node: &NodeRef) -> Result<Arc<Node>> {
        // Its file may have been packed, and then used for something else, while it was read.
        self.read(node).or_else(|_| self.read(node))
    }
}

/// What is wrong, without the place.
pub(super) fn what(error: &Error) -> String {
    match error {
        Error::Corrupt { damage, .. } => damage.to_string(),
        Error::Io { source, .. } => format!("it cannot be read: {source}"),
        other => other.to_string(),
    }
}

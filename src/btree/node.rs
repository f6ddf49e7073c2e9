//! Nodes in memory, and how a child is reached.
//!
//! Invariant: what [`fetch`] returns has the level its parent demands and no items outside the
//! parent's separators, whatever the disk holds. Nothing here changes the shape of a tree.

use crate::btree::look::Look;
use crate::error::{Damage, Error, Result};
use crate::format::entry::Entry;
use crate::format::node::{DiskNode, Items, LEVEL_MAX, NodeRef};
use crate::sync::{Arc, Mutex, OnceLock};
use crate::units::{KeyEpoch, LineageEpoch, Location, PageNo, Seq};

/// Where written nodes come from.
pub trait NodeSource {
    /// Loads the node, having checked that its slot is what the reference names.
    fn load(&self, node: &NodeRef) -> Result<Arc<Node>>;

    /// What the node says of a page; checked in the same way.
    fn look(&self, node: &NodeRef, page: PageNo) -> Result<Look> {
        let looked = self.load(node)?.look(page);
        looked.map_err(|damage| damaged(node, damage))
    }
}

/// A node of a page table.
#[derive(Debug)]
pub struct Node {
    key_epoch: KeyEpoch,
    level: u8,
    body: Body,
    /// The numbers of the first and the last item, of a node that was read: so that looking a
    /// page up need not fetch these items from memory.
    ends: Option<(PageNo, PageNo)>,
    written: OnceLock<NodeRef>,
    /// Who let go of it before it had an address, and after which batch.
    let_go: Mutex<Vec<(LineageEpoch, Seq)>>,
}

/// A child of a node, or the root.
#[derive(Clone, Debug)]
pub enum Child {
    /// It is written, and has to be loaded.
    Disk(NodeRef),
    /// It is in memory, written or not.
    Memory(Arc<Node>),
}

/// The items of a node.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Pages, by number.
    Leaf(Vec<(PageNo, Entry)>),
    /// Children, by the least page number each may hold.
    Inner(Vec<(PageNo, Child)>),
}

/// What a parent says of a child: its level, and the pages it may hold.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// The child's level.
    pub(super) level: u8,
    /// The first page.
    pub(super) start: PageNo,
    /// The page after the last, unless there is no bound.
    pub(super) end: Option<PageNo>,
}

impl Node {
    /// The node that was read from that place.
    pub fn from_disk(disk: DiskNode, at: NodeRef) -> Self {
        let level = disk.level();
        let body = match disk.items {
            Items::Leaf(pages) => Body::Leaf(pages),
            Items::Inner { children, .. } => {
                let children = children.into_iter();
                Body::Inner(
                    children
                        .map(|(first, child)| (first, Child::Disk(child)))
                        .collect(),
                )
            }
        };
        Self {
            key_epoch: disk.key_epoch,
            level,
            ends: body.ends(),
            body,
            written: OnceLock::from(at),
            let_go: Mutex::default(),
        }
    }

    /// Its level; a leaf has 0.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The key epoch of the change that last dirtied it.
    pub fn key_epoch(&self) -> KeyEpoch {
        self.key_epoch
    }

    /// The node as it is on disk. Its children must have addresses.
    pub fn to_disk(&self) -> DiskNode {
        let items = match &self.body {
            Body::Leaf(pages) => Items::Leaf(pages.clone()),
            Body::Inner(children) => {
                let address = |child: &Child| child.written().expect("BUG: a child is not written");
                let children = children
                    .iter()
                    .map(|(first, child)| (*first, address(child)));
                Items::Inner {
                    level: self.level,
                    children: children.collect(),
                }
            }
        };
        DiskNode {
            key_epoch: self.key_epoch,
            items,
        }
    }

    /// Its address, once it has one.
    pub fn written(&self) -> Option<NodeRef> {
        self.written.get().copied()
    }

    /// Gives the node its address: [`encode`](Self::encode)'s bytes are, or are going to be, there.
    pub fn set_written(&self, at: NodeRef) {
        let fits = at.level == self.level && at.key_epoch == self.key_epoch;
        assert!(fits, "BUG: that is the address of another node");
        self.written
            .set(at)
            .expect("BUG: a node got a second address");
    }

    /// Notes that a head with that epoch does not refer to this node any more, which has no
    /// address yet: a checkpoint may give it one, for another head.
    pub fn note_let_go(&self, by: LineageEpoch, after: Seq) {
        self.let_go.lock().push((by, after));
    }

    /// What was noted so.
    pub fn take_let_go(&self) -> Vec<(LineageEpoch, Seq)> {
        std::mem::take(&mut self.let_go.lock())
    }

    pub(super) fn new(key_epoch: KeyEpoch, level: u8, body: Body) -> Self {
        Self {
            key_epoch,
            level,
            body,
            ends: None,
            written: OnceLock::new(),
            let_go: Mutex::default(),
        }
    }

    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    /// The items, to be changed: the node is dirty then, and born in `key_epoch`.
    pub(super) fn body_mut(&mut self, key_epoch: KeyEpoch) -> &mut Body {
        self.key_epoch = key_epoch;
        if self.written.take().is_some() {
            self.body.release();
        }
        self.let_go = Mutex::default();
        self.ends = None;
        &mut self.body
    }

    /// The number of the first and the last item of a node that can be.
    pub(super) fn checked_ends(&self) -> Result<(PageNo, PageNo), Damage> {
        if (self.level == 0) != matches!(self.body, Body::Leaf(_)) {
            return Err(Damage::OutOfRange("level"));
        }
        self.ends().ok_or(Damage::OutOfRange("item_count"))
    }

    /// The number of the first and the last item.
    pub(super) fn ends(&self) -> Option<(PageNo, PageNo)> {
        self.ends.or_else(|| self.body.ends())
    }
}

impl Clone for Node {
    /// A copy has no address: it is made to be changed.
    fn clone(&self) -> Self {
        let mut body = self.body.clone();
        if self.written().is_some() {
            body.release();
        }
        Self::new(self.key_epoch, self.level, body)
    }
}

impl Body {
    /// Lets go of children that have an address, as those of a written node do: they can be
    /// loaded, and memory would fill up with them.
    fn release(&mut self) {
        if let Self::Inner(children) = self {
            for (_, child) in children {
                if let Some(at) = child.written() {
                    *child = Child::Disk(at);
                }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf(pages) => pages.len(),
            Self::Inner(children) => children.len(),
        }
    }

    /// Adds what comes before all its items.
    pub(super) fn prepend(&mut self, before: Self) {
        match (self, before) {
            (Self::Leaf(pages), Self::Leaf(before)) => drop(pages.splice(0..0, before)),
            (Self::Inner(children), Self::Inner(before)) => drop(children.splice(0..0, before)),
            _ => unreachable!("BUG: neighbours of different levels"),
        }
    }

    /// The number of the first and the last item.
    pub(super) fn ends(&self) -> Option<(PageNo, PageNo)> {
        match self {
            Self::Leaf(pages) => Some((pages.first()?.0, pages.last()?.0)),
            Self::Inner(children) => Some((children.first()?.0, children.last()?.0)),
        }
    }
}

impl Child {
    pub(super) fn memory(node: Node) -> Self {
        Self::Memory(Arc::new(node))
    }

    pub(super) fn level(&self) -> u8 {
        match self {
            Self::Disk(at) => at.level,
            Self::Memory(node) => node.level,
        }
    }

    pub(super) fn written(&self) -> Option<NodeRef> {
        match self {
            Self::Disk(at) => Some(*at),
            Self::Memory(node) => node.written(),
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Memory(one), Self::Memory(two)) if Arc::ptr_eq(one, two) => true,
            _ => self.written().is_some_and(|at| other.written() == Some(at)),
        }
    }
}

impl Span {
    pub(super) fn of_root(root: &Child) -> Self {
        Self {
            level: root.level(),
            start: PageNo(0),
            end: None,
        }
    }

    /// What a node with this span says of its child at `index`.
    pub(super) fn of_child(self, children: &[(PageNo, Child)], index: usize) -> Self {
        let end = children.get(index + 1).map(|&(first, _)| first);
        self.below(children[index].0, end)
    }

    /// The same of a child that may hold pages from `first` up to the next child's first, if there is
    /// a next one.
    pub(super) fn below(self, first: PageNo, end: Option<PageNo>) -> Self {
        // Only an inner node has children, and no check lets one of level 0 pass.
        Self {
            level: self.level - 1,
            start: first,
            end: end.or(self.end),
        }
    }

    fn check(self, node: &Node, at: &NodeRef) -> Result<(), Damage> {
        let ends = node.checked_ends()?;
        self.check_ends((node.level, node.key_epoch), ends, at)
    }

    /// Whether a node of that level and key epoch, and with that first and last item, is what its
    /// parent says.
    pub(super) fn check_ends(
        self,
        (level, key_epoch): (u8, KeyEpoch),
        (first, last): (PageNo, PageNo),
        at: &NodeRef,
    ) -> Result<(), Damage> {
        if at.level != self.level || level != self.level || key_epoch != at.key_epoch {
            return Err(Damage::WrongIdentity);
        }
        if self.level > LEVEL_MAX {
            return Err(Damage::OutOfRange("level"));
        }
        if first < self.start || self.end.is_some_and(|end| last >= end) {
            return Err(Damage::Inconsistent(
                "items are outside the parent's separators",
            ));
        }
        Ok(())
    }
}

/// The error for a node that is not what it should be.
pub fn damaged(node: &NodeRef, damage: Damage) -> Error {
    Error::Corrupt {
        location: Location::Slot(node.at),
        damage,
    }
}

/// Loads a written node, and checks it against what its parent says.
pub(super) fn load(source: &dyn NodeSource, at: &NodeRef, span: Span) -> Result<Arc<Node>> {
    let node = source.load(at)?;
    match span.check(&node, at) {
        Ok(()) => Ok(node),
        Err(damage) => Err(damaged(at, damage)),
    }
}

/// The child, loaded if need be.
pub(super) fn fetch(source: &dyn NodeSource, child: &Child, span: Span) -> Result<Arc<Node>> {
    match child {
        Child::Disk(at) => load(source, at, span),
        Child::Memory(node) => Ok(Arc::clone(node)),
    }
}

/// The index of the child that may hold the page, or of the first if none may.
pub(super) fn child_index(children: &[(PageNo, Child)], page: PageNo) -> usize {
    children
        .partition_point(|&(first, _)| first <= page)
        .saturating_sub(1)
}

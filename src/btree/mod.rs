//! Page tables: copy-on-write B+trees from page numbers to entries, one per head.
//!
//! A tree is a handle on a root. Cloning it copies the handle, and a change shadows the nodes
//! from the root to what it touches, so clones share all the rest and never see it. Nodes that
//! changed stay in memory without an address until a checkpoint gives them one; the others are
//! loaded through a [`NodeSource`].
//!
//! Invariant: a node that anything else refers to is never changed. A node has 1 to fan-out
//! items, sorted; its children are one level lower, and a child's pages are at or above its
//! `first_page` and below the next child's. No page is below the first child's `first_page`.
//!
//! This module reads and writes no bytes itself. It tells which nodes a change took out of a
//! tree, and does not know which of them other trees still have.

mod iter;
mod look;
mod node;
mod own;
mod read;
mod remove;
mod table;
mod visit;
mod write;

use std::collections::HashSet;

use crate::btree::node::Body;
use crate::format::node::{NODE_ITEMS_MAX, NodeRef};
use crate::sync::Arc;

pub use crate::btree::iter::Iter;
pub use crate::btree::look::{Look, look};
pub use crate::btree::node::{Child, Node, NodeSource, damaged};
pub use crate::btree::own::Found;
pub use crate::btree::table::PageTable;
pub use crate::btree::visit::Visitor;

/// A page table. A clone costs nothing and shares every node.
///
/// A change that fails leaves the tree it was made on unusable, but no other: make it on a clone.
#[derive(Debug, Default)]
pub struct Tree {
    root: Option<Child>,
    /// What changes took out of this tree since it was cloned.
    dropped: Vec<Dropped>,
    /// Nodes that they made.
    made: u64,
}

/// A node that a tree does not refer to any more. Other trees may.
#[derive(Clone, Debug)]
pub enum Dropped {
    /// It has an address.
    Written(NodeRef),
    /// It has none yet. If another tree refers to it, a checkpoint gives it one.
    Unwritten(Arc<Node>),
}

/// The most items in a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fanout(usize);

impl Fanout {
    /// The fewest items that a split leaves in a node.
    pub fn items_min(self) -> u64 {
        (self.0 as u64).div_ceil(2)
    }

    /// The most levels that a tree gets from so many pages that it did not have. Each of them gives a root at
    /// most one child more, and a new root has two.
    fn levels_added_max(self, pages: usize) -> usize {
        pages.div_ceil(self.0 - 1)
    }

    /// A fan-out for tests of high trees with few pages.
    ///
    /// # Panics
    ///
    /// If it is not in 3 to [`NODE_ITEMS_MAX`].
    pub const fn new(items_max: usize) -> Self {
        assert!(
            items_max >= 3 && items_max <= NODE_ITEMS_MAX,
            "BUG: such a fan-out cannot be"
        );
        Self(items_max)
    }
}

impl Default for Fanout {
    /// As many items as a slot holds.
    fn default() -> Self {
        Self(NODE_ITEMS_MAX)
    }
}

impl Clone for Tree {
    /// What was dropped is told of once, by the tree that it was dropped from.
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            dropped: Vec::new(),
            made: 0,
        }
    }
}

impl Tree {
    /// The tree whose root was written there; without a root, the empty one.
    pub fn from_root(root: Option<NodeRef>) -> Self {
        Self {
            root: root.map(Child::Disk),
            dropped: Vec::new(),
            made: 0,
        }
    }

    /// The nodes that changes took out of this tree since it was cloned or this was last asked.
    pub fn take_dropped(&mut self) -> Vec<Dropped> {
        std::mem::take(&mut self.dropped)
    }

    /// How many nodes changes made since this tree was cloned or this was last asked: none of them
    /// has an address.
    pub fn take_made(&mut self) -> u64 {
        std::mem::take(&mut self.made)
    }

    /// Nodes without an address that are not among `counted`, where they are noted: by their
    /// addresses in memory, so they all have to live as long as that.
    pub fn count_unwritten(&self, counted: &mut HashSet<usize>) -> u64 {
        let root = self.root.as_ref();
        root.map_or(0, |root| count_unwritten(root, counted))
    }

    /// Whether both have the same root, and so the same pages. Equal trees may have two roots.
    pub fn same_as(&self, other: &Self) -> bool {
        match (&self.root, &other.root) {
            (None, None) => true,
            (Some(one), Some(two)) => one.is_same(two),
            _ => false,
        }
    }

    /// Nodes on the way from the root to a page, both ends included.
    pub fn level_count(&self) -> u8 {
        self.root.as_ref().map_or(0, |root| root.level() + 1)
    }

    /// The root's address: `Some(None)` of an empty tree, `None` if the root has none yet.
    pub fn root_ref(&self) -> Option<Option<NodeRef>> {
        match &self.root {
            None => Some(None),
            Some(root) => root.written().map(Some),
        }
    }

    /// The nodes without an address, each once, by ascending level: children before parents.
    ///
    /// A clone that shares such a node names it too.
    pub fn unwritten(&self) -> Vec<Arc<Node>> {
        let mut nodes = Vec::new();
        if let Some(root) = &self.root {
            collect_unwritten(root, &mut nodes);
        }
        nodes.sort_by_key(|node| node.level());
        nodes
    }
}

fn count_unwritten(child: &Child, counted: &mut HashSet<usize>) -> u64 {
    let Child::Memory(node) = child else { return 0 };
    if node.written().is_some() || !counted.insert(Arc::as_ptr(node).addr()) {
        return 0;
    }
    let below = match node.body() {
        Body::Leaf(_) => 0,
        Body::Inner(children) => {
            let children = children.iter();
            children
                .map(|(_, child)| count_unwritten(child, counted))
                .sum()
        }
    };
    below + 1
}

fn collect_unwritten(child: &Child, nodes: &mut Vec<Arc<Node>>) {
    let Child::Memory(node) = child else { return };
    let Body::Inner(children) = node.body() else {
        if node.written().is_none() {
            nodes.push(Arc::clone(node));
        }
        return;
    };
    if node.written().is_some() {
        // It could not be encoded before its children had addresses, and they only change with it.
        debug_assert!(children.iter().all(|(_, child)| child.written().is_some()));
        return;
    }
    for (_, child) in children {
        collect_unwritten(child, nodes);
    }
    nodes.push(Arc::clone(node));
}

#[cfg(test)]
mod tests;

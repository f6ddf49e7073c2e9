//! Who can still reach what: the lineage tree, and which pages and nodes wait on its deadlists.
//!
//! A head writes in an open epoch, a leaf of the tree. Branching makes that epoch interior and
//! gives each side a child; an epoch in which nothing changed is not split, so clones of an idle
//! volume are siblings. No side of a branch is "the parent". There are no reference counts.
//!
//! An item (a page or a node) is born in the open epoch of the head that writes it. A head that
//! lets go of an item born in its own epoch ends it: nobody else could reach it. Any other item
//! waits on the epoch's deadlist, in the bucket of its birth. Where one child of an epoch is left,
//! the two are made one ([`Lineage::remove`]), and what the child had let go of dies. What every
//! child let go of is found by [`Lineage::hoist`], behind.
//!
//! Buckets are named by key epochs, which a table takes to lineage epochs, so that no bucket is
//! named anew when epochs become one. Key epochs are numbered in the order in which they open, and
//! only leaves open any, so the numbers rise from the root to the leaves.
//!
//! Invariant: all this follows from trees and log, and from nothing else. Branches are in the log.
//! Removals and what [`Lineage::hoist`] does are not: after a crash they are done again.

mod births;
mod collapse;
mod epochs;
mod exclusive;
mod hoist;
mod items;
mod parts;
mod reach;
mod shares;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::sync::Arc;
use crate::units::{KeyEpoch, LineageEpoch};

pub use epochs::Branch;
pub use items::{Buckets, Counts, Item, ItemKind, ItemSet};
pub use parts::Row;
pub use shares::Payer;

use births::{Birth, Merge};

/// All lineage epochs of a store, with the deadlists and counts of live items.
///
/// A clone shares the deadlists until they change, so that each checkpoint can take one.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    epochs: BTreeMap<LineageEpoch, Epoch>,
    births: BTreeMap<KeyEpoch, Birth>,
    /// What became of epochs that are one with a child of theirs. A union-find: names of items'
    /// births, and of whoever let go of a node, may be old.
    merged: BTreeMap<LineageEpoch, Merge>,
    merge_count: u64,
    /// Interior epochs below which deadlists have grown since they were last hoisted.
    unsettled: BTreeSet<LineageEpoch>,
}

/// An interval of history between two branch points.
#[derive(Clone, Debug, Default)]
struct Epoch {
    parent: Option<LineageEpoch>,
    children: BTreeSet<LineageEpoch>,
    /// Whether something was written or discarded in it, or in one that is part of it now.
    changed: bool,
    /// Live items that were born in it.
    own: Counts,
    /// Items born above that nothing below maps any more.
    deadlist: Arc<Buckets>,
    /// Of an interior epoch: the child that last kept something from being hoisted. It is asked
    /// first, so that thousands of idle siblings cost nothing.
    holdout: Option<LineageEpoch>,
}

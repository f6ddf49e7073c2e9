//! The lineage tree: which interval of history a page was born in, and who can still reach it.
//!
//! A head writes in an open epoch, a leaf of the tree. Branching makes that epoch interior and
//! gives each side a child; an epoch in which nothing changed is not split, so clones of an idle
//! volume are siblings. No side of a branch is "the parent". There are no reference counts.

use std::collections::BTreeMap;

use crate::format::catalog::LineageRecord;
use crate::units::LineageEpoch;

#[cfg(test)]
mod tests;

/// All lineage epochs of a store.
#[derive(Clone, Debug, Default)]
pub struct LineageTree {
    epochs: BTreeMap<LineageEpoch, Epoch>,
}

#[derive(Clone, Copy, Debug)]
struct Epoch {
    parent: Option<LineageEpoch>,
    changed: bool,
}

/// What a branch does to the source's open epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// It becomes interior: source and new head each get a child of it.
    Split,
    /// It stays open: the new head gets a child of this parent.
    Share(LineageEpoch),
}

impl LineageTree {
    /// Adds an epoch, or changes one.
    pub fn insert(&mut self, record: &LineageRecord) {
        let epoch = Epoch {
            parent: record.parent,
            changed: record.changed,
        };
        self.epochs.insert(record.lineage, epoch);
    }

    /// Whether there is such an epoch.
    pub fn contains(&self, epoch: LineageEpoch) -> bool {
        self.epochs.contains_key(&epoch)
    }

    /// Notes that something was written or discarded in an open epoch.
    pub fn mark_changed(&mut self, epoch: LineageEpoch) {
        if let Some(epoch) = self.epochs.get_mut(&epoch) {
            epoch.changed = true;
        }
    }

    /// Whether something was written or discarded in an epoch.
    pub fn is_changed(&self, epoch: LineageEpoch) -> bool {
        self.epochs.get(&epoch).is_some_and(|epoch| epoch.changed)
    }

    /// How to branch off a head with this open epoch.
    pub fn branch(&self, open: LineageEpoch) -> Branch {
        match self.epochs.get(&open) {
            Some(Epoch {
                parent: Some(parent),
                changed: false,
            }) => Branch::Share(*parent),
            _ => Branch::Split,
        }
    }

    /// Edges from an epoch up to an ancestor; `None` if it is not one.
    pub fn distance(&self, from: LineageEpoch, ancestor: LineageEpoch) -> Option<u32> {
        let mut at = from;
        let mut edges = 0;
        while at != ancestor {
            // Parents have lesser numbers, so this ends.
            at = self.epochs.get(&at)?.parent.filter(|&parent| parent < at)?;
            edges += 1;
        }
        Some(edges)
    }

    /// All epochs as records, parents before children.
    pub fn records(&self) -> impl Iterator<Item = LineageRecord> + '_ {
        self.epochs.iter().map(|(&lineage, epoch)| LineageRecord {
            lineage,
            parent: epoch.parent,
            changed: epoch.changed,
        })
    }
}

//! The tree of lineage epochs.

use crate::error::Damage;
use crate::format::catalog::LineageRecord;
use crate::lineage::{Epoch, Lineage};
use crate::units::LineageEpoch;

/// What a branch does to the source's open epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// It becomes interior: source and new head each get a child of it.
    Split,
    /// It stays open: the new head gets a child of this parent.
    Share(LineageEpoch),
}

impl Lineage {
    /// Adds an epoch, or changes one.
    pub fn insert(&mut self, record: &LineageRecord) -> Result<(), Damage> {
        if let Some(parent) = record.parent {
            let above = self.epochs.get_mut(&parent);
            // Parents have lesser numbers, so every walk up ends.
            let above = above.filter(|_| parent < record.lineage);
            let above = above.ok_or(Damage::Inconsistent(
                "a lineage epoch is below one that does not exist",
            ))?;
            above.children.insert(record.lineage);
        }
        let epoch = self.epochs.entry(record.lineage).or_default();
        let before = std::mem::replace(&mut epoch.parent, record.parent);
        epoch.changed = record.changed;
        if let Some(before) = before.filter(|_| before != record.parent)
            && let Some(before) = self.epochs.get_mut(&before)
        {
            before.children.remove(&record.lineage);
        }
        Ok(())
    }

    /// Adds an epoch beside an open one, which is not split; the parent of both.
    pub fn insert_beside(
        &mut self,
        lineage: LineageEpoch,
        sibling: LineageEpoch,
    ) -> Result<LineageEpoch, Damage> {
        let parent = self.parent(sibling).ok_or(Damage::Inconsistent(
            "a lineage epoch is beside one that has no parent",
        ))?;
        self.insert(&LineageRecord {
            lineage,
            parent: Some(parent),
            changed: false,
            beside: None,
        })?;
        Ok(parent)
    }

    /// Whether there is such an epoch.
    pub fn contains(&self, epoch: LineageEpoch) -> bool {
        self.epochs.contains_key(&epoch)
    }

    /// The epoch above.
    pub fn parent(&self, epoch: LineageEpoch) -> Option<LineageEpoch> {
        self.epochs.get(&epoch)?.parent
    }

    /// An epoch's parent.
    pub(super) fn above(&self, epoch: LineageEpoch) -> Option<(LineageEpoch, &Epoch)> {
        let parent = self.parent(epoch)?;
        Some((parent, self.epochs.get(&parent)?))
    }

    /// Whether there is such an epoch, and none below it.
    pub(super) fn is_leaf(&self, epoch: LineageEpoch) -> bool {
        let epoch = self.epochs.get(&epoch);
        epoch.is_some_and(|epoch| epoch.children.is_empty())
    }

    /// Notes that something was written or discarded in an open epoch.
    pub fn mark_changed(&mut self, epoch: LineageEpoch) {
        if let Some(epoch) = self.epochs.get_mut(&epoch) {
            epoch.changed = true;
        }
    }

    /// Whether something was written or discarded in an epoch, or in one that is part of it now.
    pub fn is_changed(&self, epoch: LineageEpoch) -> bool {
        self.epochs.get(&epoch).is_some_and(|epoch| epoch.changed)
    }

    /// How to branch off a head with this open epoch.
    pub fn branch(&self, open: LineageEpoch) -> Branch {
        match self.parent(open) {
            Some(parent) if !self.is_changed(open) => Branch::Share(parent),
            _ => Branch::Split,
        }
    }

    /// Edges from an epoch up to an ancestor; `None` if it is not one.
    pub fn distance(&self, from: LineageEpoch, ancestor: LineageEpoch) -> Option<u32> {
        let mut at = from;
        let mut edges = 0;
        while at != ancestor {
            at = self.parent(at)?;
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
            beside: None,
        })
    }
}

//! The table from key epochs to lineage epochs, with the numbers of live items.

use std::collections::BTreeSet;

use crate::lineage::{Counts, ItemSet, Lineage};
use crate::units::{KeyEpoch, LineageEpoch};

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth {
    /// Where items of the key epoch were born, perhaps by an old name.
    pub lineage: LineageEpoch,
    /// Live items of the key epoch.
    pub live: Counts,
}

/// What became of an epoch that is one with its child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merge {
    pub into: LineageEpoch,
    /// How many merges there were before.
    pub number: u64,
}

impl Lineage {
    /// Adds a row: what names this key epoch was born in that lineage epoch.
    pub fn set_row(&mut self, key: KeyEpoch, lineage: LineageEpoch) {
        let live = Counts::default();
        self.births.entry(key).or_insert(Birth { lineage, live });
    }

    /// The lineage epoch in which items of a key epoch were born, if both exist.
    pub fn birth(&self, key: KeyEpoch) -> Option<LineageEpoch> {
        self.resolve(self.births.get(&key)?.lineage)
    }

    /// The epoch that this one is part of now, if that exists.
    pub fn resolve(&self, mut epoch: LineageEpoch) -> Option<LineageEpoch> {
        while let Some(merge) = self.merged.get(&epoch) {
            epoch = merge.into;
        }
        self.contains(epoch).then_some(epoch)
    }

    /// Live pages that are sealed under a key epoch. Its key is needed while there are any.
    pub fn sealed_count(&self, key: KeyEpoch) -> u64 {
        self.births.get(&key).map_or(0, |birth| birth.live.pages)
    }

    /// Live items that were born in an epoch.
    pub fn own(&self, epoch: LineageEpoch) -> Counts {
        self.epochs
            .get(&epoch)
            .map_or(Counts::default(), |epoch| epoch.own)
    }

    /// Key epochs whose rows nothing needs: no live item names them, and they are not in use. In
    /// use are open key epochs and those that a node without an address names.
    pub fn droppable_rows(&self, in_use: &BTreeSet<KeyEpoch>) -> Vec<KeyEpoch> {
        let rows = self.births.iter();
        let unused = rows.filter(|(key, row)| row.live.is_zero() && !in_use.contains(key));
        unused.map(|(&key, _)| key).collect()
    }

    /// Drops a row, if no live item names it.
    pub fn drop_row(&mut self, key: KeyEpoch) {
        if self.births.get(&key).is_some_and(|row| row.live.is_zero()) {
            self.births.remove(&key);
        }
    }

    /// How many merges there were. See [`Lineage::forget_names`].
    pub fn merge_count(&self) -> u64 {
        self.merge_count
    }

    /// Forgets the names of epochs that became part of another before there were so many merges.
    ///
    /// Such names are needed where a head let go of a node that had no address yet: when a
    /// checkpoint gives it one, [`Lineage::born_late`] is told of the epoch. So a checkpoint takes
    /// the count when it begins and gives it when all its nodes have addresses: whoever let go of a
    /// node that is still without one did so after it began.
    pub fn forget_names(&mut self, merge_count: u64) {
        if self
            .merged
            .values()
            .all(|merge| merge.number >= merge_count)
        {
            return;
        }
        let keys: Vec<KeyEpoch> = self.births.keys().copied().collect();
        for key in keys {
            self.birth_mut(key);
        }
        self.merged.retain(|_, merge| merge.number >= merge_count);
    }

    pub(super) fn merge_names(&mut self, from: LineageEpoch, into: LineageEpoch) {
        let number = self.merge_count;
        self.merge_count += 1;
        self.merged.insert(from, Merge { into, number });
    }

    /// Like [`Lineage::birth`], and shortens the way for the next call.
    pub(super) fn birth_mut(&mut self, key: KeyEpoch) -> Option<LineageEpoch> {
        let mut epoch = self.births.get(&key)?.lineage;
        while let Some(&merge) = self.merged.get(&epoch) {
            if let Some(&above) = self.merged.get(&merge.into) {
                self.merged.entry(epoch).and_modify(|m| m.into = above.into);
            }
            epoch = merge.into;
        }
        self.births.get_mut(&key)?.lineage = epoch;
        self.contains(epoch).then_some(epoch)
    }

    /// Counts live items of a key epoch.
    pub(super) fn count_live(&mut self, key: KeyEpoch, counts: Counts) -> Option<LineageEpoch> {
        let birth = self.birth_mut(key);
        self.births.get_mut(&key)?.live += counts;
        self.epochs.get_mut(&birth?)?.own += counts;
        birth
    }

    /// Lets items of one key epoch die.
    pub(super) fn free(&mut self, key: KeyEpoch, items: &ItemSet, freed: &mut ItemSet) {
        freed.add(items);
        self.count_dead(key, items.counts());
    }

    pub(super) fn count_dead(&mut self, key: KeyEpoch, counts: Counts) {
        let birth = self.birth_mut(key);
        if let Some(row) = self.births.get_mut(&key) {
            row.live -= counts;
        }
        if let Some(epoch) = birth.and_then(|birth| self.epochs.get_mut(&birth)) {
            epoch.own -= counts;
        }
    }
}

//! Accounting: what would die if heads were deleted.

use std::collections::BTreeSet;

use crate::lineage::{Buckets, Counts, ItemSet, Lineage};
use crate::units::LineageEpoch;

impl Lineage {
    /// What would die if the head with this open epoch were deleted: its own items, and what it
    /// still reaches that all siblings on every level up to the birth let go of. A lower bound
    /// until this [is settled](Lineage::is_settled).
    pub fn exclusive(&self, open: LineageEpoch) -> Counts {
        let mut found = self.own(open);
        let mut candidates: Option<Buckets> = None;
        let mut id = open;
        while let Some((parent_id, parent)) = self.above(id) {
            let is_first = candidates.is_none();
            let mut left = self.common(parent, Some(id), candidates.take()).items;
            if let Some(epoch) = self.epochs.get(&open).filter(|_| is_first) {
                left.subtract(&epoch.deadlist);
            }
            let mut older = Buckets::default();
            for (key, items) in left {
                match self.birth(key) == Some(parent_id) {
                    true => found += items.counts(),
                    false => older.splice(key, items),
                }
            }
            if older.is_empty() {
                break;
            }
            candidates = Some(older);
            id = parent_id;
        }
        found
    }

    /// What would die, after the next hoist at the latest, if all heads with these open epochs were
    /// deleted. Exact, whether or not this is settled.
    pub fn freed_with(&self, open: &BTreeSet<LineageEpoch>) -> Counts {
        self.without(open).1
    }

    /// The lineage without the heads that have these open epochs, settled, and what died with them.
    pub fn without(&self, open: &BTreeSet<LineageEpoch>) -> (Self, Counts) {
        let mut after = self.clone();
        // What dies anyway does not count.
        after.hoist(&mut ItemSet::default());
        let mut freed = ItemSet::default();
        let mut own = Counts::default();
        for &epoch in open {
            if after.is_leaf(epoch) {
                own += after.own(epoch);
                after.detach(epoch, &mut freed);
            }
        }
        after.hoist(&mut freed);
        own += freed.counts();
        (after, own)
    }

    /// All live items.
    pub fn live(&self) -> Counts {
        let mut all = Counts::default();
        self.epochs.values().for_each(|epoch| all += epoch.own);
        all
    }
}

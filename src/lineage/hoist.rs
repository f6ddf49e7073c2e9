//! What every side of a branch let go of.

use crate::lineage::{Buckets, Epoch, ItemSet, Lineage};
use crate::sync::Arc;
use crate::units::LineageEpoch;

/// What all deadlists of some siblings have in common.
#[derive(Debug, Default)]
pub(super) struct Common {
    pub items: Buckets,
    /// If there is nothing: a sibling that made it so.
    pub holdout: Option<LineageEpoch>,
    /// How many deadlists were looked at.
    pub asked: u64,
}

impl Lineage {
    /// Whether [`Lineage::hoist`] would find nothing. Accounting is exact then, and a lower bound
    /// else.
    pub fn is_settled(&self) -> bool {
        let mut unsettled = self.unsettled.iter();
        unsettled.all(|&epoch| self.let_go_by_all(epoch).items.is_empty())
    }

    /// Settles what every side of a branch let go of: afterwards exactly those items are live that
    /// a head reaches. Returns how many deadlists were looked at.
    pub fn hoist(&mut self, freed: &mut ItemSet) -> u64 {
        std::iter::from_fn(|| self.hoist_next(freed)).sum()
    }

    /// Does one step of [`Lineage::hoist`], if there is one to do.
    ///
    /// Items on the deadlists of all children of an epoch leave them. They die if they were born in
    /// the epoch, else they wait on its own deadlist. Children come first, as they have the greater
    /// numbers.
    pub fn hoist_next(&mut self, freed: &mut ItemSet) -> Option<u64> {
        let id = self.unsettled.pop_last()?;
        let mut common = self.let_go_by_all(id);
        if let Some(epoch) = self.epochs.get_mut(&id) {
            epoch.holdout = common.holdout;
        }
        if !common.items.is_empty() {
            self.take_off_children(id, &common.items);
            while let Some((key, items)) = self.pop_born_in(id, &mut common.items) {
                self.free(key, &items, freed);
            }
            for (key, items) in common.items {
                self.put_dead(id, key, items);
            }
        }
        Some(common.asked)
    }

    fn take_off_children(&mut self, id: LineageEpoch, items: &Buckets) {
        let children = self.epochs.get(&id).map(|epoch| epoch.children.clone());
        for child in children.into_iter().flatten() {
            if let Some(child) = self.epochs.get_mut(&child) {
                Arc::make_mut(&mut child.deadlist).subtract(items);
            }
        }
    }

    /// What is on the deadlists of all children of an epoch.
    fn let_go_by_all(&self, id: LineageEpoch) -> Common {
        match self.epochs.get(&id) {
            Some(epoch) => self.common(epoch, None, None),
            None => Common::default(),
        }
    }

    /// What is on the deadlists of all children of an epoch but one, and among these items, if any
    /// are given.
    pub(super) fn common(
        &self,
        parent: &Epoch,
        left_out: Option<LineageEpoch>,
        among: Option<Buckets>,
    ) -> Common {
        let children = &parent.children;
        let holdout = parent.holdout.filter(|id| children.contains(id));
        let ids = holdout.iter().chain(children);
        let ids = ids.filter(|&&id| Some(id) != left_out);
        let deadlists = ids.filter_map(|&id| Some((id, &self.epochs.get(&id)?.deadlist)));
        let mut found = among;
        let mut asked = 0;
        for (id, deadlist) in deadlists {
            asked += 1;
            match &mut found {
                Some(found) => found.intersect(deadlist),
                None => found = Some(Buckets::clone(deadlist)),
            }
            if found.as_ref().is_some_and(Buckets::is_empty) {
                return Common {
                    items: Buckets::default(),
                    holdout: Some(id),
                    asked,
                };
            }
        }
        Common {
            items: found.unwrap_or_default(),
            holdout: None,
            asked,
        }
    }
}

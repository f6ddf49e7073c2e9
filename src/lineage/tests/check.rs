//! What must hold inside a lineage at any time.

use std::collections::{BTreeMap, BTreeSet};

use crate::lineage::{Counts, Epoch, Lineage};
use crate::slots::SlotSet;
use crate::units::LineageEpoch;

impl Lineage {
    /// Whether the parts agree with each other; if not, what does not.
    pub fn check(&self) -> Result<(), String> {
        for (&id, epoch) in &self.epochs {
            self.check_tree(id, epoch)?;
            self.check_deadlist(id, epoch)?;
            if !self.unsettled.contains(&id) && !self.common(epoch, None, None).items.is_empty() {
                return Err(format!("{id} is taken for settled"));
            }
        }
        if let Some(id) = self.merged.keys().find(|&&id| self.contains(id)) {
            return Err(format!("{id} exists and is part of another"));
        }
        if let Some(id) = self
            .unsettled
            .iter()
            .find(|&&id| self.is_leaf(id) || !self.contains(id))
        {
            return Err(format!("{id} is to be hoisted and has no children"));
        }
        self.check_counts()
    }

    fn check_tree(&self, id: LineageEpoch, epoch: &Epoch) -> Result<(), String> {
        let is_child = |parent| {
            let above = self.epochs.get(&parent);
            parent < id && above.is_some_and(|above| above.children.contains(&id))
        };
        if !epoch.parent.is_none_or(is_child) {
            return Err(format!("{id} is not a child of its parent"));
        }
        let mut children = epoch.children.iter();
        if !children.all(|&child| self.parent(child) == Some(id)) || epoch.children.len() == 1 {
            return Err(format!("{id} has children {:?}", epoch.children));
        }
        Ok(())
    }

    /// Items on a deadlist are live, born above, and on no deadlist further up.
    fn check_deadlist(&self, id: LineageEpoch, epoch: &Epoch) -> Result<(), String> {
        let mut births: BTreeSet<LineageEpoch> = BTreeSet::new();
        for (key, items) in epoch.deadlist.iter() {
            let birth = self.birth(key).ok_or(format!("{key} has no birth"))?;
            let distance = self.distance(id, birth);
            if items.is_empty() || distance.is_none_or(|edges| edges == 0) {
                return Err(format!("a bucket of {key} on the deadlist of {id}"));
            }
            if births.last().is_some_and(|&last| birth < last) {
                return Err(format!("{key} was born before an older key epoch"));
            }
            births.insert(birth);
            let mut above = epoch.parent;
            while let Some(up) = above.and_then(|above| self.epochs.get(&above)) {
                let mut same = up.deadlist.iter().filter(|(other, _)| *other == key);
                let common = |a: &SlotSet, b: &SlotSet| a.common_len(b) > 0;
                if same.any(|(_, up)| {
                    common(&items.pages, &up.pages) || common(&items.nodes, &up.nodes)
                }) {
                    return Err(format!("items of {key} wait twice above {id}"));
                }
                above = up.parent;
            }
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), String> {
        let mut own: BTreeMap<LineageEpoch, Counts> = BTreeMap::new();
        for (&key, row) in &self.births {
            if let Some(birth) = self.birth(key) {
                *own.entry(birth).or_default() += row.live;
            } else if !row.live.is_zero() {
                return Err(format!("{key} has live items and no birth"));
            }
        }
        let differs = |id: &LineageEpoch| self.own(*id) != own.get(id).copied().unwrap_or_default();
        match self.epochs.keys().find(|&id| differs(id)) {
            Some(id) => Err(format!("own items of {id}: {:?}", self.own(*id))),
            None => Ok(()),
        }
    }
}

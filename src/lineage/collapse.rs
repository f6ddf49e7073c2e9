//! Removed heads, and epochs with one child left.

use crate::lineage::{Buckets, ItemSet, Lineage};
use crate::sync::Arc;
use crate::units::{KeyEpoch, LineageEpoch};

impl Lineage {
    /// Removes the open epoch of a head that is gone, with the live items that were born in it.
    /// A parent that has one child left becomes one with it. Returns how many buckets were
    /// touched: no item is touched but those that die.
    ///
    /// Nothing happens if there is no such epoch, so that this can be done again after a crash.
    pub fn remove(&mut self, epoch: LineageEpoch, own: &Buckets, freed: &mut ItemSet) -> u64 {
        if !self.is_leaf(epoch) {
            return 0;
        }
        for (key, items) in own.iter() {
            debug_assert_eq!(self.birth(key), Some(epoch), "BUG: {key} is not its own");
            self.free(key, items, freed);
        }
        debug_assert!(self.own(epoch).is_zero(), "BUG: own items are left");
        own.bucket_count() as u64 + self.detach(epoch, freed)
    }

    /// Takes a leaf off the tree. Items that only it let go of stay: others reach them.
    pub(super) fn detach(&mut self, epoch: LineageEpoch, freed: &mut ItemSet) -> u64 {
        let parent = self.epochs.remove(&epoch).and_then(|gone| gone.parent);
        let Some((id, parent)) = parent.and_then(|id| Some((id, self.epochs.get_mut(&id)?))) else {
            return 0;
        };
        parent.children.remove(&epoch);
        match parent.children.first() {
            Some(&child) if parent.children.len() == 1 => self.collapse(id, child, freed),
            _ => {
                // What all but this child had let go of can be hoisted.
                self.unsettled.insert(id);
                0
            }
        }
    }

    /// Makes an interior epoch one with its only child.
    ///
    /// Nobody but the child can reach items born in the epoch, so those on its deadlist die. What
    /// else is there was born further up, and joins what the epoch itself had let go of.
    fn collapse(&mut self, id: LineageEpoch, child_id: LineageEpoch, freed: &mut ItemSet) -> u64 {
        let mut waiting = match self.epochs.get_mut(&child_id) {
            Some(child) => Arc::unwrap_or_clone(std::mem::take(&mut child.deadlist)),
            None => return 0,
        };
        let mut touched = 0;
        // One birth may have several names here, of epochs that became one earlier.
        while let Some((key, items)) = self.pop_born_in(id, &mut waiting) {
            self.free(key, &items, freed);
            touched += 1;
        }
        let Some(gone) = self.epochs.remove(&id) else {
            return touched;
        };
        let grew = !waiting.is_empty();
        let (deadlist, buckets) = spliced(waiting, Arc::unwrap_or_clone(gone.deadlist));
        if let Some(child) = self.epochs.get_mut(&child_id) {
            child.deadlist = Arc::new(deadlist);
            child.own += gone.own;
            // What was written above is no longer shared with siblings, so it is not idle.
            child.changed |= gone.changed;
            child.parent = gone.parent;
        }
        self.merge_names(id, child_id);
        self.unsettled.remove(&id);
        if let Some(above) = gone.parent.and_then(|above| self.epochs.get_mut(&above)) {
            above.children.remove(&id);
            above.children.insert(child_id);
            self.unsettled.extend(gone.parent.filter(|_| grew));
        }
        touched + buckets
    }

    /// Takes the last bucket out if its items were born in this epoch. No other bucket's were if
    /// the last one's were not: numbers of key epochs rise from the root to the leaves.
    pub(super) fn pop_born_in(
        &mut self,
        epoch: LineageEpoch,
        buckets: &mut Buckets,
    ) -> Option<(KeyEpoch, Arc<ItemSet>)> {
        let key = buckets.last_key()?;
        if self.birth_mut(key) != Some(epoch) {
            return None;
        }
        buckets.pop_last()
    }
}

/// Both as one, and how many buckets had to be moved: the fewer.
fn spliced(one: Buckets, other: Buckets) -> (Buckets, u64) {
    let (fewer, mut more) = match one.bucket_count() <= other.bucket_count() {
        true => (one, other),
        false => (other, one),
    };
    let moved = fewer.bucket_count() as u64;
    for (key, items) in fewer {
        more.splice(key, items);
    }
    (more, moved)
}

//! Births, and what heads let go of.

use crate::lineage::{Counts, Item, ItemSet, Lineage};
use crate::sync::Arc;
use crate::units::{KeyEpoch, LineageEpoch};

impl Lineage {
    /// Counts a new item, and says where it was born. `None`: its key epoch has no row, or its
    /// lineage epoch is gone.
    pub fn born(&mut self, item: Item) -> Option<LineageEpoch> {
        self.count_live(item.key_epoch, Counts::one(item.kind))
    }

    /// Counts a node that got its address after these epochs had let go of it, as
    /// [`Lineage::let_go`] would have been told. Whether it is dead already, and so in `freed`.
    pub fn born_late(
        &mut self,
        item: Item,
        let_go_by: impl IntoIterator<Item = LineageEpoch>,
        freed: &mut ItemSet,
    ) -> bool {
        if self.born(item).is_none() {
            // All heads that could reach it are gone.
            self.free_one(item, freed);
            return true;
        }
        let_go_by
            .into_iter()
            .any(|epoch| self.let_go(epoch, item, freed))
    }

    /// Notes that the head with this open epoch maps an item no more. If it was born in the epoch
    /// it dies: nobody else can reach it. Else it waits. Whether it died, and so is in `freed`.
    ///
    /// The epoch may have become part of another since. If its head was removed, nothing happens:
    /// whoever still reaches the item lets go of it later.
    pub fn let_go(&mut self, epoch: LineageEpoch, item: Item, freed: &mut ItemSet) -> bool {
        let Some(epoch) = self.resolve(epoch) else {
            return false;
        };
        let birth = self.birth_mut(item.key_epoch);
        if birth == Some(epoch) {
            self.free_one(item, freed);
            return true;
        }
        // An item whose birth is unknown is kept: to lose space is better than to lose data.
        if let Some(epoch) = self.epochs.get_mut(&epoch).filter(|_| birth.is_some()) {
            Arc::make_mut(&mut epoch.deadlist).insert(item);
            self.unsettled.extend(epoch.parent);
        }
        false
    }

    fn free_one(&mut self, item: Item, freed: &mut ItemSet) {
        freed.of_mut(item.kind).insert(item.at);
        self.count_dead(item.key_epoch, Counts::one(item.kind));
    }

    /// Puts items on the deadlist of an epoch.
    pub(super) fn put_dead(&mut self, epoch: LineageEpoch, key: KeyEpoch, items: Arc<ItemSet>) {
        if let Some(epoch) = self.epochs.get_mut(&epoch) {
            Arc::make_mut(&mut epoch.deadlist).splice(key, items);
            self.unsettled.extend(epoch.parent);
        }
    }
}

//! The lineage in parts, as checkpoints write and read it. The epochs are in
//! [`Lineage::records`]; they are loaded first, then the rows, then the deadlists.

use crate::error::Damage;
use crate::lineage::{Counts, ItemKind, ItemSet, Lineage};
use crate::slots::SlotSet;
use crate::sync::Arc;
use crate::units::{KeyEpoch, LineageEpoch};

/// A row of the table from key epochs to lineage epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key epoch.
    pub key_epoch: KeyEpoch,
    /// Where its items were born, by today's name.
    pub lineage: LineageEpoch,
    /// Live items that name it.
    pub live: Counts,
}

/// Items of one birth and one kind on a deadlist.
#[derive(Debug)]
pub struct DeadPart<'a> {
    /// Whose deadlist.
    pub lineage: LineageEpoch,
    /// The key epoch that the items name.
    pub key_epoch: KeyEpoch,
    /// What they are.
    pub kind: ItemKind,
    /// Their first slots; there are some.
    pub slots: &'a SlotSet,
}

/// More items than this of one key epoch no disk has; sums of such counts do not overflow.
const LIVE_MAX: u64 = 1 << 48;

impl Lineage {
    /// All rows whose lineage epoch exists.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.births.iter().filter_map(|(&key_epoch, row)| {
            let lineage = self.resolve(row.lineage)?;
            Some(Row {
                key_epoch,
                lineage,
                live: row.live,
            })
        })
    }

    /// All deadlists.
    pub fn dead_parts(&self) -> impl Iterator<Item = DeadPart<'_>> + '_ {
        let buckets = self.epochs.iter().flat_map(|(&lineage, epoch)| {
            let buckets = epoch.deadlist.iter();
            buckets.map(move |(key_epoch, items)| (lineage, key_epoch, items))
        });
        let parts = buckets.flat_map(|(lineage, key_epoch, items)| {
            let kinds = [ItemKind::Page, ItemKind::Node];
            kinds.map(|kind| DeadPart {
                lineage,
                key_epoch,
                kind,
                slots: items.of(kind),
            })
        });
        parts.filter(|part| !part.slots.is_empty())
    }

    /// Loads a row.
    pub fn load_row(&mut self, row: &Row) -> Result<(), Damage> {
        let Counts { pages, nodes } = row.live;
        if pages.max(nodes) > LIVE_MAX {
            return Err(Damage::OutOfRange("live_pages or live_nodes"));
        }
        self.set_row(row.key_epoch, row.lineage);
        match self.count_live(row.key_epoch, row.live) {
            Some(_) => Ok(()),
            None => Err(Damage::Inconsistent(
                "a key epoch is of a lineage epoch that does not exist",
            )),
        }
    }

    /// Loads a part of a deadlist.
    pub fn load_dead(
        &mut self,
        lineage: LineageEpoch,
        key: KeyEpoch,
        kind: ItemKind,
        slots: SlotSet,
    ) -> Result<(), Damage> {
        let birth = self.birth(key);
        let is_above = |birth| birth < lineage && self.contains(lineage);
        if !birth.is_some_and(is_above) {
            return Err(Damage::Inconsistent(
                "a deadlist has items that were not born above it",
            ));
        }
        let mut items = ItemSet::default();
        *items.of_mut(kind) = slots;
        self.put_dead(lineage, key, Arc::new(items));
        Ok(())
    }
}

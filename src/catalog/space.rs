//! Which slots live items take, and which of the dead must not be used yet.

use crate::error::Damage;
use crate::format::entry::DataEntry;
use crate::format::node::NodeRef;
use crate::format::record::{PageRun, Record};
use crate::format::slots::{Bucket, SlotsPurpose, SlotsRecord};
use crate::lineage::{Item, ItemKind, ItemSet, Lineage};
use crate::slots::SlotSet;
use crate::units::{KeyEpoch, LineageEpoch, SlotAddr};

/// The slots of live pages and nodes.
///
/// A page whose death is in the log may be overwritten as soon as that batch is durable: whoever
/// rolls forward does not look at it. Not so a node: an older superblock may lead to it. Nor what
/// died without a word in the log, because a head was removed or by [`Lineage::hoist`]: the log
/// before knows nothing of that. Both wait until two checkpoints know of the death.
#[derive(Clone, Debug)]
pub struct Space {
    page_slots: u32,
    live: SlotSet,
    /// Dead since the last checkpoint began.
    waiting: SlotSet,
    /// Dead when the checkpoint began that is being made: both that there are on disk lead to it.
    waiting_now: SlotSet,
    /// Dead since the one before the last began.
    waiting_longer: SlotSet,
    /// How many of each died without a word in the log, so that nothing else brings them back soon.
    unlogged: [u64; 3],
}

impl Space {
    /// Nothing lives. A page takes so many slots.
    pub fn new(page_slots: u32) -> Self {
        Self {
            page_slots,
            live: SlotSet::default(),
            waiting: SlotSet::default(),
            waiting_now: SlotSet::default(),
            waiting_longer: SlotSet::default(),
            unlogged: [0; 3],
        }
    }

    /// The slots of live items.
    pub fn live(&self) -> &SlotSet {
        &self.live
    }

    /// The slots of live items, and of dead ones that must not be used yet.
    pub fn held(&self) -> SlotSet {
        let mut held = self.live.clone();
        for waiting in [&self.waiting, &self.waiting_now, &self.waiting_longer] {
            held.add(waiting);
        }
        held
    }

    /// Slots of dead items that wait for checkpoints.
    pub fn waiting_count(&self) -> u64 {
        self.waiting.len() + self.waiting_now.len() + self.waiting_longer.len()
    }

    /// How many of them died because a head was removed, or by [`Lineage::hoist`].
    pub fn unlogged_count(&self) -> u64 {
        self.unlogged.iter().sum()
    }

    /// A checkpoint begins that knows of all deaths up to now.
    pub fn begin_checkpoint(&mut self) {
        self.waiting_now.add(&self.waiting);
        self.waiting = SlotSet::default();
        self.unlogged[1] += std::mem::take(&mut self.unlogged[0]);
    }

    /// The checkpoint is durable, and with it the deaths that it was the first to know of; the
    /// one before that knew of what has waited longer.
    pub fn end_checkpoint(&mut self) {
        self.unlogged[2] = std::mem::take(&mut self.unlogged[1]);
        self.waiting_longer = std::mem::take(&mut self.waiting_now);
    }

    /// The checkpoint was not made.
    pub fn cancel_checkpoint(&mut self) {
        self.waiting.add(&self.waiting_now);
        self.waiting_now = SlotSet::default();
        self.unlogged[0] += std::mem::take(&mut self.unlogged[1]);
    }

    /// Takes the slots of all items that are named for the live ones; whether they were others. Those
    /// that were live by mistake wait for checkpoints like all that dies without a word in the log.
    pub fn mend(&mut self, named: &SlotSet) -> bool {
        if self.live == *named {
            return false;
        }
        let mut leaked = self.live.clone();
        leaked.subtract(named);
        self.waiting.add(&leaked);
        for waiting in [
            &mut self.waiting,
            &mut self.waiting_now,
            &mut self.waiting_longer,
        ] {
            waiting.subtract(named);
        }
        self.live = named.clone();
        true
    }

    /// Counts a new page.
    pub fn page_born(&mut self, lineage: &mut Lineage, page: &DataEntry) {
        self.live.insert_run(page.at, self.page_slots);
        lineage.born(Item {
            at: page.at,
            key_epoch: page.key_epoch,
            kind: ItemKind::Page,
        });
    }

    /// Notes that the head with this open epoch maps a page no more, which the log says.
    pub fn page_let_go(
        &mut self,
        lineage: &mut Lineage,
        by: LineageEpoch,
        at: SlotAddr,
        key_epoch: KeyEpoch,
    ) {
        let item = Item {
            at,
            key_epoch,
            kind: ItemKind::Page,
        };
        if lineage.let_go(by, item, &mut ItemSet::default()) {
            self.live.remove_run(at, self.page_slots);
        }
    }

    /// The same of pages that lie together.
    pub fn run_let_go(&mut self, lineage: &mut Lineage, by: LineageEpoch, run: &PageRun) {
        for index in 0..run.count {
            let slot = run.at.slot + index * self.page_slots;
            let at = SlotAddr { slot, ..run.at };
            self.page_let_go(lineage, by, at, run.key_epoch);
        }
    }

    /// Notes that the head with this open epoch has a node no more.
    pub fn node_let_go(&mut self, lineage: &mut Lineage, by: LineageEpoch, node: &NodeRef) {
        if lineage.let_go(by, item_of(node), &mut ItemSet::default()) {
            self.live.remove(node.at);
            self.waiting.insert(node.at);
        }
    }

    /// Counts a node that got an address after these epochs had let go of it.
    pub fn node_born(
        &mut self,
        lineage: &mut Lineage,
        node: &NodeRef,
        let_go_by: impl IntoIterator<Item = LineageEpoch>,
    ) {
        let is_dead = lineage.born_late(item_of(node), let_go_by, &mut ItemSet::default());
        match is_dead {
            true => self.waiting.insert(node.at),
            false => self.live.insert(node.at),
        };
    }

    /// Lets items die of whose death the log says nothing.
    pub fn free_unlogged(&mut self, freed: &ItemSet) {
        let mut slots = freed.nodes.clone();
        match self.page_slots {
            1 => slots.add(&freed.pages),
            count => {
                for page in freed.pages.iter() {
                    slots.insert_run(page, count);
                }
            }
        }
        self.unlogged[0] += slots.len();
        self.live.subtract(&slots);
        self.waiting.add(&slots);
    }

    /// What lives and what waits on deadlists, as records.
    pub fn records(&self, lineage: &Lineage) -> Vec<Record> {
        let mut records = Vec::new();
        add_records(SlotsPurpose::Live, &self.live, &mut records);
        for part in lineage.dead_parts() {
            let bucket = Bucket {
                lineage: part.lineage,
                key_epoch: part.key_epoch,
            };
            let purpose = match part.kind {
                ItemKind::Page => SlotsPurpose::DeadPages(bucket),
                ItemKind::Node => SlotsPurpose::DeadNodes(bucket),
            };
            add_records(purpose, part.slots, &mut records);
        }
        records
    }

    /// Loads one of these records.
    pub fn load(&mut self, lineage: &mut Lineage, record: &SlotsRecord) -> Result<(), Damage> {
        let mut slots = SlotSet::default();
        for &(slot, count) in &record.runs {
            let segment = record.segment;
            slots.insert_run(SlotAddr { segment, slot }, count);
        }
        let (bucket, kind) = match record.purpose {
            SlotsPurpose::Live => {
                self.live.add(&slots);
                return Ok(());
            }
            SlotsPurpose::DeadPages(bucket) => (bucket, ItemKind::Page),
            SlotsPurpose::DeadNodes(bucket) => (bucket, ItemKind::Node),
        };
        lineage.load_dead(bucket.lineage, bucket.key_epoch, kind, slots)
    }
}

fn item_of(node: &NodeRef) -> Item {
    Item {
        at: node.at,
        key_epoch: node.key_epoch,
        kind: ItemKind::Node,
    }
}

fn add_records(purpose: SlotsPurpose, slots: &SlotSet, records: &mut Vec<Record>) {
    for segment in slots.segments() {
        let runs = slots.runs_in(segment).into_iter();
        records.push(Record::Slots(SlotsRecord {
            purpose,
            segment,
            runs: runs.map(|run| (run.start, run.end - run.start)).collect(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SegmentId;

    #[test]
    fn what_removals_freed_is_told_apart_until_two_checkpoints_know_of_it() {
        let at = |slot| SlotAddr {
            segment: SegmentId(1),
            slot,
        };
        let mut space = Space::new(1);
        space.live.insert_run(at(10), 100);
        // As nodes do that changes let go of.
        space.waiting.insert_run(at(200), 50);
        assert_eq!((space.waiting_count(), space.unlogged_count()), (50, 0));
        let mut freed = ItemSet::default();
        freed.pages.insert_run(at(10), 30);
        space.free_unlogged(&freed);
        assert_eq!((space.waiting_count(), space.unlogged_count()), (80, 30));
        space.begin_checkpoint();
        space.cancel_checkpoint();
        space.begin_checkpoint();
        space.end_checkpoint();
        assert_eq!((space.waiting_count(), space.unlogged_count()), (80, 30));
        space.begin_checkpoint();
        space.end_checkpoint();
        assert_eq!((space.waiting_count(), space.unlogged_count()), (0, 0));
    }
}

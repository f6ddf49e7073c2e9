//! One random history of a store: what users, background work, checkpoints and crashes do.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::catalog::LineageRecord;
use crate::lineage::tests::oracle::{counts, set};
use crate::lineage::tests::store::{Head, Op, Page, Store};
use crate::lineage::tests::{Rng, slot};
use crate::lineage::{Branch, Item, ItemKind, Lineage};
use crate::units::{KeyEpoch, LineageEpoch, SlotAddr};

const STEPS: usize = 400;
const NUMBERS: usize = 40;
const HEADS_MAX: usize = 12;
const PINS_MAX: usize = 3;
const REKEY_BATCH: usize = 10;

/// What histories did, so that a test can tell that they did enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub steps: usize,
    pub crashes: usize,
    pub replayed: usize,
    pub checkpoints: usize,
    pub hoists: usize,
    pub late: usize,
    pub deletes: usize,
    pub deletes_by_hoist: usize,
    pub sets: usize,
    pub rekeys: usize,
}

/// A checkpoint that is being written.
#[derive(Debug)]
struct Pending {
    store: Store,
    /// The log's length when it began, and the number of merges.
    logged: usize,
    merge_count: u64,
}

/// A store, what is on disk, and what goes on.
#[derive(Debug)]
pub struct History {
    rng: Rng,
    store: Store,
    /// The last checkpoint, and the log since.
    base: Store,
    log: Vec<Op>,
    pending: Option<Pending>,
    /// Pages that a rekey has read: head, number, place.
    rekeys: Vec<(u32, Vec<(u32, SlotAddr)>)>,
    /// Slots are not used again, as in a store those of the log are not.
    last_slot: u32,
    last_data: u32,
    pub done: Done,
}

impl History {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed),
            store: Store::default(),
            base: Store::default(),
            log: Vec::new(),
            pending: None,
            rekeys: Vec::new(),
            last_slot: 0,
            last_data: 0,
            done: Done::default(),
        }
    }

    /// Runs to the end, then deletes everything.
    pub fn run(&mut self) {
        while self.done.steps < STEPS {
            self.step();
            self.store.check_safety();
            if self.rng.in_thousand(30) {
                self.store.check_deep();
                self.check_sets();
            }
            if self.rng.in_thousand(20) {
                self.check_hoist();
            }
            self.done.steps += 1;
        }
        for head in self.visible() {
            self.log(Op::Delete(head));
        }
        self.reclaim();
        self.store.check_deep();
        for pin in self.store.pins.clone().into_keys() {
            self.log(Op::Unpin(pin));
        }
        self.reclaim();
        if self.pending.is_some() {
            self.end_checkpoint();
        }
        self.store.check_empty();
    }

    /// Appends to the log, and does it.
    fn log(&mut self, op: Op) {
        self.store.apply(&op);
        self.log.push(op);
    }

    /// The heads that a user sees.
    fn visible(&self) -> Vec<u32> {
        let visible = |(_, head): &(&u32, &Head)| !head.deleted;
        let heads = self.store.heads.iter().filter(visible);
        heads.map(|(&id, _)| id).collect()
    }

    fn volumes(&self) -> Vec<u32> {
        let mut ids = self.visible();
        ids.retain(|id| !self.store.heads[id].read_only);
        ids
    }

    fn step(&mut self) {
        let volumes = self.volumes();
        if volumes.is_empty() {
            self.create();
            return;
        }
        let volume = self.rng.pick(&volumes);
        let number = self.rng.below(NUMBERS) as u32;
        match self.rng.below(1000) {
            0..540 => self.write(volume, number),
            540..600 => self.discard(volume, number),
            600..720 => self.branch_or_delete(),
            720..770 => {
                let head = self.pick_visible();
                self.log(Op::Delete(head));
            }
            770..810 => self.reclaim(),
            810..825 => self.import(),
            825..830 => self.volumes().into_iter().for_each(|id| self.new_key(id)),
            830..840 => self.new_key(volume),
            840..870 => self.read_for_rekey(volume),
            870..910 => self.rekey(),
            910..940 => self.pin_or_unpin(),
            940..955 if self.pending.is_some() => self.end_checkpoint(),
            940..980 if self.pending.is_none() => self.begin_checkpoint(),
            955..980 => self.write(volume, number),
            980..990 => self.crash(),
            _ => self.store.hoist(),
        }
    }

    fn pick_visible(&mut self) -> u32 {
        let visible = self.visible();
        self.rng.pick(&visible)
    }

    // What users do

    fn create(&mut self) -> u32 {
        let last = self.store.last;
        let head = last.head + 1;
        self.log(Op::Create {
            head,
            lineage: LineageEpoch(last.lineage + 1),
            key: KeyEpoch(last.key + 1),
        });
        head
    }

    /// A new page under the open key epoch.
    fn new_page(&mut self, head: u32, data: u32) -> Page {
        self.last_slot += 1;
        let item = Item {
            at: slot(self.last_slot),
            key_epoch: self.store.heads[&head].key,
            kind: ItemKind::Page,
        };
        Page { item, data }
    }

    fn write(&mut self, head: u32, number: u32) {
        self.last_data += 1;
        let page = self.new_page(head, self.last_data);
        self.log(Op::Write { head, number, page });
    }

    fn discard(&mut self, head: u32, number: u32) {
        if self.store.page_at(head, number).is_some() {
            self.log(Op::Discard { head, number });
        }
    }

    fn new_key(&mut self, head: u32) {
        let key = KeyEpoch(self.store.last.key + 1);
        self.log(Op::NewKey { head, key });
    }

    fn branch(&mut self, source: u32, read_only: bool) -> u32 {
        let last = self.store.last;
        let open = self.store.heads[&source].lineage;
        let (mut lineage, mut key) = (last.lineage + 1, last.key + 1);
        let (parent, split) = match self.store.lineage.branch(open) {
            Branch::Share(parent) => (parent, None),
            Branch::Split => {
                (lineage, key) = (lineage + 1, key + 1);
                (open, Some((LineageEpoch(lineage - 1), KeyEpoch(key - 1))))
            }
        };
        let head = last.head + 1;
        self.log(Op::Branch {
            source,
            parent,
            split,
            head,
            lineage: LineageEpoch(lineage),
            key: KeyEpoch(key),
            read_only,
        });
        head
    }

    fn branch_or_delete(&mut self) {
        let head = self.pick_visible();
        if self.store.heads.len() < HEADS_MAX {
            let read_only = self.rng.in_thousand(300);
            self.branch(head, read_only);
        } else {
            self.log(Op::Delete(head));
            self.reclaim();
        }
    }

    /// Takes in pages that another store sealed, each group under a key epoch with its own row.
    fn import(&mut self) {
        if self.store.heads.len() >= HEADS_MAX {
            return;
        }
        let head = match self.rng.in_thousand(500) {
            true => self.create(),
            false => {
                let base = self.pick_visible();
                self.branch(base, false)
            }
        };
        for _ in 0..3 {
            for _ in 0..4 {
                let number = self.rng.below(NUMBERS) as u32;
                self.write(head, number);
            }
            self.new_key(head);
        }
    }

    /// Pins a head, or lets go of a pin. A volume is pinned by a hidden snapshot.
    fn pin_or_unpin(&mut self) {
        let pins: Vec<u32> = self.store.pins.keys().copied().collect();
        if !pins.is_empty() && (pins.len() == PINS_MAX || self.rng.in_thousand(500)) {
            let pin = self.rng.pick(&pins);
            self.log(Op::Unpin(pin));
            return;
        }
        let mut head = self.pick_visible();
        let pin = self.store.last.pin + 1;
        if self.store.heads[&head].read_only {
            self.log(Op::Pin { pin, head });
        } else {
            head = self.branch(head, true);
            self.log(Op::Pin { pin, head });
            self.log(Op::Delete(head));
        }
    }

    fn read_for_rekey(&mut self, head: u32) {
        let key = self.store.heads[&head].key;
        let pages = (0..NUMBERS as u32).filter_map(|number| {
            let page = self.store.page_at(head, number)?;
            (page.item.key_epoch != key).then_some((number, page.item.at))
        });
        let pages = pages.take(REKEY_BATCH).collect();
        self.rekeys.push((head, pages));
    }

    /// Appends what some rekey has read, however long ago.
    fn rekey(&mut self) {
        if self.rekeys.is_empty() {
            return;
        }
        let index = self.rng.below(self.rekeys.len());
        let (head, pages) = self.rekeys.swap_remove(index);
        if self.volumes().contains(&head) {
            self.rekey_pages(head, &pages);
        }
    }

    fn rekey_pages(&mut self, head: u32, pages: &[(u32, SlotAddr)]) {
        for &(number, old) in pages {
            let now = self.store.page_at(head, number);
            let page = self.new_page(head, now.map_or(0, |page| page.data));
            self.log(Op::Rekey {
                head,
                number,
                old,
                page,
            });
        }
    }

    // What goes on behind; nothing of it is in the log

    /// Removes the deleted heads that nothing pins, in any order.
    fn reclaim(&mut self) {
        let pinned: BTreeSet<u32> = self.store.pins.values().copied().collect();
        let heads = self.store.heads.iter();
        let deleted = heads.filter(|(id, head)| head.deleted && !pinned.contains(id));
        let mut deleted: Vec<u32> = deleted.map(|(&id, _)| id).collect();
        while !deleted.is_empty() {
            let id = deleted.swap_remove(self.rng.below(deleted.len()));
            self.store.remove(id);
        }
    }

    fn begin_checkpoint(&mut self) {
        self.store.freeze();
        self.pending = Some(Pending {
            store: self.store.clone(),
            logged: self.log.len(),
            merge_count: self.store.lineage.merge_count(),
        });
    }

    /// Nodes get their addresses in what the checkpoint holds, and in what has become of it.
    fn end_checkpoint(&mut self) {
        let Some(mut pending) = self.pending.take() else {
            return;
        };
        let count = pending.store.frozen.len();
        let merge_count = pending.merge_count;
        let last = pending.store.write_frozen(self.last_slot, merge_count);
        assert!(pending.store.notes.is_empty() && pending.store.lineage.merged.is_empty());
        pending.store.check_safety();
        pending.store.lineage = loaded(&pending.store.lineage);
        self.done.late += self
            .store
            .frozen
            .iter()
            .filter(|id| self.store.notes.contains_key(id))
            .count();
        self.last_slot = self.store.write_frozen(self.last_slot, merge_count);
        assert_eq!(last as usize, self.last_slot as usize, "{count} nodes");
        self.base = pending.store;
        self.log.drain(..pending.logged);
        self.done.checkpoints += 1;
    }

    fn checkpoint(&mut self) {
        self.end_checkpoint();
        self.begin_checkpoint();
        self.end_checkpoint();
    }

    /// Loses the memory, and perhaps the end of the log.
    fn crash(&mut self) {
        self.pending = None;
        if self.rng.in_thousand(500) {
            let kept = self.rng.below(self.log.len() + 1);
            self.log.truncate(kept);
        }
        self.store = self.base.clone();
        for op in &self.log {
            self.store.apply(op);
            self.store.check_safety();
        }
        self.store.check_deep();
        self.done.crashes += 1;
        self.done.replayed += self.log.len();
    }

    // Checks that change something

    /// Settles everything, then deletes or rekeys something: exactly what was promised happens.
    fn check_hoist(&mut self) {
        self.reclaim();
        self.store.hoist();
        self.store.check_hoisted();
        self.done.hoists += 1;
        self.check_sets();
        let visible = self.visible();
        if !visible.is_empty() && self.rng.in_thousand(300) {
            let head = self.rng.pick(&visible);
            self.check_delete(head);
        }
        let volumes = self.volumes();
        if !volumes.is_empty() && self.rng.in_thousand(300) {
            let volume = self.rng.pick(&volumes);
            self.check_rekey(volume);
        }
    }

    /// The dry run of deleting some heads at once is exact.
    fn check_sets(&mut self) {
        let heads: Vec<u32> = self.store.heads.keys().copied().collect();
        for _ in 0..3 {
            let share = self.rng.below(1000);
            let mut some: BTreeSet<u32> = heads.iter().copied().collect();
            some.retain(|_| self.rng.in_thousand(share));
            let open = some.iter().map(|id| self.store.heads[id].lineage).collect();
            let marked = counts(&self.store.only_reached_by(&some));
            assert_eq!(self.store.lineage.freed_with(&open), marked, "{some:?}");
            self.done.sets += 1;
        }
    }

    /// Deletes a head. What only it reached goes, once the last pin is gone.
    fn check_delete(&mut self, head: u32) {
        let promised = set(&self.store.only_reached_by(&BTreeSet::from([head])));
        let mut expected = self.store.live.clone();
        self.log(Op::Delete(head));
        self.reclaim();
        let pins = self.store.pins.clone().into_iter();
        for (pin, _) in pins.filter(|&(_, pinned)| pinned == head) {
            assert_eq!(self.store.live, expected, "a pinned head was removed");
            self.log(Op::Unpin(pin));
            self.reclaim();
        }
        expected.subtract(&promised);
        self.done.deletes += 1;
        self.done.deletes_by_hoist += usize::from(self.store.live != expected);
        self.store.hoist();
        assert_eq!(
            self.store.live, expected,
            "a delete freed other than promised"
        );
    }

    /// Rekeys a whole volume: what it shared becomes its own, and only that is added.
    fn check_rekey(&mut self, volume: u32) {
        self.checkpoint();
        self.store.hoist();
        let open = self.store.heads[&volume].lineage;
        let mut added = counts(&self.store.reach(volume));
        added -= self.store.lineage.exclusive(open);
        added += self.store.live.counts();
        self.new_key(volume);
        let pages: Vec<(u32, SlotAddr)> = (0..NUMBERS as u32)
            .filter_map(|number| Some((number, self.store.page_at(volume, number)?.item.at)))
            .collect();
        self.rekey_pages(volume, &pages);
        self.checkpoint();
        self.store.hoist();
        assert_eq!(self.store.live.counts(), added, "the dry run of a rekey");
        let reached = self.store.reach(volume);
        let open = self.store.heads[&volume].lineage;
        assert_eq!(self.store.lineage.exclusive(open), counts(&reached));
        let sealed = self
            .store
            .lineage
            .sealed_count(self.store.heads[&volume].key);
        assert_eq!(sealed as usize, pages.len());
        self.done.rekeys += 1;
    }
}

/// A lineage as it is after a checkpoint was written and read.
pub fn loaded(lineage: &Lineage) -> Lineage {
    let mut loaded = Lineage::default();
    let records: Vec<LineageRecord> = lineage.records().collect();
    for record in &records {
        loaded.insert(record).expect("a parent");
    }
    for row in lineage.rows() {
        loaded.load_row(&row).expect("an epoch");
    }
    for part in lineage.dead_parts() {
        let slots = part.slots.clone();
        let load = loaded.load_dead(part.lineage, part.key_epoch, part.kind, slots);
        load.expect("a birth above");
    }
    let own = |lineage: &Lineage| -> BTreeMap<LineageEpoch, _> {
        let ids = records.iter().map(|record| record.lineage);
        ids.map(|id| (id, lineage.own(id))).collect()
    };
    assert_eq!(own(&loaded), own(lineage));
    assert_eq!(loaded.check(), Ok(()));
    loaded
}

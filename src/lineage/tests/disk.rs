//! What is on disk: two checkpoints, the log since the older one, and slots that were used again; and
//! who reads it meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::catalog::LineageRecord;
use crate::format::record::Record;
use crate::lineage::Lineage;
use crate::lineage::tests::history::{History, Planted};
use crate::lineage::tests::slot;
use crate::lineage::tests::store::{Op, Page, Store};
use crate::slots::SlotSet;
use crate::units::{LineageEpoch, SlotAddr};

/// Before so many checkpoints a process uses nothing again: it does not know what waited before.
const CHECKPOINTS: usize = 2;

/// A checkpoint.
#[derive(Clone, Debug)]
pub struct Generation {
    pub store: Store,
    /// The log's length when it began, from the beginning of all.
    pub logged: usize,
    /// The last slot before it: all later ones are log.
    pub last_slot: u32,
}

/// A checkpoint that is being written.
#[derive(Debug)]
pub struct Pending {
    pub generation: Generation,
    merge_count: u64,
}

/// What outlives the process.
#[derive(Debug)]
pub struct Disk {
    pub older: Generation,
    pub newer: Generation,
    /// The log since the older one.
    pub log: Vec<Op>,
    log_start: usize,
    /// The log is durable up to here, from the beginning of all.
    durable: usize,
    /// Slots whose contents are gone.
    wiped: SlotSet,
}

/// A read under way: what it has found out of a head's page table, and not read yet.
#[derive(Debug)]
pub struct Reader {
    head: u32,
    leaves: BTreeMap<u32, SlotAddr>,
    pages: BTreeMap<u32, Page>,
}

impl Disk {
    pub fn new() -> Self {
        let empty = Generation {
            store: Store::new(),
            logged: 0,
            last_slot: 0,
        };
        Self {
            older: empty.clone(),
            newer: empty,
            log: Vec::new(),
            log_start: 0,
            durable: 0,
            wiped: SlotSet::default(),
        }
    }

    fn end(&self) -> usize {
        self.log_start + self.log.len()
    }

    fn sync(&mut self) {
        self.durable = self.end();
    }

    /// The state that a recovery from this checkpoint finds with so much of the log.
    fn recovered(&self, from: &Generation, end: usize) -> Store {
        let mut store = from.store.clone();
        for op in &self.log[from.logged - self.log_start..end - self.log_start] {
            store.apply(op);
            store.check_safety();
        }
        store
    }

    /// Nothing that this state may still read is gone: the nodes of all heads, for those that are deleted
    /// are still to be removed, and the pages of the others.
    fn check_kept(&self, store: &Store, what: &str) {
        for id in store.reached_nodes() {
            let gone = store.nodes[&id].at.filter(|&at| self.wiped.contains(at));
            assert_eq!(
                gone, None,
                "UNSAFE: a node that {what} needs was used again"
            );
        }
        for (&id, _) in store.heads.iter().filter(|(_, head)| !head.deleted) {
            for item in store.reach_pages(id) {
                let is_gone = self.wiped.contains(item.at);
                assert!(
                    !is_gone,
                    "UNSAFE: {item:?} that {what} needs was used again"
                );
            }
        }
    }
}

impl History {
    pub fn begin_checkpoint(&mut self) {
        if self.rng.in_thousand(500) {
            self.store.hoist();
        }
        self.prune_keys();
        self.store.space.begin_checkpoint();
        self.store.freeze();
        self.pending = Some(Pending {
            generation: Generation {
                store: self.store.clone(),
                logged: self.disk.end(),
                last_slot: self.last_slot,
            },
            merge_count: self.store.lineage.merge_count(),
        });
    }

    pub fn prune_keys(&mut self) {
        self.store.prune_keys();
        self.store.check_pruned();
        self.store.check_keys();
    }

    /// Gives a checkpoint up, as when the disk is full.
    pub fn cancel_checkpoint(&mut self) {
        if self.pending.take().is_some() {
            self.store.frozen.clear();
            self.store.space.cancel_checkpoint();
            self.done.cancelled += 1;
        }
    }

    /// Nodes get their addresses in what the checkpoint holds, and in what has become of it.
    pub fn end_checkpoint(&mut self) {
        let Some(mut pending) = self.pending.take() else {
            return;
        };
        let held = &mut pending.generation.store;
        let count = held.frozen.len();
        let last = held.write_frozen(self.last_slot, pending.merge_count);
        assert!(held.notes.is_empty() && held.lineage.merged.is_empty());
        held.check_safety();
        held.reload();
        let notes = &self.store.notes;
        let late = self.store.frozen.iter().filter(|id| notes.contains_key(id));
        self.done.late += late.count();
        self.last_slot = self.store.write_frozen(self.last_slot, pending.merge_count);
        assert_eq!(last, self.last_slot, "{count} nodes");
        self.disk.sync();
        self.store.space.end_checkpoint();
        let older = std::mem::replace(&mut self.disk.newer, pending.generation);
        let known = older.logged - self.disk.log_start;
        self.disk.log.drain(..known);
        self.disk.log_start = older.logged;
        self.disk.older = older;
        self.checkpoints_here += 1;
        self.done.checkpoints += 1;
    }

    pub fn checkpoint(&mut self) {
        self.end_checkpoint();
        self.begin_checkpoint();
        self.end_checkpoint();
    }

    pub fn sync(&mut self) {
        self.disk.sync();
    }

    /// Uses all slots again that may be: of nobody's data, before the log.
    pub fn wipe(&mut self) {
        if self.checkpoints_here < CHECKPOINTS {
            return;
        }
        let space = &self.store.space;
        let mut held = match self.planted {
            Planted::UsedBeforeCheckpoints => space.live().clone(),
            _ => space.held(),
        };
        if self.planted == Planted::UsedOnDeadlists {
            for part in self.store.lineage.dead_parts() {
                held.subtract(part.slots);
            }
        }
        if self.planted != Planted::UsedBeforeSync {
            self.disk.sync();
        }
        for slot in (1..=self.disk.older.last_slot).map(slot) {
            if !held.contains(slot) && self.disk.wiped.insert(slot) {
                self.done.wiped += 1;
            }
        }
        self.disk.check_kept(&self.store, "this process");
        // Whatever is left of the log, from whichever superblock.
        let disk = &self.disk;
        for from in [&disk.older, &disk.newer] {
            disk.check_kept_nodes(from);
            let least = disk.durable.max(from.logged);
            let end = least + self.rng.below(disk.end() - least + 1);
            disk.check_kept(&disk.recovered(from, end), "a recovery");
            self.done.recoveries += 1;
        }
    }

    /// Loses the memory, and perhaps the newest superblock and the end of the log.
    pub fn crash(&mut self) {
        self.pending = None;
        self.readers.clear();
        let disk = &mut self.disk;
        if self.rng.in_thousand(300) {
            disk.newer = disk.older.clone();
        }
        let least = disk.durable.max(disk.newer.logged);
        if self.rng.in_thousand(500) {
            let kept = least + self.rng.below(disk.end() - least + 1);
            disk.log.truncate(kept - disk.log_start);
        }
        self.store = disk.recovered(&disk.newer, disk.end());
        // Recovery syncs what it accepts.
        disk.sync();
        self.checkpoints_here = 0;
        let tokens: BTreeSet<u32> = self.store.heads.values().map(|head| head.token).collect();
        self.vault.keep(&tokens);
        self.store.check_deep();
        self.store.check_keys();
        disk.check_kept(&self.store, "this recovery");
        self.done.crashes += 1;
        self.done.replayed += disk.end() - disk.newer.logged;
    }

    // Readers

    /// Begins to read a head: looks up its root, leaves and entries.
    pub fn begin_read(&mut self, head: u32) {
        let root = self.store.heads[&head].root;
        let root = root.map(|root| &self.store.nodes[&root]);
        let leaves = || root.into_iter().flat_map(|root| &root.leaves);
        let places =
            leaves().filter_map(|(&index, leaf)| Some((index, self.store.nodes[leaf].at?)));
        let pages = leaves().flat_map(|(_, leaf)| &self.store.nodes[leaf].pages);
        let reader = Reader {
            head,
            leaves: places.collect(),
            pages: pages.map(|(&number, &page)| (number, page)).collect(),
        };
        self.readers.push(reader);
    }

    /// Goes on with a read. What it has looked up is there, or a new look finds something else that is
    /// there, or the head is gone: never nothing, and never other bytes under the same address.
    pub fn end_read(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let reader = self.readers.swap_remove(self.rng.below(self.readers.len()));
        let head = self.store.heads.get(&reader.head);
        let is_there = head.is_some_and(|head| !head.deleted);
        let wiped = |at: SlotAddr| self.disk.wiped.contains(at);
        for (&index, &at) in &reader.leaves {
            if wiped(at) && is_there {
                let now = self.store.leaf_at(reader.head, index);
                let now = now.and_then(|leaf| leaf.at);
                assert!(!now.is_some_and(wiped), "UNSAFE: a leaf under a reader");
            }
        }
        for (&number, page) in &reader.pages {
            match wiped(page.item.at) {
                false => self.done.read += 1,
                true if !is_there => self.done.refused += 1,
                true => {
                    let now = self.store.page_at(reader.head, number);
                    let is_lost = now.is_some_and(|now| wiped(now.item.at));
                    assert!(!is_lost, "UNSAFE: page {number} under a reader");
                    self.done.looked_again += 1;
                }
            }
        }
    }
}

impl Disk {
    /// A recovery may read the nodes of the checkpoint that it starts from before it has read the log.
    fn check_kept_nodes(&self, from: &Generation) {
        for id in from.store.reached_nodes() {
            let gone = from.store.nodes[&id]
                .at
                .filter(|&at| self.wiped.contains(at));
            assert_eq!(gone, None, "UNSAFE: a node of a superblock was used again");
        }
    }
}

impl Store {
    /// Makes this what a checkpoint says of it when it is read.
    fn reload(&mut self) {
        let before = self.lineage.clone();
        let records = self.space.records(&before);
        self.space = crate::catalog::Space::new(1);
        self.lineage = loaded_epochs(&before);
        for record in &records {
            if let Record::Slots(record) = record {
                let loaded = self.space.load(&mut self.lineage, record);
                loaded.expect("a birth above");
            }
        }
        assert_same_own(&self.lineage, &before);
        let known = |id| self.lineage.birth(id).is_some();
        self.keys.retain(|&id, _| known(id));
    }
}

/// A lineage as it is after a checkpoint was written and read.
pub fn loaded(lineage: &Lineage) -> Lineage {
    let mut loaded = loaded_epochs(lineage);
    for part in lineage.dead_parts() {
        let slots = part.slots.clone();
        let load = loaded.load_dead(part.lineage, part.key_epoch, part.kind, slots);
        load.expect("a birth above");
    }
    assert_same_own(&loaded, lineage);
    loaded
}

/// The same without its deadlists.
fn loaded_epochs(lineage: &Lineage) -> Lineage {
    let mut loaded = Lineage::default();
    for record in lineage.records() {
        loaded.insert(&record).expect("a parent");
    }
    for row in lineage.rows() {
        loaded.load_row(&row).expect("an epoch");
    }
    loaded
}

fn assert_same_own(loaded: &Lineage, before: &Lineage) {
    let records: Vec<LineageRecord> = before.records().collect();
    let own = |lineage: &Lineage| -> BTreeMap<LineageEpoch, _> {
        let ids = records.iter().map(|record| record.lineage);
        ids.map(|id| (id, lineage.own(id))).collect()
    };
    assert_eq!(own(loaded), own(before));
    assert_eq!(loaded.check(), Ok(()));
}

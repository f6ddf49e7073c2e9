//! The store against mark and sweep: random histories of writing, clearing, branching, deleting in
//! any order, checkpoints and crashes.

mod accounts;
mod keys;

use std::collections::{BTreeMap, BTreeSet};

use crate::btree::Found;
use crate::file_kms::FileKms;
use crate::io::sim::{SimClock, SimMachine, SimRandom};
use crate::slots::SlotSet;
use crate::store::{Machine, Options, Store, Volume};
use crate::sync::Arc;
use crate::units::{KeyId, PageNo, SlotAddr};

const HISTORIES: u64 = 120;
const STEPS: usize = 120;
const PAGES: u64 = 48;
const HEADS_MAX: usize = 7;

/// A store on a simulated machine, and what its volumes should hold.
struct World {
    machine: SimMachine,
    dice: SimRandom,
    seed: u64,
    page_len: u32,
    store: Store,
    key: KeyId,
    volumes: BTreeMap<String, BTreeMap<u64, u8>>,
    snapshots: BTreeSet<String>,
    number: u32,
}

fn options(page_len: u32) -> Options {
    let options = Options::new().page_len(page_len).fanout(3).workers(0);
    options.segment_len(64 << 12)
}

fn machine(sim: &SimMachine, seed: u64) -> Machine {
    Machine {
        disk: Arc::new(sim.dir("store")),
        clock: Arc::new(SimClock::new(1_000_000)),
        random: Arc::new(SimRandom::new(seed)),
    }
}

fn kms(sim: &SimMachine, seed: u64) -> FileKms {
    let machine = machine(sim, seed);
    FileKms::open_on(Arc::new(sim.dir("kms")), machine.clock, machine.random).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let sim = SimMachine::new();
        let page_len = [4096, 4096, 8192][seed as usize % 3];
        let parts = machine(&sim, seed);
        let disk = Arc::new(sim.dir("kms"));
        let kms = FileKms::create_on(disk, "local", parts.clock, parts.random).unwrap();
        kms.create_key(Some("alias/offshoot-store")).unwrap();
        kms.create_key(Some("alias/default")).unwrap();
        let key = kms.key("alias/default").unwrap().id;
        let parts = machine(&sim, seed + 1000);
        let store = options(page_len).create_on(parts, Arc::new(kms)).unwrap();
        Self {
            machine: sim,
            dice: SimRandom::new(seed + 77),
            seed: seed + 5000,
            page_len,
            store,
            key,
            volumes: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            number: 0,
        }
    }

    fn below(&self, end: u64) -> u64 {
        self.dice.below(end as usize) as u64
    }

    fn volume(&self, name: &str) -> Volume {
        self.store.volume(name).unwrap()
    }

    fn some_volume(&self) -> Option<String> {
        let names: Vec<_> = self
            .volumes
            .keys()
            .filter(|name| !self.snapshots.contains(*name))
            .collect();
        (!names.is_empty()).then(|| names[self.below(names.len() as u64) as usize].clone())
    }

    fn some_head(&self) -> String {
        let index = self.below(self.volumes.len() as u64);
        self.volumes.keys().nth(index as usize).unwrap().clone()
    }

    fn new_name(&mut self) -> String {
        self.number += 1;
        format!("h{}", self.number)
    }

    fn step(&mut self) {
        let Some(name) = self.some_volume() else {
            let name = self.new_name();
            let len = PAGES * u64::from(self.page_len);
            self.store.create_volume(&name, len, &self.key).unwrap();
            self.volumes.insert(name, BTreeMap::new());
            return;
        };
        match self.below(100) {
            0..50 => self.write(&name),
            50..60 => self.clear(&name),
            60..74 => self.branch(),
            74..81 => self.delete(),
            81..84 => self.delete_some(),
            84..91 => self.store.checkpoint().unwrap(),
            91..94 => self.compact(),
            94..97 => self.reopen(),
            _ => self.resize(&name),
        }
    }

    fn write(&mut self, name: &str) {
        let (first, count) = (self.below(PAGES), 1 + self.below(4));
        let len = self.volume(name).len().unwrap() / u64::from(self.page_len);
        let model = self.volumes.get_mut(name).unwrap();
        let count = count.min(len.saturating_sub(first));
        self.number += 1;
        let byte = self.number as u8 | 1;
        let bytes = vec![byte; (count * u64::from(self.page_len)) as usize];
        model.extend((first..first + count).map(|page| (page, byte)));
        let offset = first * u64::from(self.page_len);
        if count > 0 {
            self.volume(name).write_all_at(&bytes, offset).unwrap();
        }
    }

    fn clear(&mut self, name: &str) {
        let volume = self.volume(name);
        let len = volume.len().unwrap() / u64::from(self.page_len);
        let first = self.below(PAGES).min(len);
        let end = (first + 1 + self.below(PAGES)).min(len);
        let bytes = first * u64::from(self.page_len)..end * u64::from(self.page_len);
        match self.below(2) {
            0 => volume.discard(bytes).unwrap(),
            _ => volume.write_zeroes(bytes).unwrap(),
        }
        let model = self.volumes.get_mut(name).unwrap();
        model.retain(|page, _| *page < first || *page >= end);
    }

    /// Gives all space back: every page must still be there, and nothing else.
    fn compact(&self) {
        self.store.compact(|_| true).unwrap();
        let inner = &self.store.0;
        let files = inner.segments.allocated().unwrap();
        let live = inner.state.read().space().live().len() * 4096;
        // Beside it there are the log of two checkpoints, and the segment that is being filled.
        assert!(files < live + (192 << 12) + live / 4, "{files} for {live}");
    }

    fn resize(&mut self, name: &str) {
        let pages = 1 + self.below(PAGES);
        let len = pages * u64::from(self.page_len);
        self.volume(name).resize(len).unwrap();
        let model = self.volumes.get_mut(name).unwrap();
        model.retain(|page, _| *page < pages);
    }

    fn branch(&mut self) {
        if self.volumes.len() >= HEADS_MAX {
            return self.delete();
        }
        let (from, to) = (self.some_head(), self.new_name());
        let snapshot = self.below(3) == 0;
        match (self.snapshots.contains(&from), snapshot) {
            (false, true) => drop(self.volume(&from).create_snapshot(&to).unwrap()),
            (false, false) => drop(self.volume(&from).create_clone(&to, &self.key).unwrap()),
            (true, _) => {
                let snapshot = self.store.snapshot(&from).unwrap();
                snapshot.create_clone(&to, &self.key).unwrap();
            }
        }
        if snapshot && !self.snapshots.contains(&from) {
            self.snapshots.insert(to.clone());
        }
        let model = self.volumes[&from].clone();
        self.volumes.insert(to, model);
    }

    fn delete(&mut self) {
        let name = self.some_head();
        match self.snapshots.remove(&name) {
            true => self.store.snapshot(&name).unwrap().delete().unwrap(),
            false => self.volume(&name).delete().unwrap(),
        }
        self.volumes.remove(&name);
    }

    /// Ends the process: as a crash does after a flush, or cleanly.
    fn reopen(&mut self) {
        let other = SimMachine::new();
        let sim = std::mem::replace(&mut self.machine, other);
        match self.below(3) {
            0 => self.store.clone().close().unwrap(),
            _ => self.store.flush().unwrap(),
        }
        self.machine = sim.kill();
        self.seed += 1;
        let (parts, kms) = (
            machine(&self.machine, self.seed),
            kms(&self.machine, self.seed + 1),
        );
        self.store = options(self.page_len)
            .open_on(parts, Arc::new(kms))
            .unwrap();
    }

    /// The slots that heads reach, and how many pages each has.
    fn reached(&self) -> SlotSet {
        let inner = &self.store.0;
        let page_slots = inner.segments.geometry().page_slots();
        let mut reached = SlotSet::default();
        let mut add = |at: SlotAddr, count| {
            reached.insert_run(at, count);
        };
        let state = inner.state.read().clone();
        for head in state.heads() {
            let (mut tree, epoch) = (head.tree.clone(), head.record.key_epoch);
            let mut pages = 0;
            for item in tree.iter(&inner.nodes, PageNo(0)..PageNo(u64::MAX)) {
                if let (_, crate::format::entry::Entry::Data(page)) = item.unwrap() {
                    pages += 1;
                    add(page.at, page_slots);
                    let known = state.key_epoch(page.key_epoch).is_some();
                    assert!(known, "the key epoch of a page was dropped");
                }
            }
            assert_eq!(head.page_count, pages, "{}", head.record.name);
            if !tree.is_overlaid() {
                let mut found = |found| {
                    if let Found::Node(node) = found {
                        add(node.at, 1);
                    }
                };
                tree.visit_own(&inner.nodes, &mut |_| true, &mut found)
                    .unwrap();
            } else {
                tree.fold(&inner.nodes, inner.fanout, epoch, usize::MAX)
                    .unwrap();
            }
        }
        reached
    }

    /// No slot that a head reaches may be free.
    fn check_safe(&self) {
        let mut lost = self.reached();
        lost.subtract(self.store.0.state.read().space().live());
        assert!(
            lost.is_empty(),
            "lost: {:?}",
            lost.iter().collect::<Vec<_>>()
        );
    }

    /// After a checkpoint exactly the slots are live that a head reaches.
    fn check_exact(&self) {
        self.store.checkpoint().unwrap();
        let mut leaked = self.store.0.state.read().space().live().clone();
        leaked.subtract(&self.reached());
        assert!(
            leaked.is_empty(),
            "leaked: {:?}",
            leaked.iter().collect::<Vec<_>>()
        );
    }

    fn check_contents(&self) {
        let page_len = self.page_len as usize;
        for (name, model) in &self.volumes {
            let mut page = vec![0; page_len];
            for number in 0..PAGES {
                let offset = number * page_len as u64;
                let read = match self.snapshots.contains(name) {
                    true => self
                        .store
                        .snapshot(name)
                        .unwrap()
                        .read_exact_at(&mut page, offset),
                    false => self.volume(name).read_exact_at(&mut page, offset),
                };
                match read {
                    Ok(()) => {
                        let byte = model.get(&number).copied().unwrap_or(0);
                        assert!(page.iter().all(|&found| found == byte), "{name} {number}");
                    }
                    Err(_) => assert!(!model.contains_key(&number), "{name} {number}"),
                }
            }
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
            self.check_safe();
            if self.below(10) == 0 {
                self.check_exact();
                self.check_contents();
                self.check_charges();
            }
        }
        while !self.volumes.is_empty() {
            self.delete();
            self.check_safe();
        }
        self.check_exact();
        let state = self.store.0.state.read().clone();
        assert!(
            state.space().live().is_empty(),
            "a store without heads keeps something"
        );
        let counts = state.counts();
        assert_eq!((counts.lineage_epochs, counts.deleted_heads), (0, 0));
        drop(state);
        self.store.checkpoint().unwrap();
        assert_eq!(self.store.0.state.read().counts().key_epochs, 0);
    }
}

#[test]
fn the_live_slots_are_those_that_heads_reach() {
    for seed in 0..HISTORIES {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(run.is_ok(), "seed {seed}");
    }
}

//! Whatever reclaim does and wherever it is stopped, every head reads as it was written.

mod crashes;
mod faults;
mod files;
mod histories;
mod threads;

use std::collections::BTreeMap;

use crate::check::{CheckOptions, Class, Report, check};
use crate::error::Result;
use crate::file_kms::FileKms;
use crate::format::catalog::{HeadState, RootSource};
use crate::format::entry::Entry;
use crate::format::node::{DiskNode, Items, NodeRef};
use crate::format::record::Record;
use crate::io::sim::{SimClock, SimMachine, SimRandom};
use crate::io::{Access, Disk};
use crate::log::{Superblocks, load_tables};
use crate::slots::SlotSet;
use crate::store::inner::Inner;
use crate::store::{Machine, Options, Store};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::units::{KeyId, SLOT_LEN};

use super::{Goal, Progress};

const PAGE: u64 = SLOT_LEN as u64;
const PAGES: u64 = 64;

/// A machine with a store and a KMS, and seeds that are never used twice.
#[derive(Debug)]
struct Region {
    machine: SimMachine,
    kms: FileKms,
    key: KeyId,
    seed: Arc<AtomicU64>,
}

impl Region {
    fn new() -> Self {
        let (machine, seed) = (SimMachine::new(), Arc::new(AtomicU64::new(1)));
        let kms_dir: Arc<dyn Disk> = Arc::new(machine.dir("kms"));
        let (clock, random) = sources(&seed);
        let kms = FileKms::create_on(kms_dir, "local", clock, random).unwrap();
        kms.create_key(Some("alias/offshoot-store")).unwrap();
        let key = kms.create_key(Some("alias/default")).unwrap().id;
        let region = Self {
            machine,
            kms,
            key,
            seed,
        };
        let disk = Arc::new(region.machine.dir("store"));
        let kms = Arc::new(region.kms.clone());
        let store = options().create_on(region.on(disk), kms).unwrap();
        let volume = store.create_volume("v", PAGES * PAGE, &region.key).unwrap();
        drop(volume);
        store.close().unwrap();
        region
    }

    /// The same on another machine: a copy of this one after something happened to it.
    fn with(&self, machine: SimMachine) -> Self {
        let (clock, random) = sources(&self.seed);
        let kms_dir: Arc<dyn Disk> = Arc::new(machine.dir("kms"));
        Self {
            kms: FileKms::open_on(kms_dir, clock, random).unwrap(),
            machine,
            key: self.key,
            seed: self.seed.clone(),
        }
    }

    fn on(&self, disk: Arc<dyn Disk>) -> Machine {
        let (clock, random) = sources(&self.seed);
        Machine {
            disk,
            clock,
            random,
        }
    }

    fn open(&self) -> Store {
        self.open_on(Arc::new(self.machine.dir("store"))).unwrap()
    }

    fn open_on(&self, disk: Arc<dyn Disk>) -> Result<Store> {
        options().open_on(self.on(disk), Arc::new(self.kms.clone()))
    }

    fn fsck(&self) -> Report {
        let options = CheckOptions::new().kms(Arc::new(self.kms.clone()));
        check(&self.machine.dir("store"), &options.read_data(true)).unwrap()
    }

    /// The check while the store is open: on a copy, as after a kill.
    fn fsck_open(&self) -> Report {
        self.with(self.machine.kill()).fsck()
    }

    /// Names of the store's files that begin so.
    fn files(&self, start: &str) -> Vec<String> {
        let names = self.machine.dir("store").list().unwrap();
        names
            .into_iter()
            .filter(|name| name.starts_with(start))
            .collect()
    }
}

fn sources(seed: &AtomicU64) -> (Arc<SimClock>, Arc<SimRandom>) {
    let seed = seed.fetch_add(1, Ordering::SeqCst);
    (
        Arc::new(SimClock::new(1000)),
        Arc::new(SimRandom::new(seed)),
    )
}

fn options() -> Options {
    let options = Options::new().segment_len(40 * PAGE).workers(0);
    options.fanout(3).open_segments(4)
}

/// What pages of volume `v` hold, by their first bytes.
type Contents = BTreeMap<u64, u8>;

fn write(store: &Store, contents: &mut Contents, page: u64, count: u64, byte: u8) {
    let bytes = vec![byte; (count * PAGE) as usize];
    store
        .volume("v")
        .unwrap()
        .write_all_at(&bytes, page * PAGE)
        .unwrap();
    contents.extend((page..page + count).map(|page| (page, byte)));
}

fn assert_reads(store: &Store, contents: &Contents, when: &str) {
    let volume = store.volume("v").unwrap();
    let mut page = vec![0; SLOT_LEN];
    for (&number, &byte) in contents {
        let read = volume.read_exact_at(&mut page, number * PAGE);
        read.unwrap_or_else(|error| panic!("{when}: page {number}: {error}"));
        assert!(page.iter().all(|&found| found == byte), "{when}: {number}");
    }
}

/// Every other page is overwritten again and again, so that segments are left half dead.
fn churned(store: &Store) -> Contents {
    let mut contents = Contents::new();
    write(store, &mut contents, 0, PAGES, 1);
    for round in 2..8 {
        for page in (0..PAGES).filter(|page| page % 7 != 3 && page % 5 != 1) {
            if page % u64::from(round) != 1 {
                write(store, &mut contents, page, 1, round);
            }
        }
        store.checkpoint().unwrap();
    }
    settle(store, &mut contents);
    contents
}

/// Two checkpoints, so that what died before them is needed by no superblock.
fn settle(store: &Store, contents: &mut Contents) {
    for byte in [101, 102] {
        write(store, contents, 0, 1, byte);
        store.checkpoint().unwrap();
    }
}

/// All slots that anything can still read outside the log, by the tables of both superblocks.
fn live(inner: &Inner) -> SlotSet {
    let mut live = SlotSet::default();
    let (_, candidates) = Superblocks::open(&*inner.disk, Access::Read).unwrap();
    for tables in candidates.iter().filter_map(|c| c.superblock.tables) {
        for record in load_tables(&inner.segments, tables).unwrap() {
            if let Record::Head(head) = record
                && head.state != HeadState::Deleted
                && let RootSource::Node(root) = head.root
            {
                mark(inner, &root, &mut live);
            }
        }
    }
    live
}

fn mark(inner: &Inner, node: &NodeRef, live: &mut SlotSet) {
    if !live.insert(node.at) {
        return;
    }
    let mut slot = [0; SLOT_LEN];
    inner.segments.read_slots(node.at, &mut slot).unwrap();
    match DiskNode::decode(&slot, node).unwrap().items {
        Items::Leaf(pages) => {
            for (_, entry) in pages {
                if let Entry::Data(data) = entry {
                    live.insert_run(data.at, inner.segments.geometry().page_slots());
                }
            }
        }
        Items::Inner { children, .. } => {
            children
                .iter()
                .for_each(|(_, child)| mark(inner, child, live));
        }
    }
}

fn step(store: &Store, goal: Goal) -> Result<Progress> {
    let inner = &*store.0;
    let protected = inner.first_protected()?;
    inner.reclaim_step(&live(inner), protected, goal)
}

/// Steps until nothing is left to do; all that they did.
fn reclaim(store: &Store, goal: Goal) -> Progress {
    let mut all = Progress::default();
    for _ in 0..1000 {
        let done = step(store, goal).unwrap();
        all.dropped_files += done.dropped_files;
        all.punched_runs += done.punched_runs;
        all.packs += done.packs;
        all.moved_bytes += done.moved_bytes;
        all.freed_bytes += done.freed_bytes;
        if done.is_done {
            return all;
        }
    }
    panic!("reclaim goes on for ever: {all:?}");
}

/// What a crash may leave is at most a superblock of which one copy is old.
fn assert_sound(report: &Report, when: &str) {
    let worst = report.worst();
    let is_sound = worst.is_none_or(|class| class <= Class::RedundancyLost);
    assert!(is_sound, "{when}: {report}");
}

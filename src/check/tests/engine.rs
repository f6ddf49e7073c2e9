//! The check and the engine agree: whatever the engine leaves behind, also in a crash, is clean.

use crate::check::{Class, Report, check};
use crate::error::Result;
use crate::file_kms::FileKms;
use crate::io::Disk;
use crate::io::sim::{Crash, SimClock, SimDisk, SimMachine, SimRandom};
use crate::source::{Clock, Random};
use crate::store::{Machine, Options, Store};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::units::KeyId;

use super::CheckOptions;

const PAGE: u64 = 4096;

pub struct Region {
    machine: SimMachine,
    pub kms: FileKms,
    seed: u64,
    opened: AtomicU64,
}

impl Region {
    fn new(seed: u64) -> (Self, KeyId) {
        let machine = SimMachine::new();
        let (clock, random) = sources(seed);
        let disk: Arc<dyn Disk> = Arc::new(machine.dir("kms"));
        let kms = FileKms::create_on(disk, "local", clock, random).unwrap();
        kms.create_key(Some("alias/offshoot-store")).unwrap();
        let key = kms.create_key(Some("alias/default")).unwrap().id;
        let opened = AtomicU64::new(100);
        let region = Self {
            machine,
            kms,
            seed,
            opened,
        };
        let store = Self::options().create_on(region.on(), Arc::new(region.kms.clone()));
        store.unwrap().close().unwrap();
        (region, key)
    }

    fn options() -> Options {
        let options = Options::new().segment_len(20 * PAGE).workers(0);
        options.fanout(3)
    }

    fn disk(&self) -> SimDisk {
        self.machine.dir("store")
    }

    /// The directory of the store that [`written`] makes.
    pub fn written(&self) -> SimDisk {
        self.machine.dir("written")
    }

    fn on(&self) -> Machine {
        // Randomness must not repeat when a store is opened again.
        let opened = self.opened.fetch_add(1, Ordering::Relaxed);
        let (clock, random) = sources(self.seed + opened);
        Machine {
            disk: Arc::new(self.disk()),
            clock,
            random,
        }
    }

    fn open(&self) -> Result<Store> {
        Self::options().open_on(self.on(), Arc::new(self.kms.clone()))
    }

    fn check(&self) -> Report {
        let kms = Arc::new(self.kms.clone());
        let options = CheckOptions::new().kms(kms).read_data(true);
        check(&self.disk(), &options).unwrap()
    }

    /// The region after a loss of power.
    fn after(&self, crash: &Crash) -> Self {
        let machine = self.machine.power_loss(crash);
        let (clock, random) = sources(self.seed + 1);
        let disk: Arc<dyn Disk> = Arc::new(machine.dir("kms"));
        let kms = FileKms::open_on(disk, clock, random).unwrap();
        Self {
            machine,
            kms,
            seed: self.seed + 1,
            opened: AtomicU64::new(200),
        }
    }
}

/// A closed store with a volume that was written from the front.
pub fn written(len: u64) -> (Region, KeyId) {
    let (region, key) = Region::new(9_000);
    let options = Options::new().segment_len(1 << 20).workers(0);
    let store = options.create_on(
        Machine {
            disk: Arc::new(region.written()),
            ..region.on()
        },
        Arc::new(region.kms.clone()),
    );
    let store = store.unwrap();
    let volume = store.create_volume("pg", len, &key).unwrap();
    volume.write_all_at(&vec![7; len as usize], 0).unwrap();
    store.close().unwrap();
    (region, key)
}

fn sources(seed: u64) -> (Arc<dyn Clock>, Arc<dyn Random>) {
    (Arc::new(SimClock::new(5)), Arc::new(SimRandom::new(seed)))
}

/// Does something to the store.
fn step(store: &Store, key: &KeyId, random: &SimRandom, number: usize) {
    let volumes = store.volumes();
    let Some(info) = volumes.get(random.below(volumes.len())) else {
        store.create_volume("first", 40 * PAGE, key).unwrap();
        return;
    };
    let volume = store.volume(&info.name).unwrap();
    let len = volume.len().unwrap();
    let offset = random.below(len as usize / 512) as u64 * 512;
    let count = (1 + random.below(5 * PAGE as usize) as u64).min(len - offset);
    let bytes = vec![number as u8; count as usize];
    match random.below(16) {
        0..=5 => volume.write_all_at(&bytes, offset).unwrap(),
        6 => volume.write_zeroes(offset..offset + count).unwrap(),
        7 => volume
            .discard(offset..(offset + 9 * count).min(len))
            .unwrap(),
        8 => drop(volume.create_clone(&format!("v{number}"), key).unwrap()),
        9 => drop(volume.create_snapshot(&format!("s{number}")).unwrap()),
        10 => volume.resize((1 + random.below(60) as u64) * PAGE).unwrap(),
        11 => volume.rename(&format!("r{number}")).unwrap(),
        12 => store.checkpoint().unwrap(),
        13 if volumes.len() > 2 => volume.delete().unwrap(),
        14 => match store.snapshots().first() {
            Some(info) if random.below(2) == 0 => {
                store.snapshot(&info.name).unwrap().delete().unwrap();
            }
            Some(info) => {
                let snapshot = store.snapshot(&info.name).unwrap();
                drop(snapshot.create_clone(&format!("c{number}"), key).unwrap());
            }
            None => {}
        },
        _ => volume.flush().unwrap(),
    }
}

#[test]
fn what_the_engine_writes_is_clean() {
    for seed in 0..8 {
        let (region, key) = Region::new(seed * 1000);
        let random = SimRandom::new(seed);
        for round in 0..4 {
            let store = region.open().unwrap();
            for number in 0..40 {
                step(&store, &key, &random, round * 100 + number);
            }
            match round % 2 {
                0 => store.close().unwrap(),
                _ => drop(store),
            }
            let report = region.check();
            assert!(report.is_clean(), "seed {seed} round {round}: {report}");
            assert!(report.stats.authenticated);
        }
    }
}

#[test]
fn what_a_crash_leaves_is_clean_but_for_a_superblock_that_was_being_written() {
    for seed in 0..6 {
        let (region, key) = Region::new(seed * 1000 + 500);
        let random = SimRandom::new(seed + 50);
        let store = region.open().unwrap();
        for number in 0..60 {
            step(&store, &key, &random, number);
            let crash = region.machine.sampled_crash(random.below(1 << 30) as u64);
            let crashed = region.after(&crash);
            let report = crashed.check();
            let only_a_copy = report
                .worst()
                .is_none_or(|class| class <= Class::RedundancyLost);
            assert!(only_a_copy, "seed {seed} step {number} {crash:?}: {report}");
            let store = crashed.open().unwrap();
            step(&store, &key, &random, number + 1000);
            store.close().unwrap();
            let report = crashed.check();
            assert!(
                report.is_clean(),
                "seed {seed} step {number} {crash:?}: {report}"
            );
        }
    }
}

#[test]
fn what_a_crash_at_a_barrier_leaves_is_clean_after_the_next_checkpoint() {
    use crate::sync::Mutex;
    let (region, key) = Region::new(77_000);
    let random = SimRandom::new(7);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let store = region.open().unwrap();
    let hook = Arc::clone(&seen);
    region.machine.on_barrier(move |machine| {
        let crashes = machine.crash_points();
        let mut seen = hook.lock();
        let pick = seen.len() * 7 % crashes.len();
        seen.push(machine.power_loss(&crashes[pick]));
    });
    for number in 0..60 {
        step(&store, &key, &random, number);
    }
    region.machine.clear_hooks();
    let machines = std::mem::take(&mut *seen.lock());
    assert!(machines.len() > 30);
    for machine in machines {
        let crashed = Region {
            machine,
            kms: region.kms.clone(),
            seed: 78_000,
            opened: AtomicU64::new(0),
        }
        .after(&Crash::ALL_KEPT);
        let report = crashed.check();
        let only_a_copy = report
            .worst()
            .is_none_or(|class| class <= Class::RedundancyLost);
        assert!(only_a_copy, "{report}");
        let store = crashed.open().unwrap();
        for number in 0..3 {
            step(&store, &key, &random, number + 2000);
            store.checkpoint().unwrap();
        }
        store.close().unwrap();
        let report = crashed.check();
        assert!(report.is_clean(), "{report}");
    }
}

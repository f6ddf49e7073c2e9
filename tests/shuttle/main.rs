//! Threads on one store under schedules that the crate `shuttle` chooses: at each lock and each
//! atomic another thread may go on. Built and run only with `--cfg shuttle`:
//!
//! `RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle cargo test --test shuttle`
//!
//! A schedule that fails is printed; `shuttle::replay` takes it.
#![cfg(shuttle)]

use std::sync::Arc;

use offshoot::io::sim::{SimClock, SimMachine, SimRandom};
use offshoot::{FileKms, KeyId, Machine, Options, Store, Volume};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};

const PAGE: u64 = 4096;
/// Schedules of a scenario, half of them at random, half by PCT (Burckhardt et al., ASPLOS 2010).
const SCHEDULES: usize = 3_000;
const SCHEDULES_VARIABLE: &str = "OFFSHOOT_SCHEDULES";
/// Of each thread. By default it is 32 KiB, and in a debug build opening a store takes more.
const STACK_LEN: usize = 256 << 10;
/// Changes of thread that PCT puts where they may matter.
const DEPTH: usize = 3;

/// A store and its KMS on simulated machines.
struct Bench {
    disks: SimMachine,
    kms: FileKms,
    key: KeyId,
}

impl Bench {
    fn new() -> Self {
        let vault = SimMachine::new();
        let (clock, random) = (SimClock::new(1_000), SimRandom::new(1));
        let disk = Arc::new(vault.dir("kms"));
        let kms = FileKms::create_on(disk, "local", Arc::new(clock), Arc::new(random));
        let kms = kms.expect("a KMS");
        kms.create_key(Some("alias/offshoot-store")).expect("a key");
        let key = kms.create_key(None).expect("a key").id;
        Self {
            disks: SimMachine::new(),
            kms,
            key,
        }
    }

    fn options() -> Options {
        Options::new().segment_len(32 * PAGE).fanout(3).workers(0)
    }

    fn machine(&self, seed: u64) -> Machine {
        Machine {
            disk: Arc::new(self.disks.dir("store")),
            clock: Arc::new(SimClock::new(2_000)),
            random: Arc::new(SimRandom::new(seed)),
        }
    }

    fn create(&self) -> Store {
        let store = Self::options().create_on(self.machine(2), Arc::new(self.kms.clone()));
        store.expect("a store")
    }

    /// The store after its process was killed. It is not checked as a whole here: the check starts threads of
    /// its own, of which `shuttle` knows nothing.
    fn reopen(&self) -> Store {
        let killed = Self {
            disks: self.disks.kill(),
            kms: self.kms.clone(),
            key: self.key,
        };
        let store = Self::options().open_on(killed.machine(3), Arc::new(killed.kms.clone()));
        store.expect("a store that was killed opens")
    }
}

/// Both pages of a volume with the same number.
fn write(volume: &Volume, number: u8) {
    volume
        .write_all_at(&[number; 2 * PAGE as usize], 0)
        .expect("a write");
}

/// The number that both pages have.
fn read(volume: &Volume) -> u8 {
    let mut bytes = [0; 2 * PAGE as usize];
    volume.read_exact_at(&mut bytes, 0).expect("a read");
    assert!(
        bytes.iter().all(|&byte| byte == bytes[0]),
        "half of a call shows"
    );
    bytes[0]
}

fn explore(scenario: impl Fn() + Send + Sync + Copy + 'static) {
    let asked = std::env::var(SCHEDULES_VARIABLE).ok();
    let count = asked.map_or(SCHEDULES, |count| count.parse().expect("a count"));
    let mut config = Config::new();
    config.stack_size = STACK_LEN;
    let pct_config = config.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            Runner::new(PctScheduler::new(DEPTH, count / 2), pct_config).run(scenario)
        });
        Runner::new(RandomScheduler::new(count.div_ceil(2)), config).run(scenario);
    });
}

/// Commits: two writers of a page pair each, a third who makes a checkpoint. What a flush covered is
/// there after a kill.
#[test]
fn writers_and_a_checkpoint() {
    explore(|| {
        let bench = Bench::new();
        let store = bench.create();
        let volumes = ["a", "b"].map(|name| {
            let volume = store.create_volume(name, 2 * PAGE, &bench.key);
            volume.expect("a volume")
        });
        let writers = volumes.clone().map(|volume| {
            thread::spawn(move || {
                for number in 1..4 {
                    write(&volume, number);
                    assert_eq!(read(&volume), number);
                    volume.flush().expect("a flush");
                }
            })
        });
        store.checkpoint().expect("a checkpoint");
        writers
            .into_iter()
            .for_each(|writer| writer.join().expect("a writer"));
        drop((store, volumes));
        let store = bench.reopen();
        for name in ["a", "b"] {
            assert_eq!(read(&store.volume(name).expect("a volume")), 3);
        }
    });
}

/// Publishing: clones that are made while their source is written show one state of it for good.
#[test]
fn clones_of_a_volume_that_is_written() {
    explore(|| {
        let bench = Bench::new();
        let store = bench.create();
        let source = store.create_volume("source", 2 * PAGE, &bench.key);
        let source = source.expect("a volume");
        write(&source, 1);
        let writer = {
            let source = source.clone();
            thread::spawn(move || (2..5).for_each(|number| write(&source, number)))
        };
        let mut last = 1;
        for name in ["one", "two"] {
            let clone = source.create_clone(name, &bench.key).expect("a clone");
            let seen = read(&clone);
            assert!(seen >= last, "a later clone is older");
            last = seen;
            write(&clone, 100);
            assert_eq!(read(&clone), 100);
        }
        writer.join().expect("a writer");
        assert_eq!(read(&source), 4);
        drop(source);
        drop(store);
        let store = bench.reopen();
        assert_eq!(read(&store.volume("source").expect("a volume")), 4);
        assert_eq!(read(&store.volume("one").expect("a volume")), 100);
    });
}

/// Reclaim: readers of pages that are overwritten, deleted, moved and given back see a whole state, or
/// are told that the volume is gone.
#[test]
fn readers_beside_deletes_and_reclaim() {
    explore(|| {
        let bench = Bench::new();
        let store = Arc::new(bench.create());
        let volume = store.create_volume("v", 2 * PAGE, &bench.key);
        let volume = volume.expect("a volume");
        for number in 1..8 {
            write(&volume, number);
        }
        let clone = volume.create_clone("gone", &bench.key).expect("a clone");
        write(&clone, 50);
        let reclaimer = {
            let store = store.clone();
            thread::spawn(move || {
                clone.delete().expect("a delete");
                store.checkpoint().expect("a checkpoint");
                store.reclaim(|_| true).expect("a reclaim");
            })
        };
        let writer = {
            let volume = volume.clone();
            thread::spawn(move || {
                write(&volume, 8);
                volume.flush().expect("a flush");
                write(&volume, 9);
            })
        };
        let mut last = 7;
        for _ in 0..3 {
            let seen = read(&volume);
            assert!(seen >= last && seen < 10, "{seen} after {last}");
            last = seen;
        }
        reclaimer.join().expect("a reclaimer");
        writer.join().expect("a writer");
        assert_eq!(read(&volume), 9);
        drop(volume);
        drop(store);
        assert_eq!(read(&bench.reopen().volume("v").expect("a volume")), 9);
    });
}

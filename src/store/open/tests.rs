use crate::file_kms::FileKms;
use crate::io::sim::{SimClock, SimMachine, SimRandom};
use crate::store::{Machine, Options, Store};
use crate::sync::Arc;

const PAGE: u64 = 4096;

fn machine(machine: &SimMachine, seed: u64) -> Machine {
    Machine {
        disk: Arc::new(machine.dir("store")),
        clock: Arc::new(SimClock::new(1)),
        random: Arc::new(SimRandom::new(seed)),
    }
}

/// Bytes of the log since the last checkpoint: they decide when the next is due.
fn log_len(store: &Store) -> u64 {
    store.0.commit.lock().log_len
}

/// What the store takes by its count, with what is left of the segment that it writes to; and what its
/// files take.
fn taken(store: &Store) -> (u64, u64) {
    let commit = store.0.commit.lock();
    let allocated = store.0.segments.allocated().unwrap();
    (commit.used_len + commit.tail_free_len, allocated)
}

#[test]
fn a_store_counts_after_an_open_as_before() {
    let sim = SimMachine::new();
    let disk = Arc::new(sim.dir("kms"));
    let (clock, random) = (Arc::new(SimClock::new(1)), Arc::new(SimRandom::new(1)));
    let kms = FileKms::create_on(disk, "local", clock, random).unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(None).unwrap().id;
    let kms = Arc::new(kms);
    let options = Options::new().segment_len(40 * PAGE).workers(0);
    let store = options.create_on(machine(&sim, 2), kms.clone()).unwrap();
    store.create_volume("v", 100 * PAGE, &key).unwrap();
    let write = |store: &Store, pages: std::ops::Range<u64>| {
        let volume = store.volume("v").unwrap();
        for page in pages {
            let bytes = [7; PAGE as usize];
            volume.write_all_at(&bytes, page * PAGE).unwrap();
            volume.flush().unwrap();
            let (counted, allocated) = taken(store);
            assert_eq!(counted, allocated, "page {page}");
        }
    };
    write(&store, 0..50);
    store.checkpoint().unwrap();
    // From one segment into the next one, with a summary.
    write(&store, 50..83);
    let before = log_len(&store);
    assert!(before > 66 * PAGE, "{before}");
    let killed = sim.kill();
    let again = options.open_on(machine(&killed, 3), kms.clone()).unwrap();
    assert_eq!(log_len(&again), before);
    write(&again, 0..50);
    again.close().unwrap();
    // A store that was closed goes on in the segment that it was closed in.
    let again = options.open_on(machine(&killed, 4), kms).unwrap();
    assert!(again.0.commit.lock().tail_free_len > 0);
    write(&again, 50..99);
}

#[test]
fn a_store_has_as_many_threads_of_its_own_as_it_is_to_have() {
    let sim = SimMachine::new();
    let disk = Arc::new(sim.dir("kms"));
    let (clock, random) = (Arc::new(SimClock::new(1)), Arc::new(SimRandom::new(1)));
    let kms = FileKms::create_on(disk, "local", clock, random).unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let kms = Arc::new(kms);
    let options = Options::new().workers(3);
    let store = options.create_on(machine(&sim, 2), kms.clone()).unwrap();
    assert_eq!(store.0.crew.helpers(), 3);
    store.close().unwrap();
    let store = options.workers(0).open_on(machine(&sim, 3), kms).unwrap();
    assert_eq!(store.0.crew.helpers(), 0);
}

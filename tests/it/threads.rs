//! Many threads on one store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use offshoot::format::record::Record;
use offshoot::io::sim::SimRandom;
use offshoot::{Error, Machine, Options, Volume};

use crate::fixture::{AtSealing, Batch, Fixture, PAGE, Rng, Sim, page, page_byte, page_bytes};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes both pages of a pair with one call, a number that rises.
fn write_pair(volume: &Volume, pair: u64, number: u64) {
    let bytes: Vec<u8> = number.to_le_bytes().repeat(2 * PAGE as usize / 8);
    volume.write_all_at(&bytes, pair * 2 * PAGE).unwrap();
}

/// The number that both pages of a pair have.
#[track_caller]
fn read_pair(volume: &Volume, pair: u64) -> u64 {
    let mut bytes = vec![0; 2 * PAGE as usize];
    volume.read_exact_at(&mut bytes, pair * 2 * PAGE).unwrap();
    let mut numbers = bytes
        .chunks(8)
        .map(|part| u64::from_le_bytes(part.try_into().unwrap()));
    let first = numbers.next().unwrap();
    assert!(
        numbers.all(|number| number == first),
        "half of a call shows"
    );
    first
}

/// While a clone waits for the disk, writers of its source finish their calls.
#[test]
fn clone_freezes_nobody() {
    let sim = Sim::with(1, Options::new().workers(0));
    let store = sim.create();
    let source = store.create_volume("source", 16 * PAGE, &sim.key).unwrap();
    let stop = AtomicBool::new(false);
    let done = [0, 0].map(|zero| Arc::new(AtomicU64::new(zero)));
    // Writers go as far as this, so that they fill no segment and never wait for the disk.
    let allowed = Arc::new(AtomicU64::new(10));
    let waited = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for (pair, done) in (0..).zip(&done) {
            let (source, stop, allowed) = (&source, &stop, &allowed);
            scope.spawn(move || {
                for number in 1.. {
                    while number > allowed.load(Ordering::SeqCst) {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        thread::yield_now();
                    }
                    write_pair(source, pair, number);
                    done.store(number, Ordering::SeqCst);
                }
            });
        }
        // Each sync of a clone lasts until both writers have finished two more calls: the first
        // of them may have been under way.
        let (counts, waits) = (done.clone(), waited.clone());
        let raise = allowed.clone();
        sim.disks.on_barrier(move |_| {
            raise.fetch_add(20, Ordering::SeqCst);
            let start = Instant::now();
            let before = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
            let waits_for =
                |(now, before): (&Arc<AtomicU64>, u64)| now.load(Ordering::SeqCst) < before + 2;
            while counts.iter().zip(before).any(waits_for) {
                assert!(start.elapsed() < PATIENCE, "the writers are frozen");
                thread::yield_now();
            }
            waits.fetch_add(1, Ordering::SeqCst);
        });
        for number in 0..40 {
            let least = done.each_ref().map(|count| count.load(Ordering::SeqCst));
            let clone = source
                .create_clone(&format!("c{number}"), &sim.key)
                .unwrap();
            let most = done
                .each_ref()
                .map(|count| count.load(Ordering::SeqCst) + 1);
            for (pair, at) in (0..).zip(0..2) {
                let number = read_pair(&clone, pair);
                assert!((least[at]..=most[at]).contains(&number), "{number}");
            }
        }
        sim.disks.clear_hooks();
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(
        waited.load(Ordering::SeqCst),
        40,
        "every clone waited for the disk once"
    );
    for (pair, done) in (0..).zip(&done) {
        assert_eq!(read_pair(&source, pair), done.load(Ordering::SeqCst));
    }
}

/// Clones and snapshots of volumes at work are moments of them, on a disk with files too.
#[test]
fn branches_of_a_busy_volume_show_no_half_of_a_call() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let source = store
        .create_volume("source", 16 * PAGE, &fixture.key)
        .unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for pair in 0..3 {
            let (source, stop) = (&source, &stop);
            scope.spawn(move || {
                for number in 1.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    write_pair(source, pair, number);
                }
            });
        }
        scope.spawn(|| {
            let mut last = [0; 3];
            while !stop.load(Ordering::SeqCst) {
                for (pair, last) in (0..).zip(&mut last) {
                    let number = read_pair(&source, pair);
                    assert!(number >= *last, "a reader goes back in time");
                    *last = number;
                }
            }
        });
        for number in 0..15 {
            let clone = source
                .create_clone(&format!("c{number}"), &fixture.key)
                .unwrap();
            let numbers = [0, 1, 2].map(|pair| read_pair(&clone, pair));
            // The clone is written on, and a clone of it is taken.
            write_pair(&clone, 0, u64::MAX - number);
            let second = clone
                .create_clone(&format!("d{number}"), &fixture.key)
                .unwrap();
            assert_eq!(read_pair(&second, 0), u64::MAX - number);
            assert_eq!([1, 2].map(|pair| read_pair(&second, pair)), numbers[1..]);
            if number % 3 == 0 {
                second.delete().unwrap();
            }
            if number % 10 == 9 {
                store.checkpoint().unwrap();
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    let numbers = [0, 1, 2].map(|pair| read_pair(&source, pair));
    store.flush().unwrap();
    drop((source, store));
    let source = fixture.open().volume("source").unwrap();
    assert_eq!([0, 1, 2].map(|pair| read_pair(&source, pair)), numbers);
}

/// A clone that comes between the sealing of pages and their place in the log does not have
/// them, cannot open them, and they are sealed again.
#[test]
fn sequence_before_sealing() {
    let sim = Sim::new(7);
    let (random, then) = (SimRandom::new(70), Mutex::new(None));
    let random = Arc::new(AtSealing { random, then });
    let machine = Machine {
        random: random.clone(),
        ..sim.machine()
    };
    let store = sim
        .options
        .create_on(machine, Arc::new(sim.kms.clone()))
        .unwrap();
    let source = store.create_volume("source", 2 * PAGE, &sim.key).unwrap();
    source.write_all_at(&page(1).repeat(2), 0).unwrap();
    let log = sim.watch();
    let (of, key) = (source.clone(), sim.key);
    *random.then.lock().unwrap() = Some(Box::new(move || {
        of.create_clone("clone", &key).unwrap();
    }));
    source.write_all_at(&page(2).repeat(2), 0).unwrap();
    let clone = store.volume("clone").unwrap();
    assert_eq!(
        (page_bytes(&source, 2), page_bytes(&clone, 2)),
        (vec![2, 2], vec![1, 1])
    );
    let records: Vec<Record> = log
        .take()
        .into_iter()
        .flat_map(|batch| batch.records)
        .collect();
    let id = source.info().unwrap().id;
    let open = records.iter().find_map(|record| match record {
        Record::Head(head) if head.resource_id == id => Some(head.key_epoch),
        _ => None,
    });
    let Some(Record::Pages { deltas, .. }) = records.last() else {
        panic!("the write comes after the clone")
    };
    for delta in deltas {
        assert_eq!(
            Some(delta.entry.key_epoch),
            open,
            "the epoch that the branch opened"
        );
        assert!(delta.old_key_epoch < open, "over a page from before it");
    }
}

/// Nothing in the log is sealed under an epoch that a branch has closed.
#[test]
fn pages_are_sealed_under_the_epoch_that_is_open_at_their_place() {
    const PAGES: u64 = 48;
    let sim = Sim::with(8, Options::new().workers(0));
    let store = sim.create();
    let log = sim.watch();
    let source = store
        .create_volume("source", 3 * PAGES * PAGE, &sim.key)
        .unwrap();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for part in 0..3 {
            let (source, stop, done) = (&source, &stop, &done);
            scope.spawn(move || {
                for round in 0_u64.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let bytes = vec![round as u8; (PAGES * PAGE) as usize];
                    source.write_all_at(&bytes, part * PAGES * PAGE).unwrap();
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for number in 0..40 {
            // An idle epoch would not be split.
            let before = done.load(Ordering::SeqCst);
            while done.load(Ordering::SeqCst) == before {
                thread::yield_now();
            }
            source
                .create_clone(&format!("c{number}"), &sim.key)
                .unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
    let (mut open, mut branches) = (HashMap::new(), 0);
    let is_table = |batch: &Batch| matches!(batch.records.first(), Some(Record::Table { .. }));
    let batches = log.take().into_iter();
    // Tables say what was so when their checkpoint began.
    let changes = batches.filter(|batch| !is_table(batch));
    for record in changes.flat_map(|batch| batch.records) {
        match record {
            Record::Head(head) => {
                let before = open.insert(head.head, head.key_epoch);
                branches += u32::from(before.is_some_and(|before| before != head.key_epoch));
            }
            Record::Pages { head, deltas } => {
                for delta in deltas {
                    assert_eq!(Some(&delta.entry.key_epoch), open.get(&head));
                }
            }
            _ => {}
        }
    }
    assert!(branches >= 30, "{branches} branches");
}

/// Each thread works on a clone of its own of one source, against a model of its own.
#[test]
fn threads_on_clones_of_one_source_never_meet() {
    const PAGES: u64 = 32;
    let sim = Sim::with(
        2,
        Options::new().segment_len(64 * PAGE).fanout(4).workers(0),
    );
    let store = sim.create();
    let len = (PAGES * PAGE) as usize;
    let source = store
        .create_volume("source", PAGES * PAGE, &sim.key)
        .unwrap();
    source.write_all_at(&vec![9; len], 0).unwrap();
    let work = |seed: u64| {
        let (mut rng, mut model) = (Rng(seed), vec![9; len]);
        let mut volume = source
            .create_clone(&format!("t{seed}-0"), &sim.key)
            .unwrap();
        for step in 1..200_u64 {
            let (a, b) = (rng.below(len as u64), rng.below(len as u64));
            let (start, end) = (a.min(b), a.max(b).min(a.min(b) + 5 * PAGE));
            match rng.below(8) {
                0 => volume.discard(start..end).unwrap(),
                1 => volume.write_zeroes(start..end).unwrap(),
                _ => {
                    let bytes = vec![step as u8; (end - start) as usize];
                    volume.write_all_at(&bytes, start).unwrap();
                    model[start as usize..end as usize].fill(step as u8);
                    continue;
                }
            }
            model[start as usize..end as usize].fill(0);
            match rng.below(12) {
                0 => volume.flush().unwrap(),
                1 => store.checkpoint().unwrap(),
                // Goes on in a clone and deletes what it came from.
                2..5 => {
                    let next = volume
                        .create_clone(&format!("t{seed}-{step}"), &sim.key)
                        .unwrap();
                    std::mem::replace(&mut volume, next).delete().unwrap();
                }
                _ => {}
            }
            let mut bytes = vec![1; len];
            volume.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes == model, "thread {seed} at step {step}");
        }
        (volume.name().unwrap(), model)
    };
    let done: Vec<(String, Vec<u8>)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|seed| scope.spawn(move || work(seed))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut bytes = vec![1; len];
    source.read_exact_at(&mut bytes, 0).unwrap();
    assert!(
        bytes.iter().all(|&byte| byte == 9),
        "the source is as it was"
    );
    drop((source, store));
    let store = sim.kill().open();
    assert_eq!(store.volumes().len(), 7);
    for (name, model) in done {
        store
            .volume(&name)
            .unwrap()
            .read_exact_at(&mut bytes, 0)
            .unwrap();
        assert!(bytes == model, "{name} after a kill");
    }
}

#[test]
fn flushes_that_wait_share_a_sync() {
    const THREADS: usize = 8;
    const ROUNDS: u64 = 20;
    let sim = Sim::with(3, Options::new().workers(0));
    let store = sim.create();
    let volume = store
        .create_volume("v", THREADS as u64 * PAGE, &sim.key)
        .unwrap();
    // A disk takes its time.
    sim.disks
        .on_barrier(|_| thread::sleep(Duration::from_millis(3)));
    let before = sim.disks.counts().syncs;
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for number in 0..THREADS as u64 {
            let (volume, start) = (&volume, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    volume
                        .write_all_at(&page(round as u8), number * PAGE)
                        .unwrap();
                    volume.flush().unwrap();
                }
            });
        }
    });
    let syncs = sim.disks.counts().syncs - before;
    let flushes = THREADS as u64 * ROUNDS;
    assert!(
        syncs >= ROUNDS,
        "each round of a thread needs a later sync than its last: {syncs}"
    );
    println!("{syncs} syncs for {flushes} flushes");
    assert!(syncs <= flushes / 2, "{syncs} syncs for {flushes} flushes");
    // All that returned is durable.
    sim.disks.clear_hooks();
    let crash = sim.disks.sampled_crash(1);
    let store = sim
        .on(sim.disks.power_loss(&crash), sim.vault.kill())
        .open();
    let volume = store.volume("v").unwrap();
    for number in 0..THREADS as u64 {
        assert_eq!(page_byte(&volume, number), ROUNDS as u8 - 1);
    }
}

#[test]
fn one_flush_makes_the_writes_of_all_threads_durable() {
    let sim = Sim::with(4, Options::new().workers(0));
    let store = sim.create();
    let volumes: Vec<Volume> = (0..4)
        .map(|number| {
            store
                .create_volume(&format!("v{number}"), PAGE, &sim.key)
                .unwrap()
        })
        .collect();
    thread::scope(|scope| {
        for (number, volume) in (1..).zip(&volumes) {
            scope.spawn(move || volume.write_all_at(&page(number), 0).unwrap());
        }
    });
    volumes[0].flush().unwrap();
    let syncs = sim.disks.counts().syncs;
    store.flush().unwrap();
    assert_eq!(sim.disks.counts().syncs, syncs, "nothing is left to sync");
    for seed in 0..10 {
        let after = sim.disks.power_loss(&sim.disks.sampled_crash(seed));
        let store = sim.on(after, sim.vault.kill()).open();
        for number in 0..4 {
            let volume = store.volume(&format!("v{number}")).unwrap();
            assert_eq!(page_byte(&volume, 0), number + 1);
        }
    }
}

#[test]
fn concurrent_writes_to_parts_of_one_page_lose_no_bytes() {
    const STRIPE: u64 = 100;
    const THREADS: u64 = 6;
    let sim = Sim::with(5, Options::new().segment_len(256 * PAGE).workers(0));
    let store = sim.create();
    let stripes = 3 * PAGE / STRIPE;
    let volume = store.create_volume("v", 4 * PAGE, &sim.key).unwrap();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let volume = &volume;
            scope.spawn(move || {
                for round in 0..5 {
                    for stripe in (0..stripes).filter(|stripe| stripe % THREADS == number) {
                        let byte = (10 * number + round + 1) as u8;
                        let at = stripe * STRIPE;
                        volume.write_all_at(&[byte; STRIPE as usize], at).unwrap();
                    }
                }
            });
        }
    });
    let mut bytes = vec![0; 4 * PAGE as usize];
    volume.read_exact_at(&mut bytes, 0).unwrap();
    for (stripe, part) in bytes
        .chunks(STRIPE as usize)
        .take(stripes as usize)
        .enumerate()
    {
        let byte = 10 * (stripe as u64 % THREADS) + 5;
        assert!(
            part.iter().all(|&found| u64::from(found) == byte),
            "stripe {stripe}"
        );
    }
}

/// Sizes, deletes and names change under writers, and no call does anything but succeed or say
/// why not.
#[test]
fn calls_that_race_with_delete_and_resize_end_in_order() {
    let sim = Sim::with(6, Options::new().segment_len(256 * PAGE).workers(0));
    let store = sim.create();
    for round in 0..15 {
        let volume = store
            .create_volume(&format!("v{round}"), 8 * PAGE, &sim.key)
            .unwrap();
        thread::scope(|scope| {
            for number in 0..3_u64 {
                let volume = volume.clone();
                scope.spawn(move || {
                    for step in 0.. {
                        let at = (number + step) % 8 * PAGE;
                        let write = volume.write_all_at(&page(number as u8), at);
                        let mut bytes = page(0);
                        let read = volume.read_exact_at(&mut bytes, at);
                        for result in [write, read, volume.discard(at..at + PAGE)] {
                            match result {
                                Ok(()) | Err(Error::OutOfBounds { .. }) => {}
                                Err(Error::NotFound { .. }) => return,
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                });
            }
            for pages in [4, 8, 1, 6] {
                volume.resize(pages * PAGE).unwrap();
                let taken = volume
                    .create_snapshot(&format!("s{round}-{pages}"))
                    .unwrap();
                assert_eq!(taken.len().unwrap(), pages * PAGE);
                assert!(
                    taken
                        .extents(0..pages * PAGE)
                        .unwrap()
                        .all(|extent| extent.is_ok())
                );
            }
            volume.clone().delete().unwrap();
        });
    }
    store.close().unwrap();
    let store = sim.open();
    assert_eq!((store.volumes().len(), store.snapshots().len()), (0, 60));
}

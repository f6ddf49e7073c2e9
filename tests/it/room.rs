//! Room: what is dead is given back before a write is refused, and by itself after a delete.

use std::thread;
use std::time::{Duration, Instant};

use offshoot::{Error, Options, Quota, Store};

use crate::fixture::{Fixture, PAGE, Rng, Sim, page, page_byte};

const SEGMENT: u64 = 1 << 20;

fn bound(bytes: u64) -> Quota {
    Quota {
        bytes: Some(bytes),
        ..Quota::default()
    }
}

#[test]
fn overwriting_for_ever_fits_a_quota_that_what_is_live_fits() {
    let sim = Sim::new(81);
    let store = sim.create();
    let volume = store.create_volume("db", 64 * PAGE, &sim.key).unwrap();
    store.set_quota(bound(8 * SEGMENT)).unwrap();
    for number in 0..10_000 {
        volume
            .write_all_at(&page(number as u8), number % 64 * PAGE)
            .unwrap();
        assert!(store.quota().unwrap().used_bytes <= 9 * SEGMENT);
    }
    assert!(store.stats().unwrap().freed_bytes > 20 * SEGMENT);
    assert_eq!(page_byte(&volume, 63), 9983_u64 as u8);
}

#[test]
fn where_little_is_dead_a_refused_write_costs_no_checkpoint() {
    let sim = Sim::new(82);
    let store = sim.create();
    let volume = store.create_volume("db", 4096 * PAGE, &sim.key).unwrap();
    store.set_quota(bound(6 * SEGMENT)).unwrap();
    let write = |number: u64| volume.write_all_at(&page(1), number * PAGE);
    let count = (0..4096).find(|&number| write(number).is_err()).unwrap();
    for _ in 0..20 {
        assert!(matches!(write(count), Err(Error::QuotaExceeded { .. })));
    }
    let made = store.stats().unwrap().checkpoints;
    for _ in 0..100 {
        assert!(matches!(write(count), Err(Error::QuotaExceeded { .. })));
    }
    assert_eq!(store.stats().unwrap().checkpoints, made);
    // Deleting makes room, and the next write finds it.
    volume.discard(0..count * PAGE).unwrap();
    write(count).unwrap();
    (0..count / 2).for_each(|number| write(number).unwrap());
}

#[test]
fn the_disk_keeps_what_it_should_have_free_and_deleting_goes_on() {
    let sim = Sim::new(83);
    let store = sim.create();
    let volume = store.create_volume("db", 4096 * PAGE, &sim.key).unwrap();
    let other = volume.create_clone("other", &sim.key).unwrap();
    sim.disks.set_free_len(20 * SEGMENT);
    let keep = Quota {
        keep_free: Some(8 * SEGMENT),
        ..Quota::default()
    };
    store.set_quota(keep).unwrap();
    assert_eq!(store.quota().unwrap().quota, keep);
    let free = || store.quota().unwrap().free_bytes;
    let write = |number: u64| volume.write_all_at(&page(1), number * PAGE);
    let refused = (0..4096).find_map(|number| write(number).err()).unwrap();
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused:?}");
    // What keeps the store in order may take a little of it.
    assert!((6 * SEGMENT..10 * SEGMENT).contains(&free()), "{}", free());
    let refused = (0..400).find_map(|number| other.create_snapshot(&format!("s{number}")).err());
    assert!(
        matches!(refused, Some(Error::NoSpace { .. })),
        "{refused:?}"
    );
    assert_eq!(page_byte(&volume, 0), 1, "reads go on");
    store.checkpoint().unwrap();
    let none = Quota::default();
    store.set_quota(none).unwrap();
    write(0).unwrap();
    store.set_quota(keep).unwrap();
    volume.discard(0..2048 * PAGE).unwrap();
    other.delete().unwrap();
    (0..256).for_each(|number| write(number).unwrap());
    assert!(free() >= 8 * SEGMENT, "{}", free());
}

#[track_caller]
fn until(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

fn big(fixture: &Fixture, options: Options) -> Store {
    let store = options.create(fixture.path(), fixture.kms.clone()).unwrap();
    let volume = store.create_volume("big", 100 << 20, &fixture.key).unwrap();
    let bytes = vec![1; 1 << 20];
    for mib in 0..96 {
        volume.write_all_at(&bytes, mib << 20).unwrap();
    }
    volume.create_clone("clone", &fixture.key).unwrap();
    store
}

#[test]
fn what_a_deleted_volume_took_comes_back_by_itself() {
    let fixture = Fixture::new();
    let store = big(&fixture, Fixture::options().workers(1));
    let taken = store.space().unwrap().allocated_bytes;
    store.delete(&["big"], &[]).unwrap();
    until(|| store.stats().unwrap().deleted_heads == 0);
    // The clone maps it all.
    assert_eq!(store.space().unwrap().page_bytes, 96 << 20);
    store.delete(&["clone"], &[]).unwrap();
    until(|| store.space().unwrap().allocated_bytes < 20 << 20);
    assert!(taken > 96 << 20);
    assert_eq!(store.space().unwrap().page_bytes, 0);
}

/// Pages at random until the store has taken nearly all that it may beside its target: for so little nothing is
/// copied while somebody writes.
#[test]
fn what_the_next_writes_take_is_given_back_while_nobody_writes() {
    const LIVE: u64 = 48 << 20;
    const TAKEN: u64 = (LIVE * 5 / 4) + (240 << 20);
    let fixture = Fixture::new();
    let options = Options::new().segment_len(4 << 20).workers(1);
    let store = options.create(fixture.path(), fixture.kms.clone()).unwrap();
    let volume = store.create_volume("db", LIVE, &fixture.key).unwrap();
    volume.write_all_at(&vec![1; LIVE as usize], 0).unwrap();
    let used = || store.quota().unwrap().used_bytes;
    let mut random = Rng(7);
    let mut write = || {
        for _ in 0..64 {
            let at = random.below(LIVE / PAGE) * PAGE;
            volume.write_all_at(&page(2), at).unwrap();
        }
    };
    while used() < TAKEN {
        write();
    }
    until(|| used() < TAKEN - (24 << 20));
    until(|| store.stats().unwrap().moved_bytes > 0);
    // Nor does it grow if nobody rests.
    for _ in 0..1_200 {
        write();
        assert!(used() < TAKEN + (192 << 20));
    }
    drop((volume, store));
    assert_eq!(fixture.open().volumes().len(), 1);
}

/// None of them makes the two checkpoints by itself after which it knows what may go.
#[test]
fn what_processes_that_are_killed_leave_is_given_back_though_none_lives_long() {
    const SEGMENT: u64 = 32 << 20;
    let mut sim = Sim::with(82, Options::new().segment_len(SEGMENT).workers(1));
    let mut store = sim.create();
    store.create_volume("db", 64 * PAGE, &sim.key).unwrap();
    for number in 0..20 {
        let volume = store.volume("db").unwrap();
        volume.write_all_at(&page(number), 0).unwrap();
        volume.flush().unwrap();
        let killed = sim.kill();
        drop((volume, store));
        sim = killed;
        store = sim.open();
    }
    until(|| store.quota().unwrap().used_bytes < 10 * SEGMENT);
    assert_eq!(page_byte(&store.volume("db").unwrap(), 0), 19);
}

#[test]
fn without_workers_a_delete_waits_for_the_checkpoint_and_says_so() {
    let sim = Sim::new(84);
    let store = sim.create();
    let volume = store.create_volume("db", 64 * PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(1).repeat(64), 0).unwrap();
    store.checkpoint().unwrap();
    let settled = store.space().unwrap();
    volume.delete().unwrap();
    let space = store.space().unwrap();
    assert_eq!(space.deleted_heads, 1);
    assert_eq!(space.deleted_bytes, settled.page_bytes + settled.node_bytes);
    assert!(!space.is_settled);
    store.checkpoint().unwrap();
    let space = store.space().unwrap();
    assert_eq!(
        (space.deleted_heads, space.deleted_bytes, space.page_bytes),
        (0, 0, 0)
    );
    assert!(space.is_settled);
}

/// Each head has batches of its own, so where there are many heads few nodes take much space: a
/// checkpoint is not due for so few yet, but without one the reserve would have to grow.
#[test]
fn a_checkpoint_is_forced_before_the_reserve_grows_beyond_its_bound() {
    /// With a node each: not enough for a checkpoint to be due, which it is at 128.
    const VOLUMES: u64 = 120;
    /// Pages that one change clears: it may make a few more nodes than that, but fewer than there are.
    const CLEARED: u64 = 100;
    let options = Options::new().segment_len(40 * PAGE).fanout(3).workers(0);
    let sim = Sim::with(87, options);
    let store = sim.create();
    let create = |number| {
        let volume = store.create_volume(&format!("v{number}"), CLEARED * PAGE, &sim.key);
        volume.unwrap()
    };
    let volumes: Vec<_> = (0..VOLUMES).map(create).collect();
    store.checkpoint().unwrap();
    let made = || store.stats().unwrap().checkpoints;
    let before = made();
    for volume in &volumes {
        volume.write_all_at(&page(1), 0).unwrap();
    }
    assert_eq!(made(), before, "none is due yet");
    volumes[0].write_zeroes(0..CLEARED * PAGE).unwrap();
    assert_eq!(made(), before + 1);
    store.checkpoint().unwrap();
    assert_eq!(made(), before + 2, "the forced one came before the change");
}

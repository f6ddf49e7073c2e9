//! Quotas: what grows is stopped, and nothing else.

use offshoot::{Error, Options, Quota, Result, Store};

use crate::fixture::{PAGE, Sim, page, page_byte};

const SEGMENT: u64 = 1 << 20;

fn bytes(bytes: u64) -> Quota {
    Quota {
        bytes: Some(bytes),
        ..Quota::default()
    }
}

fn heads(heads: u64) -> Quota {
    Quota {
        heads: Some(heads),
        ..Quota::default()
    }
}

#[track_caller]
fn assert_exceeded<T: std::fmt::Debug>(result: Result<T>, of: &'static str, quota: u64) -> u64 {
    match result {
        Err(Error::QuotaExceeded {
            what,
            quota: named,
            used,
        }) => {
            assert_eq!((what, named), (of, quota));
            used
        }
        other => panic!("{other:?}"),
    }
}

/// Writes pages, none of which dies, until that is refused; says how many.
fn fill(store: &Store, name: &str) -> u64 {
    let volume = store.volume(name).unwrap();
    let quota = store.quota().unwrap().quota.bytes.unwrap();
    for number in 0.. {
        let bytes = page(number as u8);
        match volume.write_all_at(&bytes, number * PAGE) {
            Ok(()) => {}
            refused => {
                let used = assert_exceeded(refused, "bytes", quota);
                assert!(used + 4 * PAGE > quota, "{used} of {quota}");
                return number;
            }
        }
    }
    unreachable!("no quota")
}

#[test]
fn at_the_quota_writes_and_new_heads_are_refused_and_all_else_goes_on() {
    let sim = Sim::new(41);
    let store = sim.create();
    let volume = store.create_volume("db", 1024 * PAGE, &sim.key).unwrap();
    let snapshot = volume.create_snapshot("s").unwrap();
    let clone = volume.create_clone("c", &sim.key).unwrap();
    store.set_quota(bytes(3 * SEGMENT - 5 * PAGE)).unwrap();
    let quota = store.quota().unwrap().quota.bytes.unwrap();
    let count = fill(&store, "db");
    assert!(count > 300, "{count}");
    let last = count - 1;
    assert_eq!(page_byte(&volume, last), (count - 1) as u8, "reads go on");
    // One call more, and nothing of it is there.
    assert_exceeded(volume.write_all_at(&[9; 5], last * PAGE), "bytes", quota);
    assert_exceeded(volume.write_all_at(&page(9).repeat(9), 0), "bytes", quota);
    assert_eq!(page_byte(&volume, last), (count - 1) as u8);
    assert_exceeded(volume.create_clone("x", &sim.key), "bytes", quota);
    assert_exceeded(volume.create_snapshot("x"), "bytes", quota);
    assert_exceeded(store.create_volume("x", PAGE, &sim.key), "bytes", quota);
    // What makes the store smaller, or only keeps it in order, goes on; also past the quota.
    volume.discard(PAGE + 1..40 * PAGE + 1).unwrap();
    assert_eq!(page_byte(&volume, 20), 0);
    volume.rename("db2").unwrap();
    volume.resize(128 * PAGE).unwrap();
    volume.resize(32 * PAGE).unwrap();
    snapshot.delete().unwrap();
    clone.delete().unwrap();
    store.checkpoint().unwrap();
    store.flush().unwrap();
    assert!(store.quota().unwrap().used_bytes > quota);
    // What was deleted makes room again.
    volume.write_all_at(&page(1), 0).unwrap();
    // It holds after a kill, by the log, and after a close, by the tables.
    store.set_quota(bytes(PAGE)).unwrap();
    drop((volume, store));
    let sim = sim.kill();
    for _ in 0..2 {
        let store = sim.open();
        assert_eq!(store.quota().unwrap().quota, bytes(PAGE));
        let volume = store.volume("db2").unwrap();
        assert_exceeded(volume.write_all_at(&page(1), 0), "bytes", PAGE);
        store.close().unwrap();
    }
    let store = sim.open();
    store.set_quota(Quota::default()).unwrap();
    let volume = store.volume("db2").unwrap();
    volume.write_all_at(&page(77), 0).unwrap();
    volume.create_clone("x", &sim.key).unwrap();
    store.close().unwrap();
    let store = sim.open();
    assert_eq!(store.quota().unwrap().quota, Quota::default());
    assert_eq!(page_byte(&store.volume("x").unwrap(), 0), 77);
}

#[test]
fn a_quota_below_what_is_used_only_stops_growth() {
    let sim = Sim::new(42);
    let store = sim.create();
    let volume = store.create_volume("db", 64 * PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(1).repeat(64), 0).unwrap();
    store.set_quota(bytes(1)).unwrap();
    assert_exceeded(volume.write_all_at(&page(2), 0), "bytes", 1);
    assert_eq!(page_byte(&volume, 63), 1);
    volume.discard(0..64 * PAGE).unwrap();
    store.close().unwrap();
    let store = sim.open();
    store.volume("db").unwrap().delete().unwrap();
    store.set_quota(heads(1)).unwrap();
    store.create_volume("a", PAGE, &sim.key).unwrap();
    for quota in [bytes(0), heads(0)] {
        let refused = store.set_quota(quota);
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
}

#[test]
fn a_quota_of_heads_counts_those_that_are_there() {
    let sim = Sim::new(43);
    let store = sim.create();
    store.set_quota(heads(3)).unwrap();
    let volume = store.create_volume("a", PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(1), 0).unwrap();
    let snapshot = volume.create_snapshot("s").unwrap();
    snapshot.create_clone("b", &sim.key).unwrap();
    assert_eq!(store.quota().unwrap().heads, 3);
    let what = "volumes, snapshots and pins";
    assert_exceeded(store.create_volume("c", PAGE, &sim.key), what, 3);
    assert_exceeded(volume.create_snapshot("t"), what, 3);
    assert_exceeded(volume.create_clone("c", &sim.key), what, 3);
    volume.write_all_at(&page(2), 0).unwrap();
    snapshot.delete().unwrap();
    volume.create_clone("c", &sim.key).unwrap();
    drop((volume, store));
    let sim = sim.kill();
    let store = sim.open();
    assert_eq!(store.quota().unwrap().heads, 3);
    assert_exceeded(store.create_volume("d", PAGE, &sim.key), what, 3);
    store.set_quota(heads(1)).unwrap();
    assert_exceeded(store.create_volume("d", PAGE, &sim.key), what, 1);
}

#[test]
fn what_counts_is_what_the_log_took() {
    let options = Options::new().segment_len(SEGMENT).workers(0);
    let sim = Sim::with(44, options);
    let used = |store: &Store| {
        let (counted, info) = (store.quota().unwrap().used_bytes, store.info().unwrap());
        assert_eq!(counted, info.used_bytes);
        counted
    };
    let store = sim.create();
    let volume = store.create_volume("db", 512 * PAGE, &sim.key).unwrap();
    for round in 0..4 {
        volume.write_all_at(&page(round).repeat(200), 0).unwrap();
        used(&store);
    }
    let before = used(&store);
    assert!(before > 3 * SEGMENT);
    store.checkpoint().unwrap();
    used(&store);
    store.close().unwrap();
    let store = sim.open();
    assert!(
        used(&store) < before + SEGMENT / 2,
        "it goes on in the same segment"
    );
    let volume = store.volume("db").unwrap();
    volume.write_all_at(&page(9).repeat(200), 0).unwrap();
    used(&store);
}

//! What a store counts, and that its caches stay within their bounds.

use offshoot::{Options, StoreStats};

use crate::fixture::{Fixture, PAGE, page};

const MIB: u64 = 1 << 20;

#[test]
fn a_store_counts_what_is_done() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("v", 16 * MIB, &fixture.key).unwrap();
    let before = store.stats().unwrap();
    volume.write_all_at(&page(1), 0).unwrap();
    volume.write_all_at(&page(2).repeat(3), 8 * PAGE).unwrap();
    volume.discard(0..PAGE).unwrap();
    volume.write_zeroes(20 * PAGE..30 * PAGE).unwrap();
    let unflushed = store.stats().unwrap();
    assert_eq!(unflushed.unsynced_segments, 1);
    store.flush().unwrap();
    store.flush().unwrap();
    let mut bytes = vec![0; 5000];
    volume.read_exact_at(&mut bytes, 7).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| volume.read_exact_at(&mut [0; 100], 0).unwrap());
        }
    });
    let after = store.stats().unwrap();
    let difference = |of: fn(&StoreStats) -> u64| of(&after) - of(&before);
    assert_eq!(difference(|stats| stats.writes), 4);
    assert_eq!(difference(|stats| stats.written_bytes), 4 * PAGE);
    assert_eq!(
        difference(|stats| stats.batches),
        1,
        "small changes share it"
    );
    assert_eq!(difference(|stats| stats.appended_bytes), 5 * PAGE);
    assert_eq!(difference(|stats| stats.flushes), 2);
    assert_eq!(
        difference(|stats| stats.syncs),
        1,
        "nothing was left to sync"
    );
    assert_eq!(difference(|stats| stats.reads), 4);
    assert_eq!(difference(|stats| stats.read_bytes), 5300);
    assert_eq!(after.unsynced_segments, 0);
    assert!(difference(|stats| stats.log_len) >= difference(|stats| stats.appended_bytes));
    store.checkpoint().unwrap();
    let end = store.stats().unwrap();
    assert_eq!(end.checkpoints, after.checkpoints + 1);
    assert!(end.log_len < after.log_len);
}

#[test]
fn the_log_that_is_kept_begins_at_the_older_superblock() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("v", 16 * MIB, &fixture.key).unwrap();
    let stats = || store.stats().unwrap();
    let mut written = Vec::new();
    for round in 1..=4 {
        let before = stats().appended_bytes;
        volume.write_all_at(&page(round).repeat(20), 0).unwrap();
        assert!(stats().kept_log_len >= stats().log_len);
        store.checkpoint().unwrap();
        written.push(stats().appended_bytes - before);
        if let [.., last] = written[..] {
            assert_eq!(stats().log_len, 0);
            assert!(stats().kept_log_len >= last, "round {round}");
        }
    }
    // The first rounds are not kept any more.
    assert!(stats().kept_log_len < written.iter().sum());
    let kept = stats().kept_log_len;
    drop((volume, store));
    // A clean close makes one more checkpoint; a process that dies does not.
    let store = fixture.open();
    assert!(store.stats().unwrap().kept_log_len >= kept);
}

#[test]
fn caches_stay_within_their_bounds() {
    let fixture = Fixture::new();
    let options = Options::new()
        .segment_len(MIB)
        .fanout(8)
        .cache_bytes(128 << 10)
        .open_segments(4);
    let len = 32 * MIB;
    let store = options.create(fixture.path(), fixture.kms.clone()).unwrap();
    let volume = store.create_volume("v", len, &fixture.key).unwrap();
    volume.write_all_at(&vec![7; len as usize], 0).unwrap();
    store.close().unwrap();
    let store = options.open(fixture.path(), fixture.kms.clone()).unwrap();
    let volume = store.volume("v").unwrap();
    let mut bytes = page(0);
    for step in 0..3000 {
        let at = step * 6151 % (len / PAGE) * PAGE;
        volume.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(bytes, page(7));
    }
    let stats = store.stats().unwrap();
    assert!(stats.leaf_misses > 1000 && stats.leaf_hits + stats.leaf_misses >= 3000);
    assert!((1..=128 << 10).contains(&stats.cache_bytes), "{stats:?}");
    // The end of the log stays open beside the others.
    assert!((1..=5).contains(&stats.open_segments), "{stats:?}");
}

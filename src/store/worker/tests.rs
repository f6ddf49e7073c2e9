//! What the thread does first, and when it rests.

use crate::store::worker::{Bell, Due};

#[test]
fn what_is_not_urgent_rests_and_what_is_does_not() {
    let bell = Bell::default();
    bell.reclaim_due();
    bell.removal_due();
    bell.rest(1_000, 60_000);
    bell.checkpoint_due();
    assert_eq!(bell.wait(|| 1_001), Some(Due::Checkpoint));
    bell.flush_due();
    assert_eq!(bell.wait(|| 60_999), Some(Due::Flush));
    assert_eq!(bell.wait(|| 61_000), Some(Due::Removal));
    assert_eq!(bell.wait(|| 61_000), Some(Due::Reclaim));
    // A clock that goes back must not make it rest for ever.
    bell.reclaim_due();
    bell.rest(61_000, 60_000);
    assert_eq!(bell.wait(|| 5), Some(Due::Reclaim));
}

#[test]
fn after_noise_comes_quiet_and_then_what_is_done_ahead_after_all_else() {
    let bell = Bell::default();
    bell.flush_due();
    assert_eq!(bell.wait(|| 0), Some(Due::Flush));
    assert_eq!(bell.wait(|| 0), Some(Due::Reclaim));
    assert_eq!(bell.wait(|| 0), Some(Due::Quiet));
    bell.ahead();
    bell.reclaim_due();
    bell.rest(0, 10);
    assert_eq!(bell.wait(|| 10), Some(Due::Reclaim));
    assert_eq!(bell.wait(|| 10), Some(Due::Ahead));
    // Nothing was written since.
    bell.stop();
    assert_eq!(bell.wait(|| 10), None);
}

#[test]
fn the_end_does_not_wait_for_a_rest() {
    let bell = Bell::default();
    bell.reclaim_due();
    bell.rest(0, u64::MAX);
    bell.stop();
    assert_eq!(bell.wait(|| 1), None);
}

#[test]
fn a_rest_is_as_long_as_the_rate_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let kms = crate::file_kms::FileKms::create(&dir.path().join("kms"), "local").unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let options = crate::store::Options::new().workers(0);
    let rest = |rate: u64, bytes: u64| {
        let path = dir.path().join(format!("store-{rate}"));
        let store = options.clone().reclaim_rate(rate).create(path, kms.clone());
        store.unwrap().0.rest_ms(bytes)
    };
    assert_eq!(rest(50 << 20, 200 << 20), 4_000);
    assert_eq!(rest(0, u64::MAX), 0, "no bound");
}

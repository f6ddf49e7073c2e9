//! Bugs on purpose: what the histories must notice, or they prove nothing.
//!
//! When each is noticed, in histories of 400 steps from seed 0 on: all in the first history (after 144 to 338 steps, an
//! erase that destroys a reader's key after 10), but for the erase that spares the keys of deleted heads: in the eleventh.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::lineage::tests::history::{History, Planted};

/// Each bug must be noticed in so many histories.
const HISTORIES: u64 = 40;

/// The history that notices it, and its step.
fn noticed(planted: Planted) -> Option<(u64, usize)> {
    (0..HISTORIES).find_map(|seed| {
        let mut history = History::new(seed, planted);
        let ran = catch_unwind(AssertUnwindSafe(|| history.run()));
        ran.is_err().then_some((seed + 1, history.done.steps))
    })
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "when each was noticed, with --nocapture"
)]
fn each_planted_bug_is_noticed() {
    for planted in [
        Planted::LostDeadEntry,
        Planted::FreedForOneSide,
        Planted::UsedBeforeCheckpoints,
        Planted::UsedOnDeadlists,
        Planted::UsedBeforeSync,
        Planted::RemovedBeforeSync,
        Planted::EraseOfAReader,
        Planted::EraseWithoutDeleted,
    ] {
        let noticed = noticed(planted);
        println!("{planted:?}: {noticed:?}");
        assert!(noticed.is_some(), "{planted:?}");
    }
}

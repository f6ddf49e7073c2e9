//! How long writers are held up.

use super::{BRAKE_LEN, BRAKE_MAX, brake};
use std::time::Duration;

#[test]
fn a_change_is_held_up_the_longer_the_more_the_store_takes_and_never_long() {
    let at = |share: u64| brake(BRAKE_LEN * share / 100);
    assert!((0..200).all(|share| at(share) <= at(share + 1)));
    assert_eq!(
        (at(0), at(100), at(5_000)),
        (Duration::ZERO, BRAKE_MAX, BRAKE_MAX)
    );
    // What a pack may be late by is hardly felt.
    assert!(at(25) < Duration::from_millis(1), "{:?}", at(25));
}

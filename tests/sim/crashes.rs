//! The enumeration of crashes.

use crate::campaign::{Plan, campaign};

#[test]
fn every_sequence_of_three_operations_survives_every_crash() {
    let report = campaign(&Plan::from_env());
    println!(
        "{} sequences, {} captures with {} crashes, {} states checked ({} of crashed recoveries), {} distinct, {} nonces, {:.1} s",
        report.sequences,
        report.captures,
        report.crashes,
        report.checked,
        report.recoveries,
        report.distinct.len(),
        report.nonces,
        report.took.as_secs_f64(),
    );
    assert!(
        report.failures.is_empty(),
        "after {} states: {:#?}",
        report.checked_until_failure,
        report.failures
    );
    // Of the first operations all, with those on keys and the others some.
    assert_eq!(report.sequences, 2 * (819 + 174 + 132));
    assert!(
        report.distinct.len() >= 20_000,
        "only {} states",
        report.distinct.len()
    );
}

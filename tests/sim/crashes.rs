//! The enumeration of crashes.

use crate::campaign::{Plan, Stage, campaign};

#[test]
fn every_sequence_of_three_operations_survives_every_crash() {
    let plan = Plan::from_env();
    let report = campaign(&plan);
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
    let (sequences, states) = match plan.stage {
        // Of the first operations all, with those on keys and the others some.
        Stage::First => (2 * (819 + 174 + 132), 20_000),
        Stage::Proof => (3 * 2_379, 100_000),
        Stage::Fours => (2 * 6_561, 100_000),
    };
    let (from, to) = (plan.jobs.start.min(sequences), plan.jobs.end.min(sequences));
    assert_eq!(report.sequences, to - from);
    let states = states * (to - from) / sequences;
    assert!(
        report.distinct.len() >= states,
        "only {} states",
        report.distinct.len()
    );
}

//! The histories of `offshoot torture`, and that they notice what is broken on purpose.

use offshoot::io::sim::Lie;
use offshoot_torture::run::Planted;
use offshoot_torture::torture::{Histories, Plan, Script, torture};

fn plan(seed: u64, cases: u64, planted: Planted) -> Plan {
    Plan {
        seed,
        cases: Some(cases),
        threads: 2,
        planted,
        histories: Histories::Short,
        shrink: true,
    }
}

/// Plays the histories of the seeds that a variable names as `FROM..TO`.
fn campaign(histories: Histories, variable: &str, short: &str) {
    let range = std::env::var(variable).unwrap_or_else(|_| short.to_owned());
    let (from, to) = range.split_once("..").expect("FROM..TO");
    let (from, to) = (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap());
    let plan = Plan {
        histories,
        ..plan(from, to - from, Planted::Nothing)
    };
    let (tally, found) = torture(&plan, &|_| true);
    println!(
        "{} cases, {} operations, {} states, {} distinct, recoveries crashed {:?}, {} after lies, {} faults",
        tally.cases,
        tally.ops,
        tally.states,
        tally.distinct.len(),
        tally.recoveries,
        tally.lies,
        tally.faults
    );
    if let Some(found) = found {
        panic!(
            "seed {}: {}\n{}\n{}",
            found.seed, found.why, found.shortest, found.shortest_why
        );
    }
    assert_eq!(tally.cases, to - from);
    let is_enough = tally.recoveries[0] > 0 && tally.lies > 0 && tally.faults > 0;
    assert!(is_enough || to - from < 20);
}

#[test]
fn random_histories_survive_crashes_faults_and_lies() {
    campaign(Histories::Short, "OFFSHOOT_TORTURE", "1..81");
}

/// What only a store can show to which much has happened.
#[test]
fn long_histories_survive_crashes_faults_and_lies() {
    campaign(Histories::Long, "OFFSHOOT_TORTURE_LONG", "1..901");
}

#[test]
fn long_histories_notice_what_is_broken_on_purpose() {
    for planted in [
        Planted::EarlyAcknowledgement,
        Planted::DroppedSyncs(Lie::Always),
    ] {
        let plan = Plan {
            histories: Histories::Long,
            shrink: false,
            ..plan(1, 20, planted)
        };
        let (_, found) = torture(&plan, &|_| true);
        assert!(found.is_some(), "{planted:?}");
    }
}

/// What each found is told in `docs/campaigns`.
#[test]
fn histories_that_failed_once_pass() {
    let short = [350, 7283, 17551].map(|seed| (Histories::Short, seed));
    let long = [966, 5758, 23514, 45351, 64338, 100297].map(|seed| (Histories::Long, seed));
    for (histories, seed) in short.into_iter().chain(long) {
        let plan = Plan {
            histories,
            ..plan(seed, 1, Planted::Nothing)
        };
        let (tally, found) = torture(&plan, &|_| true);
        assert!(found.is_none(), "{found:?}");
        assert_eq!(tally.cases, 1);
    }
}

#[test]
fn an_early_acknowledgement_is_found_and_the_history_made_short() {
    let plan = plan(1, 200, Planted::EarlyAcknowledgement);
    let (tally, found) = torture(&plan, &|_| true);
    let found = found.expect("it is found");
    let ops: usize = found
        .shortest
        .rounds
        .iter()
        .map(|round| round.ops.len())
        .sum();
    let before: usize = Script::of(found.seed)
        .rounds
        .iter()
        .map(|round| round.ops.len())
        .sum();
    println!(
        "after {} cases; {ops} operations instead of {before}: {}",
        tally.cases, found.shortest
    );
    assert!(ops <= 5 && ops < before, "{}", found.shortest);
    assert!(
        found.shortest_why.contains("but may hold only"),
        "{}",
        found.shortest_why
    );
}

#[test]
fn a_disk_that_never_syncs_is_found() {
    let (_, found) = torture(&plan(1, 200, Planted::DroppedSyncs(Lie::Always)), &|_| true);
    assert!(found.is_some());
}

#[test]
fn equal_seeds_play_equal_histories() {
    for seed in 0..50 {
        assert_eq!(Script::of(seed), Script::of(seed));
        assert_eq!(Script::long(seed), Script::long(seed));
    }
    let states = |threads| {
        let plan = Plan {
            threads,
            ..plan(500, 6, Planted::Nothing)
        };
        torture(&plan, &|_| true).0.distinct
    };
    assert_eq!(states(1), states(2));
}

//! The histories of `offshoot torture`, and that they notice what is broken on purpose.

use offshoot::io::sim::Lie;
use offshoot_torture::run::Planted;
use offshoot_torture::torture::{Plan, Script, torture};

fn plan(seed: u64, cases: u64, planted: Planted) -> Plan {
    Plan {
        seed,
        cases: Some(cases),
        threads: 2,
        planted,
        shrink: true,
    }
}

/// A longer campaign sets `OFFSHOOT_TORTURE` to `FROM..TO`, the seeds.
#[test]
fn random_histories_survive_crashes_faults_and_lies() {
    let range = std::env::var("OFFSHOOT_TORTURE").unwrap_or_else(|_| "1..81".to_owned());
    let (from, to) = range.split_once("..").expect("FROM..TO");
    let (from, to) = (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap());
    let (tally, found) = torture(&plan(from, to - from, Planted::Nothing), &|_| true);
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
    assert!(tally.recoveries[0] > 0 && tally.lies > 0 && tally.faults > 0);
}

/// What each found is told in `docs/campaigns`.
#[test]
fn histories_that_failed_once_pass() {
    for seed in [350, 7283, 17551] {
        let (tally, found) = torture(&plan(seed, 1, Planted::Nothing), &|_| true);
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

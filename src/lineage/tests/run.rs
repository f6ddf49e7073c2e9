//! Many random histories.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::lineage::tests::history::{Done, History, Planted};

/// Seeds that failed once.
const FAILED_SEEDS: &[u64] = &[];
/// Histories of a normal run; the environment can ask for more, from another seed on.
const HISTORIES: u64 = 400;
const HISTORIES_VARIABLE: &str = "OFFSHOOT_LINEAGE_HISTORIES";
const SEED_VARIABLE: &str = "OFFSHOOT_LINEAGE_SEED";

fn asked(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}

#[test]
fn random_histories_with_crashes_agree_with_mark_and_sweep() {
    let count = asked(HISTORIES_VARIABLE).unwrap_or(HISTORIES);
    let first = asked(SEED_VARIABLE).unwrap_or(0);
    let mut all = Done::default();
    for seed in FAILED_SEEDS.iter().copied().chain(first..first + count) {
        let mut history = History::new(seed, Planted::Nothing);
        if catch_unwind(AssertUnwindSafe(|| history.run())).is_err() {
            let step = history.done.steps;
            panic!("seed {seed} failed at step {step}: add it to FAILED_SEEDS");
        }
        all.add(&history.done);
    }
    if asked(HISTORIES_VARIABLE).is_some() {
        let seeds = first..first + count;
        writeln!(std::io::stdout(), "histories of seeds {seeds:?}: {all:?}").unwrap();
    }
    // They do what they are for.
    let enough = count as usize;
    assert_eq!(all.steps, (count as usize + FAILED_SEEDS.len()) * 400);
    assert!(
        all.crashes > 2 * enough && all.replayed > 20 * enough,
        "{all:?}"
    );
    assert!(all.checkpoints > enough && all.late > enough, "{all:?}");
    assert!(all.deletes > enough && all.rekeys > enough && all.sets > enough);
    assert!(all.deletes_by_hoist > enough / 10, "{all:?}");
    assert!(
        all.wiped > 20 * enough && all.recoveries > enough,
        "{all:?}"
    );
    assert!(
        all.read > 20 * enough && all.looked_again > enough / 20,
        "{all:?}"
    );
    assert!(
        all.erased > 2 * enough && all.erased_epochs > enough,
        "{all:?}"
    );
    assert!(
        all.shared_epochs > enough && all.cut_off > enough / 10,
        "{all:?}"
    );
}

impl Done {
    fn add(&mut self, other: &Self) {
        for (mine, other) in self.numbers().into_iter().zip(other.clone().numbers()) {
            *mine += *other;
        }
    }

    fn numbers(&mut self) -> [&mut usize; 20] {
        let Self {
            steps,
            crashes,
            replayed,
            recoveries,
            checkpoints,
            cancelled,
            hoists,
            late,
            deletes,
            deletes_by_hoist,
            sets,
            rekeys,
            wiped,
            read,
            looked_again,
            refused,
            erased,
            erased_epochs,
            shared_epochs,
            cut_off,
        } = self;
        [
            steps,
            crashes,
            replayed,
            recoveries,
            checkpoints,
            cancelled,
            hoists,
            late,
            deletes,
            deletes_by_hoist,
            sets,
            rekeys,
            wiped,
            read,
            looked_again,
            refused,
            erased,
            erased_epochs,
            shared_epochs,
            cut_off,
        ]
    }
}

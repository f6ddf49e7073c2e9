//! Many random histories.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::lineage::tests::history::{Done, History};

/// Seeds that failed once.
const FAILED_SEEDS: &[u64] = &[];
/// Histories of a normal run; the environment can ask for more.
const HISTORIES: u64 = 400;
const HISTORIES_VARIABLE: &str = "OFFSHOOT_LINEAGE_HISTORIES";

#[test]
fn random_histories_with_crashes_agree_with_mark_and_sweep() {
    let asked = std::env::var(HISTORIES_VARIABLE).ok();
    let count = asked
        .as_ref()
        .map_or(HISTORIES, |count| count.parse().unwrap());
    let mut all = Done::default();
    for seed in FAILED_SEEDS.iter().copied().chain(0..count) {
        let mut history = History::new(seed);
        if catch_unwind(AssertUnwindSafe(|| history.run())).is_err() {
            let step = history.done.steps;
            panic!("seed {seed} failed at step {step}: add it to FAILED_SEEDS");
        }
        all.add(&history.done);
    }
    if asked.is_some() {
        writeln!(std::io::stdout(), "{count} histories: {all:?}").unwrap();
    }
    // They do what they are for.
    let enough = count as usize;
    assert!(
        all.crashes > 2 * enough && all.replayed > 20 * enough,
        "{all:?}"
    );
    assert!(all.checkpoints > enough && all.late > enough, "{all:?}");
    assert!(all.deletes > enough && all.rekeys > enough && all.sets > enough);
    assert!(all.deletes_by_hoist > enough / 10, "{all:?}");
}

impl Done {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.replayed += other.replayed;
        self.checkpoints += other.checkpoints;
        self.hoists += other.hoists;
        self.late += other.late;
        self.deletes += other.deletes;
        self.deletes_by_hoist += other.deletes_by_hoist;
        self.sets += other.sets;
        self.rekeys += other.rekeys;
    }
}

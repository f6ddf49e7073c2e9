//! Long histories that crash again and again, and go on from what each crash has left.

use std::sync::Arc;

use offshoot::io::sim::{Crash, SimRandom};

use crate::campaign::Plan;
use crate::nonces::{Nonces, batches, slots_of};
use crate::ops::{MORE_OPS, OPS, Start, starts};
use crate::oracle::{case_of, check, crashed};
use crate::rig::Host;
use crate::run::{Planted, Run};

const ROUNDS: u64 = 8;
const OPS_IN_ROUND: usize = 7;

/// What a crash has left, as a start for what follows.
fn left(run: Start, seed: u64) -> Start {
    let recovered = run.machine.kill();
    let model = Host::new(&recovered, seed).open().unwrap().read().unwrap();
    let acknowledged = slots_of(&batches(&recovered)).collect();
    Start {
        model,
        acknowledged,
        ..run
    }
}

/// Plays one history; gives the number of its crashes.
fn play(seed: u64, nonces: &Arc<Nonces>) -> Result<u64, String> {
    let random = SimRandom::new(seed);
    let first = &starts()[random.below(2)];
    let mut start = Start {
        name: first.name,
        machine: first.machine.kill(),
        model: first.model.clone(),
        acknowledged: first.acknowledged.clone(),
    };
    let mut step = 1;
    for round in 0..ROUNDS {
        let seed = seed << 24 | round << 16;
        let mut run = Run::new(&start, seed, nonces, Planted::Nothing);
        run.record();
        for _ in 0..random.below(OPS_IN_ROUND + 1) {
            let all = OPS.len() + MORE_OPS.len();
            let op = *OPS.iter().chain(&MORE_OPS).nth(random.below(all)).unwrap();
            step += 1;
            run.op(op, step, seed + u64::from(step) + 1)
                .map_err(|error| format!("round {round}, {op:?}: {error}"))?;
            let (found, expected) = (run.process().read()?, run.model());
            if found != expected {
                return Err(format!(
                    "round {round}, {op:?}: {found:?}, not {expected:?}"
                ));
            }
        }
        let captures = run.end()?;
        let capture = &captures[random.below(captures.len())];
        let crash = match random.below(4) {
            0 => None,
            1 => Some(Crash::NONE_KEPT),
            _ => Some(capture.machine.sampled_crash(seed)),
        };
        let machine = crashed(&capture.machine, crash.as_ref());
        check(&machine.kill(), &case_of(capture, nonces, seed + (1 << 12)))
            .map_err(|why| format!("round {round}, {crash:?}: {why}"))?;
        start.machine = machine;
        start = left(start, seed + (1 << 13));
        if !capture.possible.contains(&start.model) {
            return Err(format!(
                "round {round}: another recovery holds {:?}",
                start.model
            ));
        }
    }
    Ok(ROUNDS)
}

#[test]
fn long_histories_go_on_after_crash_upon_crash() {
    let nonces = Arc::new(Nonces::default());
    let plan = Plan::from_env();
    let count = plan.sample as u64 * 20;
    let mut crashes = 0;
    for seed in (0..count).map(|number| plan.seed << 20 | number) {
        match play(seed, &nonces) {
            Ok(count) => crashes += count,
            Err(why) => panic!("history {seed:#x}: {why}"),
        }
    }
    assert_eq!(crashes, count * ROUNDS);
}

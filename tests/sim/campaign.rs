//! All sequences, all their captures, and of each capture a sample of its crashes.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use offshoot::Error;
use offshoot::io::sim::{Crash, SimMachine};

use offshoot_torture::nonces::Nonces;
use offshoot_torture::ops::{
    KEY_OPS, MORE_OPS, OPS, Op, Start, key_sequences, more_sequences, nearly_full, proof_sequences,
    sequences, starts,
};
use offshoot_torture::oracle::{case_of, check, crashed};
use offshoot_torture::run::{Capture, Planted, Run};

/// How much of a campaign is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which sequences, from which starts.
    pub stage: Stage,
    /// Those of these numbers.
    pub jobs: Range<usize>,
    /// Crashes that choose each sector and each name for itself, of each capture.
    pub apart: usize,
    /// Crashes of each capture that are tried beside a kill and the loss of all that is pending.
    pub sample: usize,
    /// Chooses them.
    pub seed: u64,
    /// Of so many crashes that were tried, in one the recovery crashes as well.
    pub recovery_every: usize,
    pub planted: Planted,
    pub thread_count: usize,
}

/// What is enumerated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What every `cargo test` does: 9 operations from 2 starts, and some with others.
    First,
    /// 13 operations from 3 starts.
    Proof,
    /// Four operations of the first stage's 9 from 2 starts.
    Fours,
}

impl Plan {
    /// The plan of `cargo test`; a longer campaign sets `OFFSHOOT_SIM_STATES` to about as many
    /// states as it wants and `OFFSHOOT_SIM_SEED` to what no campaign before it had. `OFFSHOOT_SIM=proof` or `fours`
    /// asks for another stage, `OFFSHOOT_SIM_JOBS=FROM..TO` for a part of it. The second stage comes to 300,000 states, or to
    /// 130,000 if less than 150,000 are wanted.
    pub fn from_env() -> Self {
        let number = |name| {
            std::env::var(name)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
        };
        let states = number("OFFSHOOT_SIM_STATES").unwrap_or(0) as usize;
        let stage = match std::env::var("OFFSHOOT_SIM").as_deref() {
            Ok("proof") => Stage::Proof,
            Ok("fours") => Stage::Fours,
            Ok(other) => panic!("OFFSHOOT_SIM: {other}"),
            Err(_) => Stage::First,
        };
        let jobs = std::env::var("OFFSHOOT_SIM_JOBS").map_or(0..usize::MAX, |text| {
            let (from, to) = text.split_once("..").expect("FROM..TO");
            from.parse().unwrap()..to.parse().unwrap()
        });
        let (apart, sample) = match stage {
            Stage::Proof if (1..150_000).contains(&states) => (1, 1),
            Stage::Proof => (4, 3),
            _ => (1, 3.max(states.saturating_sub(18_000) / 3_000)),
        };
        Self {
            stage,
            jobs,
            apart,
            sample,
            seed: number("OFFSHOOT_SIM_SEED").unwrap_or(1),
            recovery_every: 10,
            planted: Planted::Nothing,
            thread_count: 2,
        }
    }
}

/// What a campaign did.
#[derive(Debug, Default)]
pub struct Report {
    pub sequences: usize,
    pub captures: usize,
    /// Crashes that all captures allow.
    pub crashes: usize,
    /// States that were checked.
    pub checked: usize,
    /// States of those that crashed while they recovered.
    pub recoveries: usize,
    /// Different bytes on disk among the states.
    pub distinct: HashSet<[u8; 32]>,
    pub nonces: usize,
    /// After the first one nothing new is begun.
    pub failures: Vec<String>,
    /// States that had been checked then.
    pub checked_until_failure: usize,
    pub took: Duration,
    /// The same bytes with the same expectations are checked once.
    done: HashSet<State>,
}

/// One sequence from one start.
#[derive(Debug)]
struct Job {
    start: usize,
    index: usize,
    ops: Vec<Op>,
}

/// What is done from each start.
fn start(number: usize) -> &'static Start {
    starts().get(number).unwrap_or_else(|| nearly_full())
}

fn jobs(plan: &Plan) -> Vec<Job> {
    let (starts, all) = match plan.stage {
        Stage::First => (2, first_sequences()),
        Stage::Proof => (3, proof_sequences()),
        Stage::Fours => (2, fours()),
    };
    let numbered =
        (0..starts).flat_map(|start| all.iter().cloned().enumerate().map(move |n| (start, n)));
    let jobs = numbered.map(|(start, (index, ops))| Job { start, index, ops });
    let from = plan.jobs.start;
    jobs.skip(from).take(plan.jobs.end - from).collect()
}

fn first_sequences() -> Vec<Vec<Op>> {
    let triples = sequences();
    let singles = OPS.map(|op| vec![op]).into_iter();
    let pairs = OPS.into_iter().flat_map(|a| OPS.map(|b| vec![a, b]));
    let all: Vec<_> = singles
        .chain(pairs)
        .chain(triples.iter().map(|ops| ops.to_vec()))
        .chain(more_sequences())
        .collect();
    all.into_iter().chain(key_sequences()).collect()
}

fn fours() -> Vec<Vec<Op>> {
    let triples = sequences().into_iter();
    let all = triples.flat_map(|[a, b, c]| OPS.map(|d| vec![a, b, c, d]));
    all.collect()
}

/// Runs all sequences from both starts.
pub fn campaign(plan: &Plan) -> Report {
    let began = Instant::now();
    let (jobs, next) = (jobs(plan), AtomicUsize::new(0));
    let (report, nonces) = (Mutex::new(Report::default()), Arc::new(Nonces::default()));
    std::thread::scope(|scope| {
        for _ in 0..plan.thread_count {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let done = job.run(plan, &report, &nonces);
                    if !report.lock().unwrap().end(job, done) {
                        return;
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap();
    report.nonces = nonces.count();
    report.took = began.elapsed();
    report
}

impl Job {
    fn run(&self, plan: &Plan, report: &Mutex<Report>, nonces: &Arc<Nonces>) -> Result<(), String> {
        let captures = captures(
            start(self.start),
            self.start,
            &self.ops,
            nonces,
            plan.planted,
        )?;
        let mut ids = 0;
        for capture in &captures {
            let points = capture.machine.crash_points();
            let mut chosen = vec![None, Some(Crash::NONE_KEPT)];
            chosen.extend(sample(&points, plan, (self.start, self.index, ids)).map(Some));
            let apart = (0..plan.apart as u64).map(|n| {
                mix(
                    mix(plan.seed, n),
                    (self.start << 48 | self.index << 24 | ids) as u64,
                )
            });
            chosen.extend(apart.map(|seed| Some(capture.machine.sampled_crash_apart(seed))));
            {
                let mut report = report.lock().unwrap();
                report.captures += 1;
                report.crashes += points.len() + 1;
            }
            for crash in chosen {
                ids += 1;
                let seed = (1 << 62 | self.start << 56 | self.index << 42 | ids << 16) as u64;
                let machine = crashed(&capture.machine, crash.as_ref());
                let explored = self.explore(&machine, capture, report, nonces, (plan, seed));
                explored.map_err(|failure| format!("{crash:?}, seed {seed:#x}: {failure}"))?;
            }
        }
        Ok(())
    }

    fn explore(
        &self,
        machine: &SimMachine,
        capture: &Capture,
        report: &Mutex<Report>,
        nonces: &Arc<Nonces>,
        (plan, seed): (&Plan, u64),
    ) -> Result<(), String> {
        let known = state(machine, capture);
        if !report.lock().unwrap().note(known) {
            return Ok(());
        }
        let barriers = check(machine, &case_of(capture, nonces, seed))?;
        if barriers.is_empty() || !mix(seed, plan.seed).is_multiple_of(plan.recovery_every as u64) {
            return Ok(());
        }
        let barrier = &barriers[(mix(seed, 1) % barriers.len() as u64) as usize];
        let again = [
            None,
            Some(Crash::NONE_KEPT),
            Some(barrier.sampled_crash(mix(seed, 2))),
            Some(barrier.sampled_crash_apart(mix(seed, 3))),
        ];
        for (crash, seed) in again.iter().zip((seed + 256..).step_by(256)) {
            let machine = crashed(barrier, crash.as_ref());
            let known = state(&machine, capture);
            if report.lock().unwrap().note(known) {
                report.lock().unwrap().recoveries += 1;
                check(&machine, &case_of(capture, nonces, seed))
                    .map_err(|failure| format!("recovery crashed: {crash:?}: {failure}"))?;
            }
        }
        Ok(())
    }
}

impl Report {
    /// Notes that a job is done; false if the campaign is to stop.
    fn end(&mut self, job: &Job, done: Result<(), String>) -> bool {
        self.sequences += 1;
        if let Err(why) = done {
            self.checked_until_failure = self.checked;
            let start = start(job.start).name;
            self.failures.push(format!("{start} {:?}: {why}", job.ops));
        }
        self.failures.is_empty()
    }

    /// Notes a state; false if it was checked before with the same expectations.
    fn note(&mut self, state: State) -> bool {
        self.distinct.insert(state.0);
        let is_new = self.done.insert(state);
        self.checked += usize::from(is_new);
        is_new
    }
}

/// The bytes of a machine, and what is expected of it.
type State = ([u8; 32], u64);

fn state(machine: &SimMachine, capture: &Capture) -> State {
    let mut hasher = DefaultHasher::new();
    (&capture.possible, &capture.acknowledged).hash(&mut hasher);
    (machine.fingerprint(), hasher.finish())
}

/// The captures of the last operation of a sequence. The same operations before it leave the
/// same bytes in all sequences, so that states are not called different for their seeds.
pub fn captures(
    start: &Start,
    number: usize,
    ops: &[Op],
    nonces: &Arc<Nonces>,
    planted: Planted,
) -> Result<Vec<Capture>, String> {
    let mut seed = 1 << 40 | (number as u64) << 32;
    let mut run = Run::new(start, seed, nonces, planted);
    for (step, op) in (0..).zip(ops) {
        let through = &[Op::WriteThrough];
        let mut all = OPS.iter().chain(&KEY_OPS).chain(&MORE_OPS).chain(through);
        seed = seed * 32 + 1 + all.position(|other| other == op).unwrap_or(0) as u64;
        if step + 1 == ops.len() {
            run.record();
        }
        match run.op(*op, step as u32, seed) {
            Ok(()) => {}
            // Then nothing was changed, which is asked below.
            Err(Error::NoSpace { .. }) if start.name == nearly_full().name => {}
            Err(error) => return Err(format!("step {step}: {error}")),
        }
        let (found, expected) = (run.process().read()?, run.model());
        if found != expected {
            return Err(format!(
                "step {step}: it holds {found:?} instead of {expected:?}"
            ));
        }
    }
    run.end()
}

/// Some of all crashes, spread evenly.
fn sample(points: &[Crash], plan: &Plan, id: (usize, usize, usize)) -> impl Iterator<Item = Crash> {
    let mut hasher = DefaultHasher::new();
    (id, plan.seed).hash(&mut hasher);
    let (count, first) = (plan.sample.min(points.len()), hasher.finish() as usize);
    let places =
        (0..count).map(move |n| (first % points.len() + n * points.len() / count) % points.len());
    places.map(|place| points[place])
}

/// A number that looks random.
fn mix(a: u64, b: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (a, b).hash(&mut hasher);
    hasher.finish()
}

//! Random histories that crash, fail and go on, judged by the model after every crash; a history that fails is made as
//! short as it can be.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use offshoot::Error;
use offshoot::check::{CheckOptions, Report};
use offshoot::io::fault::{Failure, Times};
use offshoot::io::sim::{Crash, Lie, SimMachine, SimRandom};

use crate::model::{Action, Kind, Model};
use crate::nonces::{Nonces, batches, slots_of};
use crate::ops::{KEY_OPS, MORE_OPS, OPS, Op, Start, starts};
use crate::oracle::{self, case_of, check, crashed};
use crate::rig::Host;
use crate::run::{Capture, Planted, Run, Where, happened_not};
use crate::shown::{Shown, fits, processor_time, show, timed};

/// Rounds of a history at most: each ends with a crash that the next one goes on from.
const ROUNDS_MAX: usize = 6;
/// Operations of a round at most.
const OPS_MAX: usize = 8;
/// Rounds of a long history, and operations of each of them: 200 to 400 in all.
const LONG_ROUNDS: usize = 20;
const LONG_OPS: RangeInclusive<usize> = 10..=20;
/// A recovery may crash, and the recovery from that, and once more.
const DEPTH_MAX: u32 = 3;
/// How long is tried to make a history shorter, by the time of the thread.
const SHRINK_FOR: Duration = Duration::from_secs(30);

/// A history: all that it does follows from this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Chooses crashes and what is random in the store.
    pub seed: u64,
    /// Which of the two stores it starts from.
    pub start: usize,
    /// Rounds, each ended by a crash.
    pub rounds: Vec<Round>,
}

/// What happens from one crash to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Operations, with the numbers that say what they work on.
    pub ops: Vec<(u32, Op)>,
    /// What the machine does wrong meanwhile.
    pub trouble: Trouble,
}

/// What a machine does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// A call to a disk fails.
    Fault {
        /// Which disk.
        on: Where,
        /// Which call, counted from the round's first.
        nth: u64,
        /// How.
        failure: Failure,
        /// Once or for good.
        times: Times,
    },
    /// Syncs from the round's begin on only say that they have happened. Then only consistency is asked for.
    LyingFlush,
}

/// What histories came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Histories that were played to their end.
    pub cases: u64,
    /// Operations.
    pub ops: u64,
    /// Crash states that were checked.
    pub states: u64,
    /// Of these, states of recoveries that crashed: once, twice, three times in a row.
    pub recoveries: [u64; DEPTH_MAX as usize],
    /// Of these, states after flushes that lied.
    pub lies: u64,
    /// Rounds in which a call failed.
    pub faults: u64,
    /// Pairs of salt and nonce.
    pub nonces: u64,
    /// Different bytes on disk, by their hashes.
    pub distinct: HashSet<u64>,
}

/// A history that showed a fault.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of the history.
    pub seed: u64,
    /// What was wrong.
    pub why: String,
    /// The shortest history that was found to fail.
    pub shortest: Script,
    /// What was wrong in that one.
    pub shortest_why: String,
}

/// What is tried.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of the first history; each one after it has the next number.
    pub seed: u64,
    /// Histories, if no more than that.
    pub cases: Option<u64>,
    /// Threads.
    pub threads: usize,
    /// A fault on purpose.
    pub planted: Planted,
    /// What histories are like.
    pub histories: Histories,
    /// Whether a history that fails is made shorter.
    pub shrink: bool,
}

/// What histories are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histories {
    /// A few rounds of a few operations, and many crashes of each are looked at.
    Short,
    /// Over 200 operations in 20 rounds, with a crash after each: what a store is like after much has happened to it.
    Long,
}

impl Histories {
    fn script(self, seed: u64) -> Script {
        match self {
            Self::Short => Script::of(seed),
            Self::Long => Script::long(seed),
        }
    }

    fn effort(self) -> Effort {
        match self {
            Self::Short => Effort::Some,
            Self::Long => Effort::Least,
        }
    }

    /// While it is made shorter.
    fn effort_of_shrinking(self) -> Effort {
        match self {
            Self::Short => Effort::All,
            Self::Long => Effort::Least,
        }
    }
}

/// Plays histories until one fails, all are done, or `go_on` says `false`. It is asked, with what was done so far,
/// after each.
pub fn torture(plan: &Plan, go_on: &(dyn Fn(&Tally) -> bool + Sync)) -> (Tally, Option<Found>) {
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (tally, found) = (Mutex::new(Tally::default()), Mutex::new(None::<Found>));
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if plan.cases.is_some_and(|cases| number >= cases) {
                        return;
                    }
                    let script = plan.histories.script(plan.seed.wrapping_add(number));
                    let mut own = Tally::default();
                    let effort = plan.histories.effort();
                    let played = play(&script, plan.planted, effort, &mut own);
                    let mut tally = lock(&tally);
                    tally.add(own);
                    if let Err(why) = played {
                        is_over.store(true, Ordering::Relaxed);
                        let seed = script.seed;
                        let (shortest, shortest_why) = (script, why.clone());
                        let mut found = lock(&found);
                        // Of two that fail at the same time the one with the lesser seed is told of.
                        if found.as_ref().is_none_or(|other| seed < other.seed) {
                            *found = Some(Found {
                                seed,
                                why,
                                shortest,
                                shortest_why,
                            });
                        }
                    }
                    if !go_on(&tally) {
                        is_over.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let into = |error: PoisonError<_>| error.into_inner();
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = found.as_mut().filter(|_| plan.shrink) {
        let effort = plan.histories.effort_of_shrinking();
        shrink(found, plan.planted, effort);
    }
    (tally.into_inner().unwrap_or_else(into), found)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much of a history is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// The crash that the history goes on from, and one more of the end of some rounds.
    Least,
    /// A few crashes of a few moments.
    Some,
    /// Every moment before a sync, so that what is left out of the history changes little of what is seen.
    All,
}

impl Script {
    /// The history of a seed.
    pub fn of(seed: u64) -> Self {
        let random = SimRandom::new(mix(seed, 0));
        let count = 1 + random.below(ROUNDS_MAX);
        Self::with(seed, &random, count, 0..=OPS_MAX)
    }

    /// The long history of a seed.
    pub fn long(seed: u64) -> Self {
        let random = SimRandom::new(mix(seed, 2));
        Self::with(seed, &random, LONG_ROUNDS, LONG_OPS)
    }

    fn with(seed: u64, random: &SimRandom, count: usize, ops_len: RangeInclusive<usize>) -> Self {
        let mut step = 1;
        let mut rounds = Vec::with_capacity(count);
        for number in 0..count {
            let mut ops = Vec::new();
            for _ in 0..ops_len.start() + random.below(ops_len.end() - ops_len.start() + 1) {
                step += 1;
                ops.push((step, pick(random)));
            }
            // After a lie nothing is known for certain, so the history ends there.
            let is_last = number + 1 == count;
            let trouble = Trouble::of(random, is_last);
            rounds.push(Round { ops, trouble });
        }
        Self {
            seed,
            start: random.below(2),
            rounds,
        }
    }

    /// Histories with a little less in them.
    fn smaller(&self) -> Vec<Self> {
        let with = |change: &dyn Fn(&mut Self)| {
            let mut script = self.clone();
            change(&mut script);
            script
        };
        let mut all = Vec::new();
        let count = self.rounds.len();
        for round in 0..count {
            if count > 1 {
                all.push(with(&|it| drop(it.rounds.remove(round))));
            }
        }
        for (round, Round { ops, trouble }) in self.rounds.iter().enumerate() {
            let half = ops.len() / 2;
            if half > 1 {
                all.push(with(&|it| drop(it.rounds[round].ops.drain(..half))));
                all.push(with(&|it| it.rounds[round].ops.truncate(half)));
            }
            for op in 0..ops.len() {
                all.push(with(&|it| {
                    it.rounds[round].ops.remove(op);
                }));
            }
            if *trouble != Trouble::None {
                all.push(with(&|it| it.rounds[round].trouble = Trouble::None));
            }
        }
        if self.start != 0 {
            all.push(with(&|it| it.start = 0));
        }
        all
    }
}

impl Trouble {
    fn of(random: &SimRandom, is_last: bool) -> Self {
        match random.below(6) {
            0 | 1 => Self::Fault {
                on: if random.below(3) == 0 {
                    Where::Kms
                } else {
                    Where::Store
                },
                nth: 1 + random.below(120) as u64,
                failure: match random.below(3) {
                    0 => Failure::Kind(std::io::ErrorKind::StorageFull),
                    _ => Failure::Os(5),
                },
                times: if random.below(2) == 0 {
                    Times::Once
                } else {
                    Times::ForGood
                },
            },
            2 if is_last => Self::LyingFlush,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Script {
    /// A line for each round.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, start {:?}",
            self.seed,
            starts()[self.start].name
        )?;
        for (number, round) in self.rounds.iter().enumerate() {
            let ops: Vec<_> = round
                .ops
                .iter()
                .map(|(step, op)| format!("{op:?} {step}"))
                .collect();
            write!(f, "round {number}: {}", ops.join(", "))?;
            match round.trouble {
                Trouble::None => writeln!(f, "; crash")?,
                trouble => writeln!(f, "; {trouble:?}; crash")?,
            }
        }
        Ok(())
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.ops += other.ops;
        self.states += other.states;
        self.lies += other.lies;
        self.faults += other.faults;
        self.nonces += other.nonces;
        self.distinct.extend(other.distinct);
        let recoveries = self.recoveries.iter_mut().zip(other.recoveries);
        recoveries.for_each(|(sum, more)| *sum += more);
    }

    fn note(&mut self, machine: &SimMachine) {
        self.states += 1;
        let hash = machine.fingerprint();
        let first = hash.first_chunk::<8>().copied().unwrap_or_default();
        self.distinct.insert(u64::from_le_bytes(first));
    }
}

fn pick(random: &SimRandom) -> Op {
    // Those that everything is made of come more often.
    let rare: Vec<_> = MORE_OPS.into_iter().chain(KEY_OPS).collect();
    match random.below(3) {
        0 => rare[random.below(rare.len())],
        _ => OPS[random.below(OPS.len())],
    }
}

/// A number that looks random.
fn mix(a: u64, b: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (a, b).hash(&mut hasher);
    hasher.finish()
}

/// Plays a history; an error says what is wrong, a panic too.
fn play(
    script: &Script,
    planted: Planted,
    effort: Effort,
    tally: &mut Tally,
) -> Result<(), String> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        Player::new(script, planted, effort, tally).play()
    }));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    })
}

struct Player<'a> {
    script: &'a Script,
    planted: Planted,
    effort: Effort,
    tally: &'a mut Tally,
    nonces: Arc<Nonces>,
    /// Forks so far: each has randomness of its own.
    forks: u64,
}

impl<'a> Player<'a> {
    fn new(script: &'a Script, planted: Planted, effort: Effort, tally: &'a mut Tally) -> Self {
        Self {
            script,
            planted,
            effort,
            tally,
            nonces: Arc::default(),
            forks: 0,
        }
    }

    /// A seed that no other fork has, nor any of the seven after it.
    fn fork(&mut self) -> u64 {
        self.forks += 1;
        mix(self.script.seed, self.forks) << 3
    }

    fn play(mut self) -> Result<(), String> {
        let first = &starts()[self.script.start];
        let mut start = Start {
            name: first.name,
            machine: first.machine.kill(),
            model: first.model.clone(),
            acknowledged: first.acknowledged.clone(),
        };
        for (number, round) in self.script.rounds.iter().enumerate() {
            let random = SimRandom::new(mix(self.script.seed, 1 << 32 | number as u64));
            let next = self.round(start, round, &random);
            match next.map_err(|why| format!("round {number}: {why}"))? {
                Some(next) => start = next,
                None => break,
            }
        }
        self.tally.cases += 1;
        self.tally.nonces += self.nonces.count() as u64;
        Ok(())
    }

    /// Plays a round; gives what a crash at its end left, if it is known what that may hold.
    fn round(
        &mut self,
        start: Start,
        round: &Round,
        random: &SimRandom,
    ) -> Result<Option<Start>, String> {
        let mut run = Run::new(&start, self.fork(), &self.nonces, self.planted);
        run.record();
        let fault = match round.trouble {
            Trouble::Fault {
                on,
                nth,
                failure,
                times,
            } => {
                run.faults(on).fail_nth(nth, failure, times);
                Some(on)
            }
            Trouble::LyingFlush => {
                run.machine.drop_syncs(Lie::Always);
                None
            }
            Trouble::None => None,
        };
        let mut models = vec![start.model.clone()];
        for &(step, op) in &round.ops {
            let seed = self.fork();
            self.tally.ops += 1;
            let done = run.op(op, step, seed);
            models.push(run.model());
            match done {
                Ok(()) => {}
                Err(error) if fault.is_some_and(|on| run.faults(on).failed() > 0) => {
                    expected(&error, round).map_err(|why| format!("{op:?} {step}: {why}"))?;
                }
                Err(error) => return Err(format!("{op:?} {step}: {error}")),
            }
            if !run.is_open() {
                break;
            }
            let is_read = self.effort != Effort::Least || random.below(4) == 0;
            if round.trouble == Trouble::None && is_read {
                let (found, expected) = (run.process().read()?, run.model());
                if found != expected {
                    return Err(format!(
                        "{op:?} {step}: it holds {found:?} instead of {expected:?}"
                    ));
                }
            }
        }
        if fault.is_some_and(|on| run.faults(on).failed() > 0) {
            self.tally.faults += 1;
        }
        let captures = run.end()?;
        if round.trouble == Trouble::LyingFlush {
            self.after_lies(&captures, &models, random)?;
            return Ok(None);
        }
        self.crashes(&captures, random)?;
        self.go_on(start, &captures, random)
    }

    /// Checks crashes of some captures, the last one always.
    fn crashes(&mut self, captures: &[Capture], random: &SimRandom) -> Result<(), String> {
        for number in self.moments(captures, random) {
            let capture = &captures[number];
            for crash in self.ways(capture, random) {
                let machine = crashed(&capture.machine, crash.as_ref());
                self.recover(&machine, capture, 0, random).map_err(|why| {
                    format!("moment {number} of {}, {crash:?}: {why}", captures.len())
                })?;
            }
        }
        Ok(())
    }

    /// Lets a machine recover, judges that, and crashes it on the way.
    fn recover(
        &mut self,
        machine: &SimMachine,
        capture: &Capture,
        depth: u32,
        random: &SimRandom,
    ) -> Result<(), String> {
        self.tally.note(machine);
        if let Some(count) = depth
            .checked_sub(1)
            .and_then(|it| self.tally.recoveries.get_mut(it as usize))
        {
            *count += 1;
        }
        let seed = self.fork();
        let nonces = self.nonces.clone();
        let barriers = timed("the check after a crash", || {
            check(machine, &case_of(capture, &nonces, seed))
        })?;
        if depth >= DEPTH_MAX || barriers.is_empty() || random.below(4) != 0 {
            return Ok(());
        }
        let barrier = &barriers[random.below(barriers.len())];
        let crash = match random.below(4) {
            0 => None,
            1 => Some(Crash::NONE_KEPT),
            2 => Some(barrier.sampled_crash_apart(mix(seed, 9))),
            _ => Some(barrier.sampled_crash(mix(seed, 9))),
        };
        let machine = crashed(barrier, crash.as_ref());
        self.recover(&machine, capture, depth + 1, random)
            .map_err(|why| format!("recovery crashed ({crash:?}): {why}"))
    }

    /// After lies a store may be at any earlier state, or refuse; it never shows what it did not hold, and the check
    /// is content with nothing that a read fails on.
    fn after_lies(
        &mut self,
        captures: &[Capture],
        models: &[Model],
        random: &SimRandom,
    ) -> Result<(), String> {
        for number in self.moments(captures, random) {
            let capture = &captures[number];
            let mut allowed: Vec<&Model> = models.iter().collect();
            allowed.extend(capture.possible.iter());
            for crash in self.ways(capture, random) {
                let machine = crashed(&capture.machine, crash.as_ref());
                self.tally.note(&machine);
                self.tally.lies += 1;
                let seed = self.fork();
                consistent(&machine, &allowed, seed)
                    .map_err(|why| format!("after lies, moment {number}, {crash:?}: {why}"))?;
            }
        }
        Ok(())
    }

    fn moments(&self, captures: &[Capture], random: &SimRandom) -> BTreeSet<usize> {
        let last = captures.len().saturating_sub(1);
        match self.effort {
            Effort::Least => (random.below(4) == 0).then_some(last).into_iter().collect(),
            Effort::All => (0..captures.len()).collect(),
            Effort::Some => {
                let some = (0..3).map(|_| random.below(captures.len().max(1)));
                some.chain([last]).collect()
            }
        }
    }

    /// Ways to crash: a kill, a loss of all that is pending, others by chance.
    fn ways(&mut self, capture: &Capture, random: &SimRandom) -> Vec<Option<Crash>> {
        let sampled = || Some(capture.machine.sampled_crash(random.below(1 << 30) as u64));
        let more = match self.effort {
            Effort::Least => return vec![sampled()],
            Effort::Some => 2,
            Effort::All => 4,
        };
        let mut ways = vec![None, Some(Crash::NONE_KEPT)];
        ways.extend((0..more).map(|_| sampled()));
        let seed = random.below(1 << 30) as u64;
        ways.push(Some(capture.machine.sampled_crash_apart(seed)));
        ways
    }

    /// One of the crashes, as a start for the next round.
    fn go_on(
        &mut self,
        start: Start,
        captures: &[Capture],
        random: &SimRandom,
    ) -> Result<Option<Start>, String> {
        let Some(capture) = captures.get(random.below(captures.len().max(1))) else {
            return Ok(None);
        };
        let crash = match random.below(4) {
            0 => None,
            1 => Some(Crash::NONE_KEPT),
            _ => Some(capture.machine.sampled_crash(random.below(1 << 30) as u64)),
        };
        let machine = crashed(&capture.machine, crash.as_ref());
        // The crash may have come between switching a key off and on again.
        let enabled = Host::new(&machine, self.fork()).enable_keys();
        enabled.map_err(|error| format!("the key cannot be enabled: {error}"))?;
        let recovered = machine.kill();
        let opened = Host::new(&recovered, self.fork()).open();
        let process = opened.map_err(|error| format!("going on after {crash:?}: {error}"))?;
        let mut model = process.read()?;
        if !capture.possible.contains(&model) {
            return Err(format!(
                "going on after {crash:?} it holds {model:?}, but may hold only {:?}",
                capture.possible
            ));
        }
        let unfinished = unfinished(&capture.possible, &model);
        for (kind, name) in &unfinished {
            let (kind, name) = (*kind, name.clone());
            let erase = Action::Erase { kind, name };
            let erased = process.act(&erase);
            erased.map_err(|error| format!("going on with {erase:?}: {error}"))?;
            model = model.after(&erase);
        }
        drop(process);
        let acknowledged = slots_of(&batches(&recovered)).collect();
        let is_same = unfinished.is_empty();
        Ok(Some(Start {
            machine: if is_same { machine } else { recovered.kill() },
            model,
            acknowledged,
            ..start
        }))
    }
}

/// What may have lost its key in an erasure that did not end: it may not show that, since it holds only zeroes; and where
/// it cannot be read, a sync that failed may have left the key on the medium. Nothing else can be done with such a head
/// than to erase it again.
fn unfinished(possible: &[Model], found: &Model) -> Vec<(Kind, String)> {
    let heads = found.heads.iter();
    let is_empty = |contents: &[u32]| contents.iter().all(|&number| number == 0);
    let is_unsure = |head: &(Kind, String)| possible.iter().any(|model| !model.is_dark(head));
    let unfinished = heads.filter(|(head, contents)| {
        let may_be_dark = possible.iter().any(|model| model.is_dark(head));
        may_be_dark && (is_empty(contents) || found.is_dark(head) && is_unsure(head))
    });
    unfinished.map(|(head, _)| head.clone()).collect()
}

/// Whether an error is one that a failing disk may lead to: one that says what happened and blames no bytes. A key that
/// was being switched off and on may be left off, one that was being destroyed is gone.
fn expected(error: &Error, round: &Round) -> Result<(), String> {
    let takes_keys = |(_, op): &(u32, Op)| matches!(op, Op::OffAndOn | Op::Erase);
    let of_key = matches!(
        error,
        Error::KeyUnavailable { .. } | Error::InvalidState { .. }
    );
    if of_key && round.ops.iter().any(takes_keys) {
        return Ok(());
    }
    let is_erase = |(_, op): &(u32, Op)| *op == Op::Erase;
    if matches!(error, Error::EraseUnfinished { .. }) && round.ops.iter().any(is_erase) {
        return Ok(());
    }
    let is_expected =
        happened_not(error) || matches!(error, Error::Io { .. } | Error::NotAStore { .. });
    match is_expected {
        true => Ok(()),
        false => Err(format!("an unexpected error: {error:?}")),
    }
}

fn consistent(machine: &SimMachine, allowed: &[&Model], seed: u64) -> Result<(), String> {
    let report = timed("the check", || fsck(machine, seed))?;
    let host = Host::new(machine, seed + 1);
    // Where the key service has lost what it said was durable, nothing can be opened.
    if host.enable_keys().is_err() {
        return Ok(());
    }
    let shown = timed("reading", || Ok(show(machine, seed + 2)))?;
    let is_clean = report.is_some_and(|report| report.is_clean());
    match shown {
        Shown::Refused(why) if is_clean => {
            Err(format!("the check is content, but it does not open: {why}"))
        }
        Shown::Refused(_) => Ok(()),
        Shown::Pages(pages) => {
            let is_whole = pages.values().flatten().all(Option::is_some);
            if is_clean && !is_whole {
                return Err("the check is content, but pages cannot be read".to_owned());
            }
            match allowed.iter().any(|model| fits(&pages, model)) {
                true => Ok(()),
                false => Err(format!("it shows what it never held: {pages:?}")),
            }
        }
    }
}

/// The check, of keys too: what was erased cannot be read. `None` where it cannot begin.
fn fsck(machine: &SimMachine, seed: u64) -> Result<Option<Report>, String> {
    Ok(oracle::report(machine, seed, CheckOptions::open_pages).ok())
}

/// Makes the history shorter as long as it fails.
fn shrink(found: &mut Found, planted: Planted, effort: Effort) {
    let began = processor_time();
    'again: loop {
        for smaller in found.shortest.smaller() {
            if processor_time() - began > SHRINK_FOR {
                return;
            }
            if let Err(why) = play(&smaller, planted, effort, &mut Tally::default()) {
                (found.shortest, found.shortest_why) = (smaller, why);
                continue 'again;
            }
        }
        return;
    }
}

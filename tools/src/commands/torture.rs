//! `torture`: the store on a machine that crashes, in memory.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use clap::ValueEnum;
use offshoot_torture::run::Planted;
use offshoot_torture::torture::{Found, Histories, Plan, Tally, torture};
use serde_json::{Value, json};

use crate::cli;
use crate::context::Context;
use crate::exit::{Failure, Result};
use crate::interrupt::Interrupt;

/// Histories that are played if nothing else is said.
const CASES: u64 = 200;
/// The least time between two lines of progress.
const INTERVAL: Duration = Duration::from_secs(2);

/// Torture this program's store: random histories on a simulated machine that crashes everywhere
///
/// Each case is a history of writes, flushes, snapshots, clones, deletes, erasures, key rotations, checkpoints,
/// compaction and reopening, on a store and a KMS in memory; no file is touched. Before syncs and at the end of each
/// round the machine is killed or loses its power, keeping any part of what was not synced, torn sectors
/// included; recoveries crash too, up to three times in a row; calls to the disk fail once or for good; flushes lie.
/// After every crash a plain model says what must be there: all that was flushed, no part of a call, nothing
/// else; fsck must be content, and so must further writes. After lies only consistency is asked for.
///
/// Equal seeds give equal histories. A case that fails ends the run with exit 18, is made as short as it can be, and the
/// one command that plays it again is printed.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  offshoot torture --seed 7 --cases 500\n  offshoot torture --minutes 30 --json"
)]
pub struct Args {
    /// Seed of the first case; each further one has the next number [default: from the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Cases [default: 200, or as many as --minutes gives]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    cases: Option<u64>,
    /// End after so many minutes
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    minutes: Option<u64>,
    /// Cases at a time [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Long histories: over 200 operations in 20 rounds, of which fewer crashes are looked at
    #[arg(long)]
    long: bool,
    /// Break something on purpose, to see that it is noticed
    #[arg(long, value_name = "WHAT")]
    plant: Option<Plant>,
    /// Do not make a case that fails shorter
    #[arg(long)]
    no_shrink: bool,
}

/// What can be broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Plant {
    /// Writes count as durable when they return.
    EarlyAcknowledgement,
    /// No sync does anything.
    NoSync,
}

impl Plant {
    fn planted(self) -> Planted {
        match self {
            Self::EarlyAcknowledgement => Planted::EarlyAcknowledgement,
            Self::NoSync => Planted::DroppedSyncs(offshoot::io::sim::Lie::Always),
        }
    }
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result {
    let interrupt = Interrupt::new();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let plan = Plan {
        seed: args.seed.unwrap_or_else(from_clock),
        cases: args.cases.or(args.minutes.is_none().then_some(CASES)),
        threads: args.threads.map_or(processors, usize::from),
        planted: args.plant.map_or(Planted::Nothing, Plant::planted),
        histories: if args.long {
            Histories::Long
        } else {
            Histories::Short
        },
        shrink: !args.no_shrink,
    };
    let began = Instant::now();
    let end = args
        .minutes
        .map(|minutes| Duration::from_secs(minutes * 60));
    let shows = Shows::of(context);
    let last = Mutex::new(began);
    // What panics is told of with its case.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let (tally, found) = torture(&plan, &|tally| {
        if let Ok(mut last) = last.lock()
            && last.elapsed() >= INTERVAL
        {
            *last = Instant::now();
            shows.progress(&plan, tally);
        }
        interrupt.check().is_ok() && end.is_none_or(|end| began.elapsed() < end)
    });
    std::panic::set_hook(hook);
    let report = Report {
        plan: &plan,
        tally: &tally,
        found: found.as_ref(),
        took: began.elapsed(),
    };
    context
        .output
        .document(&report.document(), &report.text())?;
    interrupt.check()?;
    match found {
        None => Ok(()),
        Some(found) => Err(Failure::Broken(format!(
            "case {} failed: {}",
            found.seed, found.why
        ))),
    }
}

fn from_clock() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_secs()
}

/// How progress is shown.
enum Shows {
    Nothing,
    Lines,
    Json,
}

impl Shows {
    fn of(context: &Context) -> Self {
        match context.progress_form() {
            cli::Progress::Json => Self::Json,
            cli::Progress::Auto if io::stderr().is_terminal() => Self::Lines,
            cli::Progress::Auto | cli::Progress::Never => Self::Nothing,
        }
    }

    fn progress(&self, plan: &Plan, tally: &Tally) {
        let line = match self {
            Self::Nothing => return,
            Self::Lines => format!(
                "{} cases from seed {}, {} states, {} distinct",
                tally.cases,
                plan.seed,
                tally.states,
                tally.distinct.len()
            ),
            Self::Json => json!({ "schema": "progress/1", "progress": {
                "operation": "torture",
                "state": "running",
                "cases": tally.cases,
                "total_cases": plan.cases,
                "distinct_states": tally.distinct.len(),
            }})
            .to_string(),
        };
        // Progress that nobody reads must not stop the work.
        let _ = io::Write::write_all(&mut io::stderr(), format!("{line}\n").as_bytes());
    }
}

/// What is told at the end.
struct Report<'a> {
    plan: &'a Plan,
    tally: &'a Tally,
    found: Option<&'a Found>,
    took: Duration,
}

impl Report<'_> {
    fn replay(&self, found: &Found) -> String {
        let plant = match self.plan.planted {
            Planted::Nothing => "",
            Planted::EarlyAcknowledgement => " --plant early-acknowledgement",
            Planted::DroppedSyncs(_) => " --plant no-sync",
        };
        let long = match self.plan.histories {
            Histories::Short => "",
            Histories::Long => " --long",
        };
        let seed = found.seed;
        format!("offshoot torture --seed {seed} --cases 1{long}{plant}")
    }

    fn document(&self) -> Value {
        let tally = self.tally;
        let failure = self.found.map(|found| {
            json!({
                "seed": found.seed,
                "why": found.why,
                "replay": self.replay(found),
                "shortest": found.shortest.to_string().lines().collect::<Vec<_>>(),
                "shortest_why": found.shortest_why,
            })
        });
        json!({ "schema": "torture/1", "torture": {
            "version": env!("CARGO_PKG_VERSION"),
            "seed": self.plan.seed,
            "long": self.plan.histories == Histories::Long,
            "cases": tally.cases,
            "operations": tally.ops,
            "states": tally.states,
            "distinct_states": tally.distinct.len(),
            "recoveries_crashed": tally.recoveries,
            "states_after_lies": tally.lies,
            "rounds_with_faults": tally.faults,
            "nonces": tally.nonces,
            "seconds": self.took.as_secs_f64(),
            "failure": failure,
        }})
    }

    fn text(&self) -> String {
        let (tally, mut text) = (self.tally, String::new());
        let [once, twice, thrice] = tally.recoveries;
        let mut line = |line: String| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{line}");
        };
        line(format!(
            "{} cases from seed {}, {} operations, {:.1} s",
            tally.cases,
            self.plan.seed,
            tally.ops,
            self.took.as_secs_f64()
        ));
        line(format!(
            "{} crash states, {} of them distinct; {once} where recovery crashed, {twice} twice, {thrice} three times in a row",
            tally.states,
            tally.distinct.len()
        ));
        line(format!(
            "{} after flushes that lied, {} rounds in which a call failed, {} nonces, none twice",
            tally.lies, tally.faults, tally.nonces
        ));
        match self.found {
            None => line("no failure".to_owned()),
            Some(found) => {
                line(format!("case {} failed: {}", found.seed, found.why));
                line(format!("play it again: {}", self.replay(found)));
                line(format!("the shortest that fails: {}", found.shortest_why));
                line(found.shortest.to_string());
            }
        }
        text
    }
}

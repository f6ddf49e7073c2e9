//! `volume rekey`.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use offshoot::{RekeyPlan, RekeyStart, Volume};
use serde::Serialize;

use crate::context::{Access, Context};
use crate::exit::Result;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::sizes;

/// Encrypt the pages of a volume again, under a new key
///
/// Every page is read, and written anew under a key epoch that begins now: that takes as much space as the
/// pages do, and what is shared with clones and snapshots becomes the volume's own. They keep the old
/// pages and can read them. If it is cut off, --resume goes on with what is left.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  offshoot volume rekey pg --dry-run
  offshoot volume rekey pg --rate 50M
  offshoot volume rekey pg --resume")]
pub struct Rekey {
    /// The volume
    name: String,
    /// Go on with a rekey that was cut off: only pages that are not under the newest key yet
    #[arg(long)]
    resume: bool,
    /// Most bytes a second
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate: Option<u64>,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// What was, or would be, sealed again.
#[derive(Serialize)]
struct Rekeyed {
    name: String,
    rekeyed_bytes: u64,
    shared_bytes: u64,
    current_bytes: u64,
    dry_run: bool,
}

fn rate(text: &str) -> Result<u64, String> {
    match sizes::parse(text)? {
        0 => Err("at least 1 byte a second".to_owned()),
        rate => Ok(rate),
    }
}

/// Runs the command.
pub fn run(context: &Context, args: &Rekey) -> Result {
    let start = match args.resume {
        true => RekeyStart::Resume,
        false => RekeyStart::NewEpoch,
    };
    let access = match args.dry_run {
        true => Access::Read,
        false => Access::Own,
    };
    let (name, plan) = context.with_store(access, |session| {
        let volume = session.volume(&args.name)?;
        let plan = volume.plan_rekey(start)?;
        if !args.dry_run {
            let progress = context.progress("volume rekey", Some(plan.bytes));
            work(&volume, start, args.rate, progress)?;
        }
        Ok((volume.name()?, plan))
    })?;
    report(context, name, &plan, args.dry_run)
}

/// Seals pages again, a step at a time and no faster than `rate`.
fn work(volume: &Volume, start: RekeyStart, rate: Option<u64>, mut progress: Progress) -> Result {
    let (interrupt, began) = (Interrupt::new(), Instant::now());
    let mut done = 0;
    for step in volume.rekey(start)? {
        done += step?.bytes;
        progress.at(done);
        interrupt.check()?;
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(done as f64 / rate as f64);
            pause(due.saturating_sub(began.elapsed()), &interrupt)?;
        }
    }
    progress.finish();
    Ok(())
}

/// Waits, but not longer than a signal lets.
fn pause(mut left: Duration, interrupt: &Interrupt) -> Result {
    while !left.is_zero() {
        let part = left.min(Duration::from_millis(100));
        thread::sleep(part);
        interrupt.check()?;
        left -= part;
    }
    Ok(())
}

fn report(context: &Context, name: String, plan: &RekeyPlan, dry_run: bool) -> Result {
    let verb = if dry_run {
        "would encrypt"
    } else {
        "encrypted"
    };
    let (bytes, shared) = (sizes::human(plan.bytes), sizes::human(plan.shared_bytes));
    let current = sizes::human(plan.current_bytes);
    let sentence = format!(
        "{verb} {bytes} of volume {name} again, at most {shared} of them shared before; {current} \
         were current"
    );
    let rekeyed = Rekeyed {
        name,
        rekeyed_bytes: plan.bytes,
        shared_bytes: plan.shared_bytes,
        current_bytes: plan.current_bytes,
        dry_run,
    };
    context.output.done("rekey/1", &rekeyed, &sentence)
}

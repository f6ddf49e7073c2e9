//! `volume rekey`.

use clap::Args;
use offshoot::{RekeyPlan, RekeyStart, Volume};
use serde::Serialize;

use crate::context::{Access, Context};
use crate::exit::Result;
use crate::interrupt::Interrupt;
use crate::pace::Rate;
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
    #[command(flatten)]
    rate: Rate,
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
fn work(volume: &Volume, start: RekeyStart, rate: Rate, mut progress: Progress) -> Result {
    let (interrupt, pace) = (Interrupt::new(), rate.begin());
    let mut done = 0;
    for step in volume.rekey(start)? {
        done += step?.bytes;
        progress.at(done);
        pace.wait(done, &interrupt)?;
    }
    progress.finish();
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

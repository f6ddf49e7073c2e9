//! `store reclaim` and `store compact`.

use clap::Args;
use offshoot::Reclaimed;
use serde::Serialize;

use crate::context::{Access, Context};
use crate::exit::Result;
use crate::interrupt::Interrupt;
use crate::pace::Rate;
use crate::sizes;

/// Give the space of deleted and overwritten pages back, up to the store's target; an interruption
/// loses nothing
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot store reclaim --rate 50M")]
pub struct Reclaim {
    #[command(flatten)]
    rate: Rate,
}

/// Give all space back that can be won, however much has to be copied for it
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot store compact --rate 50M")]
pub struct Compact {
    #[command(flatten)]
    rate: Rate,
}

#[derive(Serialize)]
struct Freed {
    freed_bytes: u64,
    recycled_bytes: u64,
    moved_bytes: u64,
    dropped_files: u64,
    punched_runs: u64,
}

/// Runs `store reclaim`.
pub fn reclaim(context: &Context, args: &Reclaim) -> Result {
    run(context, "store reclaim", args.rate, false)
}

/// Runs `store compact`.
pub fn compact(context: &Context, args: &Compact) -> Result {
    run(context, "store compact", args.rate, true)
}

fn run(context: &Context, operation: &'static str, rate: Rate, compact: bool) -> Result {
    let all = context.with_store(Access::Own, |session| {
        let (store, interrupt) = (&session.store, Interrupt::new());
        let (mut progress, pace) = (context.progress(operation, None), rate.begin());
        let step = |all: &Reclaimed| {
            progress.at(all.freed_bytes + all.recycled_bytes);
            // What is copied is read and written; files are removed in no time.
            pace.wait(all.moved_bytes, &interrupt).is_ok()
        };
        let all = match compact {
            true => store.compact(step)?,
            false => store.reclaim(step)?,
        };
        progress.finish();
        interrupt.check()?;
        Ok(all)
    })?;
    let sentence = format!(
        "gave {} back, keeps {} to be written again; copied {} for it, dropped {} files, punched {} holes",
        sizes::human(all.freed_bytes),
        sizes::human(all.recycled_bytes),
        sizes::human(all.moved_bytes),
        all.dropped_files,
        all.punched_runs,
    );
    let freed = Freed {
        freed_bytes: all.freed_bytes,
        recycled_bytes: all.recycled_bytes,
        moved_bytes: all.moved_bytes,
        dropped_files: all.dropped_files,
        punched_runs: all.punched_runs,
    };
    context.output.done("reclaim/1", &freed, &sentence)
}

//! `store stats`.

use std::time::Duration;

use clap::Args;
use offshoot::check::{CheckOptions, check_dir};
use offshoot::{Damage, Error, Location};

use crate::caller::Caller;
use crate::context::{Access, Context};
use crate::control::asker;
use crate::exit::{Failure, Result};
use crate::views::StatsView;

/// Show what the store takes and what is in it; nothing is written
///
/// Allocated bytes are page bytes (what volumes, snapshots and pins map), table bytes (their page
/// tables), bytes held by the log, bytes that wait for checkpoints, reclaimable and spare bytes. Of pages and
/// tables, snapshot-only bytes are held by nothing but snapshots, pin-only bytes by nothing but pins
/// (`store pin list` says which); deleted bytes go with deleted volumes and snapshots, deleted_count of them,
/// that wait to be removed. Scrub finding count is what `store scrub` knows to be damaged. Log bytes are those since the last checkpoint: what an open after a
/// crash reads. Used bytes are what was written and not reclaimed.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  offshoot store stats --live\n  offshoot store stats -w 5 --json"
)]
pub struct Stats {
    /// Also count live bytes, by a walk of all page tables
    #[arg(long)]
    pub live: bool,
    /// Go on, every so many seconds; with --json a line each time
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    watch: Option<u32>,
    /// With --watch, end after so many times
    #[arg(long, value_name = "N", requires = "watch")]
    count: Option<u64>,
}

/// Why the process that has the store does not count live bytes for others.
pub const LIVE_NEEDS_REST: &str =
    "live bytes are counted from files at rest: leave out --live, or end it first";

/// Runs the command.
pub fn run(context: &Context, args: &Stats) -> Result {
    let printer = context.output.of::<StatsView>()?;
    let seconds = match (args.watch, &context.caller) {
        (Some(seconds), Caller::Here) => seconds,
        // Another process that watches comes again.
        _ => return printer.show(&look(context, args.live)?),
    };
    let needs_rest = args.live.then_some(LIVE_NEEDS_REST);
    let mut left = args.count;
    loop {
        match look(context, args.live) {
            Ok(view) => printer.show(&view)?,
            // Whoever has the store shows it. If that does not answer, it writes just now: there is
            // something to see the next time.
            Err(failure @ Failure::Library(Error::Locked { .. })) => {
                match asker::instead(context, needs_rest, failure) {
                    Ok(_) | Err(Failure::Library(Error::Locked { .. })) => {}
                    Err(failure) => return Err(failure),
                }
            }
            Err(error) => return Err(error),
        }
        left = left.map(|left| left.saturating_sub(1));
        if left == Some(0) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(seconds.into()));
    }
}

/// The store as it is now. It is locked, shared, only meanwhile.
fn look(context: &Context, live: bool) -> Result<StatsView> {
    let view = context.with_store(Access::Look, |session| {
        Ok(StatsView::new(
            &session.store.info()?,
            &session.store.stats()?,
            &session.store.space()?,
            session.store.pins().len(),
        )
        .scrubbed(session.store.scrub_state().ok().as_ref()))
    })?;
    if !live {
        return Ok(view);
    }
    let report = check_dir(context.places.store(), &CheckOptions::new())?;
    if !report.stats.complete {
        return Err(Failure::Library(Error::Corrupt {
            location: Location::Directory(context.places.store().display().to_string()),
            damage: Damage::Inconsistent("its tables cannot be read"),
        }));
    }
    Ok(view.walked(&report.stats))
}

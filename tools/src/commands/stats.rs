//! `store stats`.

use std::time::Duration;

use clap::Args;
use offshoot::check::{CheckOptions, check_dir};
use offshoot::{Damage, Error, Location};

use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::views::StatsView;

/// Show what the store takes and what is in it; nothing is written
///
/// Allocated bytes are page bytes (what volumes, snapshots and pins map), table bytes (their page
/// tables), bytes held by the log, bytes that wait for checkpoints, reclaimable and spare bytes. Of pages and
/// tables, snapshot-only bytes are held by nothing but snapshots, pin-only bytes by nothing but pins
/// (`store pin list` says which); deleted bytes go with deleted volumes and snapshots, deleted_count of them,
/// that wait to be removed. Log bytes are those since the last checkpoint: what an open after a
/// crash reads. Used bytes are what was written and not reclaimed.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  offshoot store stats --live\n  offshoot store stats -w 5 --json"
)]
pub struct Stats {
    /// Also count live bytes, by a walk of all page tables
    #[arg(long)]
    live: bool,
    /// Go on, every so many seconds; with --json a line each time
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    watch: Option<u32>,
    /// With --watch, end after so many times
    #[arg(long, value_name = "N", requires = "watch")]
    count: Option<u64>,
}

/// Runs the command.
pub fn run(context: &Context, args: &Stats) -> Result {
    let printer = context.output.of::<StatsView>()?;
    let Some(seconds) = args.watch else {
        return printer.show(&look(context, args.live)?);
    };
    let mut left = args.count;
    loop {
        match look(context, args.live) {
            Ok(view) => printer.show(&view)?,
            // Somebody writes just now: there is something to see the next time.
            Err(Failure::Library(Error::Locked { .. })) => {}
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
        ))
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

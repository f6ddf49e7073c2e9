//! `volume discard`.

use std::ops::Range;

use clap::Args;
use offshoot::{ExtentKind, Volume};
use serde::Serialize;

use crate::context::{self, Access, Context};
use crate::exit::{Failure, Result};
use crate::sizes;

/// Drop a range of a volume: it reads as zeroes then
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume discard pg --offset 1G --length 512M -n")]
pub struct Discard {
    /// The volume
    name: String,
    /// Where to begin
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = sizes::parse)]
    offset: u64,
    /// How much to drop
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse, required_unless_present = "all")]
    length: Option<u64>,
    /// Drop all to the end
    #[arg(long, conflicts_with = "length")]
    all: bool,
    /// Only say what would be dropped
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Discarded {
    name: String,
    offset_bytes: u64,
    length_bytes: u64,
    data_bytes: u64,
    dry_run: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &Discard) -> Result {
    let discarded = context.with_store(Access::Own, |session| {
        let volume = session.volume(&args.name)?;
        let range = context::range(args.offset, args.length, volume.len()?)?;
        let data_bytes = data_in(&volume, range.clone())?;
        if !args.dry_run {
            volume.discard(range.clone())?;
            volume.flush()?;
        }
        Ok(Discarded {
            name: volume.name()?,
            offset_bytes: range.start,
            length_bytes: range.end - range.start,
            data_bytes,
            dry_run: args.dry_run,
        })
    })?;
    let verb = if args.dry_run {
        "would drop"
    } else {
        "dropped"
    };
    let (data, name) = (sizes::human(discarded.data_bytes), &discarded.name);
    let (start, end) = (args.offset, args.offset + discarded.length_bytes);
    let sentence = format!("{verb} {data} of data from bytes {start} to {end} of volume {name}");
    context.output.done("discarded/1", &discarded, &sentence)
}

/// How many bytes of data a range of a volume holds.
pub fn data_in(volume: &Volume, range: Range<u64>) -> Result<u64> {
    let mut data = 0;
    for extent in volume.extents(range.clone())? {
        let extent = extent.map_err(Failure::from)?;
        if extent.kind == ExtentKind::Data {
            let end = (extent.offset + extent.len).min(range.end);
            data += end.saturating_sub(extent.offset.max(range.start));
        }
    }
    Ok(data)
}

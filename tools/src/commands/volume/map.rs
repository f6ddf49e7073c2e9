//! `volume map`.

use clap::Args;

use crate::context::{self, Access, Context};
use crate::exit::{Failure, Result};
use crate::session::Readable;
use crate::sizes;
use crate::views::ExtentView;

/// Show which ranges of a volume or snapshot hold data, zeroes or nothing
///
/// Depth says who shares a range: 0 for nothing, 1 for what is the head's own since its last
/// branch, more for what it has from further up.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume map pg --offset 0 --length 1G")]
pub struct Map {
    /// The volume (NAME) or snapshot (NAME@SNAPSHOT, @SNAPSHOT)
    #[arg(value_name = "REF")]
    head: String,
    /// Where to begin
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = sizes::parse)]
    offset: u64,
    /// How far to look [default: to the end]
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    length: Option<u64>,
}

/// Runs the command. Extents are printed as they are found: there may be millions.
pub fn run(context: &Context, args: &Map) -> Result {
    let printer = context.output.of::<ExtentView>()?;
    context.with_store(Access::Read, |session| {
        let head = session.head(&args.head)?;
        let range = context::range(args.offset, args.length, head.len()?)?;
        let extents = head.extents(range)?;
        printer.list(extents.map(|extent| extent.map(ExtentView::from).map_err(Failure::from)))
    })
}

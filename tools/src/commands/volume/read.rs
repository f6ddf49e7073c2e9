//! `volume read`.

use clap::Args;

use crate::context::{self, Access, Context};
use crate::exit::Result;
use crate::session::Readable;
use crate::sizes;
use crate::transfer;

/// Write the bytes of a volume or snapshot to standard output, holes as zeroes
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume read pg@monday --offset 1M --length 4K | xxd")]
pub struct Read {
    /// The volume (NAME) or snapshot (NAME@SNAPSHOT, @SNAPSHOT)
    #[arg(value_name = "REF")]
    head: String,
    /// Where to begin
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = sizes::parse)]
    offset: u64,
    /// How much to read [default: to the end]
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    length: Option<u64>,
}

/// Runs the command.
pub fn run(context: &Context, args: &Read) -> Result {
    context.output.refuse_json("volume read")?;
    context.with_store(Access::Read, |session| {
        let head = session.head(&args.head)?;
        let range = context::range(args.offset, args.length, head.len()?)?;
        let progress = context.progress("volume read", Some(range.end - range.start));
        transfer::print(&head, range, progress)
    })
}

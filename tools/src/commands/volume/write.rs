//! `volume write`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::context::{self, Access, Context};
use crate::exit::Result;
use crate::sizes;
use crate::source::Source;
use crate::transfer::{Writer, Zeroes};

/// Write a file or standard input into a volume; durable when the command ends
///
/// What does not fit is refused before the first byte is written; of a pipe, what fits is
/// written first.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  echo hello | offshoot volume write pg --offset 4K")]
pub struct Write {
    /// The volume
    name: String,
    /// The file; none or - is standard input
    file: Option<PathBuf>,
    /// Where to begin
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = sizes::parse)]
    offset: u64,
}

#[derive(Serialize)]
struct Written {
    name: String,
    offset_bytes: u64,
    length_bytes: u64,
}

/// Runs the command.
pub fn run(context: &Context, args: &Write) -> Result {
    let source = Source::open(args.file.as_deref())?;
    let written = context.with_store(Access::Own, |session| {
        let volume = session.volume(&args.name)?;
        context::check_range(args.offset, source.len().unwrap_or(0), volume.len()?)?;
        let progress = context.progress("volume write", source.len());
        let block = session.store.info()?.page_len;
        let writer = Writer::new(&volume, args.offset, Zeroes::Write, block, progress);
        let outcome = writer.write(&source);
        // What was written counts, also if the rest did not fit.
        volume.flush()?;
        let length_bytes = outcome?;
        Ok(Written {
            name: volume.name()?,
            offset_bytes: args.offset,
            length_bytes,
        })
    })?;
    let Written {
        name,
        offset_bytes,
        length_bytes,
    } = &written;
    let sentence = format!("{length_bytes} bytes written to volume {name} at {offset_bytes}");
    context.output.done("written/1", &written, &sentence)
}

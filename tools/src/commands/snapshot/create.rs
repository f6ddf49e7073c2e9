//! `snapshot create`.

use clap::Args;

use crate::commands::snapshot::view;
use crate::context::{Access, Context};
use crate::exit::Result;
use crate::views::SnapshotView;

/// Keep the present state of a volume, in an instant
///
/// The names of snapshots are unique in the region, whatever volume they are of: pg@nightly and
/// db@nightly cannot both be. A snapshot outlives its volume.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot snapshot create pg pg-before-upgrade")]
pub struct Create {
    /// The volume (NAME) or snapshot (NAME@SNAPSHOT, @SNAPSHOT) to keep
    volume: String,
    /// The name of the snapshot [default: VOLUME-YYYYMMDD-HHMMSS, in UTC]
    name: Option<String>,
}

/// Runs the command.
pub fn run(context: &Context, args: &Create) -> Result {
    let printer = context.output.of::<SnapshotView>()?;
    let made = context.with_store(Access::Own, |session| {
        let source = session.head(&args.volume)?;
        let name = match &args.name {
            Some(name) => name.clone(),
            None => default_name(&source.name()?),
        };
        view(session, &source.create_snapshot(&name)?)
    })?;
    printer.show(&made)
}

fn default_name(volume: &str) -> String {
    format!(
        "{volume}-{}",
        jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S")
    )
}

//! `snapshot create`.

use clap::Args;

use crate::commands::snapshot::view;
use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::session::Head;
use crate::views::SnapshotView;

/// Keep the present state of a volume, in an instant
///
/// The names of snapshots are unique in the region, whatever volume they are of: pg@nightly and
/// db@nightly cannot both be. A snapshot outlives its volume. Of a snapshot this makes a copy.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot snapshot create pg pg-before-upgrade")]
pub struct Create {
    /// The volume (NAME) or snapshot (NAME@SNAPSHOT, @SNAPSHOT) to keep
    volume: String,
    /// The name of the snapshot [default: VOLUME-YYYYMMDD-HHMMSS, in UTC]
    name: Option<String>,
    /// Mark it as taken by a schedule: its type is `automated` and not `manual`
    #[arg(long)]
    automated: bool,
}

const COPY_IS_MANUAL: &str = "the copy of a snapshot is always a manual one; leave out --automated";

/// Runs the command.
pub fn run(context: &Context, args: &Create) -> Result {
    let printer = context.output.of::<SnapshotView>()?;
    let made = context.with_store(Access::Own, |session| {
        let source = session.head(&args.volume)?;
        let name = match &args.name {
            Some(name) => name.clone(),
            None => default_name(&source.name()?),
        };
        let made = match (source, args.automated) {
            (Head::Volume(volume), true) => volume.create_automated_snapshot(&name)?,
            (Head::Snapshot(_), true) => return Err(Failure::Invalid(COPY_IS_MANUAL.into())),
            (source, false) => source.create_snapshot(&name)?,
        };
        view(session, &made)
    })?;
    printer.show(&made)
}

fn default_name(volume: &str) -> String {
    format!(
        "{volume}-{}",
        jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S")
    )
}

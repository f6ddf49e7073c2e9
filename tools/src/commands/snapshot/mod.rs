//! `snapshot ...`.

mod create;

use clap::{Args, Subcommand};

use crate::commands::volume::delete;
use crate::confirm::Confirm;
use crate::context::{Access, Context};
use crate::exit::Result;
use crate::views::{Heads, SnapshotView};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(create::Create),
    List(List),
    Show(Show),
    Delete(Delete),
}

/// List the snapshots
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot snapshot list pg")]
pub struct List {
    /// Only snapshots of this volume
    volume: Option<String>,
}

/// Show a snapshot
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot snapshot show monday --json")]
pub struct Show {
    /// The snapshot: SNAP, @SNAP or VOLUME@SNAP
    #[arg(value_name = "SNAP")]
    snapshot: String,
}

/// Delete a snapshot; its volume and its clones stay
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot snapshot delete pg@monday --yes")]
pub struct Delete {
    /// The snapshot: SNAP, @SNAP or VOLUME@SNAP
    #[arg(value_name = "SNAP")]
    snapshot: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result {
    match command {
        Command::Create(args) => create::run(context, &args),
        Command::List(args) => list(context, &args),
        Command::Show(args) => show(context, &args),
        Command::Delete(args) => delete::run(context, &args.confirm, "snapshot", |session| {
            let snapshot = session.snapshot(&args.snapshot)?;
            Ok((snapshot.name(), snapshot.usage(), move || snapshot.delete()))
        }),
    }
}

fn list(context: &Context, args: &List) -> Result {
    let printer = context.output.of::<SnapshotView>()?;
    let views = context.with_store(Access::Own, |session| {
        let volume = args
            .volume
            .as_deref()
            .map(|volume| session.volume(volume))
            .transpose()?;
        let volume = volume.map(|volume| volume.info().id);
        let heads = Heads::new(session)?;
        let snapshots = session.store.snapshots().into_iter();
        let wanted = snapshots.filter(|it| volume.is_none_or(|volume| it.volume_id == volume));
        wanted
            .map(|snapshot| heads.snapshot(snapshot))
            .collect::<Result<Vec<_>>>()
    })?;
    printer.list(views.into_iter().map(Ok))
}

fn show(context: &Context, args: &Show) -> Result {
    let printer = context.output.of::<SnapshotView>()?;
    let view = context.with_store(Access::Own, |session| {
        let info = session.snapshot(&args.snapshot)?.info();
        Heads::new(session)?.snapshot(info)
    })?;
    printer.show(&view)
}

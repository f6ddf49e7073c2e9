//! `snapshot ...`.

mod create;

use clap::{Args, Subcommand};

use crate::commands::volume::delete;
use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::session::{Head, Session};
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
    /// Only snapshots of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = ["manual", "automated"])]
    snapshot_type: Option<String>,
}

/// Show a snapshot
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot snapshot show monday --json")]
pub struct Show {
    /// The snapshot: SNAP, @SNAP or VOLUME@SNAP
    #[arg(value_name = "SNAP")]
    snapshot: String,
}

/// Delete snapshots; their volumes and their clones stay
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot snapshot delete pg@monday pg@tuesday --yes")]
pub struct Delete {
    /// The snapshots: SNAP, @SNAP or VOLUME@SNAP
    #[arg(required = true, value_name = "SNAP")]
    snapshots: Vec<String>,
    #[command(flatten)]
    how: delete::How,
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result {
    match command {
        Command::Create(args) => create::run(context, &args),
        Command::List(args) => list(context, &args),
        Command::Show(args) => show(context, &args),
        Command::Delete(args) => delete_snapshots(context, &args),
    }
}

fn delete_snapshots(context: &Context, args: &Delete) -> Result {
    let (how, snapshots) = (&args.how, &args.snapshots);
    delete::run(context, how, "snapshot", snapshots, |session, name| {
        session.snapshot(name).map(Head::Snapshot)
    })
}

fn list(context: &Context, args: &List) -> Result {
    let printer = context.output.of::<SnapshotView>()?;
    let (views, complete) = context.with_store(Access::Read, |session| {
        let volume = args.volume.as_deref().map(|volume| session.volume(volume));
        let volume = volume
            .transpose()?
            .map(|volume| volume.info())
            .transpose()?;
        let heads = Heads::new(session)?;
        let snapshots = session.store.snapshots().into_iter();
        let wanted = snapshots.filter(|snapshot| {
            let is_of_volume = volume.as_ref().is_none_or(|it| it.id == snapshot.volume_id);
            let wanted_type = args.snapshot_type.as_deref();
            is_of_volume && wanted_type.is_none_or(|it| it == snapshot.snapshot_type.as_str())
        });
        let views: Vec<_> = wanted
            .map(|snapshot| Ok(heads.snapshot(snapshot)))
            .collect();
        Ok((views, heads.complete()))
    })?;
    printer.list(views)?;
    complete.map_err(Failure::Partial)
}

fn show(context: &Context, args: &Show) -> Result {
    let printer = context.output.of::<SnapshotView>()?;
    let view = context.with_store(Access::Read, |session| {
        view(session, &session.snapshot(&args.snapshot)?)
    })?;
    printer.show(&view)
}

/// What is shown of a snapshot.
fn view(session: &Session, snapshot: &offshoot::Snapshot) -> Result<SnapshotView> {
    let heads = Heads::new(session)?;
    let view = heads.snapshot(snapshot.info()?);
    heads.complete()?;
    Ok(view)
}

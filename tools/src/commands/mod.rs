//! The commands, a file for each: parse, call the library, print.

mod clone;
mod demo;
mod erase;
mod export;
mod fsck;
mod import;
mod inspect;
mod key;
mod offline;
mod pin;
mod quota;
mod reclaim;
mod scrub;
mod serve;
mod snapshot;
mod stats;
mod store;
mod torture;
mod version;
mod volume;

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Result;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(demo::Args),
    /// Make a store, or see what it is
    #[command(subcommand)]
    Store(store::Command),
    /// Volumes: make, see, read, write, delete
    #[command(subcommand)]
    Volume(volume::Command),
    /// Clones: volumes that start as another volume or snapshot
    #[command(subcommand)]
    Clone(clone::Command),
    /// Snapshots: read-only states of volumes
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Bring data in
    #[command(subcommand)]
    Import(import::Command),
    /// Take data out
    #[command(subcommand)]
    Export(export::Command),
    /// KMS keys: make, see, switch off, rotate, rewrap, delete, name, audit
    #[command(subcommand)]
    Key(key::Command),
    /// Give other programs access to volumes and snapshots
    #[command(subcommand)]
    Serve(serve::Command),
    Fsck(fsck::Args),
    Inspect(inspect::Args),
    Torture(torture::Args),
    Version(version::Args),
}

impl Command {
    /// Why the process that has the store cannot do this for another one, if it cannot.
    pub fn needs_own_process(&self) -> Option<&'static str> {
        Some(match self {
            Self::Fsck(_) => "a store that changes cannot be checked: end it first",
            Self::Inspect(_) => "a store that changes cannot be inspected: end it first",
            Self::Serve(_) => {
                "serves what it was told to: end it first, or clone what you need there"
            }
            Self::Import(_) | Self::Volume(volume::Command::Write(_)) => {
                "it reads no files and no standard input of others: wait until it ends"
            }
            Self::Export(command) if command.writes_file() => {
                "it writes no files for others: export to - and redirect that"
            }
            Self::Store(command) if command.walks_files() => stats::LIVE_NEEDS_REST,
            Self::Store(store::Command::Init(_))
            | Self::Demo(_)
            | Self::Torture(_)
            | Self::Version(_) => "it makes nothing of this kind for others",
            Self::Key(command) if !command.needs_store() => "keys are of the KMS, not of it",
            Self::Store(_)
            | Self::Volume(_)
            | Self::Clone(_)
            | Self::Snapshot(_)
            | Self::Export(_)
            | Self::Key(_) => return None,
        })
    }
}

/// Runs a command and returns its exit code.
pub fn run(context: &Context, command: Command) -> Result<u8> {
    match command {
        Command::Demo(args) => demo::run(context, &args)?,
        Command::Store(command) => return store::run(context, command),
        Command::Volume(command) => volume::run(context, command)?,
        Command::Clone(command) => clone::run(context, command)?,
        Command::Snapshot(command) => snapshot::run(context, command)?,
        Command::Import(command) => import::run(context, command)?,
        Command::Export(command) => export::run(context, command)?,
        Command::Key(command) => key::run(context, command)?,
        Command::Serve(command) => return serve::run(context, command),
        Command::Fsck(args) => return fsck::run(context, &args),
        Command::Inspect(args) => inspect::run(context, &args)?,
        Command::Torture(args) => torture::run(context, &args)?,
        Command::Version(_) => version::run(context)?,
    }
    Ok(0)
}

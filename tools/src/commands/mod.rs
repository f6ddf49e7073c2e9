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
mod serve;
mod snapshot;
mod stats;
mod store;
mod version;
mod volume;

use clap::Subcommand;

use crate::cli::Cli;
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
    Version(version::Args),
}

/// Runs a command and returns its exit code.
pub fn run(cli: Cli) -> Result<u8> {
    let context = Context::new(&cli.global)?;
    match cli.command {
        Command::Demo(args) => demo::run(&context, &args)?,
        Command::Store(command) => store::run(&context, command)?,
        Command::Volume(command) => volume::run(&context, command)?,
        Command::Clone(command) => clone::run(&context, command)?,
        Command::Snapshot(command) => snapshot::run(&context, command)?,
        Command::Import(command) => import::run(&context, command)?,
        Command::Export(command) => export::run(&context, command)?,
        Command::Key(command) => key::run(&context, command)?,
        Command::Serve(command) => return serve::run(&context, command),
        Command::Fsck(args) => return fsck::run(&context, &args),
        Command::Inspect(args) => inspect::run(&context, &args)?,
        Command::Version(_) => version::run(&context)?,
    }
    Ok(0)
}

//! `volume ...`.

mod change;
mod create;
pub mod delete;
pub mod discard;
mod list;
mod map;
mod read;
mod rekey;
mod write;

use clap::Subcommand;
use offshoot::DeletionProtection;

use crate::context::Context;
use crate::exit::Result;
use crate::session::Session;
use crate::views::{Heads, VolumeView};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(create::Create),
    List(list::List),
    Show(list::Show),
    Read(read::Read),
    Write(write::Write),
    Map(map::Map),
    Discard(discard::Discard),
    Resize(change::Resize),
    Rename(change::Rename),
    Modify(change::Modify),
    Rekey(rekey::Rekey),
    Delete(delete::Delete),
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result {
    match command {
        Command::Create(args) => create::run(context, &args),
        Command::List(list::List {}) => list::list(context, |_| true),
        Command::Show(args) => list::show(context, &args),
        Command::Read(args) => read::run(context, &args),
        Command::Write(args) => write::run(context, &args),
        Command::Map(args) => map::run(context, &args),
        Command::Discard(args) => discard::run(context, &args),
        Command::Resize(args) => change::resize(context, &args),
        Command::Rename(args) => change::rename(context, &args),
        Command::Modify(args) => change::modify(context, &args),
        Command::Rekey(args) => rekey::run(context, &args),
        Command::Delete(args) => delete::volume(context, &args),
    }
}

/// Protects a volume that was just made, if that was asked for.
pub fn protect(volume: &offshoot::Volume, asked: bool) -> Result {
    match asked {
        true => Ok(volume.set_deletion_protection(DeletionProtection::On)?),
        false => Ok(()),
    }
}

/// What is shown of a volume.
pub fn view(session: &Session, volume: &offshoot::Volume) -> Result<VolumeView> {
    let heads = Heads::new(session)?;
    let view = heads.volume(volume.info()?);
    heads.complete()?;
    Ok(view)
}

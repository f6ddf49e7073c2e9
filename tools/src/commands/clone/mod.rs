//! `clone ...`.

mod create;
mod tree;

use clap::{Args, Subcommand};

use crate::commands::erase;
use crate::commands::volume::delete;
use crate::confirm::Confirm;
use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::session::{Head, Session};
use crate::views::{Heads, VolumeView};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(create::Create),
    List(List),
    Tree(tree::Tree),
    Delete(Delete),
}

/// List the volumes that are clones
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot clone list pg")]
pub struct List {
    /// Only clones of this volume or snapshot
    #[arg(value_name = "REF")]
    source: Option<String>,
}

/// Delete a clone; its source and its own clones and snapshots stay
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot clone delete pg-test --yes")]
pub struct Delete {
    /// The clone
    name: String,
    /// Destroy the keys too, so that what only it could read is never read again
    #[arg(long)]
    erase: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result {
    match command {
        Command::Create(args) => create::run(context, &args),
        Command::List(args) => list(context, &args),
        Command::Tree(args) => tree::run(context, &args),
        Command::Delete(args) => delete_clone(context, &args),
    }
}

fn list(context: &Context, args: &List) -> Result {
    let printer = context.output.of::<VolumeView>()?;
    let (views, complete) = context.with_store(Access::Read, |session| {
        let source = args.source.as_deref().map(|source| session.head(source));
        let source = source.transpose()?.map(|source| source.id()).transpose()?;
        let heads = Heads::new(session)?;
        let volumes = session.store.volumes().into_iter();
        let clones = volumes.filter(|volume| match source {
            Some(source) => volume.origin_id == Some(source),
            None => volume.origin_id.is_some(),
        });
        let views: Vec<_> = clones.map(|clone| Ok(heads.volume(clone))).collect();
        Ok((views, heads.complete()))
    })?;
    printer.list(views)?;
    complete.map_err(Failure::Partial)
}

fn delete_clone(context: &Context, args: &Delete) -> Result {
    let find = |session: &Session| {
        let volume = session.volume(&args.name)?;
        let name = volume.name()?;
        if volume.info()?.origin_id.is_none() {
            let text = format!("volume {name} is no clone: use `offshoot volume delete {name}`");
            return Err(Failure::Invalid(text));
        }
        delete::check_protection(&volume)?;
        Ok(volume)
    };
    if args.erase {
        let find = |session: &Session| find(session).map(Head::Volume);
        return erase::run(context, &args.confirm, "clone", find);
    }
    delete::run(context, &args.confirm, "clone", |session| {
        let volume = find(session)?;
        Ok((volume.name()?, volume.usage(), move || volume.delete()))
    })
}

//! `clone ...`.

mod create;
mod tree;

use clap::{Args, Subcommand};

use crate::commands::volume::delete;
use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::session::Head;
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

/// Delete clones; their sources and their own clones and snapshots stay
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot clone delete pg-test pg-try --yes")]
pub struct Delete {
    /// The clones
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    how: delete::How,
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result {
    match command {
        Command::Create(args) => create::run(context, &args),
        Command::List(args) => list(context, &args),
        Command::Tree(args) => tree::run(context, &args),
        Command::Delete(args) => delete_clones(context, &args),
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

fn delete_clones(context: &Context, args: &Delete) -> Result {
    delete::run(context, &args.how, "clone", &args.names, |session, name| {
        let volume = session.volume(name)?;
        let name = volume.name()?;
        if volume.info()?.origin_id.is_none() {
            let text = format!("volume {name} is no clone: use `offshoot volume delete {name}`");
            return Err(Failure::Invalid(text));
        }
        delete::check_protection(&volume)?;
        Ok(Head::Volume(volume))
    })
}

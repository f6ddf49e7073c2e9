//! `volume list`, `volume show`.

use clap::Args;
use offshoot::VolumeInfo;

use crate::commands::volume::view;
use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::views::{Heads, VolumeView};

/// List the volumes, clones among them
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume list --columns name,size_bytes,status")]
pub struct List {}

/// Show a volume
///
/// Referenced is what it holds, shared what others hold too, exclusive what its deletion frees:
/// a lower bound until exclusive_settled. Charged is what it pays for: its own pages and what those
/// made from it share with it; what a deleted source leaves is split evenly among those made from it.
/// Split is each page divided by the number of those that map it.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume show pg --json")]
pub struct Show {
    /// The volume
    name: String,
}

/// Lists the volumes that are wanted.
pub fn list(context: &Context, wanted: impl Fn(&VolumeInfo) -> bool) -> Result {
    let printer = context.output.of::<VolumeView>()?;
    let (views, complete) = context.with_store(Access::Read, |session| {
        let heads = Heads::new(session)?;
        let volumes = session.store.volumes().into_iter();
        let wanted = volumes.filter(|volume| wanted(volume));
        let views: Vec<_> = wanted.map(|volume| Ok(heads.volume(volume))).collect();
        Ok((views, heads.complete()))
    })?;
    printer.list(views)?;
    complete.map_err(Failure::Partial)
}

/// Shows one volume.
pub fn show(context: &Context, args: &Show) -> Result {
    let printer = context.output.of::<VolumeView>()?;
    let view = context.with_store(Access::Read, |session| {
        view(session, &session.volume(&args.name)?)
    })?;
    printer.show(&view)
}

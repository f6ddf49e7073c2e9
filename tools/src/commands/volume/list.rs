//! `volume list`, `volume show`.

use clap::Args;
use offshoot::VolumeInfo;

use crate::context::{Access, Context};
use crate::exit::Result;
use crate::views::{Heads, VolumeView};

/// List the volumes, clones among them
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume list --columns name,size_bytes,status")]
pub struct List {}

/// Show a volume
///
/// Referenced is what it holds, shared what others hold too, exclusive what its deletion frees:
/// a lower bound until exclusive_settled.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume show pg --json")]
pub struct Show {
    /// The volume
    name: String,
}

/// Lists the volumes that are wanted.
pub fn list(context: &Context, wanted: impl Fn(&VolumeInfo) -> bool) -> Result {
    let printer = context.output.of::<VolumeView>()?;
    let views = context.with_store(Access::Own, |session| {
        let heads = Heads::new(session)?;
        let volumes = session
            .store
            .volumes()
            .into_iter()
            .filter(|volume| wanted(volume));
        volumes
            .map(|volume| heads.volume(volume))
            .collect::<Result<Vec<_>>>()
    })?;
    printer.list(views.into_iter().map(Ok))
}

/// Shows one volume.
pub fn show(context: &Context, args: &Show) -> Result {
    let printer = context.output.of::<VolumeView>()?;
    let view = context.with_store(Access::Own, |session| {
        let info = session.volume(&args.name)?.info();
        Heads::new(session)?.volume(info)
    })?;
    printer.show(&view)
}

//! `volume create`.

use clap::Args;

use crate::commands::volume::{protect, view};
use crate::context::{Access, Context};
use crate::exit::Result;
use crate::sizes;
use crate::views::VolumeView;

/// Make an empty volume
///
/// Its size bounds addresses: space is taken as it is written. Names have letters, digits and
/// single inner hyphens, start with a letter, and do not tell upper from lower case.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume create pg --size 10G --kms-key alias/prod")]
pub struct Create {
    /// Its name
    name: String,
    /// Its size, rounded up to a page
    #[arg(long, value_parser = sizes::parse)]
    size: u64,
    /// The KMS key of its pages [default: alias/default]
    #[arg(long, value_name = "KEY")]
    kms_key: Option<String>,
    /// Refuse to delete it
    #[arg(long)]
    deletion_protection: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &Create) -> Result {
    let printer = context.output.of::<VolumeView>()?;
    let made = context.with_store(Access::Own, |session| {
        let key = session.key(args.kms_key.as_deref())?;
        let volume = session.store.create_volume(&args.name, args.size, &key)?;
        protect(&volume, args.deletion_protection)?;
        view(session, &volume)
    })?;
    printer.show(&made)
}

//! `clone create`.

use clap::Args;

use crate::commands::volume::{protect, view};
use crate::context::{Access, Context};
use crate::exit::Result;
use crate::views::VolumeView;

/// Make a volume that starts as another volume or snapshot, in an instant
///
/// Nothing is copied; what either side writes later, the other never sees. Restoring a snapshot
/// is cloning it.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot clone create pg@monday pg-test --kms-key alias/test")]
pub struct Create {
    /// The volume (NAME) or snapshot (NAME@SNAPSHOT, @SNAPSHOT) to start from
    source: String,
    /// The name of the clone
    name: String,
    /// The KMS key of what the clone writes [default: that of its source]
    #[arg(long, value_name = "KEY")]
    kms_key: Option<String>,
    /// Refuse to delete the clone; its source's protection is not taken over
    #[arg(long)]
    deletion_protection: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &Create) -> Result {
    let printer = context.output.of::<VolumeView>()?;
    let made = context.with_store(Access::Own, |session| {
        let source = session.head(&args.source)?;
        let key = match args.kms_key.as_deref() {
            Some(key) => session.key(Some(key))?,
            None => source.kms_key()?,
        };
        let clone = source.create_clone(&args.name, &key)?;
        protect(&clone, args.deletion_protection)?;
        view(session, &clone)
    })?;
    printer.show(&made)
}

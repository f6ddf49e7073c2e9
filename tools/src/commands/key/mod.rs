//! `key ...`: only the KMS is opened, but for `rewrap`.

mod alias;
mod audit;
mod deletion;
mod rewrap;

use clap::{Args, Subcommand};
use offshoot::{FileKms, KeyInfo};

use crate::context::Context;
use crate::exit::Result;
use crate::views::KeyView;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(Create),
    List(List),
    Show(Show),
    Enable(Enable),
    Disable(Disable),
    Rotate(Rotate),
    Rewrap(rewrap::Args),
    /// Names that stand for keys
    #[command(subcommand)]
    Alias(alias::Command),
    ScheduleDeletion(deletion::Schedule),
    CancelDeletion(deletion::Cancel),
    Audit(audit::Args),
}

impl Command {
    /// Whether the KMS alone does not do.
    pub fn needs_store(&self) -> bool {
        matches!(self, Self::Rewrap(_))
    }
}

/// Make a KMS key
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot key create --alias prod")]
pub struct Create {
    /// A name for it, with or without `alias/`
    #[arg(long)]
    alias: Option<String>,
}

/// List the KMS keys of the region
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot key list")]
pub struct List {}

/// Show a KMS key
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot key show alias/prod")]
pub struct Show {
    #[command(flatten)]
    key: Key,
}

/// Let a disabled key do its work again
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot key enable alias/prod")]
pub struct Enable {
    #[command(flatten)]
    key: Key,
}

/// Switch a key off: volumes and snapshots under it cannot be read until it is enabled
///
/// Everything else of the store goes on, clones under other keys among it. The key of the stores,
/// alias/offshoot-store, is never switched off.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot key disable alias/prod")]
pub struct Disable {
    #[command(flatten)]
    key: Key,
}

/// Add a version to a key: it wraps from now on, older ones only unwrap
///
/// What was wrapped before stays wrapped under the older versions: see `key rewrap`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot key rotate alias/prod")]
pub struct Rotate {
    #[command(flatten)]
    key: Key,
}

/// A key that a command is about.
#[derive(Args, Debug)]
pub struct Key {
    /// Its id (a UUID), its ARN, an alias (alias/NAME) or the alias's ARN
    key: String,
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result {
    match command {
        Command::Alias(command) => alias::run(context, command),
        Command::ScheduleDeletion(args) => deletion::schedule(context, &args),
        Command::Audit(args) => audit::run(context, &args),
        Command::Rewrap(args) => rewrap::run(context, &args),
        Command::List(List {}) => list(context),
        Command::Create(args) => show(context, |kms| kms.create_key(args.alias.as_deref())),
        Command::Show(args) => show(context, |kms| kms.key(&args.key.key)),
        Command::Enable(args) => show(context, |kms| kms.enable_key(&args.key.key)),
        Command::Disable(args) => show(context, |kms| kms.disable_key(&args.key.key)),
        Command::Rotate(args) => show(context, |kms| kms.rotate_key(&args.key.key)),
        Command::CancelDeletion(args) => {
            show(context, |kms| kms.cancel_key_deletion(&args.key.key))
        }
    }
}

fn list(context: &Context) -> Result {
    let printer = context.output.of::<KeyView>()?;
    let keys = context.kms()?.keys()?;
    printer.list(keys.into_iter().map(|key| Ok(key.into())))
}

/// Shows the key that `work` gives.
fn show(context: &Context, work: impl FnOnce(&FileKms) -> offshoot::Result<KeyInfo>) -> Result {
    let printer = context.output.of::<KeyView>()?;
    printer.show(&work(&context.kms()?)?.into())
}

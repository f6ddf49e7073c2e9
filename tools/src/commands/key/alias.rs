//! `key alias ...`.

use clap::{Args, Subcommand};

use crate::commands::key::Key;
use crate::context::Context;
use crate::exit::Result;
use crate::views::AliasView;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Set(Set),
    List(List),
    Delete(Delete),
}

/// Make an alias stand for a key, whatever it stood for before
///
/// What is under the key it stood for stays under that key. New volumes take alias/default.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  offshoot key alias set prod 0e7c1a52-3b0f-4a6e-9d2b-5f8a1c9e4b70"
)]
pub struct Set {
    #[command(flatten)]
    alias: Alias,
    #[command(flatten)]
    key: Key,
}

/// List the aliases of the region
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot key alias list")]
pub struct List {}

/// Take an alias away; its key stays
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot key alias delete alias/prod")]
pub struct Delete {
    #[command(flatten)]
    alias: Alias,
}

/// An alias that a command is about.
#[derive(Args, Debug)]
struct Alias {
    /// The alias: NAME, alias/NAME or its ARN
    alias: String,
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result {
    let printer = context.output.of::<AliasView>()?;
    let kms = context.kms()?;
    match command {
        Command::Set(args) => {
            let set = kms.set_alias(&args.alias.alias, &args.key.key)?;
            printer.show(&set.into())
        }
        Command::List(List {}) => {
            let aliases = kms.aliases()?.into_iter();
            printer.list(aliases.map(|alias| Ok(alias.into())))
        }
        Command::Delete(args) => printer.show(&kms.delete_alias(&args.alias.alias)?.into()),
    }
}

//! `key create`, `key list`, `key show`: only the KMS is opened.

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::exit::Result;
use crate::views::KeyView;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(Create),
    List(List),
    Show(Show),
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
    /// Its id (a UUID), its ARN, an alias (alias/NAME) or the alias's ARN
    key: String,
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result {
    let printer = context.output.of::<KeyView>()?;
    let kms = context.kms()?;
    match command {
        Command::Create(args) => printer.show(&kms.create_key(args.alias.as_deref())?.into()),
        Command::List(List {}) => printer.list(kms.keys()?.into_iter().map(|key| Ok(key.into()))),
        Command::Show(args) => printer.show(&kms.key(&args.key)?.into()),
    }
}

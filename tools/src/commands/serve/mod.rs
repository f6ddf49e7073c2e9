//! `serve ...`.

mod ephemeral;
mod nbd;
mod pid_file;
mod served;
mod sockets;

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Result;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Nbd(Box<nbd::Nbd>),
}

/// Runs a command and returns its exit code.
pub fn run(context: &Context, command: Command) -> Result<u8> {
    match command {
        Command::Nbd(args) => nbd::run(context, &args),
    }
}

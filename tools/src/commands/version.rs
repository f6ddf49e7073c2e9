//! `version`.

use serde::Serialize;

use crate::context::Context;
use crate::exit::Result;

/// Print the version of this program
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  offshoot version --json")]
pub struct Args {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

/// Runs the command.
pub fn run(context: &Context) -> Result {
    let version = env!("CARGO_PKG_VERSION");
    context.output.done(
        "version/1",
        &Version { version },
        &format!("offshoot {version}"),
    )
}

//! `version`.

use serde::Serialize;

use crate::context::Context;
use crate::exit::Result;

/// Print the version of this program, and the crate that seals pages in it
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  offshoot version --json")]
pub struct Args {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    page_cipher: &'static str,
}

/// Runs the command.
pub fn run(context: &Context) -> Result {
    let version = env!("CARGO_PKG_VERSION");
    context.output.done(
        "version/1",
        &Version {
            version,
            page_cipher: offshoot::PAGE_CIPHER,
        },
        &format!("offshoot {version} ({})", offshoot::PAGE_CIPHER),
    )
}

//! The demo: the main job on real input, in a directory of its own.

mod changes;
mod crash;
mod files;
mod image;
mod proof;
mod report;
mod steps;

use std::path::PathBuf;

use crate::context::Context;
use crate::exit::{Failure, Result};

/// Show the main job on real files of this machine, step by step
///
/// Makes an ext4 image full of real files, imports it, takes a snapshot, makes three clones (one
/// under a second KMS key), changes them, proves that none sees the others' changes, kills a
/// process in mid-write, reopens, and checks the store. Needs no root and no configuration; less
/// than a minute and 1.5 GiB of disk. Without mke2fs the image is made of the largest files found.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  offshoot demo\n  offshoot demo --dir /tmp/demo")]
pub struct Args {
    /// Where to work; kept afterwards. Without it a temporary directory, removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Be the process that is killed: write to the store in --dir until then.
    #[arg(long, hide = true, requires = "dir")]
    writer: bool,
}

/// Runs the demo.
pub fn run(context: &Context, args: &Args) -> Result {
    match &args.dir {
        Some(dir) if args.writer => crash::write_until_killed(dir),
        Some(dir) => {
            std::fs::create_dir_all(dir)
                .map_err(|error| Failure::io("make directory", dir.display(), error))?;
            let is_empty = std::fs::read_dir(dir)
                .map_err(|error| Failure::io("read directory", dir.display(), error))?
                .next()
                .is_none();
            if !is_empty {
                let text = format!(
                    "{} is not empty: the demo wants an empty directory",
                    dir.display()
                );
                return Err(Failure::AlreadyExists(text));
            }
            steps::run(context, dir)
        }
        None => {
            let dir = tempfile::Builder::new().prefix("offshoot-demo-").tempdir();
            let dir = dir.map_err(|error| Failure::io("make", "a temporary directory", error))?;
            steps::run(context, dir.path())
        }
    }
}

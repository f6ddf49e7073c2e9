//! The demo: the main job on real input, in a directory of its own.

mod changes;
mod crash;
mod files;
mod image;
mod postgres;
mod proof;
mod report;
mod sqlite;
mod steps;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use self::postgres::Programs;

use crate::context::Context;
use crate::exit::{Failure, Result};

/// Show the main job on real data, step by step
///
/// `postgres`: a running PostgreSQL cluster on a volume (ext4, loop, nbdfuse, NBD) is snapshotted and
/// cloned under load, each clone under a KMS key of its own; a server is started on each clone,
/// recovers, and must have all that was committed and pass pg_amcheck; all are written to at once; the
/// clones are deleted, their space comes back, the store is checked. Needs root, PostgreSQL 14 or
/// newer, nbdfuse (Debian: postgresql, libnbd-bin) and a loop device; a minute and 3 GiB of disk.
/// Mounts, devices and servers are taken down at the end, also after an error or Ctrl-C.
///
/// `raw`: an ext4 image full of real files is imported; a snapshot, three clones (one under a second
/// KMS key), changes, proof that none sees the others' changes; a process is killed in mid-write, the
/// store reopened and checked. Needs no root and no configuration; less than a minute and 1.5 GiB of
/// disk. Without mke2fs the image is made of the largest files found.
///
/// `sqlite`: an SQLite database in an ext4 image is imported and cloned, each clone under a KMS key of
/// its own; sqlite3 writes to each, and each must be whole and have its own rows only; then delete,
/// reclaim, fsck. Needs sqlite3, mke2fs, e2fsck, debugfs and no root; half a minute.
///
/// `auto` is the first of `postgres`, `sqlite` and `raw` that can be, and says what was missing.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  offshoot demo\n  offshoot demo postgres\n  offshoot demo raw --dir /tmp/demo"
)]
pub struct Args {
    /// What to show
    #[arg(value_enum, value_name = "WHAT", default_value = "auto")]
    what: What,
    /// Where to work; kept afterwards. Without it a temporary directory, removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Be the process that is killed: write to the store in --dir until then.
    #[arg(long, hide = true, requires = "dir")]
    writer: bool,
}

/// What there is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The best that can be shown here.
    Auto,
    /// PostgreSQL on a volume and on clones of it.
    Postgres,
    /// SQLite in an image, without root.
    Sqlite,
    /// An image of real files.
    Raw,
}

/// Runs the demo.
pub fn run(context: &Context, args: &Args) -> Result {
    match &args.dir {
        Some(dir) if args.writer => crash::write_until_killed(dir),
        Some(dir) => {
            make_empty(dir)?;
            show(context, args.what, dir)
        }
        None => {
            let dir = tempfile::Builder::new().prefix("offshoot-demo-").tempdir();
            let dir = dir.map_err(|error| Failure::io("make", "a temporary directory", error))?;
            show(context, args.what, dir.path())
        }
    }
}

fn make_empty(dir: &Path) -> Result {
    std::fs::create_dir_all(dir)
        .map_err(|error| Failure::io("make directory", dir.display(), error))?;
    let is_empty = std::fs::read_dir(dir)
        .map_err(|error| Failure::io("read directory", dir.display(), error))?
        .next()
        .is_none();
    match is_empty {
        true => Ok(()),
        false => Err(Failure::AlreadyExists(format!(
            "{} is not empty: the demo wants an empty directory",
            dir.display()
        ))),
    }
}

fn show(context: &Context, what: What, dir: &Path) -> Result {
    match what {
        What::Postgres => match Programs::find() {
            Ok(programs) => postgres::run(context, programs, dir),
            Err(missing) => Err(lacks("postgres", &missing)),
        },
        What::Sqlite => match sqlite::Programs::find() {
            Ok(programs) => sqlite::run(context, programs, dir, None),
            Err(missing) => Err(lacks("sqlite", &missing)),
        },
        What::Raw => steps::run(context, dir, None),
        What::Auto => show_best(context, dir),
    }
}

fn lacks(demo: &str, missing: &[String]) -> Failure {
    Failure::NotFound(format!(
        "`demo {demo}` needs {}; `demo raw` needs nothing",
        missing.join(", ")
    ))
}

fn show_best(context: &Context, dir: &Path) -> Result {
    let note = match Programs::find() {
        Ok(programs) => return postgres::run(context, programs, dir),
        Err(missing) => format!("skipped: `demo postgres` needs {}", missing.join(", ")),
    };
    match sqlite::Programs::find() {
        Ok(programs) => sqlite::run(context, programs, dir, Some(note)),
        Err(missing) => {
            let both = format!("{note}; `demo sqlite` needs {}", missing.join(", "));
            steps::run(context, dir, Some(both))
        }
    }
}

//! The programs of others that it takes, and running them.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use crate::commands::demo::image::{check, program};
use crate::exit::{Failure, Result};

/// Where Debian has PostgreSQL, a directory for each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The first version that has pg_amcheck.
const VERSION_MIN: u32 = 14;
/// Programs that make a volume a mounted file system.
const SYSTEM: [&str; 5] = ["nbdfuse", "losetup", "mkfs.ext4", "mount", "umount"];
/// Programs of PostgreSQL.
const POSTGRES: [&str; 6] = [
    "postgres",
    "initdb",
    "pg_ctl",
    "psql",
    "pgbench",
    "pg_amcheck",
];

/// PostgreSQL, and the user that it runs as: it refuses root.
pub struct Programs {
    bin: PathBuf,
    uid: u32,
    gid: u32,
}

impl Programs {
    /// All that is needed, or what is missing, in words.
    pub fn find() -> Result<Self, Vec<String>> {
        let mut missing = Vec::new();
        if !geteuid().is_root() {
            missing.push("root, for a loop device".to_owned());
        }
        for name in SYSTEM {
            if program(name).is_none() {
                missing.push(name.to_owned());
            }
        }
        for device in ["/dev/fuse", "/dev/loop-control"] {
            if !Path::new(device).exists() {
                missing.push(device.to_owned());
            }
        }
        let bin = postgres();
        if bin.is_none() {
            missing.push(format!("PostgreSQL {VERSION_MIN} or newer"));
        }
        let (uid, gid) = (id("-u"), id("-g"));
        if uid.is_none() {
            missing.push("a user named postgres".to_owned());
        }
        match (bin, uid, gid) {
            (Some(bin), Some(uid), Some(gid)) if missing.is_empty() => Ok(Self { bin, uid, gid }),
            _ => Err(missing),
        }
    }

    /// A program of PostgreSQL, to be run as its user.
    pub fn postgres(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        // Its user may not be let into the directory that this one works in.
        command.uid(self.uid).gid(self.gid).current_dir("/");
        command
    }

    /// Makes a directory of that user's.
    pub fn make_directory(&self, path: &Path) -> Result {
        std::fs::create_dir_all(path)
            .and_then(|()| std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)))
            .map_err(|error| Failure::io("make directory", path.display(), error))
    }
}

/// A program of the system, also where `PATH` does not lead.
pub fn system(name: &str) -> Command {
    Command::new(program(name).unwrap_or_else(|| name.into()))
}

/// Runs a program to its end, and returns what it printed.
pub fn run(name: &str, command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::io("run", name, error))?;
    check(name, &output)?;
    String::from_utf8(output.stdout)
        .map_err(|error| Failure::io("read what was said by", name, io::Error::other(error)))
}

/// The directory of the newest PostgreSQL that has all programs.
fn postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(version, bin)| *version >= VERSION_MIN && is_whole(bin))
        .collect();
    found.sort();
    let in_path = || {
        let postgres = program("postgres")?.canonicalize().ok()?;
        let bin = postgres.parent()?.to_owned();
        is_whole(&bin).then_some(bin)
    };
    found.pop().map(|(_, bin)| bin).or_else(in_path)
}

fn is_whole(bin: &Path) -> bool {
    POSTGRES.iter().all(|name| bin.join(name).is_file())
}

/// A number of the user that PostgreSQL runs as.
fn id(which: &str) -> Option<u32> {
    let output = Command::new("id").args([which, "postgres"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

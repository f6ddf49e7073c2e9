//! Where the socket of an owner is: in a directory that is the user's alone.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use offshoot::StoreId;
use rustix::process::geteuid;

/// What a socket's name ends with.
const ENDING: &str = ".sock";

/// The directory in which an owner listens.
pub fn directory() -> PathBuf {
    runtime_directory().unwrap_or_else(fallback)
}

/// The directories in which an owner may listen: its environment need not be that of who asks.
pub fn directories() -> Vec<PathBuf> {
    let of_user = format!("/run/user/{}/offshoot", geteuid().as_raw());
    let mut all: Vec<PathBuf> = runtime_directory().into_iter().collect();
    for other in [of_user.into(), fallback()] {
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all.retain(|directory| is_private(directory));
    all
}

/// The socket's name. The process id is in it since a store and a copy of it have the same id.
pub fn name(store: StoreId, pid: u32) -> String {
    format!("{store}-{pid}{ENDING}")
}

/// Sockets of this store in a directory: those of owners that were killed, perhaps.
pub fn sockets_of(store: StoreId, directory: &Path) -> Vec<PathBuf> {
    let start = format!("{store}-");
    let is_one = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(&start) && name.ends_with(ENDING))
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_one).collect()
}

/// Whether nobody but the user can put a socket there or connect to one.
pub fn is_private(directory: &Path) -> bool {
    // A symbolic link is no directory here: it could be turned elsewhere.
    fs::symlink_metadata(directory).is_ok_and(|found| {
        found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0
    })
}

/// By the XDG rules a path that is not absolute does not count.
fn runtime_directory() -> Option<PathBuf> {
    let directory = PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?);
    directory.is_absolute().then(|| directory.join("offshoot"))
}

fn fallback() -> PathBuf {
    PathBuf::from(format!("/tmp/offshoot-{}", geteuid().as_raw()))
}

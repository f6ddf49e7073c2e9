//! Real files of this machine, as input.

use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::{Failure, Result};

/// How much input is enough, and how many files at most.
const WANTED_BYTES: u64 = 160 << 20;
const FILES_MAX: usize = 6_000;
/// A file larger than this would leave no room for others.
const FILE_LEN_MAX: u64 = 32 << 20;
/// Directories looked at, so that a network file system cannot hold the demo up for ever.
const DIRECTORIES_MAX: usize = 20_000;

/// Where machines have files that everybody may read.
const PLACES: [&str; 6] = [
    "/usr/share/doc",
    "/usr/include",
    "/usr/share",
    "/usr/lib",
    "/usr/bin",
    "/etc",
];

/// Readable files of this machine and their lengths, 160 MiB of them if there are as many.
pub fn find() -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut total = 0;
    // A half from where there are many small files, the rest from where there are large ones.
    for (index, place) in PLACES.iter().enumerate() {
        let share = WANTED_BYTES / 4 * (index as u64 + 1).min(4);
        collect(Path::new(place), share, &mut found, &mut total);
    }
    if let Ok(exe) = std::env::current_exe() {
        let len = fs::metadata(&exe).map_or(0, |metadata| metadata.len());
        found.push((exe, len));
    }
    found
}

fn collect(place: &Path, until: u64, found: &mut Vec<(PathBuf, u64)>, total: &mut u64) {
    let mut todo = vec![place.to_owned()];
    let mut seen = 0;
    while let Some(directory) = todo.pop() {
        seen += 1;
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            if *total >= until || found.len() >= FILES_MAX || seen > DIRECTORIES_MAX {
                return;
            }
            let Ok(metadata) = entry.path().symlink_metadata() else {
                continue;
            };
            if metadata.is_dir() {
                todo.push(entry.path());
            } else if metadata.is_file() && (1..=FILE_LEN_MAX).contains(&metadata.len()) {
                *total += metadata.len();
                found.push((entry.path(), metadata.len()));
            }
        }
    }
}

/// Copies files into a directory, under names that keep their paths. Returns files and bytes.
pub fn copy_to(files: &[(PathBuf, u64)], to: &Path) -> Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for (path, _) in files {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let target = to.join(inside);
        let parent = target.parent().unwrap_or(to);
        fs::create_dir_all(parent)
            .map_err(|error| Failure::io("make directory", parent.display(), error))?;
        // What this user may not read is left out.
        if let Ok(len) = fs::copy(path, &target) {
            count += 1;
            bytes += len;
        }
    }
    Ok((count, bytes))
}

//! The image: a real ext4 file system full of real files, or real files end to end.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::files;
use crate::exit::{Failure, Result};

/// What was made.
pub struct Image {
    /// Where it is.
    pub path: PathBuf,
    /// The tools for what is in it, if it is a file system.
    pub ext4: Option<Ext4>,
    /// What it is made of, in words.
    pub contents: String,
}

/// Programs of e2fsprogs.
pub struct Ext4 {
    e2fsck: PathBuf,
    debugfs: PathBuf,
}

/// Makes the image in a directory.
pub fn make(dir: &Path) -> Result<Image> {
    let path = dir.join("image");
    let found = files::find();
    if let (Some(mke2fs), Some(ext4)) = (program("mke2fs"), Ext4::find()) {
        let staging = dir.join("files");
        let (count, bytes) = files::copy_to(&found, &staging)?;
        mke2fs_from(&mke2fs, &staging, &path, bytes)?;
        remove(&staging)?;
        let contents = format!("ext4, {count} real files, {} MiB", bytes >> 20);
        return Ok(Image {
            path,
            ext4: Some(ext4),
            contents,
        });
    }
    let bytes = concatenate(found, &path)?;
    let contents = format!(
        "the largest real files found, {} MiB, no file system",
        bytes >> 20
    );
    Ok(Image {
        path,
        ext4: None,
        contents,
    })
}

fn mke2fs_from(mke2fs: &Path, staging: &Path, path: &Path, bytes: u64) -> Result {
    // Room for the files, their metadata, and changes later.
    let mebibytes = (bytes >> 20) * 3 / 2 + 128;
    let output = Command::new(mke2fs)
        .args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
        .args([staging, path])
        .arg(format!("{mebibytes}M"))
        .output()
        .map_err(|error| Failure::io("run", "mke2fs", error))?;
    check("mke2fs", &output)
}

/// Without a file system: the largest files, one after another.
fn concatenate(mut found: Vec<(PathBuf, u64)>, path: &Path) -> Result<u64> {
    found.sort_by_key(|(_, len)| std::cmp::Reverse(*len));
    let mut image =
        File::create(path).map_err(|error| Failure::io("make", path.display(), error))?;
    let mut bytes = 0;
    for (name, _) in found {
        if let Ok(mut file) = File::open(&name) {
            bytes += io::copy(&mut file, &mut image)
                .map_err(|error| Failure::io("write", path.display(), error))?;
        }
    }
    Ok(bytes)
}

impl Ext4 {
    /// The programs, if they are here.
    pub fn find() -> Option<Self> {
        Some(Self {
            e2fsck: program("e2fsck")?,
            debugfs: program("debugfs")?,
        })
    }

    /// Puts a file in the place of one that is there.
    pub fn replace(&self, image: &Path, from: &Path, name: &str) -> Result {
        let output = self.debugfs(image, &["-w", "-R", &format!("rm {name}")])?;
        check("debugfs", &output)?;
        self.put(image, from, name)
    }

    /// Checks a file system that is in a file, and changes nothing.
    pub fn e2fsck(&self, image: &Path) -> Result {
        let output = Command::new(&self.e2fsck)
            .arg("-fn")
            .arg(image)
            .output()
            .map_err(|error| Failure::io("run", "e2fsck", error))?;
        check("e2fsck", &output)
    }

    /// Puts a file into a file system that is in a file.
    pub fn put(&self, image: &Path, from: &Path, name: &str) -> Result {
        let request = format!("write {} {name}", from.display());
        let output = self.debugfs(image, &["-w", "-R", &request])?;
        check("debugfs", &output)
    }

    /// The contents of a file in a file system that is in a file; `None` if there is none.
    pub fn get(&self, image: &Path, name: &str) -> Result<Option<Vec<u8>>> {
        let output = self.debugfs(image, &["-R", &format!("cat {name}")])?;
        check("debugfs", &output)?;
        let complains = String::from_utf8_lossy(&output.stderr).contains("File not found");
        Ok((!complains).then_some(output.stdout))
    }

    fn debugfs(&self, image: &Path, args: &[&str]) -> Result<Output> {
        Command::new(&self.debugfs)
            .args(args)
            .arg(image)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::io("run", "debugfs", error))
    }
}

/// Fails with what a program said if it failed.
pub fn check(program: &str, output: &Output) -> Result {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said
        .lines()
        .chain(["no message"])
        .find(|line| !line.is_empty());
    let text = format!("{}: {}", output.status, said.unwrap_or_default());
    Err(Failure::io("run", program, io::Error::other(text)))
}

/// A program, also where ordinary users do not look for it.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/sbin".into(), "/usr/sbin".into()]);
    places
        .map(|place| place.join(name))
        .find(|path| path.is_file())
}

/// Removes a directory that is not needed any more.
pub fn remove(path: &Path) -> Result {
    fs::remove_dir_all(path).map_err(|error| Failure::io("remove", path.display(), error))
}

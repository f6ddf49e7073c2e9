//! A volume as a mounted file system: nbdfuse makes a file of it, loop a block device of that.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::programs::{run, system};
use crate::exit::{Failure, Result};

/// How long to wait until a program has done what it was started for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Taken down when this is dropped, the last layer first.
pub struct Mounted {
    file: PathBuf,
    mount: PathBuf,
    fuse: Option<Child>,
    device: Option<String>,
    is_mounted: bool,
}

impl Mounted {
    /// Makes a block device of an export, in a directory that is made for it.
    pub fn attach(uri: &str, dir: &Path) -> Result<Self> {
        let (file, mount) = (dir.join("disk"), dir.join("mnt"));
        fs::create_dir_all(&mount)
            .and_then(|()| fs::write(&file, []))
            .map_err(|error| Failure::io("make", dir.display(), error))?;
        let fuse = system("nbdfuse")
            .arg(&file)
            .arg(uri)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Ctrl-C is not to end it before the file system on it is unmounted.
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::io("run", "nbdfuse", error))?;
        let mut mounted = Self {
            file,
            mount,
            fuse: Some(fuse),
            device: None,
            is_mounted: false,
        };
        mounted.await_file()?;
        let mut losetup = system("losetup");
        losetup.args(["--find", "--show"]).arg(&mounted.file);
        mounted.device = Some(run("losetup", &mut losetup)?.trim().to_owned());
        Ok(mounted)
    }

    /// Makes a file system.
    pub fn format(&self) -> Result {
        run(
            "mkfs.ext4",
            system("mkfs.ext4").arg("-qF").args(&self.device),
        )
        .map(drop)
    }

    /// Mounts what is there; a file system that was in use recovers.
    pub fn mount(&mut self) -> Result<&Path> {
        let mut mount = system("mount");
        run("mount", mount.args(&self.device).arg(&self.mount))?;
        self.is_mounted = true;
        Ok(&self.mount)
    }

    /// Unmounts, and takes the device and the file away.
    pub fn detach(mut self) -> Result {
        self.take_down()
    }

    fn await_file(&mut self) -> Result {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if fs::metadata(&self.file).is_ok_and(|metadata| metadata.len() > 0) {
                return Ok(());
            }
            let ended = self.fuse.as_mut().map(Child::try_wait);
            if let Some(Ok(Some(status))) = ended {
                let text = format!("it ended at once: {status}");
                return Err(Failure::io("run", "nbdfuse", std::io::Error::other(text)));
            }
            thread::sleep(Duration::from_millis(10));
        }
        let late = std::io::ErrorKind::TimedOut.into();
        Err(Failure::io("wait for", "nbdfuse", late))
    }

    fn take_down(&mut self) -> Result {
        if self.is_mounted {
            unmount(&self.mount)?;
            self.is_mounted = false;
        }
        if let Some(device) = self.device.take() {
            run("losetup", system("losetup").arg("-d").arg(device))?;
        }
        if let Some(mut fuse) = self.fuse.take() {
            let unmounted = unmount(&self.file);
            if unmounted.is_err() {
                // It may have ended before; if not, it does now.
                let _ = fuse.kill();
            }
            fuse.wait()
                .map_err(|error| Failure::io("wait for", "nbdfuse", error))?;
            unmounted?;
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Something else failed before, and that is what is reported.
        if self.take_down().is_err() && self.is_mounted {
            let _ = run("umount", system("umount").arg("-l").arg(&self.mount));
            self.is_mounted = false;
            let _ = self.take_down();
        }
    }
}

/// Tries for a while: the kernel lets go of files a moment after their last user.
fn unmount(what: &Path) -> Result {
    let begun = Instant::now();
    loop {
        match run("umount", system("umount").arg(what)) {
            Err(_) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(50)),
            ended => return ended.map(drop),
        }
    }
}

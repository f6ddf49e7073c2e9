//! The directory: reading and replacing its files, the lock, and errors that say where.

use std::io::{self, ErrorKind};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::{Damage, Error, Result};
use crate::file_kms::records::VERSION;
use crate::io::{Access, Disk, DiskFile, Lock, LockGuard, publish};
use crate::sync::Arc;
use crate::units::Location;

/// How often a taken lock is tried again, and how long that takes in all: 2 s.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The files of a KMS.
#[derive(Debug)]
pub(super) struct Files(pub(super) Arc<dyn Disk>);

impl Files {
    /// Where a file is, for messages.
    pub(super) fn location(&self, name: &str) -> Location {
        Location::File(format!("{}/{name}", self.0.describe()))
    }

    /// Where the directory is.
    pub(super) fn directory(&self) -> Location {
        Location::Directory(self.0.describe())
    }

    /// The names of all files.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let list = |source| Error::Io {
            op: "list",
            location: self.directory(),
            source,
        };
        self.0.list().map_err(list)
    }

    /// The files that others than their owner may read or write.
    pub(super) fn exposed(&self) -> Result<Vec<String>> {
        self.0.exposed().map_err(|source| Error::Io {
            op: "look at the permissions in",
            location: self.directory(),
            source,
        })
    }

    /// Whether there is a file of that name.
    pub(super) fn exists(&self, name: &str) -> Result<bool> {
        match self.0.open(name, Access::Read) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.error("open", name, source)),
        }
    }

    /// Opens a file that must be there.
    pub(super) fn open(&self, name: &str, access: Access) -> Result<Arc<dyn DiskFile>> {
        self.0
            .open(name, access)
            .map_err(|source| self.error("open", name, source))
    }

    /// All bytes of a file; they are wiped when dropped.
    pub(super) fn read(&self, name: &str, len_max: u64) -> Result<Zeroizing<Vec<u8>>> {
        let file = self.open(name, Access::Read)?;
        let len = file
            .len()
            .map_err(|source| self.error("read", name, source))?;
        let fits = usize::try_from(len).ok().filter(|_| len <= len_max);
        let len = fits.ok_or_else(|| self.damage(name, Damage::OutOfRange("file length")))?;
        let mut bytes = Zeroizing::new(vec![0; len]);
        file.read_exact_at(&mut bytes, 0)
            .map_err(|source| self.error("read", name, source))?;
        Ok(bytes)
    }

    /// Replaces a file, durably and at once.
    pub(super) fn publish(&self, name: &str, contents: &[u8]) -> Result<()> {
        let len = contents.len() as u64;
        let result = publish::publish(&*self.0, name, len, contents);
        result
            .map(drop)
            .map_err(|source| self.write_error(name, len, source))
    }

    /// Replaces a file likewise, and overwrites what it was before.
    pub(super) fn replace_secret(&self, name: &str, contents: &[u8]) -> Result<()> {
        publish::replace_secret(&*self.0, name, contents)
            .map_err(|source| self.write_error(name, contents.len() as u64, source))
    }

    /// Takes the lock, waiting a little for another process: exclusive for all that writes.
    pub(super) fn lock(&self, lock: Lock) -> Result<Box<dyn LockGuard>> {
        for attempt in 0..LOCK_TRIES {
            if attempt > 0 {
                std::thread::sleep(LOCK_PAUSE);
            }
            match self.0.lock("lock", lock) {
                Ok(guard) => return Ok(guard),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(source) => return Err(self.error("lock", "lock", source)),
            }
        }
        Err(Error::Locked {
            location: self.directory(),
            pid: self.0.lock_owner("lock"),
        })
    }

    /// What an error of the operating system about a file means.
    pub(super) fn error(&self, op: &'static str, name: &str, source: io::Error) -> Error {
        match source.kind() {
            ErrorKind::NotFound => self.damage(name, Damage::Missing),
            ErrorKind::UnexpectedEof => self.damage(name, Damage::Truncated),
            _ => Error::Io {
                op,
                location: self.location(name),
                source,
            },
        }
    }

    /// What an error of writing `len` bytes means.
    pub(super) fn write_error(&self, name: &str, len: u64, source: io::Error) -> Error {
        if matches!(
            source.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        ) {
            return Error::NoSpace {
                need: len,
                free: self.0.free_len().unwrap_or(0),
            };
        }
        self.error("write", name, source)
    }

    /// A damaged file, or one that a newer program wrote.
    pub(super) fn damage(&self, name: &str, damage: Damage) -> Error {
        let location = self.location(name);
        match damage {
            Damage::BadVersion(found) => Error::UnsupportedVersion {
                location,
                found,
                known: VERSION,
            },
            damage => Error::Corrupt { location, damage },
        }
    }
}

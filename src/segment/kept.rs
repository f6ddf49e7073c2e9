//! A file of slots that nothing needs any more, kept to write the next pack into: blocks that were
//! written before are written faster, and where the file system discards what it frees, neither that
//! nor the first write after it holds up others.
//!
//! It has the name of a temporary file, so what a crash leaves of it means nothing. Invariant:
//! it has that name durably before a byte of it changes.

use std::io;

use crate::error::Result;
use crate::io::{DiskFile, publish};
use crate::segment::file::{Segments, io_error};
use crate::segment::table::FileId;
use crate::sync::{Arc, Mutex};
use crate::units::Location;

/// Its name.
const NAME: &str = "next-pack.tmp";
/// It is worth it if it takes at least 1 in so many of a segment's bytes.
const KEEP_SHARE: u64 = 2;

/// Bytes that it takes, if there is one.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<u64>>);

impl Segments {
    /// Keeps a file for the next pack, and forgets the virtual segments that are in it; not if there is one, this is
    /// too short, or somebody still reads it. Says whether it did.
    pub fn keep(&self, file: FileId) -> Result<bool> {
        let mut kept = self.kept.0.lock();
        let len = self.allocated_len(file)?.unwrap_or(0);
        if kept.is_some() || len < self.segment_len() / KEEP_SHARE || self.table.close(file) {
            return Ok(false);
        }
        let name = file.name();
        let renamed = publish::rename(&*self.disk, &name, NAME);
        renamed.map_err(|error| io_error("rename", Location::File(name), error, &*self.disk))?;
        self.forget_file(file);
        self.drop_cache(NAME);
        *kept = Some(len);
        Ok(true)
    }

    /// Bytes that it takes; none if there is none.
    pub fn kept_len(&self) -> u64 {
        self.kept.0.lock().unwrap_or(0)
    }

    /// Removes it.
    pub fn remove_kept(&self) -> Result<()> {
        if self.kept.0.lock().take().is_some() {
            self.empty(NAME);
            let removed = self.disk.remove(NAME);
            let failed = |error| {
                io_error(
                    "remove",
                    Location::File(NAME.to_owned()),
                    error,
                    &*self.disk,
                )
            };
            removed.map_err(failed)?;
        }
        Ok(())
    }

    /// Makes a pack of `len` bytes out of it; nothing if there is none, or too little space for what the pack takes more.
    pub(super) fn pack_into_kept(
        &self,
        name: &str,
        len: u64,
        fill: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<Option<Arc<dyn DiskFile>>> {
        if self.kept.0.lock().take().is_none() {
            return Ok(None);
        }
        let made = publish::reuse(&*self.disk, NAME, name, |file| {
            fill(file)?;
            self.punch_rest(file, len)
        });
        match made {
            Ok(file) => Ok(Some(file)),
            Err(error) => {
                // The error that counts is the first one.
                let _ = self.disk.remove(NAME);
                match error.kind() {
                    io::ErrorKind::StorageFull => Ok(None),
                    _ => Err(error),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

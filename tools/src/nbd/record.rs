//! `--record`: every change in the order in which it was made, for replaying a prefix of it.
//!
//! The form is that of nbd-server's transaction log with data, which `nbd-trplay` replays.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::exit::{Failure, Result};
use crate::nbd::protocol::request::{Command, Request};

/// Starts an entry about the log itself.
const NOTE_MAGIC: u32 = 0x2560_9514;
/// The note: the data of writes follows them.
const WITH_DATA: u32 = 1;
/// Stands where a request has its offset.
const NOTE_OFFSET: u64 = 0x4a93_ba39_a54f_31b6;

/// A log of requests.
#[derive(Debug)]
pub struct Recorder(Mutex<File>);

impl Recorder {
    /// Makes the log. It holds what is written in the clear, so only the user reads it.
    pub fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::AlreadyExists(format!("{} exists: record into a new file", path.display()))
            }
            _ => Failure::io("record to", path.display(), error),
        };
        let mut file = options.open(path).map_err(failed)?;
        let mut note = Vec::new();
        note.extend(NOTE_MAGIC.to_be_bytes());
        note.extend(WITH_DATA.to_be_bytes());
        note.extend(0_u64.to_be_bytes());
        note.extend(NOTE_OFFSET.to_be_bytes());
        note.extend(1_u32.to_be_bytes());
        file.write_all(&note).map_err(failed)?;
        Ok(Self(Mutex::new(file)))
    }

    /// Does a request and notes it, if it succeeds, before the next one is done: their order is then
    /// that of the log. `range` is what it really changes.
    pub fn record<E: From<io::Error>>(
        &self,
        request: &Request,
        range: Range<u64>,
        payload: &[u8],
        perform: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        perform()?;
        if range.is_empty() && request.command != Command::Flush {
            return Ok(());
        }
        let noted = Request {
            offset: range.start,
            len: u32::try_from(range.end - range.start).unwrap_or(request.len),
            ..*request
        };
        file.write_all(&[&noted.encode(), payload].concat())?;
        Ok(())
    }
}

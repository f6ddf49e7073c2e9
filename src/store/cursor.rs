//! A volume as a stream, for code that speaks `std::io`.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::error::Error;
use crate::store::volume::Volume;

/// Reads, writes and seeks in a volume. `flush` makes what was written durable.
#[derive(Clone, Debug)]
pub struct Cursor {
    volume: Volume,
    position: u64,
}

impl Cursor {
    pub(super) fn new(volume: Volume) -> Self {
        Self {
            volume,
            position: 0,
        }
    }

    /// Bytes of a call that lie before the end of the volume.
    fn within(&self, len: usize) -> io::Result<usize> {
        let left = self.volume.len()?.saturating_sub(self.position);
        Ok(usize::try_from(left).unwrap_or(usize::MAX).min(len))
    }
}

impl Read for Cursor {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.within(buf.len())?;
        // It may be behind the end, where a volume has no place, not even for nothing.
        if len == 0 {
            return Ok(0);
        }
        self.volume.read_exact_at(&mut buf[..len], self.position)?;
        self.position += len as u64;
        Ok(len)
    }
}

impl Write for Cursor {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.within(buf.len())?;
        if len == 0 {
            return Ok(0);
        }
        self.volume.write_all_at(&buf[..len], self.position)?;
        self.position += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.volume.flush()?)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.volume.len()?.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "a position before the start or too far",
            )
        })?;
        Ok(self.position)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::NoSpace { .. } | Error::LimitExceeded { .. } => io::ErrorKind::StorageFull,
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            Error::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
            Error::Invalid { .. } | Error::OutOfBounds { .. } => io::ErrorKind::InvalidInput,
            Error::AccessDenied { .. } | Error::KeyUnavailable { .. } => {
                io::ErrorKind::PermissionDenied
            }
            Error::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Error::Corrupt { .. } | Error::PageLost { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

//! Proving what volumes hold: by hash against files, and by the tools of the file system.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use offshoot::{ExtentKind, Snapshot, Volume};

use crate::exit::{Failure, Result};

const CHUNK: u64 = 1 << 20;

/// What can be read: a volume, a snapshot.
pub trait Readable {
    /// Length in bytes.
    fn len(&self) -> Result<u64>;
    /// Fills `buf`.
    fn read(&self, buf: &mut [u8], offset: u64) -> Result;
    /// The ranges that hold data.
    fn data(&self) -> Result<Vec<std::ops::Range<u64>>>;
}

macro_rules! readable {
    ($type:ty) => {
        impl Readable for $type {
            fn len(&self) -> Result<u64> {
                Ok(<$type>::len(self)?)
            }

            fn read(&self, buf: &mut [u8], offset: u64) -> Result {
                Ok(self.read_exact_at(buf, offset)?)
            }

            fn data(&self) -> Result<Vec<std::ops::Range<u64>>> {
                let mut ranges = Vec::new();
                for extent in self.extents(0..<$type>::len(self)?)? {
                    let extent = extent?;
                    if extent.kind == ExtentKind::Data {
                        ranges.push(extent.offset..extent.offset + extent.len);
                    }
                }
                Ok(ranges)
            }
        }
    };
}

readable!(Volume);
readable!(Snapshot);

/// BLAKE3 hash of all bytes of a head.
pub fn hash(head: &dyn Readable) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK as usize];
    let len = head.len()?;
    let mut at = 0;
    while at < len {
        let count = (len - at).min(CHUNK) as usize;
        head.read(&mut buffer[..count], at)?;
        hasher.update(&buffer[..count]);
        at += count as u64;
    }
    Ok(hasher.finalize())
}

/// BLAKE3 hash of a file, as if zeroes followed it up to a length.
pub fn hash_file(path: &Path, len: u64) -> Result<blake3::Hash> {
    let fail = |error| Failure::io("read", path.display(), error);
    let file = File::open(path).map_err(fail)?;
    let file_len = file.metadata().map_err(fail)?.len();
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK as usize];
    let mut at = 0;
    while at < len {
        let count = (len - at).min(CHUNK) as usize;
        let real = file_len.saturating_sub(at).min(count as u64) as usize;
        file.read_exact_at(&mut buffer[..real], at).map_err(fail)?;
        buffer[real..count].fill(0);
        hasher.update(&buffer[..count]);
        at += count as u64;
    }
    Ok(hasher.finalize())
}

/// Writes a head into a new file; holes stay holes.
pub fn export(head: &dyn Readable, path: &Path) -> Result {
    let fail = |error| Failure::io("write", path.display(), error);
    let file = File::create(path).map_err(fail)?;
    file.set_len(head.len()?).map_err(fail)?;
    let mut buffer = vec![0; CHUNK as usize];
    for range in head.data()? {
        let mut at = range.start;
        while at < range.end {
            let count = (range.end - at).min(CHUNK) as usize;
            head.read(&mut buffer[..count], at)?;
            file.write_all_at(&buffer[..count], at).map_err(fail)?;
            at += count as u64;
        }
    }
    Ok(())
}

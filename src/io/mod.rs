//! Files: one trait for all that the store and the simulated KMS do with them.
//!
//! Nothing above this module touches the file system. A `Disk` is a directory: the real one,
//! one in memory that can lose power, or one whose N-th call fails. Names are single path
//! components. Only `store/commit.rs` and [`publish`] may call `sync` and `sync_names`.

use std::fmt::Debug;
use std::io;

use rustix::io::Errno;

use crate::sync::Arc;

mod aligned;
pub mod fault;
pub mod publish;
pub mod real;
pub mod sim;

pub use aligned::{AlignedBuf, BLOCK_LEN, GrowBuf, is_aligned};

/// A directory of files.
pub trait Disk: Send + Sync + Debug {
    /// The path or a made-up name, for messages.
    fn describe(&self) -> String;

    /// Makes a file of `len` bytes of zeroes with its space allocated, so that later writes
    /// inside it cannot run out of space. Mode 0600.
    ///
    /// `AlreadyExists` if the name is taken, `StorageFull` if there is no space (then the file
    /// is not there). `InvalidInput` if the name is not a single component, here and below.
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file. A symbolic link, a directory or a file with several links is refused
    /// (`InvalidInput`).
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, over an existing one if there is one. Atomic.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a name away.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, sorted. Directories are left out.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes all creations, renames and removals so far durable.
    fn sync_names(&self) -> io::Result<()>;

    /// Locks a file (made if it is not there) until the guard is dropped. At once `WouldBlock`
    /// if another has it. An exclusive owner's process id is the file's text. A shared lock where
    /// the file is missing and nobody can write succeeds without one.
    fn lock(&self, name: &str, lock: Lock) -> io::Result<Box<dyn LockGuard>>;

    /// The process id in a lock file; after a kill it can be that of a process long gone.
    fn lock_owner(&self, name: &str) -> Option<u32>;

    /// Bytes that a file takes: its length without the holes that were punched into it.
    fn allocated_len(&self, name: &str) -> io::Result<u64>;

    /// The names of files, and `.` for the directory, that others than their owner may read or write.
    fn exposed(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Bytes that can still be allocated.
    fn free_len(&self) -> io::Result<u64>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing.
    ReadWrite,
    /// For writing large pieces, past the cache of the operating system where that is possible.
    /// Then only whole blocks are written ([`BLOCK_LEN`], [`is_aligned`]), and whatever else is
    /// `InvalidInput`. Such a write and its bytes in other handles and maps of the file are one
    /// as soon as it returns, but it is no more durable than others before a sync.
    Bulk,
    /// For reading what the medium holds, past the cache of the operating system where that is possible. Then
    /// only whole blocks are read, as for [`Access::Bulk`]. After a sync that failed the cache may show, as if it were
    /// clean, what never reached the medium (Rebello et al., "Can Applications Recover from
    /// fsync Failures?", USENIX ATC 2020). What was not written back yet is, first.
    Medium,
}

/// How a file is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Others may share it.
    Shared,
    /// Nobody else may have it.
    Exclusive,
}

/// Holds a lock until it is dropped.
pub trait LockGuard: Send + Sync + Debug {}

/// An open file.
pub trait DiskFile: Send + Sync + Debug {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `offset`; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Fills `buf` from `offset` as far as the file has bytes; how many these were.
    fn read_up_to_end(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.len()?.saturating_sub(offset);
        let count = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (start, _) = buf.split_at_mut(count);
        self.read_exact_at(start, offset)?;
        Ok(count)
    }

    /// Writes all of `buf` at `offset`; past the end the file grows.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// The first byte at or after `offset` that may be other than zero; `None` if there is none.
    /// Long stretches that were allocated and never written are skipped where that is cheap.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok((offset < self.len()?).then_some(offset))
    }

    /// Gives the space of a range back; the range reads as zeroes then, and the length stays.
    ///
    /// `Unsupported` where the file system cannot. Until the next sync a crash may undo it, for
    /// the whole range or a part.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Gives the file space for all of its first `len` bytes, holes too, and at least that length. What
    /// it had no space for reads as zeroes, as before.
    ///
    /// `StorageFull` if there is none, `Unsupported` where the file system cannot. Until the next
    /// sync a crash may undo it.
    fn fill_holes(&self, len: u64) -> io::Result<()>;

    /// Asks for space from the end of the file up to `end`, so that writes there do not fail for
    /// want of it. Its length stays. Does nothing where the file system cannot.
    fn keep_room(&self, end: u64) -> io::Result<()> {
        let _ = end;
        Ok(())
    }

    /// Has a range that was written reach the disk before this returns, so that a later sync finds little to do
    /// and, if it is short, syncs of other files do not wait long behind it. Nothing is durable
    /// by that. Does nothing where the system cannot.
    fn write_back(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Ok(())
    }

    /// Lets go of the memory that the system caches it in, if nothing of it has to be written. So goes what only the cache
    /// has, after a sync that failed.
    fn drop_cache(&self) {}

    /// Makes its bytes and its length durable.
    fn sync(&self) -> io::Result<()>;

    /// What a sync that fails does besides, in a simulation: some of what was not durable is never going to be, and is
    /// read all the same until the power is lost. Does nothing to real files, whose system does that by itself.
    fn lose_unsynced(&self) {}

    /// Maps the file for reading. It must never change its length afterwards.
    fn map(&self) -> io::Result<Arc<dyn Map>>;
}

/// A file mapped for reading.
pub trait Map: Send + Sync + Debug {
    /// Copies bytes out. The bytes may change meanwhile, so the copy is what the caller must
    /// verify and use. `UnexpectedEof` past the end of the map.
    fn copy_out(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Fills `buf`, whole blocks from a multiple of [`BLOCK_LEN`] on, with what the medium holds of a file, as far as that
/// can be known: where the cache of the operating system cannot be passed by, with what that has.
pub fn read_medium(disk: &dyn Disk, name: &str, buf: &mut [u8], offset: u64) -> io::Result<()> {
    let mut blocks = AlignedBuf::zeroed(buf.len());
    match disk
        .open(name, Access::Medium)?
        .read_exact_at(&mut blocks, offset)
    {
        // It wants larger blocks than ours.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            disk.open(name, Access::Read)?.read_exact_at(buf, offset)
        }
        Ok(()) => {
            buf.copy_from_slice(&blocks);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Whether the medium holds these bytes of a file, as far as that can be known. It need not, even after a sync that
/// succeeded: once a sync of blocks that were never written has failed under ext4, whatever is written to them through the cache is read,
/// and synced, and gone when the cache is (`docs/decisions/0015`).
pub fn is_on_medium(disk: &dyn Disk, name: &str, bytes: &[u8], offset: u64) -> io::Result<bool> {
    let lead = (offset % BLOCK_LEN as u64) as usize;
    let end = lead + bytes.len();
    let mut blocks = AlignedBuf::zeroed(end.next_multiple_of(BLOCK_LEN));
    let file = disk.open(name, Access::Medium)?;
    match file.read_up_to_end(&mut blocks, offset - lead as u64) {
        // It wants larger blocks than ours.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(true),
        Err(error) => Err(error),
        Ok(count) => Ok(count >= end && blocks.get(lead..end) == Some(bytes)),
    }
}

/// Whether a file could not be opened or mapped because too many are.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errnos = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    errnos
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Refuses a name that is not a single path component.
fn check_name(name: &str) -> io::Result<()> {
    let bad = name.is_empty() || name.len() > 255 || name.contains(['/', '\0']);
    if bad || name == "." || name == ".." {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a file name",
        ));
    }
    Ok(())
}

/// Refuses a length that no file can have: offsets are signed where they matter.
fn check_file_len(len: u64) -> io::Result<()> {
    if i64::try_from(len).is_err() {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(())
}

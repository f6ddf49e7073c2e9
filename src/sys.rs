//! Mapped files, locked memory, and what no safe library offers of the system, behind the library's only `unsafe`.
//!
//! Invariant: no reference to mapped bytes ever exists. Other processes may change a mapped file
//! at any time, so bytes are copied out, and the copy is what a caller verifies and uses.
#![expect(
    unsafe_code,
    reason = "a mapped page can only be read, and memory only be locked, through a raw pointer, and one system call \
              has no safe wrapper"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;
use rustix::mm::Advice;

/// A file mapped for reading.
#[derive(Debug)]
pub struct RawMap(MmapRaw);

impl RawMap {
    /// Maps all bytes that the file has now.
    ///
    /// If the file gets shorter afterwards, reading the lost part kills the process (SIGBUS).
    pub fn new(file: &File) -> io::Result<Self> {
        let map = MmapOptions::new().map_raw_read_only(file)?;
        // Volumes are read a page here and a page there: reading ahead would fetch what nobody
        // asks for.
        map.advise(memmap2::Advice::Random)?;
        // A forked child has no use for it, and forking gets cheaper.
        map.advise(memmap2::Advice::DontFork)?;
        Ok(Self(map))
    }

    /// Copies bytes out; `UnexpectedEof` past the end of the map.
    pub fn copy_out(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start
            .checked_add(buf.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.0.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: `start..end` lies in the map, which lives as long as `self`. `buf` is memory of
        // ours that nobody else refers to, so it does not overlap a map that only we made. The
        // mapped bytes may change while they are copied: then the copy is a mixture, which every
        // caller finds out by its tag or checksum.
        unsafe {
            ptr::copy_nonoverlapping(self.0.as_ptr().add(start), buf.as_mut_ptr(), buf.len());
        }
        Ok(())
    }
}

/// Keeps the memory of bytes from being swapped out, where that is allowed (`RLIMIT_MEMLOCK`), and
/// there from being in a core dump.
///
/// Whole pages are locked, and stay so: other bytes that matter may lie there. Memory that may not
/// be locked is dumped: each such page can be a mapping of its own, of which a process has only so
/// many, and the limit on locked memory keeps them few.
pub fn keep_in_memory(bytes: &[u8]) {
    let start = bytes.as_ptr().cast_mut().cast();
    // SAFETY: locking changes no byte and no mapping; `bytes` is memory of ours that is there. It is
    // refused as an error where it is not allowed.
    let locked = unsafe { rustix::mm::mlock(start, bytes.len()) };
    // Keys in memory that is not locked still work.
    if locked.is_err() || bytes.is_empty() {
        return;
    }
    let page_len = rustix::param::page_size();
    let before = bytes.as_ptr().addr() % page_len;
    // SAFETY: this changes no byte, only what a core dump has. The range is the pages that `bytes`
    // are in, which are there.
    let left_out = unsafe {
        let start = bytes.as_ptr().sub(before).cast_mut().cast();
        rustix::mm::madvise(start, before + bytes.len(), Advice::LinuxDontDump)
    };
    // A kernel without it dumps them.
    let _ = left_out;
}

/// Writes what is dirty of a range of a file to the disk and waits for that, without a flush of the
/// disk's cache or the file's metadata: nothing is durable by that (`sync_file_range(2)`).
pub fn write_back(file: &File, offset: u64, len: u64) -> rustix::io::Result<()> {
    let bad = |_| Errno::INVAL;
    let (offset, len) = (
        i64::try_from(offset).map_err(bad)?,
        i64::try_from(len).map_err(bad)?,
    );
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: it takes no pointer, and the descriptor is open as long as `file` is borrowed.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_map_gives_the_bytes_of_the_file_and_nothing_past_them() {
        let map = RawMap::new(&file(b"0123456789")).unwrap();
        let mut buf = [0; 4];
        map.copy_out(&mut buf, 6).unwrap();
        assert_eq!(&buf, b"6789");
        for offset in [7, 10, 1 << 40, u64::MAX] {
            let error = map.copy_out(&mut buf, offset).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        map.copy_out(&mut [], 10).unwrap();
    }

    #[test]
    fn a_write_shows_in_the_map_at_once() {
        use std::os::unix::fs::FileExt;
        let file = file(&[0; 4096]);
        let map = RawMap::new(&file).unwrap();
        file.write_all_at(b"new", 100).unwrap();
        let mut buf = [0; 3];
        map.copy_out(&mut buf, 100).unwrap();
        assert_eq!(&buf, b"new");
    }

    #[test]
    fn a_range_is_written_back_and_one_that_cannot_be_is_an_error() {
        let file = file(&[7; 10_000]);
        for (offset, len) in [(0, 10_000), (4096, 1), (1 << 20, 4096)] {
            write_back(&file, offset, len).unwrap();
        }
        let refused = write_back(&file, u64::MAX, 1);
        assert_eq!(refused, Err(Errno::INVAL));
    }

    #[test]
    fn memory_is_locked_as_far_as_it_is_allowed() {
        let bytes = vec![7_u8; 10_000];
        keep_in_memory(&bytes);
        keep_in_memory(&bytes[..0]);
        assert!(bytes.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let map = RawMap::new(&file(b"")).unwrap();
        assert!(map.copy_out(&mut [0], 0).is_err());
        assert!(map.copy_out(&mut [0], 0).is_err());
    }
}

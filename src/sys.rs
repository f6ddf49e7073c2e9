//! Mapped files, locked memory, and what no safe library offers of the system, behind the library's only `unsafe`.
//!
//! Invariant: no reference to mapped bytes ever exists. Other processes may change a mapped file
//! at any time, so bytes are copied out, and the copy is what a caller verifies and uses.
#![expect(
    unsafe_code,
    reason = "a mapped page can only be read, and memory only be locked, through a raw pointer, and one system call \
              has no safe wrapper"
)]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;
use rustix::mm::Advice;
use zeroize::Zeroize;

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

/// Memory for 32 bytes that are secret: all zero at first, kept from being swapped out and left out
/// of core dumps where the system allows that, wiped when dropped.
///
/// The places lie side by side in pages that have nothing else in them and are never given back, so
/// that the system is asked once for many secrets: `mlock` makes all threads of a process wait that
/// need its address space. What is locked is a matter of the process (`RLIMIT_MEMLOCK`), and so are
/// the places that are free.
pub struct SecretBytes(Place);

const SECRET_LEN: usize = 32;

/// A place in memory that is never freed.
struct Place(NonNull<[u8; SECRET_LEN]>);

// SAFETY: a place is plain memory that belongs to its one holder.
unsafe impl Send for Place {}
// SAFETY: it has no way to change the bytes behind a shared reference.
unsafe impl Sync for Place {}

/// Places that nobody holds, with zeroes in them. Nothing is called and nothing panics under this
/// lock, so it is none of those that `sync` has for a model checker.
static FREE_PLACES: Mutex<Vec<Place>> = Mutex::new(Vec::new());

impl SecretBytes {
    /// A place with zeroes in it.
    pub fn zeroed() -> Self {
        let free = FREE_PLACES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        Self(free.unwrap_or_else(more_places))
    }
}

impl Deref for SecretBytes {
    type Target = [u8; SECRET_LEN];

    fn deref(&self) -> &Self::Target {
        // SAFETY: the memory of a place is never freed, is initialized and belongs to `self`, which
        // is borrowed.
        unsafe { self.0.0.as_ref() }
    }
}

impl DerefMut for SecretBytes {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: as above, and `self` is borrowed for this alone.
        unsafe { self.0.0.as_mut() }
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.zeroize();
        let place = Place(self.0.0);
        FREE_PLACES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(place);
    }
}

/// Makes a page of places: one for the caller, the others are free.
fn more_places() -> Place {
    let page_len = rustix::param::page_size();
    let layout = Layout::from_size_align(page_len, page_len).expect("BUG: a page is too large");
    // SAFETY: a page is not empty.
    let page = unsafe { alloc_zeroed(layout) }.cast::<[u8; SECRET_LEN]>();
    let Some(first) = NonNull::new(page) else {
        handle_alloc_error(layout)
    };
    keep_in_memory(page.cast(), page_len);
    let others = (1..page_len / SECRET_LEN).map(|number| {
        // SAFETY: the place lies in the page.
        Place(unsafe { first.add(number) })
    });
    FREE_PLACES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(others);
    Place(first)
}

/// Keeps pages of ours from being swapped out, and from being in a core dump, where that is allowed.
fn keep_in_memory(start: *mut u8, len: usize) {
    // SAFETY: neither changes a byte or what may be done with it, and the pages are there. Both are
    // refused as an error where they are not allowed: secrets in such memory still work.
    let _ = unsafe { rustix::mm::mlock(start.cast(), len) };
    // SAFETY: as above.
    let _ = unsafe { rustix::mm::madvise(start.cast(), len, Advice::LinuxDontDump) };
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
    use std::collections::BTreeSet;
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
    fn a_secret_finds_zeroes_in_a_place_of_its_own() {
        // Places are used again by the other tests, too.
        for round in 1..=3 {
            let mut held: Vec<_> = (0..300).map(|_| SecretBytes::zeroed()).collect();
            assert!(held.iter().all(|bytes| **bytes == [0; SECRET_LEN]));
            for (number, bytes) in held.iter_mut().enumerate() {
                bytes.fill(u8::try_from(number % 250).unwrap() + round);
            }
            let places: BTreeSet<_> = held.iter().map(|bytes| bytes.as_ptr().addr()).collect();
            assert_eq!(places.len(), held.len());
            for (number, bytes) in held.iter().enumerate() {
                let byte = u8::try_from(number % 250).unwrap() + round;
                assert_eq!(**bytes, [byte; SECRET_LEN]);
            }
        }
    }

    /// What the system says of the mapping that an address is in, in two letters each (`proc(5)`).
    fn flags_of(address: usize) -> Vec<String> {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_inside = false;
        for line in maps.lines() {
            let first = line.split(' ').next().unwrap_or_default();
            if let Some((start, end)) = first.split_once('-') {
                let [start, end] = [start, end].map(|hex| usize::from_str_radix(hex, 16).unwrap());
                is_inside = (start..end).contains(&address);
            } else if is_inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.split_whitespace().map(str::to_owned).collect();
            }
        }
        panic!("no mapping has {address:x}");
    }

    #[test]
    fn secrets_are_in_no_dump_and_locked_where_that_is_allowed() {
        let flags = flags_of(SecretBytes::zeroed().as_ptr().addr());
        assert!(flags.iter().any(|flag| flag == "dd"), "{flags:?}");
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        // Without a place of its own in the limit nothing is promised.
        if limit.is_none_or(|bytes| bytes >= 1 << 20) {
            assert!(flags.iter().any(|flag| flag == "lo"), "{flags:?}");
        }
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let map = RawMap::new(&file(b"")).unwrap();
        assert!(map.copy_out(&mut [0], 0).is_err());
        assert!(map.copy_out(&mut [0], 0).is_err());
    }
}

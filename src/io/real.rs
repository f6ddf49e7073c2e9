//! The real directory, clock and random generator.
//!
//! Invariant: every file is reached by one name under the directory's descriptor, never by a
//! path, so nobody can put another file or a link in its place on the way.
#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "this is where the library meets the real machine"
    )
)]

use std::ffi::CString;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::io::{
    Access, BLOCK_LEN, Disk, DiskFile, Lock, LockGuard, Map, check_file_len, check_name,
};
use crate::source::{Clock, Random};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::sys::{self, RawMap};

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    dir: File,
}

impl RealDisk {
    /// Opens a directory that is there.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            dir: open_directory(path)?,
        })
    }

    /// Makes a directory of mode 0700, and its parents if need be, durably. It may be there
    /// already; then its mode stays.
    pub fn create(path: &Path) -> io::Result<Self> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let missing = parent
            .ancestors()
            .take_while(|ancestor| !ancestor.exists())
            .count();
        DirBuilder::new().recursive(true).create(parent)?;
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let disk = Self::open(path)?;
                // Whoever made it may have died before this. A parent that may not be read is
                // not ours to make durable.
                match sync_directory(parent) {
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                    result => result?,
                }
                return Ok(disk);
            }
            Err(error) => return Err(error),
        }
        let disk = Self::open(path)?;
        // Each directory that was missing has its name in the one above it.
        for ancestor in parent.ancestors().take(missing + 1) {
            let named = !ancestor.as_os_str().is_empty();
            sync_directory(if named { ancestor } else { Path::new(".") })?;
        }
        Ok(disk)
    }

    /// Opens a name and refuses what is not a regular file with one link.
    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<File> {
        check_name(name)?;
        // Without NONBLOCK a pipe put in the file's place would hold us for ever.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = retry_on_intr(|| rustix::fs::openat(&self.dir, name, flags, FILE_MODE));
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(not_a_file()),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        // Removed since it was opened.
        if stat.st_nlink == 0 {
            return Err(ErrorKind::NotFound.into());
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
            return Err(not_a_file());
        }
        Ok(file)
    }

    fn take(&self, name: &str, lock: Lock) -> io::Result<RealLock> {
        let Some(file) = self.open_lock_file(name, lock)? else {
            return Ok(RealLock { file: None, lock });
        };
        let result = match lock {
            Lock::Exclusive => file.try_lock(),
            Lock::Shared => file.try_lock_shared(),
        };
        match result {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let taken = RealLock {
            file: Some(file),
            lock,
        };
        if let (Some(file), Lock::Exclusive) = (&taken.file, lock) {
            file.set_len(0)?;
            match file.write_all_at(std::process::id().to_string().as_bytes(), 0) {
                // A full disk: it is locked all the same, only nobody is told by whom.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
                    ) => {}
                written => written?,
            }
        }
        Ok(taken)
    }

    fn open_lock_file(&self, name: &str, lock: Lock) -> io::Result<Option<File>> {
        match lock {
            Lock::Exclusive => self.open_at(name, OFlags::RDWR | OFlags::CREATE).map(Some),
            Lock::Shared => match self.open_at(name, OFlags::RDONLY) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    match self.open_at(name, OFlags::RDONLY | OFlags::CREATE) {
                        // Nobody who has the same rights can write here, so there is nobody to
                        // be protected from.
                        Err(error) if cannot_write(&error) => Ok(None),
                        result => result.map(Some),
                    }
                }
                result => result.map(Some),
            },
        }
    }
}

impl Disk for RealDisk {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        check_file_len(len)?;
        let file = self.open_at(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        if let Err(error) = allocate(&file, len) {
            drop(file);
            // The error that counts is the first one.
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(Arc::new(RealFile::new(file)))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
            Access::Bulk => OFlags::RDWR | OFlags::DIRECT,
            Access::Medium => OFlags::RDONLY | OFlags::DIRECT,
        };
        let opened = match self.open_at(name, flags) {
            // A file system that knows only its cache: some in memory, some over a network.
            Err(error) if flags.contains(OFlags::DIRECT) && cannot_be_direct(&error) => {
                self.open_at(name, flags - OFlags::DIRECT)
            }
            opened => opened,
        };
        Ok(Arc::new(RealFile::new(opened?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        Ok(retry_on_intr(|| {
            rustix::fs::renameat(&self.dir, from, &self.dir, to)
        })?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        Ok(retry_on_intr(|| {
            rustix::fs::unlinkat(&self.dir, name, AtFlags::empty())
        })?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            // Some file systems do not tell the type: better one name too many.
            if entry.file_type() != FileType::Directory {
                names.push(
                    CString::from(entry.file_name())
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.dir.sync_all()
    }

    fn lock(&self, name: &str, lock: Lock) -> io::Result<Box<dyn LockGuard>> {
        Ok(Box::new(self.take(name, lock)?))
    }

    fn lock_owner(&self, name: &str) -> Option<u32> {
        let file = self.open_at(name, OFlags::RDONLY).ok()?;
        let mut text = [0; 16];
        let len = file.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(&text[..len]).ok()?.trim().parse().ok()
    }

    fn allocated_len(&self, name: &str) -> io::Result<u64> {
        check_name(name)?;
        let stat = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        // Some file systems count what they need to find the blocks, too.
        let (blocks, len) = (stat.st_blocks as u64, stat.st_size as u64);
        Ok(blocks.saturating_mul(512).min(len))
    }

    fn exposed(&self) -> io::Result<Vec<String>> {
        let mut names = self.list()?;
        names.insert(0, ".".to_owned());
        let is_private = |name: &String| {
            let stat = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok::<bool, io::Error>(stat.st_mode & 0o077 == 0)
        };
        let mut exposed = Vec::new();
        for name in names {
            if !is_private(&name)? {
                exposed.push(name);
            }
        }
        Ok(exposed)
    }

    fn free_len(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A long read that begins so little behind the end of the one before goes on with it: between the
/// pages of two batches of the log are header slots.
const GAP_LEN: usize = 32 << 10;
/// A read of so many bytes is a long one.
const LONG_LEN: usize = 32 << 10;

/// An open file of a [`RealDisk`].
#[derive(Debug)]
struct RealFile {
    file: File,
    /// Where the last long read ended.
    long_end: AtomicU64,
}

impl RealFile {
    fn new(file: File) -> Self {
        Self {
            file,
            long_end: AtomicU64::new(0),
        }
    }

    /// Reads what is between the last long read and this one, if that is little. The system reads ahead, and
    /// keeps what it read on large pages, only where each read begins where the one before ended.
    fn close_gap(&self, offset: u64, len: usize) {
        let end = offset + len as u64;
        let before = self.long_end.swap(end, Ordering::Relaxed);
        let gap = offset
            .checked_sub(before)
            .and_then(|gap| gap.try_into().ok());
        if let Some(gap @ 1..=GAP_LEN) = gap {
            // Nobody asked for these bytes, so nobody misses them.
            let _ = self.file.read_exact_at(&mut vec![0; gap], before);
        }
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if buf.len() >= LONG_LEN {
            self.close_gap(offset, buf.len());
        }
        self.file.read_exact_at(buf, offset)
    }

    fn read_up_to_end(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut count = 0;
        while let Some(rest) = buf.get_mut(count..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + count as u64) {
                Ok(0) => break,
                // Past the cache the next read would not begin at a block: this was the end.
                Ok(read) if read % BLOCK_LEN != 0 && read < rest.len() => return Ok(count + read),
                Ok(read) => count += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        // The position of the descriptor moves, which nothing here depends on.
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(_) => Ok((offset < self.len()?).then_some(offset)),
        }
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, flags, offset, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(ErrorKind::Unsupported.into()),
            punched => Ok(punched?),
        }
    }

    fn fill_holes(&self, len: u64) -> io::Result<()> {
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(ErrorKind::Unsupported.into()),
            filled => Ok(filled?),
        }
    }

    fn keep_room(&self, end: u64) -> io::Result<()> {
        let len = self.len()?;
        if len >= end {
            return Ok(());
        }
        let room = end - len;
        match retry_on_intr(|| {
            rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, len, room)
        }) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn write_back(&self, offset: u64, len: u64) -> io::Result<()> {
        match retry_on_intr(|| sys::write_back(&self.file, offset, len)) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::SPIPE) => Ok(()),
            written => Ok(written?),
        }
    }

    fn drop_cache(&self) {
        // Only advice: where it is not taken, the memory is reclaimed when it is needed.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn map(&self) -> io::Result<Arc<dyn Map>> {
        Ok(Arc::new(RawMap::new(&self.file)?))
    }
}

impl Map for RawMap {
    fn copy_out(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        RawMap::copy_out(self, buf, offset)
    }
}

#[derive(Debug)]
struct RealLock {
    /// `None` if the file could not be made where nobody can write.
    file: Option<File>,
    lock: Lock,
}

impl LockGuard for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        let Some(file) = &self.file else {
            return;
        };
        if self.lock == Lock::Exclusive {
            // Otherwise we would be blamed for what a later shared owner holds. Nothing depends
            // on it: a killed process leaves its id, too.
            let _ = file.set_len(0);
        }
        // A close alone is not enough: a child that another thread is about to start has the file
        // open as well, until its `exec`, and the lock is that of the open file, see flock(2).
        let _ = file.unlock();
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // The clock of the last timer tick, a few milliseconds ago: each read of a page asks for
        // the time, and this one is read in a few nanoseconds.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        // A clock before 1970 is as wrong as one in 1970.
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let millis = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
        seconds.saturating_mul(1000).saturating_add(millis)
    }
}

/// The random generator of the operating system, asked anew each time: a copy that a program
/// keeps for itself would repeat itself in a copy of its virtual machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    /// Panics if the operating system has no random generator, which no supported kernel lacks:
    /// there is no safe way to go on.
    fn fill(&self, buf: &mut [u8]) {
        getrandom::fill(buf).expect("every supported kernel has getrandom, which cannot fail");
    }
}

/// Descriptors that this process may have open, if that is limited.
pub fn descriptors_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?.into())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    open_directory(path)?.sync_all()
}

/// Gives a new file its length and its space.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len)) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeroes(file, len),
        Err(error) => Err(error.into()),
    }
}

fn write_zeroes(file: &File, len: u64) -> io::Result<()> {
    let zeroes = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < len {
        let count = zeroes
            .len()
            .min(usize::try_from(len - offset).unwrap_or(usize::MAX));
        file.write_all_at(&zeroes[..count], offset)?;
        offset += count as u64;
    }
    Ok(())
}

fn not_a_file() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        "it is not a regular file with one link",
    )
}

fn cannot_be_direct(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

fn cannot_write(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

#[cfg(test)]
mod tests;

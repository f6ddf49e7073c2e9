//! A directory of the simulated machine, and its open files.

use std::fmt;
use std::io;

use rustix::io::Errno;

use super::state::InodeNo;
use super::{SimMachine, WriteEvent};
use crate::io::{Access, BLOCK_LEN, Disk, DiskFile, Lock, LockGuard, Map, check_name, is_aligned};
use crate::sync::Arc;

/// The id of the one process of a simulated machine.
const PID: u32 = 1;

/// A directory of a [`SimMachine`]. Clones are the same directory.
#[derive(Clone, Debug)]
pub struct SimDisk {
    machine: SimMachine,
    directory: Arc<str>,
}

impl SimDisk {
    pub(super) fn new(machine: SimMachine, directory: Arc<str>) -> Self {
        Self { machine, directory }
    }

    /// The machine it is in.
    pub fn machine(&self) -> &SimMachine {
        &self.machine
    }

    fn file(&self, no: InodeNo, handle: Arc<()>, access: Access) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            machine: self.machine.clone(),
            no,
            handle,
            access,
        })
    }
}

impl Disk for SimDisk {
    fn describe(&self) -> String {
        format!("{} (simulated)", self.directory)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let mut state = self.machine.0.state.lock();
        let no = state.create(&self.directory, name, len)?;
        let handle = state.handle(no);
        Ok(self.file(no, handle, Access::ReadWrite))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let mut state = self.machine.0.state.lock();
        let no = state.find(&self.directory, name)?;
        let handle = state.handle(no);
        Ok(self.file(no, handle, access))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        self.machine
            .0
            .state
            .lock()
            .rename(&self.directory, from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.machine.0.state.lock().remove(&self.directory, name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.machine.0.state.lock();
        Ok(state
            .names(&self.directory)
            .keys()
            .map(|name| name.to_string())
            .collect())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.machine.before_barrier();
        self.machine.0.state.lock().commit_names(&self.directory);
        Ok(())
    }

    fn lock(&self, name: &str, lock: Lock) -> io::Result<Box<dyn LockGuard>> {
        check_name(name)?;
        let mut state = self.machine.0.state.lock();
        if state.find(&self.directory, name).is_err() {
            state.create(&self.directory, name, 0)?;
        }
        let key = (Arc::clone(&self.directory), Arc::from(name));
        if !state.try_lock(key.clone(), lock) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock {
            machine: self.machine.clone(),
            key,
        }))
    }

    /// The id is not in the file, so that no crash needs to consider that write.
    fn lock_owner(&self, name: &str) -> Option<u32> {
        let state = self.machine.0.state.lock();
        state
            .is_locked_exclusively(&self.directory, name)
            .then_some(PID)
    }

    fn allocated_len(&self, name: &str) -> io::Result<u64> {
        check_name(name)?;
        let state = self.machine.0.state.lock();
        let no = state.find(&self.directory, name)?;
        Ok(state.inode(no).live.allocated_len())
    }

    fn free_len(&self) -> io::Result<u64> {
        Ok(self.machine.0.state.lock().free_len)
    }
}

struct SimFile {
    machine: SimMachine,
    no: InodeNo,
    handle: Arc<()>,
    access: Access,
}

impl SimFile {
    /// The medium is read in whole blocks.
    fn check_read(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let is_whole = is_aligned(buf) && offset.is_multiple_of(BLOCK_LEN as u64);
        match self.access == Access::Medium && !is_whole {
            true => Err(Errno::INVAL.into()),
            false => Ok(()),
        }
    }

    fn fill(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.machine.0.state.lock();
        let inode = state.inode(self.no);
        match self.access {
            Access::Medium => inode.read_medium(buf, offset),
            _ => inode.live.read(buf, offset),
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.machine.0.state.lock().inode(self.no).live.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.check_read(buf, offset)?;
        self.fill(buf, offset)
    }

    fn read_up_to_end(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check_read(buf, offset)?;
        let left = self.len()?.saturating_sub(offset);
        let count = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.fill(&mut buf[..count], offset)?;
        Ok(count)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if matches!(self.access, Access::Read | Access::Medium) {
            return Err(Errno::BADF.into());
        }
        let is_whole = is_aligned(buf) && offset.is_multiple_of(BLOCK_LEN as u64);
        if self.access == Access::Bulk && !is_whole {
            return Err(Errno::INVAL.into());
        }
        let (directory, name) = {
            let mut state = self.machine.0.state.lock();
            state.write(self.no, buf, offset, self.access == Access::Bulk)?;
            let inode = state.inode(self.no);
            (Arc::clone(&inode.directory), Arc::clone(&inode.name))
        };
        let event = WriteEvent {
            directory: &directory,
            name: &name,
            offset,
            bytes: buf,
        };
        self.machine.after_write(&event);
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        if matches!(self.access, Access::Read | Access::Medium) {
            return Err(Errno::BADF.into());
        }
        self.machine.0.state.lock().punch(self.no, offset, len)
    }

    fn fill_holes(&self, len: u64) -> io::Result<()> {
        if matches!(self.access, Access::Read | Access::Medium) {
            return Err(Errno::BADF.into());
        }
        self.machine.0.state.lock().fill_holes(self.no, len)
    }

    fn drop_cache(&self) {
        self.machine.0.state.lock().inode_mut(self.no).drop_cache();
    }

    fn sync(&self) -> io::Result<()> {
        self.machine.before_barrier();
        self.machine.0.state.lock().commit_bytes(self.no);
        Ok(())
    }

    fn lose_unsynced(&self) {
        self.machine.0.state.lock().lose_bytes(self.no);
    }

    fn map(&self) -> io::Result<Arc<dyn Map>> {
        let (machine, handle) = (self.machine.clone(), Arc::clone(&self.handle));
        Ok(Arc::new(SimMap {
            machine,
            no: self.no,
            len: self.len()?,
            _handle: handle,
        }))
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({:?}, {:?})", self.no, self.access)
    }
}

struct SimMap {
    machine: SimMachine,
    no: InodeNo,
    len: u64,
    _handle: Arc<()>,
}

impl Map for SimMap {
    fn copy_out(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match offset.checked_add(buf.len() as u64) {
            Some(end) if end <= self.len => self
                .machine
                .0
                .state
                .lock()
                .inode(self.no)
                .live
                .read(buf, offset),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl fmt::Debug for SimMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimMap({:?}, {} bytes)", self.no, self.len)
    }
}

#[derive(Debug)]
struct SimLock {
    machine: SimMachine,
    key: (Arc<str>, Arc<str>),
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.machine.0.state.lock().unlock(&self.key);
    }
}

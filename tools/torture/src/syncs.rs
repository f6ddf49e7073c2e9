//! A disk that notes what is synced, and whether that made anything durable.

use std::io::Result;
use std::sync::{Arc, Mutex};

use offshoot::io::sim::SimMachine;
use offshoot::io::{Access, Disk, DiskFile, Lock, LockGuard, Map};

/// What was synced, in order. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<Sync>>>);

/// A sync of a file or a directory's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The directory, and the name that the file was opened by.
    pub of: String,
    /// Whether anything was pending there.
    pub matters: bool,
}

impl Journal {
    pub fn entries(&self) -> Vec<Sync> {
        self.0.lock().unwrap().clone()
    }

    /// A directory of a machine that writes here what it syncs.
    pub fn wrap(
        &self,
        machine: &SimMachine,
        directory: &str,
        disk: Arc<dyn Disk>,
    ) -> Arc<dyn Disk> {
        let (directory, machine) = (directory.to_owned(), machine.clone());
        Arc::new(Noted {
            directory,
            disk,
            machine,
            journal: self.clone(),
        })
    }

    fn note(
        &self,
        machine: &SimMachine,
        of: String,
        sync: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let pending = || machine.pending_write_count() + machine.pending_name_count();
        let before = pending();
        let done = sync();
        self.0.lock().unwrap().push(Sync {
            of,
            matters: pending() < before,
        });
        done
    }
}

#[derive(Debug)]
struct Noted {
    directory: String,
    disk: Arc<dyn Disk>,
    machine: SimMachine,
    journal: Journal,
}

impl Noted {
    fn file(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let name = format!("{}/{name}", self.directory);
        let (machine, journal) = (self.machine.clone(), self.journal.clone());
        Arc::new(NotedFile {
            name,
            file,
            machine,
            journal,
        })
    }
}

impl Disk for Noted {
    fn describe(&self) -> String {
        self.disk.describe()
    }

    fn create(&self, name: &str, len: u64) -> Result<Arc<dyn DiskFile>> {
        Ok(self.file(name, self.disk.create(name, len)?))
    }

    fn open(&self, name: &str, access: Access) -> Result<Arc<dyn DiskFile>> {
        Ok(self.file(name, self.disk.open(name, access)?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> Result<Vec<String>> {
        self.disk.list()
    }

    fn sync_names(&self) -> Result<()> {
        let names = format!("{}/(names)", self.directory);
        self.journal
            .note(&self.machine, names, || self.disk.sync_names())
    }

    fn lock(&self, name: &str, lock: Lock) -> Result<Box<dyn LockGuard>> {
        self.disk.lock(name, lock)
    }

    fn lock_owner(&self, name: &str) -> Option<u32> {
        self.disk.lock_owner(name)
    }

    fn allocated_len(&self, name: &str) -> Result<u64> {
        self.disk.allocated_len(name)
    }

    fn free_len(&self) -> Result<u64> {
        self.disk.free_len()
    }
}

#[derive(Debug)]
struct NotedFile {
    name: String,
    file: Arc<dyn DiskFile>,
    machine: SimMachine,
    journal: Journal,
}

impl DiskFile for NotedFile {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.file.punch(offset, len)
    }

    fn fill_holes(&self, len: u64) -> Result<()> {
        self.file.fill_holes(len)
    }

    fn sync(&self) -> Result<()> {
        self.journal
            .note(&self.machine, self.name.clone(), || self.file.sync())
    }

    fn lose_unsynced(&self) {
        self.file.lose_unsynced();
    }

    fn map(&self) -> Result<Arc<dyn Map>> {
        self.file.map()
    }
}

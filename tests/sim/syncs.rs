//! A disk that notes what is synced, so that a dropped sync can be named.

use std::io::Result;
use std::sync::{Arc, Mutex};

use offshoot::io::{Access, Disk, DiskFile, Lock, LockGuard, Map};

/// What was synced, in order. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub fn entries(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// A disk that writes here what it syncs.
    pub fn wrap(&self, directory: &str, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(Noted {
            directory: directory.to_owned(),
            disk,
            journal: self.clone(),
        })
    }

    fn note(&self, directory: &str, name: &str) {
        self.0.lock().unwrap().push(format!("{directory}/{name}"));
    }
}

#[derive(Debug)]
struct Noted {
    directory: String,
    disk: Arc<dyn Disk>,
    journal: Journal,
}

impl Noted {
    fn file(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let (directory, journal) = (self.directory.clone(), self.journal.clone());
        Arc::new(NotedFile {
            directory,
            name: name.to_owned(),
            file,
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
        self.journal.note(&self.directory, "(names)");
        self.disk.sync_names()
    }

    fn lock(&self, name: &str, lock: Lock) -> Result<Box<dyn LockGuard>> {
        self.disk.lock(name, lock)
    }

    fn lock_owner(&self, name: &str) -> Option<u32> {
        self.disk.lock_owner(name)
    }

    fn free_len(&self) -> Result<u64> {
        self.disk.free_len()
    }
}

#[derive(Debug)]
struct NotedFile {
    directory: String,
    name: String,
    file: Arc<dyn DiskFile>,
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

    fn sync(&self) -> Result<()> {
        self.journal.note(&self.directory, &self.name);
        self.file.sync()
    }

    fn map(&self) -> Result<Arc<dyn Map>> {
        self.file.map()
    }
}

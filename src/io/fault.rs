//! A disk whose N-th call fails, for tests and experiments.
//!
//! A call that fails does nothing to the disk below, but for syncs of files: some of what they were to make durable is
//! lost in a simulation, as it is under Linux. Calls are counted over the directory, its
//! files and their maps, in the order in which they are made.

use std::io;

use crate::io::{Access, Disk, DiskFile, Lock, LockGuard, Map};
use crate::sync::{Arc, Mutex};

/// A directory over another one, with faults on demand. Clones share the faults.
#[derive(Clone, Debug)]
pub struct FaultDisk {
    inner: Arc<dyn Disk>,
    faults: Faults,
}

/// What is counted and what fails. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

/// Kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `read_exact_at`, `read_up_to_end`, `copy_out`, `len`, `allocated_len`, `free_len`.
    Read,
    /// `write_all_at` and `punch`.
    Write,
    /// `sync` and `sync_names`.
    Sync,
    /// `open`, `rename`, `remove`, `list`.
    Names,
    /// `create`.
    Create,
    /// `lock`; `lock_owner` cannot fail and is not counted.
    Lock,
    /// `map`.
    Map,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// With an error of this kind.
    Kind(io::ErrorKind),
    /// With this error number of the operating system.
    Os(i32),
}

impl From<io::ErrorKind> for Failure {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Kind(kind)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Kind(kind) => io::Error::new(kind, "an injected fault"),
            Failure::Os(number) => io::Error::from_raw_os_error(number),
        }
    }
}

/// How often calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Only the N-th.
    Once,
    /// The N-th and all after it.
    ForGood,
}

#[derive(Debug, Default)]
struct Plan {
    /// Calls of one class only, if there is one.
    class: Option<Class>,
    calls: u64,
    armed: Option<(u64, Failure, Times)>,
    failed: u64,
}

impl Faults {
    /// Makes the `n`-th counted call from now fail; the next one is 1.
    pub fn fail_nth(&self, n: u64, failure: impl Into<Failure>, times: Times) {
        let mut plan = self.0.lock();
        plan.armed = Some((plan.calls.saturating_add(n), failure.into(), times));
    }

    /// From now on counts, and fails, calls of this class only.
    pub fn count_only(&self, class: Class) {
        self.0.lock().class = Some(class);
    }

    /// From now on counts calls of all classes.
    pub fn count_all(&self) {
        self.0.lock().class = None;
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        self.0.lock().armed = None;
    }

    /// Calls counted so far, failed ones included.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// Calls that were made to fail so far.
    pub fn failed(&self) -> u64 {
        self.0.lock().failed
    }

    fn pass(&self, class: Class) -> io::Result<()> {
        let mut plan = self.0.lock();
        if plan.class.is_some_and(|only| only != class) {
            return Ok(());
        }
        plan.calls += 1;
        match plan.armed {
            Some((at, failure, times))
                if plan.calls == at || plan.calls > at && times == Times::ForGood =>
            {
                plan.failed += 1;
                Err(failure.into())
            }
            _ => Ok(()),
        }
    }
}

impl FaultDisk {
    /// A disk that does what `inner` does until it is told to fail.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            faults: Faults::default(),
        }
    }

    /// Its faults.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    fn wrap(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultFile {
            inner,
            faults: self.faults.clone(),
        })
    }
}

impl Disk for FaultDisk {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.pass(Class::Create)?;
        Ok(self.wrap(self.inner.create(name, len)?))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.pass(Class::Names)?;
        Ok(self.wrap(self.inner.open(name, access)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.pass(Class::Names)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.pass(Class::Names)?;
        self.inner.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.faults.pass(Class::Names)?;
        self.inner.list()
    }

    fn sync_names(&self) -> io::Result<()> {
        self.faults.pass(Class::Sync)?;
        Disk::sync_names(&*self.inner)
    }

    fn lock(&self, name: &str, lock: Lock) -> io::Result<Box<dyn LockGuard>> {
        self.faults.pass(Class::Lock)?;
        self.inner.lock(name, lock)
    }

    fn lock_owner(&self, name: &str) -> Option<u32> {
        self.inner.lock_owner(name)
    }

    fn allocated_len(&self, name: &str) -> io::Result<u64> {
        self.faults.pass(Class::Read)?;
        self.inner.allocated_len(name)
    }

    fn exposed(&self) -> io::Result<Vec<String>> {
        self.faults.pass(Class::Read)?;
        self.inner.exposed()
    }

    fn free_len(&self) -> io::Result<u64> {
        self.faults.pass(Class::Read)?;
        self.inner.free_len()
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn DiskFile>,
    faults: Faults,
}

impl DiskFile for FaultFile {
    fn len(&self) -> io::Result<u64> {
        self.faults.pass(Class::Read)?;
        self.inner.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.faults.pass(Class::Read)?;
        self.inner.read_exact_at(buf, offset)
    }

    fn read_up_to_end(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.pass(Class::Read)?;
        self.inner.read_up_to_end(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.faults.pass(Class::Write)?;
        self.inner.write_all_at(buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.faults.pass(Class::Read)?;
        self.inner.next_data(offset)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.faults.pass(Class::Write)?;
        self.inner.punch(offset, len)
    }

    fn fill_holes(&self, len: u64) -> io::Result<()> {
        self.faults.pass(Class::Write)?;
        self.inner.fill_holes(len)
    }

    fn keep_room(&self, end: u64) -> io::Result<()> {
        // No fault: room is not promised, so that it fails is no error to anybody.
        self.inner.keep_room(end)
    }

    fn write_back(&self, offset: u64, len: u64) -> io::Result<()> {
        // No fault: if it fails, that is as if the write before had failed.
        self.inner.write_back(offset, len)
    }

    fn drop_cache(&self) {
        self.inner.drop_cache();
    }

    fn lose_unsynced(&self) {
        self.inner.lose_unsynced();
    }

    fn sync(&self) -> io::Result<()> {
        if let Err(error) = self.faults.pass(Class::Sync) {
            self.inner.lose_unsynced();
            return Err(error);
        }
        // Spelled so that a search for who decides to sync does not find who only passes it on.
        DiskFile::sync(&*self.inner)
    }

    fn map(&self) -> io::Result<Arc<dyn Map>> {
        self.faults.pass(Class::Map)?;
        Ok(Arc::new(FaultMap {
            inner: self.inner.map()?,
            faults: self.faults.clone(),
        }))
    }
}

#[derive(Debug)]
struct FaultMap {
    inner: Arc<dyn Map>,
    faults: Faults,
}

impl Map for FaultMap {
    fn copy_out(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.faults.pass(Class::Read)?;
        self.inner.copy_out(buf, offset)
    }
}

#[cfg(test)]
mod tests;

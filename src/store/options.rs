//! How a store is made and opened.

use std::path::Path;
use std::time::Duration;

use crate::btree::Fanout;
use crate::error::{Error, Result};
use crate::format::superblock::Geometry;
use crate::io::Disk;
use crate::io::real::{RealDisk, SystemClock, SystemRandom, descriptors_max};
use crate::kms::KeyService;
use crate::source::{Clock, Random};
use crate::store::handles::Store;
use crate::store::open;
use crate::sync::Arc;
use crate::units::{Location, SLOT_LEN};

/// How long an open store goes on with keys that it has in memory once their KMS key is not
/// available any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The KMS is asked again at the first use after so long. Then the keys are wiped.
    Lease(Duration),
    /// Until the store is closed.
    OnDetach,
}

/// How to make or open a store, like `std::fs::OpenOptions`.
#[derive(Clone, Debug)]
pub struct Options {
    page_len: u32,
    segment_len: u64,
    pub(super) cache_bytes: usize,
    pub(super) open_segments: usize,
    pub(super) workers: usize,
    pub(super) read_only: bool,
    pub(super) revocation: Revocation,
    pub(super) accept_rollback: bool,
    pub(super) fanout: Fanout,
    pub(super) space_target: f64,
    pub(super) auto_reclaim: bool,
    pub(super) reclaim_rate: Option<u64>,
}

/// The machine under a store: where files are, what time it is, and where randomness comes from.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The store's directory.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for keys, salts and ids. It must never repeat, not in another process and not
    /// after a crash; only a store on a simulated disk may be given a seeded one.
    pub random: Arc<dyn Random>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            page_len: SLOT_LEN as u32,
            segment_len: 64 << 20,
            cache_bytes: 64 << 20,
            open_segments: default_open_segments(),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            read_only: false,
            revocation: Revocation::Lease(Duration::from_secs(1)),
            accept_rollback: false,
            fanout: Fanout::default(),
            space_target: 1.35,
            auto_reclaim: true,
            reclaim_rate: None,
        }
    }
}

impl Options {
    /// Pages of 4 KiB, segments of 64 MiB, a node cache of 64 MiB, a worker for each processor.
    pub fn new() -> Self {
        Self::default()
    }

    /// Page length in bytes: 4, 8, 16, 32 or 64 KiB. Only for `create`; it stays for ever.
    pub fn page_len(mut self, bytes: u32) -> Self {
        self.page_len = bytes;
        self
    }

    /// Segment length in bytes: a multiple of 4 KiB, 1 MiB to 1 GiB. Only for `create`.
    pub fn segment_len(mut self, bytes: u64) -> Self {
        self.segment_len = bytes;
        self
    }

    /// Bytes that the cache of page-table nodes takes, roughly.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Segment files kept open, each with a descriptor and a map; those used least are closed.
    /// By default three eighths of the descriptors that the process may have, at most 4096.
    /// A few more are open while they are written to.
    pub fn open_segments(mut self, count: usize) -> Self {
        self.open_segments = count;
        self
    }

    /// Threads that help a caller to seal and open pages, if that is 512 KiB and more in one call and nobody else
    /// writes or reads several pages then; with any, one more makes checkpoints and syncs full segments. By
    /// default as many as there are processors. With 0 everything runs in the calling thread.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Whether nothing is to be written. Several processes may read a store at once.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// How soon a KMS key that is disabled or deleted stops work under way: by default within a
    /// second.
    pub fn revocation(mut self, revocation: Revocation) -> Self {
        self.revocation = revocation;
        self
    }

    /// Whether to open a store that was set back to an older state, which is `RolledBack` otherwise.
    /// The KMS logs that and goes on from there, and all volumes get new keys for new pages. A
    /// store opened for reading only is looked at, and no more.
    pub fn accept_rollback(mut self, accept: bool) -> Self {
        self.accept_rollback = accept;
        self
    }

    /// How much a store may take of the disk as a multiple of what is live, beside its log and 192 MiB:
    /// 1.35 by default, at least 1.05. Less costs more copying: see `docs/decisions/`.
    pub fn space_target(mut self, ratio: f64) -> Self {
        self.space_target = if ratio >= 1.05 { ratio } else { 1.05 };
        self
    }

    /// Whether a thread of the store gives space back while it is open, as it is by default; with no
    /// workers there is no such thread. It does so when the store takes more than it may, and when nothing was
    /// written for a moment, for what is written next. [`Store::reclaim`] does it at once.
    pub fn auto_reclaim(mut self, auto: bool) -> Self {
        self.auto_reclaim = auto;
        self
    }

    /// Most bytes a second, on average, that the store's thread reads to remove what is deleted and copies to give
    /// space back; 0 is no bound, as by default. Whoever writes is still held up, and then helps, when the store takes
    /// far more than its target, and [`Store::reclaim`] does not wait.
    pub fn reclaim_rate(mut self, bytes: u64) -> Self {
        self.reclaim_rate = (bytes > 0).then_some(bytes);
        self
    }

    /// Most items in a page-table node, 3 to 78: fewer make high trees of few pages, for tests.
    /// Any store can be opened with any value.
    pub fn fanout(mut self, items_max: usize) -> Self {
        self.fanout = Fanout::new(items_max.clamp(3, crate::format::node::NODE_ITEMS_MAX));
        self
    }

    /// Makes a store in a directory, which is made too, and opens it. The KMS must have a key
    /// with the alias `alias/offshoot-store`: it wraps the store key. Durable on return.
    pub fn create(&self, dir: impl AsRef<Path>, kms: impl KeyService + 'static) -> Result<Store> {
        let is_normal = (1 << 20..=1 << 30).contains(&self.segment_len);
        if !is_normal || !self.segment_len.is_multiple_of(SLOT_LEN as u64) {
            return Err(Error::Invalid {
                what: "segment length",
                value: self.segment_len.to_string(),
                rule: "a multiple of 4 KiB, 1 MiB to 1 GiB",
            });
        }
        self.geometry()?;
        let disk = RealDisk::create(dir.as_ref())
            .map_err(|e| directory_error("create", dir.as_ref(), e))?;
        self.create_on(real(disk), Arc::new(kms))
    }

    /// Opens a store. Only one process may have it open, unless all only read.
    pub fn open(&self, dir: impl AsRef<Path>, kms: impl KeyService + 'static) -> Result<Store> {
        self.open_on(Self::real_machine(dir.as_ref())?, Arc::new(kms))
    }

    /// Like `create`, on any machine; segments may be as short as a few slots.
    pub fn create_on(&self, machine: Machine, kms: Arc<dyn KeyService>) -> Result<Store> {
        open::create(self, self.geometry()?, &machine, kms)
    }

    /// Like `open`, on any machine.
    pub fn open_on(&self, machine: Machine, kms: Arc<dyn KeyService>) -> Result<Store> {
        open::open(self, machine, kms)
    }

    /// A directory that is there, on this machine.
    pub(super) fn real_machine(dir: &Path) -> Result<Machine> {
        let disk = RealDisk::open(dir).map_err(|e| directory_error("open", dir, e))?;
        Ok(real(disk))
    }

    fn geometry(&self) -> Result<Geometry> {
        let slots = u32::try_from(self.segment_len / SLOT_LEN as u64).unwrap_or(u32::MAX);
        let geometry = Geometry {
            page_len: self.page_len,
            segment_slots: slots,
        };
        match geometry.is_valid() {
            true => Ok(geometry),
            false => Err(Error::Invalid {
                what: "page length",
                value: self.page_len.to_string(),
                rule: "4096, 8192, 16384, 32768 or 65536 bytes, and much less than a segment",
            }),
        }
    }
}

fn default_open_segments() -> usize {
    const MOST: u64 = 4096; // far below the 65,530 maps that a process may have
    let limit = descriptors_max().map_or(MOST, |max| max / 8 * 3);
    limit.clamp(4, MOST) as usize
}

fn real(disk: RealDisk) -> Machine {
    Machine {
        disk: Arc::new(disk),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    }
}

fn directory_error(op: &'static str, dir: &Path, source: std::io::Error) -> Error {
    let location = Location::Directory(dir.display().to_string());
    match source.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::NotAStore {
            kind: crate::error::Kind::Store,
            location,
        },
        std::io::ErrorKind::StorageFull => Error::NoSpace { need: 0, free: 0 },
        _ => Error::Io {
            op,
            location,
            source,
        },
    }
}

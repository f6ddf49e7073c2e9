//! Stores for tests, in files and in memory, and a look at what they append to their log.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use offshoot::format::batch::BatchHead;
use offshoot::format::record::{PageDelta, Record, Records};
use offshoot::format::segment::segment_of_file;
use offshoot::io::sim::{SimClock, SimMachine, SimRandom};
use offshoot::io::{Access, Disk};
use offshoot::{
    Damage, ExtentKind, FileKms, HeadId, KeyId, Machine, Options, Random, Result, SlotAddr, Store,
    Volume,
};
use tempfile::TempDir;

pub const PAGE: u64 = 4096;

/// Numbers of cases that a variable asks for, as `FROM..TO`.
pub fn asked(variable: &str) -> Option<Range<u64>> {
    let range = std::env::var(variable).ok()?;
    let (from, to) = range.split_once("..").expect("FROM..TO");
    Some(from.parse().unwrap()..to.parse().unwrap())
}

/// A store and a KMS in a temporary directory.
pub struct Fixture {
    pub dir: TempDir,
    pub kms: FileKms,
    pub key: KeyId,
}

impl Fixture {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kms = FileKms::create(&dir.path().join("kms"), "local").unwrap();
        kms.create_key(Some("alias/offshoot-store")).unwrap();
        let key = kms.create_key(Some("alias/default")).unwrap().id;
        Self { dir, kms, key }
    }

    pub fn options() -> Options {
        Options::new().segment_len(1 << 20)
    }

    /// The store's directory.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// A file of the store.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn create(&self) -> Store {
        Self::options()
            .create(self.path(), self.kms.clone())
            .unwrap()
    }

    pub fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    pub fn try_open(&self) -> Result<Store> {
        Self::options().open(self.path(), self.kms.clone())
    }
}

/// A store in the directory `store` of one simulated machine, and a KMS in `kms` of another, so
/// that each can be counted, filled and killed by itself.
pub struct Sim {
    pub disks: SimMachine,
    pub vault: SimMachine,
    pub kms: FileKms,
    pub key: KeyId,
    pub options: Options,
    /// Every process draws other randomness.
    seed: AtomicU64,
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Options::new().segment_len(1 << 20).workers(0))
    }

    pub fn with(seed: u64, options: Options) -> Self {
        let vault = SimMachine::new();
        let clock = Arc::new(SimClock::new(1_000));
        let random = Arc::new(SimRandom::new(seed << 20));
        let kms = FileKms::create_on(Arc::new(vault.dir("kms")), "local", clock, random).unwrap();
        kms.create_key(Some("alias/offshoot-store")).unwrap();
        let key = kms.create_key(Some("alias/default")).unwrap().id;
        Self {
            disks: SimMachine::new(),
            vault,
            kms,
            key,
            options,
            seed: AtomicU64::new((seed << 20) + 1),
        }
    }

    fn next_seed(&self) -> u64 {
        self.seed.fetch_add(1, Ordering::Relaxed)
    }

    pub fn machine(&self) -> Machine {
        Machine {
            disk: Arc::new(self.disks.dir("store")),
            clock: Arc::new(SimClock::new(2_000)),
            random: Arc::new(SimRandom::new(self.next_seed())),
        }
    }

    pub fn create(&self) -> Store {
        self.options
            .create_on(self.machine(), Arc::new(self.kms.clone()))
            .unwrap()
    }

    pub fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    pub fn try_open(&self) -> Result<Store> {
        self.options
            .open_on(self.machine(), Arc::new(self.kms.clone()))
    }

    /// The KMS as another process opens it.
    pub fn open_kms(&self) -> FileKms {
        let clock = Arc::new(SimClock::new(3_000));
        let random = Arc::new(SimRandom::new(self.next_seed()));
        FileKms::open_on(Arc::new(self.vault.dir("kms")), clock, random).unwrap()
    }

    /// The same files after both machines' processes were killed.
    pub fn kill(&self) -> Self {
        self.on(self.disks.kill(), self.vault.kill())
    }

    /// The same store and KMS on other machines.
    pub fn on(&self, disks: SimMachine, vault: SimMachine) -> Self {
        let mut other = Self {
            disks,
            vault,
            kms: self.kms.clone(),
            key: self.key,
            options: self.options.clone(),
            // Far from the seeds that this one is going to use.
            seed: AtomicU64::new(self.next_seed() + (1 << 19)),
        };
        other.kms = other.open_kms();
        other
    }

    /// The same with store and KMS on one machine, which loses power as one.
    pub fn joined(&self) -> Self {
        let machine = SimMachine::new();
        for (from, name) in [(&self.disks, "store"), (&self.vault, "kms")] {
            let (from, to) = (from.dir(name), machine.dir(name));
            for file in from.list().unwrap() {
                let read = from.open(&file, Access::Read).unwrap();
                let mut bytes = vec![0; read.len().unwrap() as usize];
                read.read_exact_at(&mut bytes, 0).unwrap();
                let written = to.create(&file, bytes.len() as u64).unwrap();
                written.write_all_at(&bytes, 0).unwrap();
                written.sync().unwrap();
            }
            to.sync_names().unwrap();
        }
        self.on(machine.clone(), machine)
    }

    /// The bytes of a slot of the store, as they are on disk.
    pub fn raw_slots(&self, at: SlotAddr, count: usize) -> Vec<u8> {
        let disk = self.disks.dir("store");
        let file = disk.open(&segment_name(at), Access::Read).unwrap();
        let mut bytes = vec![0; count * PAGE as usize];
        file.read_exact_at(&mut bytes, u64::from(at.slot) * PAGE)
            .unwrap();
        bytes
    }

    /// Changes one bit of a file of the store.
    pub fn flip(&self, name: &str, offset: u64, bit: u32) {
        let file = self
            .disks
            .dir("store")
            .open(name, Access::ReadWrite)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 1 << bit], offset).unwrap();
    }

    /// Notes all batches from now on, and what is added to them.
    pub fn watch(&self) -> Log {
        let log = Log::default();
        let seen = log.0.clone();
        let mut last = (SlotAddr::default(), 0, 0);
        self.disks.on_write(move |event| {
            let Some(segment) = segment_of_file(event.name) else {
                return;
            };
            // A flipped bit is no batch.
            if event.bytes.len() < PAGE as usize {
                return;
            }
            let at = SlotAddr {
                segment,
                slot: (event.offset / PAGE) as u32,
            };
            // Pages that are added to a batch are written before its header is, once more.
            let left = u32::MAX - at.slot;
            let count = match BatchHead::peek(event.bytes, at, left) {
                Err(Damage::BadMagic) => return,
                count => count.unwrap(),
            };
            let slots = &event.bytes[..count as usize * PAGE as usize];
            let head = BatchHead::decode(slots, at, left).unwrap();
            let mut records: Vec<_> = Records::new(&head.records).map(Result::unwrap).collect();
            let (count, end) = (records.len(), head.end().slot);
            let start = match last {
                (place, known, end) if place == at => {
                    records.drain(..known);
                    end
                }
                _ => at.slot,
            };
            last = (at, count, end);
            let len = u64::from(end - start) * PAGE;
            seen.lock().unwrap().push(Batch { records, len, head });
        });
        log
    }
}

pub fn segment_name(at: SlotAddr) -> String {
    offshoot::format::segment::segment_file_name(at.segment)
}

/// A batch as it was written.
#[derive(Clone, Debug)]
pub struct Batch {
    pub head: BatchHead,
    pub records: Vec<Record>,
    pub len: u64,
}

/// The batches that a simulated store wrote since [`Sim::watch`].
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Batch>>>);

impl Log {
    /// The batches since the last call.
    pub fn take(&self) -> Vec<Batch> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// The pages written since the last call, with their heads; forgets all other records.
    pub fn take_pages(&self) -> Vec<(HeadId, PageDelta)> {
        let mut pages = Vec::new();
        for batch in self.take() {
            for record in batch.records {
                if let Record::Pages { head, deltas } = record {
                    pages.extend(deltas.into_iter().map(|delta| (head, delta)));
                }
            }
        }
        pages
    }
}

/// Randomness that does something once when a nonce is drawn: then pages are about to be sealed.
pub struct AtSealing {
    pub random: SimRandom,
    pub then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for AtSealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AtSealing")
    }
}

impl Random for AtSealing {
    fn fill(&self, buf: &mut [u8]) {
        self.random.fill(buf);
        // The random half of a nonce; nothing else has this length.
        if buf.len() == 8 {
            // Not with the lock in hand: what is done may draw nonces itself.
            let then = self.then.lock().unwrap().take();
            then.into_iter().for_each(|then| then());
        }
    }
}

/// Numbers that a seed repeats (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}

/// A page of one byte.
pub fn page(byte: u8) -> Vec<u8> {
    vec![byte; PAGE as usize]
}

/// The byte that a whole page of a volume is filled with.
#[track_caller]
pub fn page_byte(volume: &Volume, page: u64) -> u8 {
    let mut bytes = vec![0xEE; PAGE as usize];
    volume.read_exact_at(&mut bytes, page * PAGE).unwrap();
    assert!(
        bytes.iter().all(|byte| *byte == bytes[0]),
        "page {page} is of several writes"
    );
    bytes[0]
}

/// The bytes that the first pages of a volume are filled with.
#[track_caller]
pub fn page_bytes(volume: &Volume, count: u64) -> Vec<u8> {
    (0..count).map(|page| page_byte(volume, page)).collect()
}

/// Kind and depth of each page.
#[track_caller]
pub fn kinds(volume: &Volume) -> Vec<(ExtentKind, u32)> {
    let len = volume.len().unwrap();
    let mut kinds = Vec::new();
    for extent in volume.extents(0..len).unwrap() {
        let extent = extent.unwrap();
        let pages = extent.len / PAGE;
        kinds.extend((0..pages).map(|_| (extent.kind, extent.depth)));
    }
    kinds
}

/// All files below a directory.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

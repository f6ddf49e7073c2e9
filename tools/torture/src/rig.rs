//! A store and its key service on one simulated machine, with what watches both.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};

use offshoot::io::Disk;
use offshoot::io::sim::{SimClock, SimMachine, SimRandom, WriteEvent};
use offshoot::{
    Clock, FileKms, KeyId, KeyState, Machine, Options, Random, RekeyStart, Result, Store,
};

use crate::model::{Action, Kind, Model, SECTOR, VOLUME_LEN, bytes_of};
use crate::nonces::{self, Nonces, Slot};

/// Slots of a segment.
pub const SEGMENT_SLOTS: u32 = 8;

/// A process: a store open on a machine, with its own key service.
#[derive(Debug)]
pub struct Process {
    pub store: Store,
    pub keys: [KeyId; 2],
    kms: FileKms,
}

/// Where a process finds files and randomness.
#[derive(Clone, Debug)]
pub struct Host {
    pub store: Arc<dyn Disk>,
    pub kms: Arc<dyn Disk>,
    pub random: Arc<Dice>,
}

/// Randomness that can be given a new seed, so that two forks of one history get two.
#[derive(Debug)]
pub struct Dice(Mutex<SimRandom>);

impl Dice {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(SimRandom::new(seed))))
    }

    pub fn reseed(&self, seed: u64) {
        *self.0.lock().unwrap() = SimRandom::new(seed);
    }
}

impl Random for Dice {
    fn fill(&self, buf: &mut [u8]) {
        self.0.lock().unwrap().fill(buf);
    }
}

pub fn options() -> &'static Options {
    static OPTIONS: OnceLock<Options> = OnceLock::new();
    let segment_len = u64::from(SEGMENT_SLOTS) * 4096;
    OPTIONS.get_or_init(|| {
        Options::new()
            .segment_len(segment_len)
            .fanout(3)
            .cache_bytes(64 << 10)
            .workers(0)
    })
}

pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SimClock::new(1_000_000))
}

impl Host {
    /// The directories `store` and `kms` of a machine.
    pub fn new(machine: &SimMachine, seed: u64) -> Self {
        let (store, kms) = (Arc::new(machine.dir("store")), Arc::new(machine.dir("kms")));
        Self {
            store,
            kms,
            random: Dice::new(seed),
        }
    }

    fn machine(&self) -> Machine {
        Machine {
            disk: self.store.clone(),
            clock: clock(),
            random: self.random.clone(),
        }
    }

    /// Makes a key service with three keys.
    pub fn create_kms(&self) -> Result<()> {
        let kms = FileKms::create_on(self.kms.clone(), "local", clock(), self.random.clone())?;
        for alias in ["alias/offshoot-store", "alias/default", "alias/other"] {
            kms.create_key(Some(alias))?;
        }
        Ok(())
    }

    /// Opens the key service.
    pub fn open_kms(&self) -> Result<FileKms> {
        FileKms::open_on(self.kms.clone(), clock(), self.random.clone())
    }

    /// Makes a store; the key service is there.
    pub fn create_store(&self) -> Result<Process> {
        let kms = self.open_kms()?;
        let store = options().create_on(self.machine(), Arc::new(kms.clone()))?;
        Process::new(store, &kms)
    }

    /// Makes both.
    pub fn create(&self) -> Result<Process> {
        self.create_kms()?;
        self.create_store()
    }

    /// Enables the key if a crash left it disabled.
    pub fn enable_keys(&self) -> Result<()> {
        let kms = self.open_kms()?;
        match kms.key("alias/default")?.state {
            KeyState::Disabled => kms.enable_key("alias/default").map(drop),
            _ => Ok(()),
        }
    }

    /// Opens both, as a new process does.
    pub fn open(&self) -> Result<Process> {
        let kms = self.open_kms()?;
        let store = options().open_on(self.machine(), Arc::new(kms.clone()))?;
        Process::new(store, &kms)
    }
}

impl Process {
    fn new(store: Store, kms: &FileKms) -> Result<Self> {
        let keys = [kms.key("alias/default")?.id, kms.key("alias/other")?.id];
        let kms = kms.clone();
        Ok(Self { store, keys, kms })
    }

    /// Reads everything.
    pub fn read(&self) -> Result<Model, String> {
        Model::read(&self.store)
    }

    /// Does a call, any but [`Action::Reopen`].
    pub fn act(&self, action: &Action) -> Result<()> {
        let store = &self.store;
        let bytes = |sectors: &std::ops::Range<u64>| sectors.start * SECTOR..sectors.end * SECTOR;
        match action {
            Action::Create { name } => store
                .create_volume(name, VOLUME_LEN, &self.keys[0])
                .map(drop),
            Action::Write {
                name,
                sectors,
                number,
            } => {
                let contents = bytes_of(*number, sectors.end - sectors.start);
                store
                    .volume(name)?
                    .write_all_at(&contents, bytes(sectors).start)
            }
            Action::WriteThrough {
                name,
                sectors,
                number,
            } => {
                let contents = bytes_of(*number, sectors.end - sectors.start);
                let volume = store.volume(name)?;
                volume.write_all_at(&contents, bytes(sectors).start)?;
                volume.flush()
            }
            Action::Discard { name, sectors } => store.volume(name)?.discard(bytes(sectors)),
            Action::Zero { name, sectors } => store.volume(name)?.write_zeroes(bytes(sectors)),
            Action::Branch {
                from,
                to,
                other_key,
            } => self.branch(from, to, &self.keys[usize::from(*other_key)]),
            Action::Delete {
                kind: Kind::Volume,
                name,
            } => store.volume(name)?.delete(),
            Action::Delete {
                kind: Kind::Snapshot,
                name,
            } => store.snapshot(name)?.delete(),
            Action::Delete {
                kind: Kind::Pin,
                name,
            } => store.pin(name)?.release(),
            Action::DeleteAll { heads } => {
                let of = |kind| {
                    let names = heads.iter().filter(move |head| head.0 == kind);
                    names.map(|head| head.1.as_str()).collect::<Vec<_>>()
                };
                store.delete(&of(Kind::Volume), &of(Kind::Snapshot))
            }
            Action::Erase { kind, name } => match kind {
                Kind::Snapshot => store.snapshot(name)?.erase().map(drop),
                _ => store.volume(name)?.erase().map(drop),
            },
            Action::Rekey { name } => {
                for step in store.volume(name)?.rekey(RekeyStart::NewEpoch)? {
                    step?;
                }
                store.flush()
            }
            Action::Compact => store.compact(|_| true).map(drop),
            Action::Rename { name, to } => store.volume(name)?.rename(to),
            Action::Flush => store.flush(),
            Action::Checkpoint => store.checkpoint(),
            Action::Rotate => {
                self.kms.rotate_key("alias/default")?;
                self.kms.rotate_key("alias/offshoot-store").map(drop)
            }
            Action::OffAndOn => {
                self.kms.disable_key("alias/default")?;
                self.kms.enable_key("alias/default").map(drop)
            }
            Action::Rewrap { name, other_key } => {
                store.rewrap()?;
                let key = &self.keys[usize::from(*other_key)];
                store.volume(name)?.rewrap(key)
            }
            Action::Reopen => panic!("a process cannot reopen itself"),
        }
    }

    fn branch(&self, from: &(Kind, String), to: &(Kind, String), key: &KeyId) -> Result<()> {
        let (store, name) = (&self.store, &to.1);
        match (from.0, to.0) {
            (Kind::Volume, Kind::Volume) => {
                store.volume(&from.1)?.create_clone(name, key).map(drop)
            }
            (Kind::Volume, Kind::Snapshot) => {
                store.volume(&from.1)?.create_snapshot(name).map(drop)
            }
            (Kind::Snapshot, Kind::Volume) => {
                store.snapshot(&from.1)?.create_clone(name, key).map(drop)
            }
            (Kind::Snapshot, Kind::Snapshot) => {
                store.snapshot(&from.1)?.create_snapshot(name).map(drop)
            }
            (Kind::Volume, Kind::Pin) => store.volume(&from.1)?.pin(name).map(drop),
            (Kind::Snapshot, Kind::Pin) => store.snapshot(&from.1)?.pin(name).map(drop),
            (Kind::Pin, _) => panic!("nothing is made from a pin"),
        }
    }
}

/// Watches what is written to the segments of one machine.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Slots whose bytes somebody was told to be durable.
    acknowledged: BTreeSet<Slot>,
    written: BTreeSet<Slot>,
    faults: Vec<String>,
}

impl Watch {
    /// Starts to watch a machine on which these slots are acknowledged. Takes over its hook.
    pub fn on(machine: &SimMachine, acknowledged: BTreeSet<Slot>, nonces: &Arc<Nonces>) -> Self {
        let seen = Seen {
            acknowledged,
            ..Seen::default()
        };
        let watch = Self(Arc::new(Mutex::new(seen)));
        let (hook, nonces) = (watch.clone(), nonces.clone());
        machine.on_write(move |event| hook.see(event, &nonces));
        watch
    }

    fn see(&self, event: &WriteEvent<'_>, nonces: &Nonces) {
        if event.directory != "store" {
            return;
        }
        let mut seen = self.0.lock().unwrap();
        for slot in nonces::slots_written(event) {
            if seen.acknowledged.contains(&slot) {
                seen.faults
                    .push(format!("acknowledged slot {slot:?} was written again"));
            }
            if !nonces::only_zeroes(event, slot) {
                seen.written.insert(slot);
            }
        }
        if let Err(fault) = nonces.witness(event) {
            seen.faults.push(fault);
        }
    }

    /// All that was written until now is acknowledged.
    pub fn acknowledge(&self) {
        let mut seen = self.0.lock().unwrap();
        let written = std::mem::take(&mut seen.written);
        seen.acknowledged.extend(written);
    }

    pub fn acknowledged(&self) -> BTreeSet<Slot> {
        self.0.lock().unwrap().acknowledged.clone()
    }

    /// An error if anything was seen that must not be.
    pub fn check(&self) -> Result<(), String> {
        match self.0.lock().unwrap().faults.first() {
            None => Ok(()),
            Some(fault) => Err(fault.clone()),
        }
    }
}

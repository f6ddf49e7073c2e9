//! A machine in memory that can be killed and can lose power, for tests and experiments.
//!
//! A [`SimMachine`] has several directories ([`SimDisk`]) so that one crash hits all of them. For
//! every file it keeps what a reader sees and what is durable, with the writes between the two;
//! for every directory the same for its names. From that [`SimMachine::power_loss`] makes any
//! machine that a crash allows. Crashes never change a machine: they make a new one, so one
//! history can be explored in all its ends.
//!
//! It must be as unkind as a disk may be, never kinder: a synced file can still lose a name that
//! was not synced.

mod crash;
mod disk;
mod image;
mod seeded;
mod state;

use std::fmt;
use std::thread;

use crate::sync::{Arc, Mutex};

use state::State;

pub use crash::{Crash, SECTOR_LEN, Sectors, Unit, WriteChoice};
pub use disk::SimDisk;
pub use seeded::{SimClock, SimRandom};

/// A machine with disks in memory. Clones are the same machine.
#[derive(Clone)]
pub struct SimMachine(Arc<Core>);

struct Core {
    state: Mutex<State>,
    on_barrier: Mutex<Option<BarrierHook>>,
    on_write: Mutex<Option<WriteHook>>,
}

type BarrierHook = Box<dyn FnMut(&SimMachine) + Send>;
type WriteHook = Box<dyn FnMut(&WriteEvent<'_>) + Send>;

/// A write, as a hook sees it.
#[derive(Clone, Copy, Debug)]
pub struct WriteEvent<'a> {
    /// The name of the directory.
    pub directory: &'a str,
    /// The last name of the file.
    pub name: &'a str,
    /// Where the bytes go.
    pub offset: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// What a machine has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes of at least one byte.
    pub writes: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of directories.
    pub name_syncs: u64,
}

/// Which syncs only say that they have happened: a planted bug that tests must find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// None.
    #[default]
    Never,
    /// The one that [`SimMachine::sync_count`] counts as that number; the first is 1.
    Nth(u64),
    /// All.
    Always,
}

impl SimMachine {
    /// A machine without files.
    pub fn new() -> Self {
        Self::from_state(State::new())
    }

    /// A directory, empty and durable at its first use.
    pub fn dir(&self, name: &str) -> SimDisk {
        let name: Arc<str> = name.into();
        self.0
            .state
            .lock()
            .directories
            .entry(Arc::clone(&name))
            .or_default();
        SimDisk::new(self.clone(), name)
    }

    /// A machine on which all processes of this one were killed: no locks, open files or hooks,
    /// but all bytes and names readable, those not durable included. Both go on apart.
    pub fn kill(&self) -> Self {
        Self::from_state(self.0.state.lock().fork())
    }

    /// A machine that has lost power and started again. See [`Crash`] for the choices; one that
    /// names more than is pending keeps all.
    pub fn power_loss(&self, crash: &Crash) -> Self {
        Self::from_state(crash::lose_power(&self.0.state.lock(), crash))
    }

    /// All power losses possible now. Different ones can give the same state.
    pub fn crash_points(&self) -> Vec<Crash> {
        crash::all(&self.0.state.lock())
    }

    /// One of the power losses possible now, the same for the same seed.
    pub fn sampled_crash(&self, seed: u64) -> Crash {
        crash::sample(&self.0.state.lock(), seed)
    }

    /// One of the power losses that choose each sector or block and each name for itself, or keep one write alone; the
    /// same for the same seed. Most are none of [`SimMachine::crash_points`].
    pub fn sampled_crash_apart(&self, seed: u64) -> Crash {
        crash::sample_apart(&self.0.state.lock(), seed)
    }

    /// Writes that a power loss can undo.
    pub fn pending_write_count(&self) -> usize {
        let state = self.0.state.lock();
        state
            .reachable()
            .map(|(_, inode)| inode.pending.len())
            .sum()
    }

    /// Changes of names that a power loss can undo.
    pub fn pending_name_count(&self) -> usize {
        self.0.state.lock().changes.len()
    }

    /// Calls `hook` right before each sync of a file or directory takes effect, when most is
    /// pending, with a copy as [`SimMachine::kill`] makes it. The hook must not sync this machine.
    pub fn on_barrier(&self, hook: impl FnMut(&SimMachine) + Send + 'static) {
        *self.0.on_barrier.lock() = Some(Box::new(hook));
    }

    /// Calls `hook` after each write. The hook must not write to this machine.
    pub fn on_write(&self, hook: impl FnMut(&WriteEvent<'_>) + Send + 'static) {
        *self.0.on_write.lock() = Some(Box::new(hook));
    }

    /// Takes both hooks away, and with them what they refer to.
    pub fn clear_hooks(&self) {
        *self.0.on_barrier.lock() = None;
        *self.0.on_write.lock() = None;
    }

    /// From now on these syncs are lies.
    pub fn drop_syncs(&self, lie: Lie) {
        self.0.state.lock().lie = lie;
    }

    /// Sets how many bytes can be allocated from now on. Removing a file gives its bytes back.
    pub fn set_free_len(&self, len: u64) {
        self.0.state.lock().free_len = len;
    }

    /// What the machine has done since it was made.
    pub fn counts(&self) -> Counts {
        self.0.state.lock().counts
    }

    /// Syncs of files and of directories since the machine was made.
    pub fn sync_count(&self) -> u64 {
        let counts = self.counts();
        counts.syncs + counts.name_syncs
    }

    /// A hash of all names and bytes, live and durable, to count different states.
    pub fn fingerprint(&self) -> [u8; 32] {
        let state = self.0.state.lock();
        let mut hasher = blake3::Hasher::new();
        for (directory, names) in &state.directories {
            hash_text(&mut hasher, directory);
            for (name, no) in &*names.live {
                hash_text(&mut hasher, name);
                state.inode(*no).live.hash(&mut hasher);
            }
            hasher.update(b"durable");
            for (name, no) in &*names.durable {
                hash_text(&mut hasher, name);
                let inode = state.inode(*no);
                // Most files are durable as they are, and hashed above.
                let is_live =
                    names.live.get(name) == Some(no) && inode.durable.has_bytes_of(&inode.live);
                hasher.update(&[u8::from(is_live)]);
                if !is_live {
                    inode.durable.hash(&mut hasher);
                }
            }
        }
        *hasher.finalize().as_bytes()
    }

    fn from_state(state: State) -> Self {
        let (on_barrier, on_write) = (Mutex::new(None), Mutex::new(None));
        Self(Arc::new(Core {
            state: Mutex::new(state),
            on_barrier,
            on_write,
        }))
    }

    fn after_write(&self, event: &WriteEvent<'_>) {
        if thread::panicking() {
            return;
        }
        if let Some(hook) = &mut *self.0.on_write.lock() {
            hook(event);
        }
    }

    /// Called without the lock of the state, which the hook may want to look at.
    fn before_barrier(&self) {
        // A hook that failed must not fail again while its test unwinds.
        if thread::panicking() {
            return;
        }
        if let Some(hook) = &mut *self.0.on_barrier.lock() {
            hook(&self.kill());
        }
    }
}

impl Default for SimMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimMachine")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests;

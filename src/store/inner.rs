//! What all handles of an open store share.

use std::collections::{HashMap, HashSet};

use crate::btree::Fanout;
use crate::catalog::{Catalog, Context, Head, HeadKeys};
use crate::crypto::Secret;
use crate::error::{Error, Kind, Result};
use crate::format::batch::header_slots;
use crate::format::catalog::{HeadKind, HeadState};
use crate::format::record::Record;
use crate::format::superblock::Superblock;
use crate::io::{Disk, LockGuard};
use crate::kms::{KeyService, KmsError};
use crate::log::{LogWriter, Superblocks};
use crate::segment::{Crew, EpochKey, Segment, Segments};
use crate::source::{Clock, Random};
use crate::store::commit::Synced;
use crate::store::nodes::NodeCache;
use crate::store::reclaim::Reclaim;
use crate::store::reserve::{Credit, Relief};
use crate::store::stats::Counters;
use crate::store::worker::Bell;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, RwLock};
use crate::units::{HeadId, HeadKeyId, KeyEpoch, KeyId, KeyState, Location, Seq, SlotAddr};
use crate::volume::PageLocks;

/// Most bytes that one write call changes atomically, if a segment holds as many.
const ATOMIC_LEN_MAX: u64 = 1 << 20;

/// An open store.
///
/// Locks are taken in this order: page locks of a head, relief, checkpoint, reclaim, the turn to sync,
/// commit, keys of a head, state; the others are leaves.
#[derive(Debug)]
pub(super) struct Inner {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub kms: Arc<dyn KeyService>,
    pub fanout: Fanout,
    pub read_only: bool,
    /// No key epoch below this one seals any more.
    pub first_key_epoch: KeyEpoch,
    /// How long a head's keys are used without asking the KMS; `None` is for ever.
    pub lease_ms: Option<u64>,
    pub crew: Crew,
    pub segments: Arc<Segments>,
    pub nodes: NodeCache,
    pub counters: Counters,
    pub superblocks: Superblocks,
    pub superblock_key: Secret,
    /// The last checkpoint. Held while one is made.
    pub checkpoint: Mutex<Checkpointed>,
    /// What reclaim remembers between its steps. Held while one is made.
    pub reclaim: Mutex<Reclaim>,
    /// Bytes that the store may take for each live one.
    pub space_target: f64,
    pub auto_reclaim: bool,
    /// Bytes a second that the store's thread reads and copies for removal and reclaim.
    pub reclaim_rate: Option<u64>,
    /// Bytes that were dead when making room was of no use.
    pub no_room_len: AtomicU64,
    /// Bytes of segments from which on whoever writes helps to give space back.
    pub crowded_len: AtomicU64,
    /// How the last attempt to help a full disk went. Held while one is made.
    pub relief: Mutex<Relief>,
    /// The end of the log. Whoever holds it decides what the next batch is.
    pub commit: Mutex<Commit>,
    /// The catalog as of the last batch.
    pub state: RwLock<Catalog>,
    /// How far the log is durable.
    pub synced: Synced,
    pub durable_through: AtomicU64,
    /// The salt under which pages are sealed now.
    pub salt: Mutex<[u8; 12]>,
    pub runtimes: Mutex<HashMap<HeadId, Arc<Runtime>>>,
    /// Set when what is on disk is not known any more.
    pub poisoned: AtomicBool,
    /// Whether somebody scrubs.
    pub is_scrubbed: AtomicBool,
    /// Set by `close`.
    pub closed: AtomicBool,
    /// Wakes the thread that makes checkpoints, if there is one.
    pub bell: Option<Bell>,
    pub lock: Mutex<Option<Box<dyn LockGuard>>>,
}

/// The end of the log and what is not durable yet.
#[derive(Debug)]
pub(super) struct Commit {
    pub log: LogWriter,
    /// Segments with batches that no sync covered.
    pub unsynced: Vec<Arc<Segment>>,
    /// Bytes that a recovery would roll forward.
    pub log_len: u64,
    /// Where the log begins for a recovery from the older superblock.
    pub kept_from: SlotAddr,
    /// Bytes of the store's segments, in full or written.
    pub used_len: u64,
    /// Bytes of the tail behind the log's end, which do not count yet.
    pub tail_free_len: u64,
    /// Summaries that were appended.
    pub summaries: u64,
    /// What a checkpoint will take.
    pub credit: Credit,
}

/// The last checkpoint.
#[derive(Debug)]
pub(super) struct Checkpointed {
    pub superblock: Superblock,
    /// Head keys that the KMS knows to be in use.
    pub claimed: HashSet<HeadKeyId>,
}

/// What the handles of one head share.
#[derive(Debug)]
pub(super) struct Runtime {
    pub head: HeadId,
    pub kind: HeadKind,
    pub locks: PageLocks,
    keys: RwLock<Option<Held>>,
}

/// The keys of a head, and when the KMS last gave or confirmed them.
#[derive(Debug)]
struct Held {
    keys: Arc<HeadKeys>,
    at_ms: u64,
}

impl Inner {
    /// Refuses once the store is closed.
    pub fn open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::InvalidState {
                name: self.disk.describe(),
                state: "closed",
            });
        }
        Ok(())
    }

    /// Refuses once the store is poisoned or closed.
    pub fn usable(&self) -> Result<()> {
        self.open()?;
        match self.poisoned.load(Ordering::SeqCst) {
            true => Err(Error::Poisoned),
            false => Ok(()),
        }
    }

    /// Refuses also if the store is open for reading only.
    pub fn writable(&self) -> Result<()> {
        match self.read_only {
            true => Err(Error::ReadOnly),
            false => self.usable(),
        }
    }

    /// Stops all further writes: what is on disk is not known any more. So a full disk is no
    /// `NoSpace` here, which would say that nothing was changed.
    pub fn poison(&self, op: &'static str, at: SlotAddr, source: std::io::Error) -> Error {
        self.poisoned.store(true, Ordering::SeqCst);
        let location = Location::Slot(at);
        Error::Io {
            op,
            location,
            source,
        }
    }

    /// What applying a record needs beside the catalog.
    pub fn context(&self, at: SlotAddr, seq: Seq) -> Context<'_> {
        Context {
            nodes: &self.nodes,
            fanout: self.fanout,
            at,
            seq,
        }
    }

    /// Page length in bytes.
    pub fn page_len(&self) -> u32 {
        self.segments.geometry().page_len
    }

    /// Most pages that one batch holds: what a call changes atomically.
    pub fn atomic_pages(&self) -> usize {
        let geometry = self.segments.geometry();
        let slots = geometry.segment_slots - 1;
        let mut pages = (slots / geometry.page_slots()) as usize;
        pages = pages.min((ATOMIC_LEN_MAX / u64::from(geometry.page_len)) as usize);
        let fits = |pages: usize| {
            header_slots(Record::pages_len(pages)) + pages as u32 * geometry.page_slots() <= slots
        };
        while pages > 1 && !fits(pages) {
            pages -= 1;
        }
        pages
    }

    /// A head that is not deleted, as it is now.
    pub fn head(&self, id: HeadId, kind: HeadKind) -> Result<Head> {
        self.state
            .read()
            .head(id)
            .cloned()
            .ok_or_else(|| gone(kind, &format!("number {id}")))
    }

    /// The head of a handle, as it is now.
    pub fn head_of(&self, runtime: &Runtime) -> Result<Head> {
        self.open()?;
        self.head(runtime.head, runtime.kind)
    }

    /// What the handles of a head share.
    pub fn runtime(&self, head: &Head) -> Arc<Runtime> {
        let (id, kind) = (head.record.head, head.record.kind);
        let mut runtimes = self.runtimes.lock();
        let new = || {
            Arc::new(Runtime {
                head: id,
                kind,
                locks: PageLocks::default(),
                keys: RwLock::default(),
            })
        };
        runtimes.entry(id).or_insert_with(new).clone()
    }

    /// The keys of a head; asks the KMS for its head key when they are used first, and whether they
    /// may still be used when the lease is over.
    pub fn keys(&self, runtime: &Runtime) -> Result<Arc<HeadKeys>> {
        // The time is asked for with the lock in hand: or another thread could have been told
        // something later than now.
        let fresh = |held: &Option<Held>| {
            let held = held.as_ref()?;
            let is_fresh = self.is_fresh(held.at_ms, || self.clock.now_ms());
            is_fresh.then(|| held.keys.clone())
        };
        // Many threads read at once: they must not wait for each other here.
        if let Some(keys) = fresh(&runtime.keys.read()) {
            return Ok(keys);
        }
        let mut held = runtime.keys.write();
        if let Some(keys) = fresh(&held) {
            return Ok(keys);
        }
        let now_ms = self.clock.now_ms();
        let keys = match held.take() {
            Some(old) => self.confirm(runtime, old, &mut held)?,
            None => Arc::new(self.unlock(runtime)?),
        };
        // Whoever deletes a head wipes what is held here, after it is off the list.
        self.head(runtime.head, runtime.kind)?;
        *held = Some(Held {
            keys: keys.clone(),
            at_ms: now_ms,
        });
        Ok(keys)
    }

    /// Whether what the KMS said then still counts. A clock that went back says nothing.
    fn is_fresh(&self, at_ms: u64, now_ms: impl FnOnce() -> u64) -> bool {
        self.lease_ms.is_none_or(|lease_ms| {
            let age_ms = now_ms().checked_sub(at_ms);
            age_ms.is_some_and(|age_ms| age_ms < lease_ms)
        })
    }

    /// Asks the KMS whether keys may still be used. If it refuses they are gone; if it cannot be
    /// asked they stay, to be asked for again.
    fn confirm(
        &self,
        runtime: &Runtime,
        old: Held,
        held: &mut Option<Held>,
    ) -> Result<Arc<HeadKeys>> {
        let record = self.head(runtime.head, runtime.kind)?.record;
        let info = self.kms.head_key_info(&record.head_key, self.store_id());
        let refusal = match info {
            Ok(info) if info.state == KeyState::Enabled => return Ok(old.keys),
            Ok(info) => KmsError::Unavailable {
                key: info.key.to_string(),
                state: info.state,
            },
            Err(error) => error,
        };
        if matches!(refusal, KmsError::Failed(_)) {
            *held = Some(old);
        } else {
            // Whoever has them in hand seals nothing more; who gets them again, under a new salt.
            old.keys.retire();
            self.new_salt();
        }
        Err(kms_error(refusal, &record.kms_key))
    }

    /// Asks the KMS for a head key and unlocks the head with it.
    fn unlock(&self, runtime: &Runtime) -> Result<HeadKeys> {
        let record = self.head(runtime.head, runtime.kind)?.record;
        let store = self.store_id();
        let secret = self
            .kms
            .head_key(&record.head_key, store, record.resource_id);
        let secret = secret.map_err(|error| kms_error(error, &record.kms_key))?;
        let epoch = self.state.read().key_epoch(record.key_epoch).cloned();
        let epoch = epoch.ok_or_else(|| gone(runtime.kind, &record.name))?;
        HeadKeys::unlock(&record, &epoch, secret).map_err(|damage| Error::Corrupt {
            location: Location::File(format!("keys of {}", record.name)),
            damage,
        })
    }

    /// Gives a head that was just made the keys that made it.
    pub fn set_keys(&self, runtime: &Runtime, keys: HeadKeys) {
        let mut held = runtime.keys.write();
        // It may be deleted already: see `keys`.
        if self.head(runtime.head, runtime.kind).is_ok() {
            *held = Some(Held {
                keys: Arc::new(keys),
                at_ms: self.clock.now_ms(),
            });
        }
    }

    /// The key of an epoch, opened by a head's keys.
    pub fn epoch_key(
        &self,
        keys: &HeadKeys,
        head: &Head,
        target: KeyEpoch,
        at: SlotAddr,
    ) -> Result<Arc<EpochKey>> {
        if let Some(key) = keys.cached(target) {
            return Ok(key);
        }
        let state = self.state.read();
        let found = keys
            .open_epoch(&head.record, &state)
            .and_then(|open| keys.epoch(open, target, &state));
        found.map_err(|damage| Error::Corrupt {
            location: Location::Slot(at),
            damage,
        })
    }

    /// The store's id.
    pub fn store_id(&self) -> crate::units::StoreId {
        self.segments.store_id()
    }

    /// Draws the salt for what is sealed from now on.
    pub fn new_salt(&self) {
        self.random.fill(&mut *self.salt.lock());
    }
}

impl Runtime {
    /// Wipes the keys of a head that is deleted: at once, but for calls that are under way.
    pub fn forget(&self) {
        if let Some(held) = self.keys.write().take() {
            held.keys.retire();
        }
    }

    /// Whether a head in this state may be changed.
    pub fn check_writable(head: &Head) -> Result<()> {
        match (head.record.kind, head.record.state) {
            (HeadKind::Snapshot | HeadKind::Pin, _) => Err(Error::ReadOnly),
            (_, HeadState::ImportFailed) => Err(Error::InvalidState {
                name: head.record.name.clone(),
                state: HeadState::ImportFailed.as_str(),
            }),
            _ => Ok(()),
        }
    }
}

/// The error for a head that was deleted, or never was.
pub(super) fn gone(kind: HeadKind, name: &str) -> Error {
    Error::NotFound {
        kind: kind_of(kind),
        name: name.to_owned(),
    }
}

/// A head's kind as errors name it.
pub(super) fn kind_of(kind: HeadKind) -> Kind {
    match kind {
        HeadKind::Volume => Kind::Volume,
        HeadKind::Snapshot => Kind::Snapshot,
        HeadKind::Pin => Kind::Pin,
    }
}

/// The library's error for a refusal of the KMS.
pub(super) fn kms_error(error: KmsError, key: &KeyId) -> Error {
    match error {
        KmsError::Unavailable { key, state } => Error::KeyUnavailable { key, state },
        KmsError::NotFound(_) => Error::KeyUnavailable {
            key: key.to_string(),
            state: KeyState::Missing,
        },
        KmsError::Denied { key, action } => Error::AccessDenied { key, action },
        KmsError::Failed(error) => *error,
    }
}

//! Making, opening and recovering a store.

use std::collections::HashSet;

use crate::catalog::{Catalog, Context};
use crate::crypto::{Label, Secret};
use crate::error::{Damage, Error, Kind, Result};
use crate::format::record::{Record, Records, pack_of};
use crate::format::segment::segment_of_file;
use crate::format::superblock::{
    Geometry, NextIds, Position, STORE_KEY_LEN_MAX, Superblock, WrappedStoreKey,
};
use crate::io::{Access, Disk, Lock, LockGuard};
use crate::kms::{Context as KmsContext, KeyService, KmsError, STORE_KEY_ALIAS};
use crate::log::{Candidate, LogWriter, Scan, Superblocks, load_tables, scan, unsettled};
use crate::segment::{Crew, Segments};
use crate::store::commit::{Synced, clear_behind_end, sync_accepted};
use crate::store::handles::Store;
use crate::store::inner::{Checkpointed, Commit, Inner, kms_error};
use crate::store::mark;
use crate::store::nodes::NodeCache;
use crate::store::options::{Machine, Options, Revocation};
use crate::store::reserve::Credit;
use crate::store::stats::Counters;
use crate::store::worker::Bell;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, RwLock};
use crate::units::{
    HeadId, KeyEpoch, KeyState, LineageEpoch, Location, ResourceId, SLOT_LEN, SegmentId, Seq,
    SlotAddr, StoreId,
};

const LOCK_NAME: &str = "lock";

pub(super) fn create(
    options: &Options,
    geometry: Geometry,
    machine: &Machine,
    kms: Arc<dyn KeyService>,
) -> Result<Store> {
    let disk = &machine.disk;
    let guard = lock(&**disk, Lock::Exclusive)?;
    if is_store(&**disk)? {
        return Err(Error::AlreadyExists {
            kind: Kind::Store,
            name: disk.describe(),
        });
    }
    let mut id = [0; 16];
    machine.random.fill(&mut id);
    let store_id = StoreId(id);
    let kms_key = kms.resolve(STORE_KEY_ALIAS).map_err(|error| match error {
        KmsError::NotFound(key) => Error::WrongKms { key },
        error => kms_error(error, &Default::default()),
    })?;
    let generated = kms.generate(&kms_key, &store_key_context(store_id));
    let (wrapped, secret) = generated.map_err(|error| kms_error(error, &kms_key))?;
    if wrapped.len() > STORE_KEY_LEN_MAX {
        return Err(Error::LimitExceeded {
            limit: "bytes of a wrapped store key",
            max: STORE_KEY_LEN_MAX as u64,
        });
    }
    let superblock = Superblock {
        store_id,
        generation: 1,
        created_at_ms: machine.clock.now_ms(),
        geometry,
        clean: true,
        next: NextIds {
            head: HeadId(1),
            lineage: LineageEpoch(1),
            key_epoch: KeyEpoch(1),
        },
        position: Position::default(),
        durable_through: Seq(0),
        tables: None,
        store_key: WrappedStoreKey {
            kms_key,
            commitment: secret.commitment(),
            wrapped,
        },
    };
    Superblocks::create(&**disk, &superblock, &secret.derive(Label::Superblock))?;
    open_locked(
        &options.clone().read_only(false),
        machine.clone(),
        kms,
        guard,
    )
}

pub(super) fn open(options: &Options, machine: Machine, kms: Arc<dyn KeyService>) -> Result<Store> {
    let disk = &machine.disk;
    if Superblocks::count(&**disk)? == 0 {
        let location = Location::Directory(disk.describe());
        return Err(Error::NotAStore {
            kind: Kind::Store,
            location,
        });
    }
    let wanted = if options.read_only {
        Lock::Shared
    } else {
        Lock::Exclusive
    };
    let guard = lock(&**disk, wanted)?;
    open_locked(options, machine, kms, guard)
}

fn open_locked(
    options: &Options,
    machine: Machine,
    kms: Arc<dyn KeyService>,
    guard: Box<dyn LockGuard>,
) -> Result<Store> {
    let disk = machine.disk;
    let read_only = options.read_only;
    let access = if read_only {
        Access::Read
    } else {
        Access::ReadWrite
    };
    let (superblocks, candidates) = Superblocks::open(&*disk, access)?;
    let older: Vec<_> = candidates.iter().map(Candidate::log_start).collect();
    let (superblock, store_key) = unlock(candidates, &*kms)?;
    let segments = Arc::new(Segments::new(
        disk.clone(),
        superblock.store_id,
        superblock.geometry,
        options.open_segments,
    ));
    let nodes = NodeCache::new(segments.clone(), options.cache_bytes);
    let log_key = store_key.derive(Label::Log);
    let (mut catalog, tables_len) = load_catalog(&superblock, &segments, &nodes, options)?;
    let scan = scan(&segments, &log_key, &superblock)?;
    roll_forward(&mut catalog, &scan, &segments, &nodes, options)?;
    let checked = mark::check(
        &*kms,
        superblock.store_id,
        options,
        &superblock.position,
        &scan,
    )?;
    let first_key_epoch = match checked.is_rolled_back {
        true => catalog.next().key_epoch,
        false => checked.first_key_epoch,
    };
    segments.find_spares(access)?;
    if !read_only {
        remove_temporary(&*disk)?;
        sync_accepted(&disk, &superblocks, &segments, accepted(&superblock, &scan))?;
        // Before anything counts on where the log ends.
        clear_behind_end(&segments, unsettled(&segments, &scan.end)?)?;
        // Not before: a pack's record must be durable.
        segments.remove_stale()?;
    }
    let kept_from = kept_from(&superblock, &older);
    let log = log_writer(log_key, &superblock, &scan, &segments)?;
    let tail_free_len = tail_free_len(&log, &segments);
    let used_len = segments.allocated()?.saturating_sub(tail_free_len);
    let inner = Inner {
        disk,
        clock: machine.clock,
        random: machine.random,
        kms,
        fanout: options.fanout,
        read_only,
        first_key_epoch,
        lease_ms: lease_ms(options.revocation),
        crew: Crew::new(options.workers)?,
        segments,
        nodes,
        counters: Counters::default(),
        superblocks,
        superblock_key: store_key.derive(Label::Superblock),
        checkpoint: Mutex::new(Checkpointed {
            superblock,
            claimed: HashSet::new(),
        }),
        // What was accepted is synced now.
        synced: Synced::new(scan.end.seq),
        durable_through: AtomicU64::new(scan.end.seq.0),
        commit: Mutex::new(Commit {
            log,
            unsynced: Vec::new(),
            log_len: log_len(&scan),
            kept_from,
            used_len,
            tail_free_len,
            summaries: 0,
            credit: Credit::new(tables_len, records_len(&scan)),
        }),
        relief: Mutex::default(),
        reclaim: Mutex::default(),
        space_target: options.space_target,
        auto_reclaim: options.auto_reclaim,
        reclaim_rate: options.reclaim_rate,
        no_room_len: AtomicU64::new(0),
        crowded_len: AtomicU64::new(u64::MAX),
        state: RwLock::new(catalog),
        salt: Mutex::default(),
        runtimes: Mutex::default(),
        poisoned: AtomicBool::new(false),
        is_scrubbed: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        bell: (options.workers > 0 && !read_only).then(Bell::default),
        lock: Mutex::new(Some(guard)),
    };
    inner.new_salt();
    if !read_only {
        settle_head_keys(&inner)?;
        match checked.is_rolled_back {
            true => inner.accept_rollback(&scan.end)?,
            false => inner.raise_mark(&scan.end)?,
        }
        inner.end_imports()?;
    }
    Store::new(inner)
}

/// Whether making a store here would destroy one. One superblock and no segment is what a crash
/// leaves of a store that was just being made.
fn is_store(disk: &dyn Disk) -> Result<bool> {
    let location = || Location::Directory(disk.describe());
    let names = disk.list().map_err(|source| Error::Io {
        op: "list",
        location: location(),
        source,
    })?;
    let has_segments = names.iter().any(|name| segment_of_file(name).is_some());
    Ok(has_segments || Superblocks::count(disk)? > 1)
}

pub(super) fn lock(disk: &dyn Disk, lock: Lock) -> Result<Box<dyn LockGuard>> {
    disk.lock(LOCK_NAME, lock)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => Error::Locked {
                location: Location::Directory(disk.describe()),
                pid: disk.lock_owner(LOCK_NAME),
            },
            std::io::ErrorKind::StorageFull => Error::NoSpace { need: 0, free: 0 },
            _ => Error::Io {
                op: "lock",
                location: Location::Directory(disk.describe()),
                source,
            },
        })
}

pub(super) fn store_key_context(store: StoreId) -> KmsContext {
    KmsContext {
        store,
        resource: ResourceId(store.0),
        purpose: "store-key",
    }
}

/// The newest superblock that somebody with its store key wrote, and that key.
fn unlock(candidates: Vec<Candidate>, kms: &dyn KeyService) -> Result<(Superblock, Secret)> {
    for candidate in candidates {
        let found = &candidate.superblock;
        let key = found.store_key.kms_key;
        let context = store_key_context(found.store_id);
        let secret = match kms.decrypt(&key, &found.store_key.wrapped, &context) {
            Ok(secret) => secret,
            Err(
                KmsError::NotFound(_)
                | KmsError::Unavailable {
                    state: KeyState::Missing,
                    ..
                },
            ) => {
                return Err(Error::WrongKms {
                    key: key.to_string(),
                });
            }
            Err(error) => return Err(kms_error(error, &key)),
        };
        let is_ours = secret.commitment() == found.store_key.commitment
            && candidate.is_authentic(&secret.derive(Label::Superblock));
        if is_ours {
            return Ok((candidate.superblock, secret));
        }
    }
    Err(Error::Corrupt {
        location: Location::File("superblock-a and superblock-b".to_owned()),
        damage: Damage::BadTag,
    })
}

/// The catalog that the tables hold, and their length in bytes.
fn load_catalog(
    superblock: &Superblock,
    segments: &Segments,
    nodes: &NodeCache,
    options: &Options,
) -> Result<(Catalog, u64)> {
    let mut catalog = Catalog::new(superblock.next, superblock.geometry.page_slots());
    let Some(tables) = superblock.tables else {
        return Ok((catalog, 0));
    };
    let context = Context {
        nodes,
        fanout: options.fanout,
        at: tables.at,
        seq: superblock.position.seq,
    };
    let mut encoded = Vec::new();
    let mut len = 0;
    for record in load_tables(segments, tables)? {
        record.encode(&mut encoded);
        len += encoded.len() as u64;
        encoded.clear();
        match &record {
            Record::Salt(salt) => {
                let at = SlotAddr {
                    segment: salt.segment,
                    slot: salt.first_slot,
                };
                segments.note_salt(at, salt.salt);
            }
            Record::Pack(pack) => segments.note_pack((**pack).clone()),
            Record::Segment(_)
            | Record::Lineage(_)
            | Record::KeyEpoch(_)
            | Record::Head(_)
            | Record::Slots(_)
            | Record::Quota(_) => {
                catalog.apply(&record, context)?;
            }
            _ => {
                return Err(Error::Corrupt {
                    location: Location::Slot(tables.at),
                    damage: Damage::Inconsistent("a record that no table holds"),
                });
            }
        }
    }
    Ok((catalog, len))
}

fn roll_forward(
    catalog: &mut Catalog,
    scan: &Scan,
    segments: &Segments,
    nodes: &NodeCache,
    options: &Options,
) -> Result<()> {
    note_packs(scan, segments)?;
    for batch in &scan.batches {
        segments.note_salt(batch.at, batch.salt);
        if batch.is_table() {
            continue;
        }
        let context = Context {
            nodes,
            fanout: options.fanout,
            at: batch.at,
            seq: batch.after.seq,
        };
        for record in Records::new(&batch.records) {
            let record = record.map_err(|damage| Error::Corrupt {
                location: Location::Slot(batch.at),
                damage,
            })?;
            catalog.apply(&record, context)?;
        }
    }
    Ok(())
}

/// Where virtual segments are by the end of the log: known before any node is read, because the
/// files that they were in when a batch was appended may be gone.
fn note_packs(scan: &Scan, segments: &Segments) -> Result<()> {
    for batch in &scan.batches {
        if let Some(pack) = pack_of(&batch.records) {
            let pack = pack.map_err(|damage| Error::Corrupt {
                location: Location::Slot(batch.at),
                damage,
            })?;
            segments.note_pack(pack);
        }
    }
    Ok(())
}

/// The segments whose bytes count from the checkpoint on.
fn accepted(superblock: &Superblock, scan: &Scan) -> Vec<SegmentId> {
    let first = Some(superblock.position.end.segment).filter(|segment| segment.0 != 0);
    let rest = scan.batches.iter().map(|batch| batch.at.segment);
    let mut segments: Vec<SegmentId> = first.into_iter().chain(rest).collect();
    segments.dedup();
    segments
}

/// A clean store goes on where it ended. After a crash the end is sealed: the next batch goes to
/// a new segment, and nothing behind the end is ever looked at again.
fn log_writer(
    key: Secret,
    superblock: &Superblock,
    scan: &Scan,
    segments: &Segments,
) -> Result<LogWriter> {
    let is_clean = superblock.clean && scan.batches.is_empty() && scan.end_is_blank;
    let tail = match is_clean {
        true => Some(segments.get(scan.end.end.segment)?),
        false => None,
    };
    let last = segments.list()?.last().copied().unwrap_or_default();
    let next = last.0.checked_add(1).ok_or(Error::LimitExceeded {
        limit: "segments",
        max: u32::MAX.into(),
    })?;
    Ok(LogWriter::new(key, scan.end, tail, SegmentId(next)))
}

/// Bytes of the tail behind the log's end, if the log goes on there.
fn tail_free_len(log: &LogWriter, segments: &Segments) -> u64 {
    let slots = match log.has_tail() {
        true => segments.geometry().segment_slots - log.position().end.slot,
        false => 0,
    };
    u64::from(slots) * SLOT_LEN as u64
}

fn log_len(scan: &Scan) -> u64 {
    let slots = scan
        .batches
        .iter()
        .map(|batch| batch.after.end.slot - batch.at.slot);
    slots.map(u64::from).sum::<u64>() * SLOT_LEN as u64
}

fn records_len(scan: &Scan) -> u64 {
    let lens = scan.batches.iter().map(|batch| batch.records.len() as u64);
    lens.sum()
}

/// Where the log begins for a recovery from the older superblock, if there is one.
fn kept_from(superblock: &Superblock, all: &[SlotAddr]) -> SlotAddr {
    let before = all.iter().filter(|at| **at <= superblock.position.end);
    before.min().copied().unwrap_or(superblock.position.end)
}

/// What a crash left of a file that was being made.
fn remove_temporary(disk: &dyn Disk) -> Result<()> {
    let failed = |source| Error::Io {
        op: "clean",
        location: Location::Directory(disk.describe()),
        source,
    };
    for name in disk.list().map_err(failed)? {
        if name.ends_with(".tmp") {
            disk.remove(&name).map_err(failed)?;
        }
    }
    Ok(())
}

/// Head keys that durable records name are in use; the rest of an earlier process are destroyed:
/// somebody may have sealed under them what a crash took.
fn settle_head_keys(inner: &Inner) -> Result<()> {
    let mut checkpoint = inner.checkpoint.lock();
    let named: Vec<_> = inner
        .state
        .read()
        .heads()
        .map(|head| head.record.head_key)
        .collect();
    let key = checkpoint.superblock.store_key.kms_key;
    let store = inner.store_id();
    let settled = inner
        .kms
        .claim_head_keys(store, &named)
        .and_then(|()| inner.kms.destroy_unclaimed(store));
    settled.map_err(|error| kms_error(error, &key))?;
    checkpoint.claimed.extend(named);
    Ok(())
}

/// How long keys are used without asking the KMS, in milliseconds; `None` is for ever.
fn lease_ms(revocation: Revocation) -> Option<u64> {
    match revocation {
        Revocation::Lease(lease) => Some(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)),
        Revocation::OnDetach => None,
    }
}

#[cfg(test)]
mod tests;

//! Deleting a head so that what only it could read is never read again: by destroying keys.
//!
//! Order: tombstones of others whose keys are to go are made durable, the keys are destroyed in the KMS, then the
//! head becomes a tombstone. A crash between the last two
//! leaves a head that cannot be read and is still on the list; erasing it again does the rest. Nobody
//! branches meanwhile, for the commit lock is held from the look at who reaches what to the tombstone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::catalog::{Catalog, Reach, reach};
use crate::error::{Error, Result};
use crate::format::catalog::{HeadKind, HeadRecord, HeadState};
use crate::format::entry::Entry;
use crate::format::record::Record;
use crate::store::inner::{Commit, Inner, Runtime, kind_of, kms_error};
use crate::store::reserve::{Purpose, RECORD_SLOTS};
use crate::sync::MutexGuard;
use crate::units::{HeadId, HeadKeyId, KeyEpoch, PageNo, ResourceId};

/// What erasing a volume or snapshot destroys, and what stays readable through whom.
///
/// This is about this store and its KMS. Copies of pages that are sealed under keys of another store, and
/// keys of an older state of the KMS that somebody kept, are not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErasePlan {
    /// Bytes of its pages that nobody can read any more.
    pub erased_bytes: u64,
    /// Bytes of its pages that others still can.
    pub readable_bytes: u64,
    /// Its key epochs that no key opens any more, the newest first.
    pub erased_epochs: Vec<KeyEpoch>,
    /// The rest of its key epochs, the newest first.
    pub readable: Vec<StillReadable>,
    /// Deleted volumes and snapshots whose keys are destroyed too, because they could open what is
    /// erased: `NAME`, or `@NAME` of a snapshot.
    pub deleted: Vec<String>,
}

/// Pages that others can read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StillReadable {
    /// Bytes of the erased head's pages.
    pub bytes: u64,
    /// Their key epochs, the newest first.
    pub epochs: Vec<KeyEpoch>,
    /// Through whom: these, `NAME` or `@NAME` of a snapshot, and those of all parts before this one.
    pub through: Vec<String>,
}

impl ErasePlan {
    /// Everybody through whom something stays readable.
    pub fn readers(&self) -> impl Iterator<Item = &str> {
        let names = self.readable.iter().flat_map(|part| &part.through);
        names.map(String::as_str)
    }
}

impl fmt::Display for ErasePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (erased, readable) = (self.erased_bytes, self.readable_bytes);
        write!(f, "{erased} bytes die, {readable} stay readable")?;
        let mut separator = " through ";
        for name in self.readers() {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Bytes of pages by the key epoch they are sealed under.
type Sealed = BTreeMap<KeyEpoch, u64>;

impl Inner {
    /// What erasing a head would destroy.
    pub fn plan_erase(&self, runtime: &Runtime) -> Result<ErasePlan> {
        let sealed = self.sealed(runtime)?;
        let state = self.state.read();
        Ok(plan(&state, &reach(&state, runtime.head), &sealed))
    }

    /// Deletes a head and destroys every key that opens what only it can read. Durable on return.
    pub fn erase(&self, runtime: &Runtime) -> Result<ErasePlan> {
        self.writable()?;
        check_unprotected(&self.head_of(runtime)?.record)?;
        let sealed = self.sealed(runtime)?;
        let (mut commit, reach) = self.commit_to_erase(runtime)?;
        let record = self.head_of(runtime)?.record;
        check_unprotected(&record)?;
        let (plan, destroyed) = {
            let state = self.state.read();
            let keys = doomed(&state, &reach, &record);
            (plan(&state, &reach, &sealed), keys)
        };
        // From here on an error must not say that nothing was changed.
        let (kind, name) = (kind_of(record.kind), record.name.clone());
        let unfinished = |source| Error::EraseUnfinished {
            kind,
            name,
            source: Box::new(source),
        };
        let destroyed = self.kms.destroy_head_keys(self.store_id(), &destroyed);
        if let Err(error) = destroyed {
            return Err(match kms_error(error, &record.kms_key) {
                error @ (Error::NoSpace { .. } | Error::Io { .. }) => unfinished(error),
                // It has refused, and so has destroyed nothing.
                error => error,
            });
        }
        let tombstone = HeadRecord {
            state: HeadState::Deleted,
            ..record
        };
        let written = self.commit_records(&mut commit, &[Record::Head(Box::new(tombstone))]);
        drop(commit);
        // Whether or not that went well: the keys are of no use any more.
        runtime.forget();
        for id in reach.deleted {
            self.forget(id);
        }
        let done = written.and_then(|()| {
            self.forget(runtime.head);
            self.flush()
        });
        done.map_err(unfinished)?;
        Ok(plan)
    }

    /// Takes the commit lock when all tombstones whose keys go with this head are durable: if a crash took
    /// one back, its head would be there again, without its key.
    fn commit_to_erase(&self, runtime: &Runtime) -> Result<(MutexGuard<'_, Commit>, Reach)> {
        loop {
            let deleted: BTreeSet<HeadId> = {
                let state = self.state.read();
                state.deleted().map(|head| head.record.head).collect()
            };
            self.flush()?;
            let commit = self.commit_for(Purpose::Release, RECORD_SLOTS, 0)?;
            let reach = reach(&self.state.read(), runtime.head);
            if reach.deleted.iter().all(|id| deleted.contains(id)) {
                return Ok((commit, reach));
            }
        }
    }

    /// Wipes the keys of a head that is deleted.
    pub fn forget(&self, id: HeadId) {
        let runtime = self.runtimes.lock().remove(&id);
        runtime.iter().for_each(|runtime| runtime.forget());
    }

    fn sealed(&self, runtime: &Runtime) -> Result<Sealed> {
        let head = self.head_of(runtime)?;
        let mut sealed = Sealed::new();
        for mapped in head.tree.iter(&self.nodes, PageNo(0)..PageNo(u64::MAX)) {
            if let (_, Entry::Data(data)) = mapped? {
                *sealed.entry(data.key_epoch).or_default() += u64::from(self.page_len());
            }
        }
        Ok(sealed)
    }
}

/// Refuses what is protected.
pub(super) fn check_unprotected(record: &HeadRecord) -> Result<()> {
    match record.protected {
        true => Err(Error::Protected {
            kind: kind_of(record.kind),
            name: record.name.clone(),
        }),
        false => Ok(()),
    }
}

/// The keys to destroy. The head's own comes last: if that fails half-way, it can still be read.
fn doomed(state: &Catalog, reach: &Reach, head: &HeadRecord) -> Vec<(HeadKeyId, ResourceId)> {
    let dead = reach.deleted.iter().filter_map(|&id| state.any_head(id));
    let dead = dead.map(|dead| (dead.record.head_key, dead.record.resource_id));
    dead.chain([(head.head_key, head.resource_id)]).collect()
}

fn plan(state: &Catalog, reach: &Reach, sealed: &Sealed) -> ErasePlan {
    let bytes = |epochs: &[KeyEpoch]| epochs.iter().filter_map(|id| sealed.get(id)).sum();
    let name = |id: HeadId| name_of(state, id);
    let (erased, _) = reach.line.split_at(reach.private);
    let mut readable = Vec::new();
    for readers in reach.others.chunk_by(|a, b| a.1 == b.1) {
        let from = readers.first().map_or(0, |reader| reader.1);
        let next = reach.others.iter().map(|reader| reader.1);
        let to = next.filter(|&next| next > from).min();
        let epochs = reach.line.get(from..to.unwrap_or(reach.line.len()));
        let epochs = epochs.unwrap_or_default();
        readable.push(StillReadable {
            bytes: bytes(epochs),
            epochs: epochs.to_vec(),
            through: readers.iter().map(|&(id, _)| name(id)).collect(),
        });
    }
    ErasePlan {
        erased_bytes: bytes(erased),
        readable_bytes: readable.iter().map(|part| part.bytes).sum(),
        erased_epochs: erased.to_vec(),
        readable,
        deleted: reach.deleted.iter().map(|&id| name(id)).collect(),
    }
}

fn name_of(state: &Catalog, id: HeadId) -> String {
    let head = state.any_head(id);
    head.map_or_else(String::new, |head| display_name(&head.record))
}

/// `NAME` of a volume, `@NAME` of a snapshot, `pin NAME`.
pub(super) fn display_name(record: &HeadRecord) -> String {
    match record.kind {
        HeadKind::Volume => record.name.clone(),
        HeadKind::Snapshot => format!("@{}", record.name),
        HeadKind::Pin => format!("pin {}", record.name),
    }
}

#[cfg(test)]
mod tests;

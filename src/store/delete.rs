//! Deleting volumes and snapshots, one or many at once, and saying before what that frees.

use std::collections::BTreeSet;

use crate::catalog::{Catalog, Head};
use crate::error::Result;
use crate::format::batch::header_slots;
use crate::format::catalog::{HeadKind, HeadRecord, HeadState};
use crate::format::record::Record;
use crate::lineage::{Counts, Lineage};
use crate::store::erase::{check_unprotected, display_name};
use crate::store::handles::Store;
use crate::store::inner::{Inner, Runtime};
use crate::store::reserve::{Purpose, RECORD_SLOTS};
use crate::sync::Arc;
use crate::units::{LineageEpoch, SLOT_LEN};

/// A set is deleted in one batch if its records take no more than this part of a segment.
const BATCH_SHARE: usize = 4;
/// Bytes of records that a batch of tombstones has at most.
const BATCH_LEN_MAX: usize = 1 << 20;

/// What deleting volumes and snapshots, all at once, would free. Exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletionPlan {
    /// Bytes of pages that only they map.
    pub freed_bytes: u64,
    /// Bytes of page-table nodes that would be freed with them.
    pub freed_metadata_bytes: u64,
    /// Bytes of their pages that others map, too. A page that several of them map counts once.
    pub shared_bytes: u64,
    /// Each of them.
    pub parts: Vec<DeletionPart>,
}

/// One of several that would be deleted at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletionPart {
    /// `NAME` of a volume, `@NAME` of a snapshot.
    pub name: String,
    /// Bytes of its pages that would be freed. A page that several of the set map counts for each.
    pub freed_bytes: u64,
    /// Bytes of its pages that would be freed if it alone were deleted.
    pub alone_bytes: u64,
    /// Bytes of its pages that others, not in the set, map too.
    pub shared_bytes: u64,
    /// These others, those first that share most.
    pub shared_with: Vec<SharedWith>,
}

/// Somebody who maps the same pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedWith {
    /// `NAME` of a volume, `@NAME` of a snapshot, `pin NAME`.
    pub name: String,
    /// Bytes of pages that both map.
    pub bytes: u64,
}

/// The heads that are to go, in a lineage without those that are gone already.
struct Planner<'a> {
    lineage: Lineage,
    page_len: u64,
    set: BTreeSet<LineageEpoch>,
    /// All others that stay.
    rest: Vec<&'a Head>,
}

impl Planner<'_> {
    fn freed(&self, set: &BTreeSet<LineageEpoch>) -> Counts {
        self.lineage.freed_with(set)
    }

    fn part(&self, head: &Head, freed: &Counts) -> DeletionPart {
        let open = head.record.lineage;
        let mut without = self.set.clone();
        without.remove(&open);
        // What dies only if this one goes too is what it maps of all that dies.
        let its = freed.pages - self.freed(&without).pages;
        let alone = self.freed(&BTreeSet::from([open])).pages;
        let others = self.rest.iter().map(|other| SharedWith {
            name: display_name(&other.record),
            bytes: self.lineage.common_items(open, other.record.lineage).pages * self.page_len,
        });
        let mut shared_with: Vec<_> = others.filter(|other| other.bytes > 0).collect();
        shared_with.sort_by_key(|with| std::cmp::Reverse(with.bytes));
        DeletionPart {
            name: display_name(&head.record),
            freed_bytes: its * self.page_len,
            alone_bytes: alone * self.page_len,
            shared_bytes: head.page_count.saturating_sub(its) * self.page_len,
            shared_with,
        }
    }
}

impl Inner {
    /// What deleting these heads at once would free. Exact, settled or not.
    fn plan_deletion(&self, heads: &[Head]) -> DeletionPlan {
        let state = self.state.read();
        let planner = planner(&state, heads, self.page_len().into());
        let freed = planner.freed(&planner.set);
        let rest = planner.rest.iter().map(|head| head.record.lineage);
        // All that the set maps is all there is but what only the rest maps.
        let mapped = planner.lineage.live().pages - planner.freed(&rest.collect()).pages;
        DeletionPlan {
            freed_bytes: freed.pages * planner.page_len,
            freed_metadata_bytes: freed.nodes * SLOT_LEN as u64,
            shared_bytes: (mapped - freed.pages) * planner.page_len,
            parts: heads
                .iter()
                .map(|head| planner.part(head, &freed))
                .collect(),
        }
    }

    /// Makes a head a tombstone. Its keys are not needed.
    pub fn delete(&self, runtime: &Arc<Runtime>) -> Result<()> {
        self.delete_all(std::slice::from_ref(runtime))
    }

    /// Makes heads tombstones: all of them, if they fit a batch. Durable on return.
    fn delete_all(&self, runtimes: &[Arc<Runtime>]) -> Result<()> {
        self.writable()?;
        let mut commit = self.commit_for(Purpose::Release, self.tombstone_slots(runtimes)?, 0)?;
        let records = runtimes.iter().map(|runtime| self.tombstone(runtime));
        let records: Vec<Record> = records.collect::<Result<_>>()?;
        for chunk in chunks(&records, self.tombstones_len_max()) {
            self.commit_records(&mut commit, chunk)?;
        }
        drop(commit);
        self.flush()?;
        for runtime in runtimes {
            runtime.forget();
            self.forget(runtime.head);
        }
        if let Some(bell) = &self.bell {
            bell.removal_due();
        }
        Ok(())
    }

    fn tombstone(&self, runtime: &Runtime) -> Result<Record> {
        let record = self.head(runtime.head, runtime.kind)?.record;
        check_unprotected(&record)?;
        Ok(Record::Head(Box::new(HeadRecord {
            state: HeadState::Deleted,
            ..record
        })))
    }

    /// Slots of all batches of tombstones, at most: a name may become longer until they are written.
    fn tombstone_slots(&self, runtimes: &[Arc<Runtime>]) -> Result<u32> {
        let records = runtimes.iter().map(|runtime| self.tombstone(runtime));
        let records: Vec<Record> = records.collect::<Result<_>>()?;
        let chunks = chunks(&records, self.tombstones_len_max());
        let slots = chunks.iter().map(|chunk| {
            let mut encoded = Vec::new();
            chunk.iter().for_each(|record| record.encode(&mut encoded));
            header_slots(encoded.len()) + RECORD_SLOTS
        });
        Ok(slots.sum())
    }

    fn tombstones_len_max(&self) -> usize {
        let slots = self.segments.geometry().segment_slots as usize;
        (slots * SLOT_LEN / BATCH_SHARE).min(BATCH_LEN_MAX)
    }
}

fn planner<'a>(state: &'a Catalog, heads: &[Head], page_len: u64) -> Planner<'a> {
    let set: BTreeSet<_> = heads.iter().map(|head| head.record.lineage).collect();
    let deleted = state.deleted().map(|head| head.record.lineage).collect();
    let stays = |head: &&Head| {
        head.record.state != HeadState::Deleted && !set.contains(&head.record.lineage)
    };
    Planner {
        lineage: state.lineage().without(&deleted).0,
        page_len,
        rest: state.heads().filter(stays).collect(),
        set,
    }
}

/// Records in batches of at most so many bytes, but one at least.
fn chunks(records: &[Record], len_max: usize) -> Vec<&[Record]> {
    let mut chunks = Vec::new();
    let (mut start, mut len) = (0, 0);
    for (index, record) in records.iter().enumerate() {
        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        if len + encoded.len() > len_max && start < index {
            chunks.extend(records.get(start..index));
            (start, len) = (index, 0);
        }
        len += encoded.len();
    }
    chunks.extend(records.get(start..).filter(|rest| !rest.is_empty()));
    chunks
}

impl Store {
    fn heads_named(&self, volumes: &[&str], snapshots: &[&str]) -> Result<Vec<Head>> {
        let find = |kind| move |name: &&str| self.0.find(kind, name);
        let volumes = volumes.iter().map(find(HeadKind::Volume));
        let snapshots = snapshots.iter().map(find(HeadKind::Snapshot));
        let mut known = BTreeSet::new();
        let mut heads: Vec<Head> = volumes.chain(snapshots).collect::<Result<_>>()?;
        heads.retain(|head| known.insert(head.record.head));
        Ok(heads)
    }

    /// What deleting these volumes and snapshots, all at once, would free, each of them and in sum, and
    /// what stays with whom; exact. Nothing is changed. A name that is given twice counts once.
    pub fn plan_deletion(&self, volumes: &[&str], snapshots: &[&str]) -> Result<DeletionPlan> {
        Ok(self.0.plan_deletion(&self.heads_named(volumes, snapshots)?))
    }

    /// Deletes volumes and snapshots, whatever was cloned from them; their keys are not needed. If one
    /// is not there or is protected, nothing is deleted; a crash leaves all or none, but of
    /// thousands. They are off the list on return, durably; what only they reach is freed behind.
    pub fn delete(&self, volumes: &[&str], snapshots: &[&str]) -> Result<()> {
        let heads = self.heads_named(volumes, snapshots)?;
        let runtimes: Vec<_> = heads.iter().map(|head| self.0.runtime(head)).collect();
        self.0.delete_all(&runtimes)
    }
}

#[cfg(test)]
mod tests;

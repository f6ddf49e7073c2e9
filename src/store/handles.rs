//! The handle on an open store.

use crate::error::Result;
use crate::format::catalog::{HeadKind, HeadState};
use crate::format::quota::Quota;
use crate::format::superblock::FORMAT_VERSION;
use crate::store::import::Import;
use crate::store::info::{SnapshotInfo, StoreInfo, VolumeInfo};
use crate::store::inner::Inner;
use crate::store::quota::QuotaInfo;
use crate::store::reclaim::Goal;
use crate::store::rewrap::RewrapPlan;
use crate::store::snapshot::Snapshot;
use crate::store::space::Reclaimed;
use crate::store::stats::StoreStats;
use crate::store::volume::Volume;
use crate::store::worker::Opened;
use crate::sync::{Arc, Ordering};
use crate::units::{KeyId, SLOT_LEN};

/// An open store. Clones are handles on the same one; all calls may come from any thread.
#[derive(Clone, Debug)]
pub struct Store(pub(super) Arc<Opened>);

impl Store {
    pub(super) fn new(inner: Inner) -> Result<Self> {
        Ok(Self(Arc::new(Opened::new(inner)?)))
    }

    /// Makes an empty volume of `len` bytes (rounded up to a page) that takes no space until it
    /// is written. Its pages are sealed under keys that the KMS key `key` guards. Durable on
    /// return, with all changes before it.
    pub fn create_volume(&self, name: &str, len: u64, key: &KeyId) -> Result<Volume> {
        let runtime = self.0.create(name, len, key, HeadState::Available)?;
        Ok(Volume::new(self.0.clone(), runtime))
    }

    /// The volume of that name.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        let head = self.0.find(HeadKind::Volume, name)?;
        Ok(Volume::new(self.0.clone(), self.0.runtime(&head)))
    }

    /// The snapshot of that name.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot> {
        let head = self.0.find(HeadKind::Snapshot, name)?;
        Ok(Snapshot::new(self.0.clone(), self.0.runtime(&head)))
    }

    /// All volumes, oldest first.
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        let ids = self.0.head_ids(HeadKind::Volume);
        let heads = ids
            .into_iter()
            .filter_map(|id| self.0.head(id, HeadKind::Volume).ok());
        heads.map(|head| VolumeInfo::of(&head)).collect()
    }

    /// All snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        let ids = self.0.head_ids(HeadKind::Snapshot);
        let heads = ids
            .into_iter()
            .filter_map(|id| self.0.head(id, HeadKind::Snapshot).ok());
        heads.map(|head| SnapshotInfo::of(&head)).collect()
    }

    /// Makes a volume to be filled. Until [`Import::finish`] it is `importing`; if that never
    /// comes, the next open of the store deletes it.
    pub fn import_volume(&self, name: &str, len: u64, key: &KeyId) -> Result<Import> {
        let runtime = self.0.create(name, len, key, HeadState::ImportingNew)?;
        Ok(Import::new(Volume::new(self.0.clone(), runtime)))
    }

    /// What the store is made of.
    pub fn info(&self) -> Result<StoreInfo> {
        self.0.open()?;
        let geometry = self.0.segments.geometry();
        let segment_len = u64::from(geometry.segment_slots) * SLOT_LEN as u64;
        let segments = self.0.segments.list()?;
        let checkpoint = self.0.checkpoint.lock();
        let end = self.0.commit.lock().log.position().end;
        let full = segments.iter().filter(|&&id| id < end.segment).count() as u64;
        Ok(StoreInfo {
            id: self.0.store_id(),
            format_version: FORMAT_VERSION,
            created_at_ms: checkpoint.superblock.created_at_ms,
            page_len: geometry.page_len,
            segment_len,
            segment_count: segments.len() as u32,
            used_bytes: full * segment_len + u64::from(end.slot) * SLOT_LEN as u64,
            atomic_write_len: self.0.atomic_pages() as u64 * u64::from(geometry.page_len),
            volume_count: self.0.head_ids(HeadKind::Volume).len() as u64,
            snapshot_count: self.0.head_ids(HeadKind::Snapshot).len() as u64,
            generation: checkpoint.superblock.generation,
            kms_key: checkpoint.superblock.store_key.kms_key,
        })
    }

    /// What [`Store::rewrap`] would do.
    pub fn plan_rewrap(&self) -> Result<RewrapPlan> {
        self.0.plan_rewrap()
    }

    /// Wraps the keys of volumes and snapshots, and the store's own, again under the newest versions
    /// of their KMS keys. Costs nothing for their pages, and revokes nothing: older wrappings that
    /// somebody kept still open. Durable on return; what a failure leaves undone opens as before.
    pub fn rewrap(&self) -> Result<RewrapPlan> {
        self.0.rewrap()
    }

    /// How much the store may take and how much it takes.
    pub fn quota(&self) -> Result<QuotaInfo> {
        self.0.quota()
    }

    /// Bounds how much the store may take: writes and new volumes, clones and snapshots that would
    /// pass it get [`Error::QuotaExceeded`](crate::Error::QuotaExceeded), while reading, deleting,
    /// discarding and checkpoints go on. A bound below what is used only stops growth. Durable on return.
    pub fn set_quota(&self, quota: Quota) -> Result<()> {
        self.0.set_quota(quota)
    }

    /// What the store has done since it was opened, and what it takes now.
    pub fn stats(&self) -> Result<StoreStats> {
        self.0.stats()
    }

    /// Makes every change that has returned durable, of all volumes. Flushes share syncs.
    pub fn flush(&self) -> Result<()> {
        self.0.flush()
    }

    /// Writes the page tables, so that opening after a crash has less to roll forward.
    pub fn checkpoint(&self) -> Result<()> {
        self.0.checkpoint()
    }

    /// Gives the space of dead pages back, until the store takes no more than its target: removes
    /// files without a live page, punches holes, and copies what is left of others. Makes the
    /// checkpoints that this needs. `step` is told how far it is after each step; if it returns
    /// `false`, that was all, and the next call goes on from there.
    pub fn reclaim(&self, mut step: impl FnMut(&Reclaimed) -> bool) -> Result<Reclaimed> {
        self.0.reclaim(Goal::Target, &mut step)
    }

    /// Like [`Store::reclaim`], until there is nothing more to win by copying.
    pub fn compact(&self, mut step: impl FnMut(&Reclaimed) -> bool) -> Result<Reclaimed> {
        self.0.reclaim(Goal::Compact, &mut step)
    }

    /// Makes everything durable and leaves the store clean. Other handles then only give errors.
    ///
    /// Dropping a store instead is like a crash: what was flushed is there.
    pub fn close(self) -> Result<()> {
        let closed = match self.0.read_only {
            true => Ok(()),
            false => {
                self.0.restock_to_close();
                self.0.last_checkpoint()
            }
        };
        {
            // Whoever is about to append has looked before and has the lock, or will look after.
            let _commit = self.0.commit.lock();
            self.0.closed.store(true, Ordering::SeqCst);
        }
        // Nor does reclaim begin a step any more; one that is under way ends first.
        let reclaim = self.0.reclaim.lock();
        if !self.0.read_only {
            // If that fails, the next open for writing removes it.
            let _ = self.0.segments.remove_kept();
        }
        self.0.lock.lock().take();
        drop(reclaim);
        closed
    }
}

//! The handle on a snapshot.

use std::ops::Range;

use crate::error::Result;
use crate::store::branch::Making;
use crate::store::erase::ErasePlan;
use crate::store::info::{SnapshotInfo, SnapshotType, Usage};
use crate::store::inner::Runtime;
use crate::store::volume::Volume;
use crate::store::worker::Opened;
use crate::sync::Arc;
use crate::units::KeyId;
use crate::volume::Extents;

/// A snapshot: the reading half of a volume, for ever as it was.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) store: Arc<Opened>,
    pub(super) runtime: Arc<Runtime>,
}

impl Snapshot {
    pub(super) fn new(store: Arc<Opened>, runtime: Arc<Runtime>) -> Self {
        Self { store, runtime }
    }

    /// What the snapshot is; `NotFound` once it is deleted.
    pub fn info(&self) -> Result<SnapshotInfo> {
        let head = self.store.head_of(&self.runtime)?;
        Ok(SnapshotInfo::of(&head))
    }

    /// Its name, in lower case.
    pub fn name(&self) -> Result<String> {
        Ok(self.info()?.name)
    }

    /// Its length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no snapshot is empty")]
    pub fn len(&self) -> Result<u64> {
        Ok(self.store.head_of(&self.runtime)?.record.len)
    }

    /// Fills `buf` from `offset`, never in part.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.store.read(&self.runtime, buf, offset)
    }

    /// What a range holds.
    pub fn extents(&self, range: Range<u64>) -> Result<Extents<'_>> {
        self.store.extents(&self.runtime, range)
    }

    /// What the snapshot takes, from counts: no page table is read.
    pub fn usage(&self) -> Result<Usage> {
        self.store.usage(&self.runtime)
    }

    /// What [`Snapshot::erase`] would destroy, and what would stay readable through whom.
    pub fn plan_erase(&self) -> Result<ErasePlan> {
        self.store.plan_erase(&self.runtime)
    }

    /// Deletes the snapshot, and destroys in the KMS every key that opens what only it can read: its
    /// own, and those of deleted volumes and snapshots. What was shared stays readable to the others.
    ///
    /// If the KMS cannot do that, nothing is deleted. If this is cut off or fails afterwards, the snapshot
    /// is still there but cannot be read: erase it again. Its own KMS key need not be available.
    pub fn erase(self) -> Result<ErasePlan> {
        self.store.erase(&self.runtime)
    }

    /// Puts the snapshot's key under the KMS key `key` (its newest version), which guards it from now
    /// on. No page is touched, and nothing is revoked: older wrappings that somebody kept still
    /// open. Durable on return.
    pub fn rewrap(&self, key: &KeyId) -> Result<()> {
        self.store.rewrap_head(&self.runtime, key)
    }

    /// Makes a volume that starts with the snapshot's bytes, in constant time, with keys of its
    /// own under the KMS key `key`. Durable on return.
    pub fn create_clone(&self, name: &str, key: &KeyId) -> Result<Volume> {
        let made = self.store.branch(&self.runtime, Making::Clone, name, key)?;
        Ok(Volume::new(self.store.clone(), made))
    }

    /// Takes another snapshot of the same bytes: a manual one, whatever type this one is. Durable
    /// on return.
    pub fn create_snapshot(&self, name: &str) -> Result<Snapshot> {
        let key = self.info()?.kms_key;
        let making = Making::Snapshot(SnapshotType::Manual);
        let made = self.store.branch(&self.runtime, making, name, &key)?;
        Ok(Self::new(self.store.clone(), made))
    }

    /// Deletes the snapshot at once, whatever was cloned from it. Its keys are not needed.
    pub fn delete(self) -> Result<()> {
        self.store.delete(&self.runtime)
    }
}

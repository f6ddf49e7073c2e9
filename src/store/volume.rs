//! The handle on a volume.

use std::ops::Range;

use crate::error::Result;
use crate::store::branch::Making;
use crate::store::cursor::Cursor;
use crate::store::erase::ErasePlan;
use crate::store::import::Import;
use crate::store::info::{DeletionProtection, SnapshotType, Usage, VolumeInfo};
use crate::store::inner::Runtime;
use crate::store::rekey::{Rekey, RekeyPlan, RekeyStart};
use crate::store::reserve::Purpose;
use crate::store::snapshot::Snapshot;
use crate::store::worker::Opened;
use crate::store::write::Clear;
use crate::sync::Arc;
use crate::units::KeyId;
use crate::volume::Extents;

/// A volume: bytes that can be read and written at any offset, from any thread.
///
/// A change shows to readers when its call returns and is durable after a flush. After a crash
/// the store is a prefix of its changes that holds everything up to the last flush.
#[derive(Clone, Debug)]
pub struct Volume {
    pub(super) store: Arc<Opened>,
    pub(super) runtime: Arc<Runtime>,
}

impl Volume {
    pub(super) fn new(store: Arc<Opened>, runtime: Arc<Runtime>) -> Self {
        Self { store, runtime }
    }

    /// What the volume is; `NotFound` once it is deleted.
    pub fn info(&self) -> Result<VolumeInfo> {
        let head = self.store.head_of(&self.runtime)?;
        Ok(VolumeInfo::of(&head))
    }

    /// Its name, in lower case.
    pub fn name(&self) -> Result<String> {
        Ok(self.info()?.name)
    }

    /// Its length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no volume is empty")]
    pub fn len(&self) -> Result<u64> {
        Ok(self.store.head_of(&self.runtime)?.record.len)
    }

    /// Fills `buf` from `offset`, never in part. What was never written is zeroes. Every page is
    /// verified before this returns.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.store.read(&self.runtime, buf, offset)
    }

    /// Writes all of `buf` at `offset`. After a crash all of it is there or none, if it does not
    /// touch more than [`crate::StoreInfo::atomic_write_len`] bytes of pages; a longer write is
    /// in chunks of that length, from the front.
    pub fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.store.write(&self.runtime, buf, offset)
    }

    /// Does several writes, each of bytes at an offset, in their order: the last one to write a byte
    /// counts. After a crash all of it is there or none, if together they touch no more than
    /// [`crate::StoreInfo::atomic_write_len`] bytes of pages; more pages are in chunks of that length, the
    /// first pages first. Cheaper than one call each. Nothing is written if a range is out of bounds.
    pub fn write_many(&self, writes: &[(u64, &[u8])]) -> Result<()> {
        self.store.write_many(&self.runtime, writes)
    }

    /// Makes a range read as zeroes and keeps whole pages of it mapped as explicit zeroes, which
    /// take no space. Pages at its edges are written in part.
    pub fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.store.clear(&self.runtime, range, Clear::Zero)
    }

    /// Makes a range read as zeroes and unmaps whole pages of it. Costs what is mapped at its
    /// edges, not its length.
    pub fn discard(&self, range: Range<u64>) -> Result<()> {
        self.store.clear(&self.runtime, range, Clear::Discard)
    }

    /// Makes every change that has returned durable, of all volumes of the store.
    pub fn flush(&self) -> Result<()> {
        self.store.flush()
    }

    /// What a range holds, as of this call.
    pub fn extents(&self, range: Range<u64>) -> Result<Extents<'_>> {
        self.store.extents(&self.runtime, range)
    }

    /// What the volume takes, from counts: no page table is read.
    pub fn usage(&self) -> Result<Usage> {
        self.store.usage(&self.runtime)
    }

    /// Changes the length (rounded up to a page). What is past a smaller one is dropped and
    /// reads as zeroes if the volume grows again. Durable on return.
    pub fn resize(&self, len: u64) -> Result<()> {
        self.store.resize(&self.runtime, len)
    }

    /// Changes the name; the id stays. Durable on return.
    pub fn rename(&self, name: &str) -> Result<()> {
        let name = crate::catalog::check_volume_name(name)?;
        self.store.update(&self.runtime, Purpose::Growth, |record| {
            record.name = name;
            Ok(())
        })
    }

    /// Protects the volume against deletion, or ends that. Durable on return.
    pub fn set_deletion_protection(&self, protection: DeletionProtection) -> Result<()> {
        self.store
            .update(&self.runtime, Purpose::Release, |record| {
                record.protected = protection == DeletionProtection::On;
                Ok(())
            })
    }

    /// Deletes the volume at once, whatever was cloned from it. Its keys are not needed.
    pub fn delete(self) -> Result<()> {
        self.store.delete(&self.runtime)
    }

    /// What [`Volume::erase`] would destroy, and what would stay readable through whom.
    pub fn plan_erase(&self) -> Result<ErasePlan> {
        self.store.plan_erase(&self.runtime)
    }

    /// Deletes the volume, and destroys in the KMS every key that opens what only it can read: its
    /// own, and those of deleted volumes and snapshots. What was shared stays readable to the others.
    ///
    /// If the KMS cannot do that, nothing is deleted. If this is cut off or fails afterwards, the volume
    /// is still there but cannot be read: erase it again. Its own KMS key need not be available.
    pub fn erase(self) -> Result<ErasePlan> {
        self.store.erase(&self.runtime)
    }

    /// Puts the volume's key under the KMS key `key` (its newest version), which guards it from now
    /// on. No page is touched, and nothing is revoked: older wrappings that somebody kept still
    /// open. Durable on return.
    pub fn rewrap(&self, key: &KeyId) -> Result<()> {
        self.store.rewrap_head(&self.runtime, key)
    }

    /// What [`Volume::rekey`] would do.
    pub fn plan_rekey(&self, start: RekeyStart) -> Result<RekeyPlan> {
        self.store.plan_rekey(&self.runtime, start)
    }

    /// Seals the volume's pages again, under a key epoch that begins now or the one that is open.
    /// The volume can be used meanwhile: what is written wins over what is sealed again. Snapshots
    /// and clones keep the old pages and what opens them, and so does the log until space is
    /// reclaimed.
    ///
    /// Each step of what this returns does some. Cut off, it is gone on with by `Resume`.
    pub fn rekey(&self, start: RekeyStart) -> Result<Rekey> {
        Rekey::begin(self.store.clone(), self.runtime.clone(), start)
    }

    /// Makes a volume that starts with this one's bytes, in constant time, with keys of its own
    /// under the KMS key `key`. Neither side sees what the other writes later. Durable on return.
    pub fn create_clone(&self, name: &str, key: &KeyId) -> Result<Volume> {
        let made = self.store.branch(&self.runtime, Making::Clone, name, key)?;
        Ok(Self::new(self.store.clone(), made))
    }

    /// Takes a manual snapshot, in constant time, under the volume's own KMS key. Durable on
    /// return.
    pub fn create_snapshot(&self, name: &str) -> Result<Snapshot> {
        self.snapshot(name, SnapshotType::Manual)
    }

    /// Takes an automated snapshot: like a manual one, but marked as taken by a schedule and not
    /// by hand. Durable on return.
    pub fn create_automated_snapshot(&self, name: &str) -> Result<Snapshot> {
        self.snapshot(name, SnapshotType::Automated)
    }

    fn snapshot(&self, name: &str, snapshot_type: SnapshotType) -> Result<Snapshot> {
        let key = self.info()?.kms_key;
        let making = Making::Snapshot(snapshot_type);
        let made = self.store.branch(&self.runtime, making, name, &key)?;
        Ok(Snapshot::new(self.store.clone(), made))
    }

    /// Marks the volume as being filled. Until [`Import::finish`] it is `importing`; if that
    /// never comes, the next open of the store marks it `import_failed`.
    pub fn begin_import(&self) -> Result<Import> {
        Import::begin(self.clone())
    }

    /// Reads and writes with a position of its own.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.clone())
    }
}

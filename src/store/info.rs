//! What can be known of stores, volumes and snapshots.

use crate::catalog::Head;
use crate::error::Result;
use crate::format::catalog::HeadState;
use crate::store::inner::{Inner, Runtime};
use crate::units::{KeyId, ResourceId, SLOT_LEN, StoreId};

/// A store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// Its random id.
    pub id: StoreId,
    /// Version of its disk format.
    pub format_version: u32,
    /// When it was made, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: u64,
    /// Page length in bytes.
    pub page_len: u32,
    /// Segment length in bytes.
    pub segment_len: u64,
    /// Segment files.
    pub segment_count: u32,
    /// Bytes of segments up to the end of the log: what the store has written and not reclaimed.
    pub used_bytes: u64,
    /// Most bytes that one write call changes atomically, from a page boundary.
    pub atomic_write_len: u64,
    /// Volumes.
    pub volume_count: u64,
    /// Snapshots.
    pub snapshot_count: u64,
    /// Generation of the last superblock.
    pub generation: u64,
    /// The KMS key that wraps the store key.
    pub kms_key: KeyId,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeInfo {
    /// Its name, in lower case.
    pub name: String,
    /// Its random id, which never changes.
    pub id: ResourceId,
    /// Length in bytes.
    pub len: u64,
    /// What it is doing.
    pub state: HeadState,
    /// Whether it must not be deleted.
    pub deletion_protection: DeletionProtection,
    /// The KMS key that guards its keys.
    pub kms_key: KeyId,
    /// What it was cloned from.
    pub origin_id: Option<ResourceId>,
    /// Shared by all volumes cloned from one another.
    pub group_id: Option<ResourceId>,
    /// When it was made, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: u64,
}

/// Whether a volume must not be deleted. New volumes and clones are not protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeletionProtection {
    /// It may be deleted.
    #[default]
    Off,
    /// Deleting it is refused.
    On,
}

/// Who wanted a snapshot. A copy of either is manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SnapshotType {
    /// Somebody took it by hand.
    Manual,
    /// A schedule took it.
    Automated,
}

impl SnapshotType {
    /// The type in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Automated => "automated",
        }
    }
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its name, in lower case.
    pub name: String,
    /// Its random id, which never changes.
    pub id: ResourceId,
    /// Length in bytes.
    pub len: u64,
    /// What it is doing.
    pub state: HeadState,
    /// The KMS key that guards its keys.
    pub kms_key: KeyId,
    /// Who wanted it.
    pub snapshot_type: SnapshotType,
    /// The volume or snapshot that it was taken of.
    pub volume_id: ResourceId,
    /// When it was taken, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: u64,
}

/// What a volume or snapshot takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes of pages that it maps; explicit zeroes and holes take none.
    pub referenced_bytes: u64,
    /// Of these, at least so many would be freed if it were deleted now.
    pub exclusive_bytes: u64,
    /// Bytes of page-table nodes that would be freed with them. Nodes that no checkpoint wrote yet
    /// take none.
    pub exclusive_metadata_bytes: u64,
    /// Whether the exclusive bytes are exact. Else they are a lower bound, until the next
    /// checkpoint has settled what several clones let go of.
    pub exclusive_settled: bool,
    /// `referenced_bytes` less `exclusive_bytes`.
    pub shared_bytes: u64,
}

impl VolumeInfo {
    pub(super) fn of(head: &Head) -> Self {
        let record = &head.record;
        Self {
            name: record.name.clone(),
            id: record.resource_id,
            len: record.len,
            state: record.state,
            deletion_protection: match record.protected {
                true => DeletionProtection::On,
                false => DeletionProtection::Off,
            },
            kms_key: record.kms_key,
            origin_id: record.origin_id,
            group_id: record.group_id,
            created_at_ms: record.created_at_ms,
        }
    }
}

impl SnapshotInfo {
    pub(super) fn of(head: &Head) -> Self {
        let record = &head.record;
        Self {
            name: record.name.clone(),
            id: record.resource_id,
            len: record.len,
            state: record.state,
            kms_key: record.kms_key,
            snapshot_type: match record.automated {
                true => SnapshotType::Automated,
                false => SnapshotType::Manual,
            },
            volume_id: record.origin_id.unwrap_or_default(),
            created_at_ms: record.created_at_ms,
        }
    }
}

impl Inner {
    /// What a head takes. Costs nothing but looking at counts and deadlists.
    pub fn usage(&self, runtime: &Runtime) -> Result<Usage> {
        let head = self.head_of(runtime)?;
        let page_len = u64::from(self.page_len());
        let state = self.state.read();
        let exclusive = state.lineage().exclusive(head.record.lineage);
        let (referenced, exclusive_pages) = (head.page_count, exclusive.pages);
        Ok(Usage {
            referenced_bytes: referenced * page_len,
            exclusive_bytes: exclusive_pages * page_len,
            exclusive_metadata_bytes: exclusive.nodes * SLOT_LEN as u64,
            exclusive_settled: state.is_settled(),
            shared_bytes: referenced.saturating_sub(exclusive_pages) * page_len,
        })
    }
}

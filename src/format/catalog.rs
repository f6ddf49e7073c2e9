//! Catalog records: heads, lineage epochs, key epochs, segments and their salts.
//!
//! In the log a record states what is so from its batch on; in the tables of a checkpoint the
//! same records state all there is.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::crypto::WRAPPED_LEN;
use crate::error::Damage;
use crate::format::layout::disk_struct;
use crate::format::node::{DiskNodeRef, NodeRef};
use crate::units::{HeadId, HeadKeyId, KeyEpoch, KeyId, LineageEpoch, ResourceId, SegmentId};

/// Longest name of a volume or snapshot in bytes.
pub const NAME_LEN_MAX: usize = 255;

/// A flag of snapshots.
const AUTOMATED: u8 = 1;
/// A flag of volumes.
const PROTECTED: u8 = 2;

disk_struct! {
    /// A head: a volume, a snapshot or a pin. Its name and its tags follow.
    pub struct DiskHead = 280 {
        /// The head's number.
        head: U32,
        /// 1 volume, 2 snapshot, 3 pin.
        kind: u8,
        /// 1 available, 2 deleted, 3 importing and new, 4 importing, 5 import failed.
        state: u8,
        /// 1 the root is the head's own as of now, 2 that of `root_head`, 3 none, 4 `root`.
        root_kind: u8,
        /// Bit 0: an automated snapshot. Bit 1: a volume that is protected against deletion.
        flags: u8,
        /// The head whose root this one takes, if `root_kind` is 2, else 0.
        root_head: U32,
        /// The open lineage epoch.
        lineage: U32,
        /// The open key epoch.
        key_epoch: U32,
        /// Length of the name in bytes.
        name_len: U16,
        /// Length of the tags in bytes, 0.
        tags_len: U16,
        /// Random id, never changed.
        resource_id: [u8; 16],
        /// Resource id of the volume or snapshot that this one was made from, or zeroes.
        origin_id: [u8; 16],
        /// Shared by all volumes cloned from one another; zeroes before the first clone.
        group_id: [u8; 16],
        /// Account that owns the head, as a number.
        owner: U64,
        /// When it was made, in milliseconds since 1970-01-01 UTC.
        created_at_ms: U64,
        /// Length in bytes, a multiple of the page length.
        len: U64,
        /// KMS key that wraps the head key.
        kms_key: [u8; 16],
        /// The head key, which only the KMS keeps.
        head_key: [u8; 16],
        /// The key of the open key epoch, wrapped by the head key.
        wrapped_key: [u8; 60],
        /// Root of the page table, if `root_kind` is 4, else zeroes.
        root: DiskNodeRef,
        /// Of a checkpoint: pages with contents that the head maps. In the log 0.
        page_count: U64,
        /// Zeroes.
        reserved_b: [u8; 40],
    }
}

disk_struct! {
    /// A lineage epoch.
    pub struct DiskLineage = 16 {
        /// Its number.
        lineage: U32,
        /// The epoch above, a lesser number; 0 for a root.
        parent: U32,
        /// Bit 0: something was written or discarded in it.
        flags: U32,
        /// If not 0, its parent is that of this epoch, whatever that is by then, and `parent` is 0.
        beside: U32,
    }
}

disk_struct! {
    /// A key epoch and the links to keys above it.
    pub struct DiskKeyEpoch = 208 {
        /// Its number.
        key_epoch: U32,
        /// The lineage epoch that its pages are born in.
        lineage: U32,
        /// The key epoch above, a lesser number; 0 if there is none.
        above: U32,
        /// An ancestor further above; 0 if there is none.
        far: U32,
        /// Key epochs above it up to the root.
        depth: U32,
        /// Zero.
        reserved: U32,
        /// Random id that pages sealed under it are bound to.
        random_id: [u8; 16],
        /// Commitment to the epoch key.
        commitment: [u8; 32],
        /// The key of `above`, wrapped under this one's wrap key; zeroes if there is none.
        wrapped_above: [u8; 60],
        /// The key of `far`, likewise.
        wrapped_far: [u8; 60],
        /// Of a checkpoint: live pages sealed under it. In the log 0.
        live_pages: U64,
        /// Of a checkpoint: live nodes that name it. In the log 0.
        live_nodes: U64,
    }
}

disk_struct! {
    /// A segment that exists.
    pub struct DiskSegment = 16 {
        /// Its number.
        segment: U32,
        /// The root (disk) that its file is on, 0.
        root_id: U32,
        /// Slots in it, the header included.
        slot_count: U32,
        /// Zero.
        reserved: U32,
    }
}

disk_struct! {
    /// A salt and the slots it is for: those of its segment up to the next salt's.
    pub struct DiskSalt = 20 {
        /// The segment.
        segment: U32,
        /// The first slot.
        first_slot: U32,
        /// The salt.
        salt: [u8; 12],
    }
}

/// What a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadKind {
    /// Writable.
    Volume,
    /// Read-only.
    Snapshot,
    /// Read-only, on no list of snapshots: it holds a state for somebody who reads it.
    Pin,
}

/// What a head is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeadState {
    /// It can be used.
    Available,
    /// It is a tombstone: off the list, waiting for its space to be reclaimed.
    Deleted,
    /// An import makes it. If the import does not finish, the next open deletes it.
    ImportingNew,
    /// An import writes into it. If that does not finish, the next open marks it failed.
    Importing,
    /// An import into it did not finish: its contents are a mixture.
    ImportFailed,
}

/// Where a head record says the root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootSource {
    /// The head exists, and its root stays.
    Keep,
    /// The root that this head has now.
    CopyOf(HeadId),
    /// An empty page table.
    Empty,
    /// A written node.
    Node(NodeRef),
}

/// A head as a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRecord {
    /// Its number.
    pub head: HeadId,
    /// Volume, snapshot or pin.
    pub kind: HeadKind,
    /// Whether it is a snapshot that nobody asked for by hand.
    pub automated: bool,
    /// Whether it is a volume that must not be deleted.
    pub protected: bool,
    /// What it is doing.
    pub state: HeadState,
    /// Where its root is.
    pub root: RootSource,
    /// Its open lineage epoch.
    pub lineage: LineageEpoch,
    /// Its open key epoch.
    pub key_epoch: KeyEpoch,
    /// Its random id.
    pub resource_id: ResourceId,
    /// What it was made from.
    pub origin_id: Option<ResourceId>,
    /// The clone group.
    pub group_id: Option<ResourceId>,
    /// The owner's account number.
    pub owner: u64,
    /// When it was made.
    pub created_at_ms: u64,
    /// Length in bytes.
    pub len: u64,
    /// KMS key that wraps the head key.
    pub kms_key: KeyId,
    /// The head key.
    pub head_key: HeadKeyId,
    /// The open epoch's key under the head key.
    pub wrapped_key: [u8; WRAPPED_LEN],
    /// In a checkpoint: pages with contents that it maps.
    pub page_count: u64,
    /// Its name.
    pub name: String,
}

/// A lineage epoch as a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineageRecord {
    /// Its number.
    pub lineage: LineageEpoch,
    /// The epoch above.
    pub parent: Option<LineageEpoch>,
    /// Whether something was written or discarded in it.
    pub changed: bool,
    /// In the log: its parent is that of this epoch. What its number is depends on which deleted
    /// heads were removed before, and that is not in the log.
    pub beside: Option<LineageEpoch>,
}

/// A key epoch as a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEpochRecord {
    /// Its number.
    pub key_epoch: KeyEpoch,
    /// The lineage epoch that its pages are born in.
    pub lineage: LineageEpoch,
    /// Key epochs above it up to the root.
    pub depth: u32,
    /// Random id that pages are bound to.
    pub random_id: [u8; 16],
    /// Commitment to the key.
    pub commitment: [u8; 32],
    /// The key epoch above and its key, wrapped.
    pub above: Option<KeyLink>,
    /// An ancestor further above and its key, wrapped.
    pub far: Option<KeyLink>,
    /// In a checkpoint: live pages sealed under it.
    pub live_pages: u64,
    /// In a checkpoint: live nodes that name it.
    pub live_nodes: u64,
}

/// A wrapped key of an ancestor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLink {
    /// The ancestor.
    pub to: KeyEpoch,
    /// Its key under the wrap key of the holder.
    pub wrapped: [u8; WRAPPED_LEN],
}

/// A segment that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    /// Its number.
    pub segment: SegmentId,
    /// Slots in it.
    pub slot_count: u32,
}

/// A salt from a slot on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaltRecord {
    /// The segment.
    pub segment: SegmentId,
    /// The first slot it is for.
    pub first_slot: u32,
    /// The salt.
    pub salt: [u8; 12],
}

impl HeadState {
    fn encode(self) -> u8 {
        match self {
            Self::Available => 1,
            Self::Deleted => 2,
            Self::ImportingNew => 3,
            Self::Importing => 4,
            Self::ImportFailed => 5,
        }
    }

    fn decode(byte: u8) -> Result<Self, Damage> {
        Ok(match byte {
            1 => Self::Available,
            2 => Self::Deleted,
            3 => Self::ImportingNew,
            4 => Self::Importing,
            5 => Self::ImportFailed,
            _ => return Err(Damage::OutOfRange("state")),
        })
    }

    /// The state in a word or two.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Deleted => "deleted",
            Self::ImportingNew | Self::Importing => "importing",
            Self::ImportFailed => "import_failed",
        }
    }
}

impl HeadRecord {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let no_root = DiskNodeRef::read_from_bytes(&[0; 44]).expect("BUG: 44 bytes");
        let (root_kind, root_head, root) = match self.root {
            RootSource::Keep => (1, HeadId(0), no_root),
            RootSource::CopyOf(head) => (2, head, no_root),
            RootSource::Empty => (3, HeadId(0), no_root),
            RootSource::Node(node) => (4, HeadId(0), node.encode()),
        };
        let disk = DiskHead {
            head: self.head.0.into(),
            kind: match self.kind {
                HeadKind::Volume => 1,
                HeadKind::Snapshot => 2,
                HeadKind::Pin => 3,
            },
            state: self.state.encode(),
            root_kind,
            flags: u8::from(self.automated) * AUTOMATED + u8::from(self.protected) * PROTECTED,
            root_head: root_head.0.into(),
            lineage: self.lineage.0.into(),
            key_epoch: self.key_epoch.0.into(),
            name_len: (self.name.len() as u16).into(),
            tags_len: 0.into(),
            resource_id: self.resource_id.0,
            origin_id: self.origin_id.unwrap_or_default().0,
            group_id: self.group_id.unwrap_or_default().0,
            owner: self.owner.into(),
            created_at_ms: self.created_at_ms.into(),
            len: self.len.into(),
            kms_key: self.kms_key.0,
            head_key: self.head_key.0,
            wrapped_key: self.wrapped_key,
            root,
            page_count: self.page_count.into(),
            reserved_b: [0; 40],
        };
        out.extend_from_slice(disk.as_bytes());
        out.extend_from_slice(self.name.as_bytes());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Damage> {
        let (disk, rest) = DiskHead::ref_from_prefix(body).map_err(|_| Damage::Truncated)?;
        if disk.reserved_b != [0; 40] || disk.tags_len.get() != 0 {
            return Err(Damage::NotZero);
        }
        let flags = match disk.kind {
            1 => PROTECTED,
            2 => AUTOMATED,
            _ => 0,
        };
        if disk.flags & !flags != 0 {
            return Err(Damage::OutOfRange("flags"));
        }
        let name_len = usize::from(disk.name_len.get());
        if rest.len() != name_len || !(1..=NAME_LEN_MAX).contains(&name_len) {
            return Err(Damage::OutOfRange("name_len"));
        }
        let name = std::str::from_utf8(rest).map_err(|_| Damage::OutOfRange("name"))?;
        let root = match disk.root_kind {
            1 => RootSource::Keep,
            2 => RootSource::CopyOf(HeadId(disk.root_head.get())),
            3 => RootSource::Empty,
            4 => RootSource::Node(NodeRef::decode(&disk.root)?),
            _ => return Err(Damage::OutOfRange("root_kind")),
        };
        let has_other = disk.root_head.get() != 0 && disk.root_kind != 2;
        let has_node = disk.root_kind != 4 && disk.root.as_bytes().iter().any(|&byte| byte != 0);
        if has_other || has_node {
            return Err(Damage::NotZero);
        }
        Ok(Self {
            head: HeadId(disk.head.get()),
            kind: match disk.kind {
                1 => HeadKind::Volume,
                2 => HeadKind::Snapshot,
                3 => HeadKind::Pin,
                _ => return Err(Damage::OutOfRange("kind")),
            },
            automated: disk.flags & AUTOMATED != 0,
            protected: disk.flags & PROTECTED != 0,
            state: HeadState::decode(disk.state)?,
            root,
            lineage: LineageEpoch(disk.lineage.get()),
            key_epoch: KeyEpoch(disk.key_epoch.get()),
            resource_id: ResourceId(disk.resource_id),
            origin_id: some_id(disk.origin_id),
            group_id: some_id(disk.group_id),
            owner: disk.owner.get(),
            created_at_ms: disk.created_at_ms.get(),
            len: disk.len.get(),
            kms_key: KeyId(disk.kms_key),
            head_key: HeadKeyId(disk.head_key),
            wrapped_key: disk.wrapped_key,
            page_count: disk.page_count.get(),
            name: name.to_owned(),
        })
    }
}

fn some_id(bytes: [u8; 16]) -> Option<ResourceId> {
    (bytes != [0; 16]).then_some(ResourceId(bytes))
}

impl LineageRecord {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let disk = DiskLineage {
            lineage: self.lineage.0.into(),
            parent: self.parent.unwrap_or_default().0.into(),
            flags: u32::from(self.changed).into(),
            beside: self.beside.unwrap_or_default().0.into(),
        };
        out.extend_from_slice(disk.as_bytes());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Damage> {
        let disk = DiskLineage::ref_from_bytes(body).map_err(|_| Damage::Truncated)?;
        if disk.flags.get() > 1 {
            return Err(Damage::NotZero);
        }
        let above = disk.parent.get().max(disk.beside.get());
        if above >= disk.lineage.get() || (disk.parent.get() != 0 && disk.beside.get() != 0) {
            return Err(Damage::OutOfRange("parent or beside"));
        }
        let parent = LineageEpoch(disk.parent.get());
        let beside = LineageEpoch(disk.beside.get());
        Ok(Self {
            lineage: LineageEpoch(disk.lineage.get()),
            parent: (parent.0 != 0).then_some(parent),
            changed: disk.flags.get() == 1,
            beside: (beside.0 != 0).then_some(beside),
        })
    }
}

impl KeyEpochRecord {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let link = |link: Option<KeyLink>| {
            link.map_or((0.into(), [0; WRAPPED_LEN]), |link| {
                (link.to.0.into(), link.wrapped)
            })
        };
        let (above, wrapped_above): (U32, _) = link(self.above);
        let (far, wrapped_far): (U32, _) = link(self.far);
        let disk = DiskKeyEpoch {
            key_epoch: self.key_epoch.0.into(),
            lineage: self.lineage.0.into(),
            above,
            far,
            depth: self.depth.into(),
            reserved: 0.into(),
            random_id: self.random_id,
            commitment: self.commitment,
            wrapped_above,
            wrapped_far,
            live_pages: self.live_pages.into(),
            live_nodes: self.live_nodes.into(),
        };
        out.extend_from_slice(disk.as_bytes());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Damage> {
        let disk = DiskKeyEpoch::ref_from_bytes(body).map_err(|_| Damage::Truncated)?;
        let id = disk.key_epoch.get();
        let link = |to: U32, wrapped: [u8; WRAPPED_LEN]| match to.get() {
            0 if wrapped != [0; WRAPPED_LEN] => Err(Damage::NotZero),
            0 => Ok(None),
            to if to < id => Ok(Some(KeyLink {
                to: KeyEpoch(to),
                wrapped,
            })),
            _ => Err(Damage::OutOfRange("above or far")),
        };
        if disk.reserved.get() != 0 {
            return Err(Damage::NotZero);
        }
        if id == 0 || disk.lineage.get() == 0 {
            return Err(Damage::OutOfRange("key_epoch or lineage"));
        }
        Ok(Self {
            key_epoch: KeyEpoch(id),
            lineage: LineageEpoch(disk.lineage.get()),
            depth: disk.depth.get(),
            random_id: disk.random_id,
            commitment: disk.commitment,
            above: link(disk.above, disk.wrapped_above)?,
            far: link(disk.far, disk.wrapped_far)?,
            live_pages: disk.live_pages.get(),
            live_nodes: disk.live_nodes.get(),
        })
    }
}

impl SegmentRecord {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let disk = DiskSegment {
            segment: self.segment.0.into(),
            root_id: 0.into(),
            slot_count: self.slot_count.into(),
            reserved: 0.into(),
        };
        out.extend_from_slice(disk.as_bytes());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Damage> {
        let disk = DiskSegment::ref_from_bytes(body).map_err(|_| Damage::Truncated)?;
        if disk.root_id.get() != 0 || disk.reserved.get() != 0 {
            return Err(Damage::NotZero);
        }
        Ok(Self {
            segment: SegmentId(disk.segment.get()),
            slot_count: disk.slot_count.get(),
        })
    }
}

impl SaltRecord {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let disk = DiskSalt {
            segment: self.segment.0.into(),
            first_slot: self.first_slot.into(),
            salt: self.salt,
        };
        out.extend_from_slice(disk.as_bytes());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Damage> {
        let disk = DiskSalt::ref_from_bytes(body).map_err(|_| Damage::Truncated)?;
        Ok(Self {
            segment: SegmentId(disk.segment.get()),
            first_slot: disk.first_slot.get(),
            salt: disk.salt,
        })
    }
}

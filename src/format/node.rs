//! Nodes of page tables, one slot each.
//!
//! node = header | up to 78 items | zeroes. Items are sorted by page number. A leaf (level 0)
//! maps pages to entries; an inner node maps the first page number a child may hold to the
//! child. The parent's hash proves a node; its own CRC-32 is for tools that have no parent.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::crypto::hash;
use crate::error::Damage;
use crate::format::entry::{DiskEntry, Entry, pack_slot, unpack_slot};
use crate::format::is_zero;
use crate::format::layout::disk_struct;
use crate::units::{KeyEpoch, PageNo, SLOT_LEN, SegmentId, SlotAddr};

/// Most items in a node.
pub const NODE_ITEMS_MAX: usize = 78;
/// The highest level a node may have. 8 levels of 78 hold more than 2^50 pages.
pub const LEVEL_MAX: u8 = 10;

pub(crate) const MAGIC: [u8; 4] = *b"OFND";

disk_struct! {
    /// The start of a node.
    pub struct NodeHeader = 32 {
        /// "OFND".
        magic: [u8; 4],
        /// CRC-32 of the rest of the slot.
        crc: U32,
        /// Format version, 0.
        version: U16,
        /// 0 for a leaf, else one more than its children's.
        level: u8,
        /// Zero.
        reserved_a: u8,
        /// Items that follow, 1 to 78.
        item_count: U16,
        /// Zero.
        reserved_b: U16,
        /// Key epoch of the change that last dirtied the node: it names the node's birth.
        key_epoch: U32,
        /// Zero.
        reserved_c: [u8; 12],
    }
}

disk_struct! {
    /// A page in a leaf.
    pub struct LeafItem = 52 {
        /// Logical page number.
        page: U64,
        /// Where the page is.
        entry: DiskEntry,
    }
}

disk_struct! {
    /// A child in an inner node.
    pub struct InnerItem = 52 {
        /// Least page number the child may hold.
        first_page: U64,
        /// Where the child is.
        child: DiskNodeRef,
    }
}

disk_struct! {
    /// Where a node is, and what proves it.
    pub struct DiskNodeRef = 44 {
        /// Virtual segment.
        segment: U32,
        /// Slot in bits 0-23, level of the node in bits 24-31.
        slot_level: U32,
        /// The node's key epoch.
        key_epoch: U32,
        /// BLAKE3 hash of the node's slot.
        hash: [u8; 32],
    }
}

/// Where a written node is, and what proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeRef {
    /// Its slot.
    pub at: SlotAddr,
    /// Its level.
    pub level: u8,
    /// The key epoch of the change that last dirtied it.
    pub key_epoch: KeyEpoch,
    /// BLAKE3 hash of its slot.
    pub hash: [u8; 32],
}

/// The contents of a node as they are on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskNode {
    /// The key epoch of the change that last dirtied it.
    pub key_epoch: KeyEpoch,
    /// Its items.
    pub items: Items,
}

/// The items of a node that was decoded before, read where they lie.
#[derive(Clone, Copy)]
pub enum NodeView<'a> {
    /// Pages, by number.
    Leaf(&'a [LeafItem]),
    /// Children, by the least page number each may hold.
    Inner(&'a [InnerItem]),
}

/// The items of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Items {
    /// Pages, by number.
    Leaf(Vec<(PageNo, Entry)>),
    /// Children of level `level - 1`, by the least page number each may hold.
    Inner {
        /// The node's own level, 1 or more.
        level: u8,
        /// The children.
        children: Vec<(PageNo, NodeRef)>,
    },
}

impl NodeRef {
    /// The bytes for the disk.
    pub fn encode(&self) -> DiskNodeRef {
        DiskNodeRef {
            segment: self.at.segment.0.into(),
            slot_level: pack_slot(self.at.slot, self.level),
            key_epoch: self.key_epoch.0.into(),
            hash: self.hash,
        }
    }

    /// Reads a reference.
    pub fn decode(disk: &DiskNodeRef) -> Result<Self, Damage> {
        let (slot, level) = unpack_slot(disk.slot_level);
        if disk.segment.get() == 0 || slot == 0 {
            return Err(Damage::OutOfRange("slot"));
        }
        if level > LEVEL_MAX {
            return Err(Damage::OutOfRange("level"));
        }
        if disk.key_epoch.get() == 0 {
            return Err(Damage::OutOfRange("key_epoch"));
        }
        Ok(Self {
            at: SlotAddr {
                segment: SegmentId(disk.segment.get()),
                slot,
            },
            level,
            key_epoch: KeyEpoch(disk.key_epoch.get()),
            hash: disk.hash,
        })
    }
}

impl Items {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Leaf(pages) => pages.len(),
            Self::Inner { children, .. } => children.len(),
        }
    }

    /// The page number of the first and the last; `None` if there are none.
    pub fn ends(&self) -> Option<(PageNo, PageNo)> {
        match self {
            Self::Leaf(pages) => Some((pages.first()?.0, pages.last()?.0)),
            Self::Inner { children, .. } => Some((children.first()?.0, children.last()?.0)),
        }
    }
}

impl DiskNode {
    /// The node's level.
    pub fn level(&self) -> u8 {
        match &self.items {
            Items::Leaf(_) => 0,
            Items::Inner { level, .. } => *level,
        }
    }

    /// The slot that holds the node.
    pub fn encode(&self) -> Vec<u8> {
        let mut slot = vec![0; SLOT_LEN];
        let (_, body) = slot.split_at_mut(size_of::<NodeHeader>());
        let count = match &self.items {
            Items::Leaf(pages) => {
                for ((page, entry), out) in pages.iter().zip(body.chunks_exact_mut(52)) {
                    let item = LeafItem {
                        page: page.0.into(),
                        entry: entry.encode(),
                    };
                    out.copy_from_slice(item.as_bytes());
                }
                pages.len()
            }
            Items::Inner { children, .. } => {
                for ((first, child), out) in children.iter().zip(body.chunks_exact_mut(52)) {
                    let item = InnerItem {
                        first_page: first.0.into(),
                        child: child.encode(),
                    };
                    out.copy_from_slice(item.as_bytes());
                }
                children.len()
            }
        };
        assert!(
            (1..=NODE_ITEMS_MAX).contains(&count),
            "BUG: node of {count} items"
        );
        let mut header = NodeHeader {
            magic: MAGIC,
            crc: 0.into(),
            version: 0.into(),
            level: self.level(),
            reserved_a: 0,
            item_count: (count as u16).into(),
            reserved_b: 0.into(),
            key_epoch: self.key_epoch.0.into(),
            reserved_c: [0; 12],
        };
        let (head, _) = slot.split_at_mut(size_of::<NodeHeader>());
        head.copy_from_slice(header.as_bytes());
        let (_, checked) = slot.split_at(8);
        header.crc = crc32fast::hash(checked).into();
        let (head, _) = slot.split_at_mut(size_of::<NodeHeader>());
        head.copy_from_slice(header.as_bytes());
        slot
    }

    /// Reads the node that `expect` names.
    pub fn decode(slot: &[u8], expect: &NodeRef) -> Result<Self, Damage> {
        if hash(slot) != expect.hash {
            return Err(Damage::BadHash);
        }
        let node = Self::decode_any(slot)?;
        if node.level() != expect.level || node.key_epoch != expect.key_epoch {
            return Err(Damage::WrongIdentity);
        }
        Ok(node)
    }

    /// Reads a node that nothing names, for tools; only its own checksum speaks for it.
    pub fn decode_any(slot: &[u8]) -> Result<Self, Damage> {
        if slot.len() != SLOT_LEN {
            return Err(Damage::Truncated);
        }
        let (header, body) = NodeHeader::ref_from_prefix(slot).map_err(|_| Damage::Truncated)?;
        if header.magic != MAGIC {
            return Err(Damage::BadMagic);
        }
        if header.crc.get() != slot.get(8..).map_or(0, crc32fast::hash) {
            return Err(Damage::BadChecksum);
        }
        if header.version.get() != 0 {
            return Err(Damage::BadVersion(header.version.get().into()));
        }
        let count = usize::from(header.item_count.get());
        if !(1..=NODE_ITEMS_MAX).contains(&count) {
            return Err(Damage::OutOfRange("item_count"));
        }
        if header.level > LEVEL_MAX {
            return Err(Damage::OutOfRange("level"));
        }
        if header.key_epoch.get() == 0 {
            return Err(Damage::OutOfRange("key_epoch"));
        }
        let (_, rest) = body.split_at(count * 52);
        let zero = header.reserved_a == 0
            && header.reserved_b.get() == 0
            && header.reserved_c == [0; 12]
            && is_zero(rest);
        if !zero {
            return Err(Damage::NotZero);
        }
        let items = NodeView::new(slot, header.level, count)?.decode(header.level)?;
        Ok(Self {
            key_epoch: KeyEpoch(header.key_epoch.get()),
            items,
        })
    }
}

impl<'a> NodeView<'a> {
    /// The items of a slot whose node has that level and so many of them.
    pub fn new(slot: &'a [u8], level: u8, item_count: usize) -> Result<Self, Damage> {
        let body = slot.get(size_of::<NodeHeader>()..);
        let body = body.ok_or(Damage::Truncated)?;
        match level {
            0 => <[LeafItem]>::ref_from_prefix_with_elems(body, item_count)
                .map(|(items, _)| Self::Leaf(items))
                .map_err(|_| Damage::Truncated),
            _ => <[InnerItem]>::ref_from_prefix_with_elems(body, item_count)
                .map(|(items, _)| Self::Inner(items))
                .map_err(|_| Damage::Truncated),
        }
    }

    /// The items, of a node of that level.
    pub fn decode(self, level: u8) -> Result<Items, Damage> {
        match self {
            Self::Leaf(items) => leaf(items),
            Self::Inner(items) => inner(items, level),
        }
    }
}

fn leaf(disk: &[LeafItem]) -> Result<Items, Damage> {
    let mut pages = Vec::with_capacity(disk.len());
    for item in disk {
        pages.push((PageNo(item.page.get()), Entry::decode(&item.entry)?));
    }
    sorted(&pages).map(|()| Items::Leaf(pages))
}

fn inner(disk: &[InnerItem], level: u8) -> Result<Items, Damage> {
    let mut children = Vec::with_capacity(disk.len());
    for item in disk {
        let child = NodeRef::decode(&item.child)?;
        if child.level + 1 != level {
            return Err(Damage::OutOfRange("level"));
        }
        children.push((PageNo(item.first_page.get()), child));
    }
    sorted(&children).map(|()| Items::Inner { level, children })
}

fn sorted<T>(items: &[(PageNo, T)]) -> Result<(), Damage> {
    match items.is_sorted_by(|a, b| a.0 < b.0) {
        true => Ok(()),
        false => Err(Damage::Inconsistent("items are out of order")),
    }
}

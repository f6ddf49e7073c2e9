//! The superblock: where a store's last checkpoint is, and where to roll forward from.
//!
//! superblock = fields | zeroes | keyed hash | CRC-32, one slot. Two files hold two slots each:
//! generation g is in slot g mod 2 of both, so two generations exist twice.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::crypto::{Secret, WRAPPED_LEN, keyed_hash};
use crate::error::Damage;
use crate::format::is_zero;
use crate::format::layout::disk_struct;
use crate::units::{
    HeadId, KeyEpoch, KeyId, LineageEpoch, SLOT_LEN, SegmentId, Seq, SlotAddr, StoreId,
};

/// The version of the disk format that this program writes.
pub const FORMAT_VERSION: u32 = 0;
/// Longest wrapped store key in bytes.
pub const STORE_KEY_LEN_MAX: usize = 128;
/// Most slots of a segment: 1 GiB.
pub const SEGMENT_SLOTS_MAX: u32 = 1 << 18;

pub(crate) const MAGIC: [u8; 8] = *b"OFFSHOOT";
const FLAG_CLEAN: u32 = 1;
/// Where the keyed hash starts: it covers all before.
const MAC_AT: usize = 4060;
const CRC_AT: usize = 4092;

disk_struct! {
    /// The state of the store after batch `seq`, and how to go on from there.
    pub struct DiskSuperblock = 4096 {
        /// "OFFSHOOT".
        magic: [u8; 8],
        /// Format version, 0.
        version: U32,
        /// The copy this is: 0 or 1.
        mirror: U32,
        /// The store's random id.
        store_id: [u8; 16],
        /// Rises by one with every superblock.
        generation: U64,
        /// When the store was made, in milliseconds since 1970-01-01 UTC.
        created_at_ms: U64,
        /// Page length in bytes: 4096, 8192, 16384, 32768 or 65536.
        page_len: U32,
        /// Slots in a segment file, its header included.
        segment_slots: U32,
        /// Bit 0: the store was closed cleanly; nothing followed batch `seq` then, but may by now.
        flags: U32,
        /// Number that the next head gets.
        next_head: U32,
        /// Number that the next lineage epoch gets.
        next_lineage: U32,
        /// Number that the next key epoch gets.
        next_key_epoch: U32,
        /// Last batch whose effect is in the tables.
        seq: U64,
        /// Last batch known to be durable; at least `seq`.
        durable_through: U64,
        /// Chain value of batch `seq`; zeroes if `seq` is 0.
        chain: [u8; 32],
        /// Segment in which batch `seq` ends; 0 if `seq` is 0.
        end_segment: U32,
        /// Slot after batch `seq`.
        end_slot: U32,
        /// Segment of the last table batch; 0 if there are no tables.
        table_segment: U32,
        /// First slot of the last table batch.
        table_slot: U32,
        /// BLAKE3 hash of the header slots of the last table batch.
        table_hash: [u8; 32],
        /// KMS key that wraps the store key.
        kms_key: [u8; 16],
        /// Commitment to the store key.
        store_key_commitment: [u8; 32],
        /// Length of the wrapped store key, up to 128.
        store_key_len: U32,
        /// The wrapped store key, then zeroes. Only the KMS reads it.
        store_key: [u8; 128],
        /// Zeroes.
        reserved: [u8; 3712],
        /// BLAKE3 of all before, keyed with the superblock key.
        mac: [u8; 32],
        /// CRC-32 of all before.
        crc: U32,
    }
}

/// A superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The store's random id.
    pub store_id: StoreId,
    /// Rises by one with every superblock.
    pub generation: u64,
    /// When the store was made, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: u64,
    /// Page and segment size.
    pub geometry: Geometry,
    /// The store was closed cleanly: nothing followed `position` when this was written.
    pub clean: bool,
    /// The next unused ids.
    pub next: NextIds,
    /// Last batch in the tables.
    pub position: Position,
    /// Last batch known to be durable.
    pub durable_through: Seq,
    /// The last table batch, if there are tables.
    pub tables: Option<TableRef>,
    /// What opens the store key.
    pub store_key: WrappedStoreKey,
}

/// Sizes that are chosen when a store is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Page length in bytes.
    pub page_len: u32,
    /// Slots in a segment file, its header included.
    pub segment_slots: u32,
}

/// The next unused ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextIds {
    /// Of heads.
    pub head: HeadId,
    /// Of lineage epochs.
    pub lineage: LineageEpoch,
    /// Of key epochs.
    pub key_epoch: KeyEpoch,
}

/// A point in the log: right after a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The batch before.
    pub seq: Seq,
    /// Its chain value.
    pub chain: [u8; 32],
    /// The slot after it.
    pub end: SlotAddr,
}

/// A table batch, and what proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRef {
    /// Its first slot.
    pub at: SlotAddr,
    /// BLAKE3 hash of its header slots.
    pub hash: [u8; 32],
}

/// The store key as the KMS wrapped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedStoreKey {
    /// The KMS key that wraps it.
    pub kms_key: KeyId,
    /// Commitment to the key inside.
    pub commitment: [u8; 32],
    /// What the KMS returned; up to [`STORE_KEY_LEN_MAX`] bytes.
    pub wrapped: Vec<u8>,
}

impl Geometry {
    /// Slots that a page takes.
    pub fn page_slots(&self) -> u32 {
        self.page_len / SLOT_LEN as u32
    }

    /// Whether the sizes are ones that a store can have.
    pub fn is_valid(&self) -> bool {
        let page = self.page_len;
        let fits = self.segment_slots >= 2 + self.page_slots().max(1);
        page.is_power_of_two()
            && (4096..=65536).contains(&page)
            && fits
            && self.segment_slots <= SEGMENT_SLOTS_MAX
    }
}

impl Superblock {
    /// The slot to write as copy `mirror`, authenticated under the superblock key.
    pub fn encode(&self, mirror: u32, key: &Secret) -> Vec<u8> {
        let wrapped = &self.store_key.wrapped;
        let mut store_key = [0; STORE_KEY_LEN_MAX];
        store_key
            .get_mut(..wrapped.len())
            .expect("BUG: wrapped store key too long")
            .copy_from_slice(wrapped);
        let mut disk = DiskSuperblock {
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            mirror: mirror.into(),
            store_id: self.store_id.0,
            generation: self.generation.into(),
            created_at_ms: self.created_at_ms.into(),
            page_len: self.geometry.page_len.into(),
            segment_slots: self.geometry.segment_slots.into(),
            flags: (if self.clean { FLAG_CLEAN } else { 0 }).into(),
            next_head: self.next.head.0.into(),
            next_lineage: self.next.lineage.0.into(),
            next_key_epoch: self.next.key_epoch.0.into(),
            seq: self.position.seq.0.into(),
            durable_through: self.durable_through.0.into(),
            chain: self.position.chain,
            end_segment: self.position.end.segment.0.into(),
            end_slot: self.position.end.slot.into(),
            table_segment: self.tables.map_or(0, |table| table.at.segment.0).into(),
            table_slot: self.tables.map_or(0, |table| table.at.slot).into(),
            table_hash: self.tables.map_or([0; 32], |table| table.hash),
            kms_key: self.store_key.kms_key.0,
            store_key_commitment: self.store_key.commitment,
            store_key_len: (wrapped.len() as u32).into(),
            store_key,
            reserved: [0; 3712],
            mac: [0; 32],
            crc: 0.into(),
        };
        let (before, _) = disk.as_bytes().split_at(MAC_AT);
        disk.mac = keyed_hash(key, before);
        let (before, _) = disk.as_bytes().split_at(CRC_AT);
        disk.crc = crc32fast::hash(before).into();
        disk.as_bytes().to_vec()
    }

    /// Reads copy `mirror`. Only its checksum is verified: see [`Self::is_authentic`].
    pub fn decode(slot: &[u8], mirror: u32) -> Result<Self, Damage> {
        let disk = DiskSuperblock::ref_from_bytes(slot).map_err(|_| Damage::Truncated)?;
        if disk.magic != MAGIC {
            return Err(Damage::BadMagic);
        }
        let (before, _) = slot.split_at(CRC_AT);
        if crc32fast::hash(before) != disk.crc.get() {
            return Err(Damage::BadChecksum);
        }
        if disk.version.get() != FORMAT_VERSION {
            return Err(Damage::BadVersion(disk.version.get()));
        }
        if disk.mirror.get() != mirror {
            return Err(Damage::WrongIdentity);
        }
        let geometry = Geometry {
            page_len: disk.page_len.get(),
            segment_slots: disk.segment_slots.get(),
        };
        if !geometry.is_valid() {
            return Err(Damage::OutOfRange("page_len or segment_slots"));
        }
        if disk.flags.get() & !FLAG_CLEAN != 0 {
            return Err(Damage::OutOfRange("flags"));
        }
        if !is_zero(&disk.reserved) {
            return Err(Damage::NotZero);
        }
        let len = disk.store_key_len.get() as usize;
        let wrapped = disk
            .store_key
            .get(..len)
            .ok_or(Damage::OutOfRange("store_key_len"))?;
        let has_no_tables = disk.table_segment.get() == 0;
        if has_no_tables && (disk.table_slot.get() != 0 || disk.table_hash != [0; 32]) {
            return Err(Damage::NotZero);
        }
        let tables = (!has_no_tables).then(|| TableRef {
            at: SlotAddr {
                segment: SegmentId(disk.table_segment.get()),
                slot: disk.table_slot.get(),
            },
            hash: disk.table_hash,
        });
        Ok(Self {
            store_id: StoreId(disk.store_id),
            generation: disk.generation.get(),
            created_at_ms: disk.created_at_ms.get(),
            geometry,
            clean: disk.flags.get() & FLAG_CLEAN != 0,
            next: NextIds {
                head: HeadId(disk.next_head.get()),
                lineage: LineageEpoch(disk.next_lineage.get()),
                key_epoch: KeyEpoch(disk.next_key_epoch.get()),
            },
            position: Position {
                seq: Seq(disk.seq.get()),
                chain: disk.chain,
                end: SlotAddr {
                    segment: SegmentId(disk.end_segment.get()),
                    slot: disk.end_slot.get(),
                },
            },
            durable_through: Seq(disk.durable_through.get()),
            tables,
            store_key: WrappedStoreKey {
                kms_key: KeyId(disk.kms_key),
                commitment: disk.store_key_commitment,
                wrapped: wrapped.to_vec(),
            },
        })
    }

    /// Whether a slot that decodes was written by somebody with the store key.
    pub fn is_authentic(slot: &[u8], key: &Secret) -> bool {
        DiskSuperblock::ref_from_bytes(slot).is_ok_and(|disk| {
            let (before, _) = slot.split_at(MAC_AT);
            keyed_hash(key, before) == disk.mac
        })
    }
}

const _: () = assert!(MAC_AT == std::mem::offset_of!(DiskSuperblock, mac));
const _: () = assert!(CRC_AT == std::mem::offset_of!(DiskSuperblock, crc));
const _: () = assert!(WRAPPED_LEN <= STORE_KEY_LEN_MAX);

//! The header of a segment file.
//!
//! segment file = header slot | batches, front to back | slots not written yet.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use crate::error::Damage;
use crate::format::is_zero;
use crate::format::layout::disk_struct;
use crate::format::superblock::FORMAT_VERSION;
use crate::units::{SegmentId, StoreId};

pub(crate) const MAGIC: [u8; 8] = *b"OFFSHSEG";
const CRC_AT: usize = 4092;

disk_struct! {
    /// Slot 0 of a segment file.
    pub struct DiskSegmentHeader = 4096 {
        /// "OFFSHSEG".
        magic: [u8; 8],
        /// Format version, 0.
        version: U32,
        /// The virtual segment that the file stands for, from 1. The file's name says it too.
        segment: U32,
        /// The store's id.
        store_id: [u8; 16],
        /// The root (disk) that the file is on, 0.
        root_id: U32,
        /// Slots in the file, this one included.
        slot_count: U32,
        /// Zeroes.
        reserved: [u8; 4052],
        /// CRC-32 of all before.
        crc: U32,
    }
}

/// What a segment file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The virtual segment that the file stands for.
    pub segment: SegmentId,
    /// The store it belongs to.
    pub store_id: StoreId,
    /// Slots in the file, the header included.
    pub slot_count: u32,
}

/// The name of the file of a segment.
pub fn segment_file_name(segment: SegmentId) -> String {
    format!("segment-{:08x}", segment.0)
}

/// The segment whose file has that name.
pub fn segment_of_file(name: &str) -> Option<SegmentId> {
    let id = u32::from_str_radix(name.strip_prefix("segment-")?, 16)
        .ok()
        .map(SegmentId)?;
    (id.0 != 0 && segment_file_name(id) == name).then_some(id)
}

/// The name of a spare: a file of a segment's length that no segment is in.
pub fn spare_file_name(spare: u32) -> String {
    format!("spare-{spare:08x}")
}

/// The number of the spare whose file has that name.
pub fn spare_of_file(name: &str) -> Option<u32> {
    let number = u32::from_str_radix(name.strip_prefix("spare-")?, 16).ok()?;
    (spare_file_name(number) == name).then_some(number)
}

impl SegmentHeader {
    /// The slot that holds the header.
    pub fn encode(&self) -> Vec<u8> {
        let mut disk = DiskSegmentHeader {
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            segment: self.segment.0.into(),
            store_id: self.store_id.0,
            root_id: 0.into(),
            slot_count: self.slot_count.into(),
            reserved: [0; 4052],
            crc: 0.into(),
        };
        let (before, _) = disk.as_bytes().split_at(CRC_AT);
        disk.crc = crc32fast::hash(before).into();
        disk.as_bytes().to_vec()
    }

    /// Reads a header.
    pub fn decode(slot: &[u8]) -> Result<Self, Damage> {
        let disk = DiskSegmentHeader::ref_from_bytes(slot).map_err(|_| Damage::Truncated)?;
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
        if disk.segment.get() == 0 {
            return Err(Damage::OutOfRange("segment"));
        }
        if disk.root_id.get() != 0 {
            return Err(Damage::OutOfRange("root_id"));
        }
        if !is_zero(&disk.reserved) {
            return Err(Damage::NotZero);
        }
        Ok(Self {
            segment: SegmentId(disk.segment.get()),
            store_id: StoreId(disk.store_id),
            slot_count: disk.slot_count.get(),
        })
    }
}

const _: () = assert!(CRC_AT == std::mem::offset_of!(DiskSegmentHeader, crc));

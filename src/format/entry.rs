//! Page entries: where a page's ciphertext is and what proves it.

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use crate::error::Damage;
use crate::format::layout::disk_struct;
use crate::units::{KeyEpoch, PageNo, SegmentId, SlotAddr};

/// Slots are numbered in 24 bits; the upper 8 of the field hold flags or a level.
pub const SLOT_BITS: u32 = 24;

const FLAG_DATA: u8 = 1;
const FLAG_ZERO: u8 = 2;
const FLAG_LOST: u8 = 4;

disk_struct! {
    /// Where a page is, and what proves it. Of an explicit zero, and of a lost page, only the key epoch is not 0.
    pub struct DiskEntry = 44 {
        /// Virtual segment of the first slot.
        segment: U32,
        /// First slot in bits 0-23; flags in bits 24-31: 1 data, 2 explicit zero, 4 lost.
        slot_flags: U32,
        /// Key epoch that the page is sealed under.
        key_epoch: U32,
        /// CRC-32 of the ciphertext.
        crc: U32,
        /// GCM nonce.
        nonce: [u8; 12],
        /// GCM tag.
        tag: [u8; 16],
    }
}

/// What a page table knows of a mapped page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The page has ciphertext.
    Data(DataEntry),
    /// The page was set to zeroes; nothing is stored.
    Zero {
        /// The key epoch that was open then.
        key_epoch: KeyEpoch,
    },
    /// The page had contents that were damaged, and a repair gave them up: reading it is an error.
    Lost {
        /// The key epoch that was open then.
        key_epoch: KeyEpoch,
    },
}

/// Where a page's ciphertext is, and what proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataEntry {
    /// First slot.
    pub at: SlotAddr,
    /// Key epoch that the page is sealed under.
    pub key_epoch: KeyEpoch,
    /// CRC-32 of the ciphertext.
    pub crc: u32,
    /// GCM nonce.
    pub nonce: [u8; 12],
    /// GCM tag.
    pub tag: [u8; 16],
}

impl Entry {
    /// The key epoch in which the page was written: it names the page's birth.
    pub fn key_epoch(&self) -> KeyEpoch {
        match self {
            Self::Data(data) => data.key_epoch,
            Self::Zero { key_epoch } | Self::Lost { key_epoch } => *key_epoch,
        }
    }

    /// The bytes for the disk.
    pub fn encode(&self) -> DiskEntry {
        match self {
            Self::Data(data) => DiskEntry {
                segment: data.at.segment.0.into(),
                slot_flags: pack_slot(data.at.slot, FLAG_DATA),
                key_epoch: data.key_epoch.0.into(),
                crc: data.crc.into(),
                nonce: data.nonce,
                tag: data.tag,
            },
            Self::Zero { key_epoch } => without_contents(FLAG_ZERO, *key_epoch),
            Self::Lost { key_epoch } => without_contents(FLAG_LOST, *key_epoch),
        }
    }

    /// Reads an entry.
    pub fn decode(disk: &DiskEntry) -> Result<Self, Damage> {
        let (slot, flags) = unpack_slot(disk.slot_flags);
        let key_epoch = KeyEpoch(disk.key_epoch.get());
        if key_epoch.0 == 0 {
            return Err(Damage::OutOfRange("key_epoch"));
        }
        match flags {
            FLAG_DATA if disk.segment.get() == 0 || slot == 0 => Err(Damage::OutOfRange("slot")),
            FLAG_DATA => Ok(Self::Data(DataEntry {
                at: SlotAddr {
                    segment: SegmentId(disk.segment.get()),
                    slot,
                },
                key_epoch,
                crc: disk.crc.get(),
                nonce: disk.nonce,
                tag: disk.tag,
            })),
            FLAG_ZERO => only(disk, Self::Zero { key_epoch }),
            FLAG_LOST => only(disk, Self::Lost { key_epoch }),
            _ => Err(Damage::OutOfRange("flags")),
        }
    }
}

fn without_contents(flags: u8, key_epoch: KeyEpoch) -> DiskEntry {
    DiskEntry {
        segment: 0.into(),
        slot_flags: pack_slot(0, flags),
        key_epoch: key_epoch.0.into(),
        crc: 0.into(),
        nonce: [0; 12],
        tag: [0; 16],
    }
}

/// The entry, if the bytes say nothing else.
fn only(disk: &DiskEntry, entry: Entry) -> Result<Entry, Damage> {
    match disk.as_bytes() == entry.encode().as_bytes() {
        true => Ok(entry),
        false => Err(Damage::NotZero),
    }
}

/// Associated data of a sealed page: what it is, never where it is, for ciphertext moves.
///
/// domain | key epoch's random id | logical page number | flags
pub fn page_aad(key_epoch_id: &[u8; 16], page: PageNo) -> [u8; 44] {
    let mut aad = [0; 44];
    aad[..16].copy_from_slice(b"offshoot page v0");
    aad[16..32].copy_from_slice(key_epoch_id);
    aad[32..40].copy_from_slice(&page.0.to_le_bytes());
    aad[40..].copy_from_slice(&u32::from(FLAG_DATA).to_le_bytes());
    aad
}

pub(super) fn pack_slot(slot: u32, high: u8) -> U32 {
    assert!(slot < 1 << SLOT_BITS, "BUG: slot {slot} is over 24 bits");
    (slot | u32::from(high) << SLOT_BITS).into()
}

pub(super) fn unpack_slot(field: U32) -> (u32, u8) {
    let field = field.get();
    (field & ((1 << SLOT_BITS) - 1), (field >> SLOT_BITS) as u8)
}

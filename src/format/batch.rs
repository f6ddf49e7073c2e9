//! Batches: one atomic append to the log.
//!
//! batch = header | records | zeroes to the end of the slot || body slots. The header and the
//! records are the *header slots*; the body holds pages or nodes, each with its CRC-32 in a
//! record. The chain value covers the header slots and so, through tags and checksums, all.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::crypto::{Secret, keyed_hash};
use crate::error::Damage;
use crate::format::is_zero;
use crate::format::layout::disk_struct;
use crate::format::superblock::FORMAT_VERSION;
use crate::units::{SLOT_LEN, SegmentId, Seq, SlotAddr};

pub(crate) const MAGIC: [u8; 8] = *b"OFFSHBAT";
/// The CRC-32 covers all after it.
const CRC_END: usize = 12;
/// The chain value covers all after it.
const CHAIN_END: usize = 48;

/// Length of the fixed part of a batch header in bytes; records follow.
pub const BATCH_HEADER_LEN: usize = 136;

disk_struct! {
    /// The start of a batch.
    pub struct DiskBatchHeader = 136 {
        /// "OFFSHBAT".
        magic: [u8; 8],
        /// CRC-32 of the rest of the header slots.
        crc: U32,
        /// Format version, 0.
        version: U32,
        /// BLAKE3 of the rest of the header slots, keyed with the log key.
        chain: [u8; 32],
        /// Chain value of the batch before; zeroes in the first of a store.
        previous_chain: [u8; 32],
        /// The batch's place in the write order, from 1, without gaps.
        seq: U64,
        /// All batches up to this one were durable when this one was appended.
        durable_through: U64,
        /// The segment that this batch is in.
        segment: U32,
        /// The first slot of this batch.
        slot: U32,
        /// The segment in which the log before this batch ends; 0 in the first of a store.
        previous_segment: U32,
        /// The slot in which the log before this batch ends: nothing behind it is log.
        previous_slot: U32,
        /// Header slots, this one included.
        header_slots: U32,
        /// Body slots that follow.
        body_slots: U32,
        /// Bytes of records that follow this header.
        records_len: U32,
        /// Salt of the subkeys that pages of this batch are sealed under.
        salt: [u8; 12],
    }
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The place in the write order.
    pub seq: Seq,
    /// All batches up to this one were durable when this one was appended.
    pub durable_through: Seq,
    /// The first slot.
    pub at: SlotAddr,
    /// Where the log before this batch ends.
    pub previous_end: SlotAddr,
    /// Chain value of the batch before.
    pub previous_chain: [u8; 32],
    /// Salt of the subkeys that the batch's pages are sealed under.
    pub salt: [u8; 12],
    /// Body slots.
    pub body_slots: u32,
}

/// A batch's header slots, decoded as far as the records.
#[derive(Clone, Debug)]
pub struct BatchHead {
    /// What it says of itself.
    pub header: BatchHeader,
    /// Its chain value: authentic only after [`BatchHead::is_authentic`].
    pub chain: [u8; 32],
    /// The records, to be read with [`super::record::Records`].
    pub records: Vec<u8>,
    slots: Vec<u8>,
}

/// Header slots that hold `records_len` bytes of records.
pub fn header_slots(records_len: usize) -> u32 {
    (BATCH_HEADER_LEN + records_len).div_ceil(SLOT_LEN) as u32
}

/// Bytes of the header slots that hold `records_len` bytes of records.
pub fn header_len(records_len: usize) -> usize {
    header_slots(records_len) as usize * SLOT_LEN
}

impl BatchHeader {
    /// The slot after the batch.
    pub fn end(&self, records_len: usize) -> SlotAddr {
        let slots = header_slots(records_len) + self.body_slots;
        SlotAddr {
            segment: self.at.segment,
            slot: self.at.slot + slots,
        }
    }

    /// Fills the header slots of a batch, which must be zeroed and as many as
    /// [`header_slots`] says. Returns the batch's chain value.
    pub fn encode(&self, records: &[u8], slots: &mut [u8], key: &Secret) -> [u8; 32] {
        assert_eq!(
            slots.len(),
            header_slots(records.len()) as usize * SLOT_LEN,
            "BUG: length"
        );
        let mut disk = DiskBatchHeader {
            magic: MAGIC,
            crc: 0.into(),
            version: FORMAT_VERSION.into(),
            chain: [0; 32],
            previous_chain: self.previous_chain,
            seq: self.seq.0.into(),
            durable_through: self.durable_through.0.into(),
            segment: self.at.segment.0.into(),
            slot: self.at.slot.into(),
            previous_segment: self.previous_end.segment.0.into(),
            previous_slot: self.previous_end.slot.into(),
            header_slots: header_slots(records.len()).into(),
            body_slots: self.body_slots.into(),
            records_len: (records.len() as u32).into(),
            salt: self.salt,
        };
        let (_, rest) = slots.split_at_mut(BATCH_HEADER_LEN);
        rest.split_at_mut(records.len()).0.copy_from_slice(records);
        // Each sum is of all that is behind it.
        put(&disk, slots);
        disk.chain = keyed_hash(key, slots.split_at(CHAIN_END).1);
        put(&disk, slots);
        disk.crc = crc32fast::hash(slots.split_at(CRC_END).1).into();
        put(&disk, slots);
        disk.chain
    }
}

fn put(disk: &DiskBatchHeader, slots: &mut [u8]) {
    let (fixed, _) = slots.split_at_mut(BATCH_HEADER_LEN);
    fixed.copy_from_slice(disk.as_bytes());
}

impl BatchHead {
    /// The number of header slots that the batch at `at` says it has, from its first slot.
    ///
    /// Only identity and bounds are checked; `slots_left` is what the segment has from `at` on.
    pub fn peek(slot: &[u8], at: SlotAddr, slots_left: u32) -> Result<u32, Damage> {
        let (disk, _) = DiskBatchHeader::ref_from_prefix(slot).map_err(|_| Damage::Truncated)?;
        if disk.magic != MAGIC {
            return Err(Damage::BadMagic);
        }
        if disk.version.get() != FORMAT_VERSION {
            return Err(Damage::BadVersion(disk.version.get()));
        }
        if disk.segment.get() != at.segment.0 || disk.slot.get() != at.slot {
            return Err(Damage::WrongIdentity);
        }
        let count = disk.header_slots.get();
        let total = count.checked_add(disk.body_slots.get());
        match total {
            Some(total) if count > 0 && total <= slots_left => Ok(count),
            _ => Err(Damage::OutOfRange("header_slots or body_slots")),
        }
    }

    /// Reads the header slots of the batch at `at`: as many as [`Self::peek`] says.
    pub fn decode(slots: &[u8], at: SlotAddr, slots_left: u32) -> Result<Self, Damage> {
        let count = Self::peek(slots, at, slots_left)?;
        if slots.len() != count as usize * SLOT_LEN {
            return Err(Damage::Truncated);
        }
        let (disk, rest) =
            DiskBatchHeader::ref_from_prefix(slots).map_err(|_| Damage::Truncated)?;
        if crc32fast::hash(slots.split_at(CRC_END).1) != disk.crc.get() {
            return Err(Damage::BadChecksum);
        }
        let records_len = disk.records_len.get() as usize;
        let (records, padding) = rest
            .split_at_checked(records_len)
            .ok_or(Damage::OutOfRange("records_len"))?;
        if header_slots(records_len) != count {
            return Err(Damage::OutOfRange("header_slots"));
        }
        if !is_zero(padding) {
            return Err(Damage::NotZero);
        }
        Ok(Self {
            header: BatchHeader {
                seq: Seq(disk.seq.get()),
                durable_through: Seq(disk.durable_through.get()),
                at,
                previous_end: SlotAddr {
                    segment: SegmentId(disk.previous_segment.get()),
                    slot: disk.previous_slot.get(),
                },
                previous_chain: disk.previous_chain,
                salt: disk.salt,
                body_slots: disk.body_slots.get(),
            },
            chain: disk.chain,
            records: records.to_vec(),
            slots: slots.to_vec(),
        })
    }

    /// Whether somebody with the log key wrote these header slots.
    pub fn is_authentic(&self, key: &Secret) -> bool {
        keyed_hash(key, self.slots.split_at(CHAIN_END).1) == self.chain
    }

    /// BLAKE3 hash of the header slots: what a [`super::superblock::TableRef`] names.
    pub fn hash(&self) -> [u8; 32] {
        crate::crypto::hash(&self.slots)
    }

    /// The first body slot.
    pub fn body(&self) -> SlotAddr {
        let header_slots = (self.slots.len() / SLOT_LEN) as u32;
        SlotAddr {
            segment: self.header.at.segment,
            slot: self.header.at.slot + header_slots,
        }
    }

    /// The slot after the batch.
    pub fn end(&self) -> SlotAddr {
        self.header.end(self.records.len())
    }
}

const _: () = assert!(CRC_END == std::mem::offset_of!(DiskBatchHeader, version));
const _: () = assert!(CHAIN_END == std::mem::offset_of!(DiskBatchHeader, previous_chain));
const _: () = assert!(BATCH_HEADER_LEN == size_of::<DiskBatchHeader>());

//! Packed files: slots that are still in use, moved together out of segments that mostly are not.
//!
//! pack file = index slots || the slots of its parts, one after another. A part is what is left
//! of a virtual segment, its slots in ascending order, so that a slot's place in the file follows
//! from how many of its part's slots are before it. Addresses stay as they were.

use std::ops::Range;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::Damage;
use crate::format::is_zero;
use crate::format::layout::disk_struct;
use crate::format::slots::DiskSlotRun;
use crate::format::superblock::{FORMAT_VERSION, SEGMENT_SLOTS_MAX};
use crate::units::{PackId, SLOT_LEN, SegmentId, StoreId};

pub(crate) const MAGIC: [u8; 8] = *b"OFFSHPAK";
/// The CRC-32 covers all after it.
const CRC_END: usize = 12;

/// Most parts of a pack: its record has to fit into a batch of the shortest segment.
pub const PARTS_MAX: usize = 1024;

disk_struct! {
    /// The start of a pack file.
    pub struct DiskPackHeader = 64 {
        /// "OFFSHPAK".
        magic: [u8; 8],
        /// CRC-32 of the rest of the index slots.
        crc: U32,
        /// Format version, 0.
        version: U32,
        /// The pack's number, from 1. The file's name says it too.
        pack: U64,
        /// The store's id.
        store_id: [u8; 16],
        /// The root (disk) that the file is on, 0.
        root_id: U32,
        /// Slots in use in the file, the index slots included.
        slot_count: U32,
        /// Index slots, this one included.
        index_slots: U32,
        /// Slots of a segment of the store.
        segment_slots: U32,
        /// Parts that follow.
        part_count: U32,
        /// Zero.
        reserved: U32,
    }
}

disk_struct! {
    /// A part of a pack: what it holds of a virtual segment. The set of its slots follows.
    pub struct DiskPackPart = 12 {
        /// The virtual segment.
        segment: U32,
        /// Slots of it that are in the pack.
        slot_count: U32,
        /// Runs that follow; 0 if a bitmap does.
        run_count: U32,
    }
}

disk_struct! {
    /// A pack, as a record. The numbers of its virtual segments follow, ascending, 4 bytes each.
    pub struct DiskPack = 56 {
        /// The pack's number.
        pack: U64,
        /// Slots in use in its file, the index slots included.
        slot_count: U32,
        /// Index slots.
        index_slots: U32,
        /// BLAKE3 hash of the index slots.
        index_hash: [u8; 32],
        /// Virtual segments that follow.
        segment_count: U32,
        /// Zero.
        reserved: U32,
    }
}

/// What a pack holds of a virtual segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackPart {
    /// The virtual segment.
    pub segment: SegmentId,
    /// Its slots, ascending; neighbours are in one run.
    pub runs: Vec<Range<u32>>,
}

/// The index of a pack: what is where in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackIndex {
    /// The pack.
    pub pack: PackId,
    /// The store it belongs to.
    pub store_id: StoreId,
    /// Slots of a segment.
    pub segment_slots: u32,
    /// Ascending by segment.
    pub parts: Vec<PackPart>,
}

/// A pack as the log and the tables know it: from this record on its virtual segments are there
/// and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackRecord {
    /// The pack.
    pub pack: PackId,
    /// Slots in use in its file.
    pub slot_count: u32,
    /// Index slots.
    pub index_slots: u32,
    /// BLAKE3 hash of the index slots.
    pub index_hash: [u8; 32],
    /// Its virtual segments, ascending.
    pub segments: Vec<SegmentId>,
}

/// The name of the file of a pack.
pub fn pack_file_name(pack: PackId) -> String {
    format!("pack-{:016x}", pack.0)
}

/// The pack whose file has that name.
pub fn pack_of_file(name: &str) -> Option<PackId> {
    let id = u64::from_str_radix(name.strip_prefix("pack-")?, 16)
        .ok()
        .map(PackId)?;
    (id.0 != 0 && pack_file_name(id) == name).then_some(id)
}

impl PackPart {
    /// Slots that it has.
    pub fn slot_count(&self) -> u32 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// Bytes that it takes in an index.
    fn encoded_len(&self, segment_slots: u32) -> usize {
        let runs = self.runs.len() * size_of::<DiskSlotRun>();
        size_of::<DiskPackPart>() + runs.min(bitmap_len(segment_slots))
    }

    fn encode(&self, segment_slots: u32, out: &mut Vec<u8>) {
        let as_runs = self.runs.len() * size_of::<DiskSlotRun>() <= bitmap_len(segment_slots);
        let part = DiskPackPart {
            segment: self.segment.0.into(),
            slot_count: self.slot_count().into(),
            run_count: if as_runs { self.runs.len() as u32 } else { 0 }.into(),
        };
        out.extend_from_slice(part.as_bytes());
        if as_runs {
            for run in &self.runs {
                let run = DiskSlotRun {
                    first_slot: run.start.into(),
                    slot_count: (run.end - run.start).into(),
                };
                out.extend_from_slice(run.as_bytes());
            }
            return;
        }
        let mut bitmap = vec![0_u8; bitmap_len(segment_slots)];
        for slot in self.runs.iter().cloned().flatten() {
            if let Some(byte) = bitmap.get_mut(slot as usize / 8) {
                *byte |= 1 << (slot % 8);
            }
        }
        out.extend_from_slice(&bitmap);
    }

    /// Reads a part off the front of `bytes`.
    fn decode(bytes: &mut &[u8], segment_slots: u32) -> Result<Self, Damage> {
        let (part, rest) = DiskPackPart::ref_from_prefix(bytes).map_err(|_| Damage::Truncated)?;
        let run_count = part.run_count.get() as usize;
        let (runs, rest) = if run_count > 0 {
            let (disk, rest) = <[DiskSlotRun]>::ref_from_prefix_with_elems(rest, run_count)
                .map_err(|_| Damage::OutOfRange("run_count"))?;
            let run = |run: &DiskSlotRun| {
                let end = run.first_slot.get().checked_add(run.slot_count.get());
                Ok(run.first_slot.get()..end.ok_or(Damage::OutOfRange("run count"))?)
            };
            let runs = disk.iter().map(run).collect::<Result<Vec<_>, Damage>>()?;
            (runs, rest)
        } else {
            let (bitmap, rest) = rest
                .split_at_checked(bitmap_len(segment_slots))
                .ok_or(Damage::Truncated)?;
            (runs_of(bitmap), rest)
        };
        let part = Self {
            segment: SegmentId(part.segment.get()),
            runs,
        }
        .checked(part.slot_count.get(), segment_slots)?;
        *bytes = rest;
        Ok(part)
    }

    /// Refuses what no writer makes.
    fn checked(self, slot_count: u32, segment_slots: u32) -> Result<Self, Damage> {
        let apart = |pair: &[Range<u32>]| matches!(pair, [a, b] if a.end < b.start);
        let in_order = self.runs.windows(2).all(apart);
        let bounds = self.runs.first().zip(self.runs.last());
        let in_bounds =
            bounds.is_some_and(|(first, last)| first.start > 0 && last.end <= segment_slots);
        let is_whole = self.runs.iter().all(|run| run.start < run.end);
        if self.segment.0 == 0 || !in_order || !in_bounds || !is_whole {
            return Err(Damage::OutOfRange("slots of a part"));
        }
        match self.slot_count() == slot_count {
            true => Ok(self),
            false => Err(Damage::OutOfRange("slot_count of a part")),
        }
    }
}

impl PackIndex {
    /// Slots that the index takes.
    pub fn index_slots(&self) -> u32 {
        let parts = self.parts.iter();
        let parts: usize = parts.map(|part| part.encoded_len(self.segment_slots)).sum();
        (size_of::<DiskPackHeader>() + parts).div_ceil(SLOT_LEN) as u32
    }

    /// Slots of the file: of the index and of all parts.
    pub fn slot_count(&self) -> u32 {
        self.index_slots() + self.parts.iter().map(PackPart::slot_count).sum::<u32>()
    }

    /// The index slots.
    pub fn encode(&self) -> Vec<u8> {
        let header = DiskPackHeader {
            magic: MAGIC,
            crc: 0.into(),
            version: FORMAT_VERSION.into(),
            pack: self.pack.0.into(),
            store_id: self.store_id.0,
            root_id: 0.into(),
            slot_count: self.slot_count().into(),
            index_slots: self.index_slots().into(),
            segment_slots: self.segment_slots.into(),
            part_count: (self.parts.len() as u32).into(),
            reserved: 0.into(),
        };
        let mut slots = header.as_bytes().to_vec();
        for part in &self.parts {
            part.encode(self.segment_slots, &mut slots);
        }
        slots.resize(self.index_slots() as usize * SLOT_LEN, 0);
        let (_, covered) = slots.split_at(CRC_END);
        let crc = U32::new(crc32fast::hash(covered));
        if let Some(to) = slots.get_mut(CRC_END - size_of::<U32>()..CRC_END) {
            to.copy_from_slice(crc.as_bytes());
        }
        slots
    }

    /// How many index slots the first slot of a file says there are, if the file can have them.
    pub fn peek(slot: &[u8], file_slots: u32) -> Result<u32, Damage> {
        let (header, _) = DiskPackHeader::ref_from_prefix(slot).map_err(|_| Damage::Truncated)?;
        if header.magic != MAGIC {
            return Err(Damage::BadMagic);
        }
        let count = header.index_slots.get();
        match (1..=file_slots).contains(&count) {
            true => Ok(count),
            false => Err(Damage::OutOfRange("index_slots")),
        }
    }

    /// Reads all index slots.
    pub fn decode(slots: &[u8]) -> Result<Self, Damage> {
        let (header, mut rest) =
            DiskPackHeader::ref_from_prefix(slots).map_err(|_| Damage::Truncated)?;
        if header.magic != MAGIC {
            return Err(Damage::BadMagic);
        }
        let (_, covered) = slots.split_at(CRC_END);
        if crc32fast::hash(covered) != header.crc.get() {
            return Err(Damage::BadChecksum);
        }
        if header.version.get() != FORMAT_VERSION {
            return Err(Damage::BadVersion(header.version.get()));
        }
        let segment_slots = header.segment_slots.get();
        let part_count = header.part_count.get() as usize;
        if header.pack.get() == 0 || part_count == 0 || part_count > PARTS_MAX {
            return Err(Damage::OutOfRange("pack or part_count"));
        }
        if segment_slots > SEGMENT_SLOTS_MAX {
            return Err(Damage::OutOfRange("segment_slots"));
        }
        if header.root_id.get() != 0 || header.reserved.get() != 0 {
            return Err(Damage::NotZero);
        }
        let mut parts = Vec::new();
        for _ in 0..part_count {
            parts.push(PackPart::decode(&mut rest, segment_slots)?);
        }
        if !is_zero(rest) {
            return Err(Damage::NotZero);
        }
        if !parts.is_sorted_by(|a, b| a.segment < b.segment) {
            return Err(Damage::Inconsistent("the parts of a pack are out of order"));
        }
        let index = Self {
            pack: PackId(header.pack.get()),
            store_id: StoreId(header.store_id),
            segment_slots,
            parts,
        };
        let lens = (index.index_slots(), index.slot_count());
        if lens != (header.index_slots.get(), header.slot_count.get()) {
            return Err(Damage::OutOfRange("index_slots or slot_count"));
        }
        // Runs have two forms, and a part takes the shorter one.
        match index.encode() == slots {
            true => Ok(index),
            false => Err(Damage::Inconsistent("a part of a pack has the longer form")),
        }
    }

    /// The record of the pack.
    pub fn record(&self) -> PackRecord {
        PackRecord {
            pack: self.pack,
            slot_count: self.slot_count(),
            index_slots: self.index_slots(),
            index_hash: crate::crypto::hash(&self.encode()),
            segments: self.parts.iter().map(|part| part.segment).collect(),
        }
    }
}

impl PackRecord {
    /// Whether this is the index that the record means.
    pub fn matches(&self, slots: &[u8], index: &PackIndex) -> bool {
        let segments = index.parts.iter().map(|part| part.segment);
        self.index_hash == crate::crypto::hash(slots)
            && (self.pack, self.slot_count) == (index.pack, index.slot_count())
            && segments.eq(self.segments.iter().copied())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let disk = DiskPack {
            pack: self.pack.0.into(),
            slot_count: self.slot_count.into(),
            index_slots: self.index_slots.into(),
            index_hash: self.index_hash,
            segment_count: (self.segments.len() as u32).into(),
            reserved: 0.into(),
        };
        out.extend_from_slice(disk.as_bytes());
        for segment in &self.segments {
            out.extend_from_slice(&segment.0.to_le_bytes());
        }
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Damage> {
        let (disk, rest) = DiskPack::ref_from_prefix(body).map_err(|_| Damage::Truncated)?;
        let segments = <[U32]>::ref_from_bytes(rest).map_err(|_| Damage::Truncated)?;
        if segments.len() != disk.segment_count.get() as usize || segments.len() > PARTS_MAX {
            return Err(Damage::OutOfRange("segment_count"));
        }
        let segments: Vec<_> = segments
            .iter()
            .map(|segment| SegmentId(segment.get()))
            .collect();
        let first = segments.first().is_some_and(|first| first.0 > 0);
        if !first || !segments.is_sorted_by(|a, b| a < b) {
            return Err(Damage::OutOfRange("segments of a pack"));
        }
        let (slots, index_slots) = (disk.slot_count.get(), disk.index_slots.get());
        if disk.pack.get() == 0 || index_slots == 0 || index_slots >= slots {
            return Err(Damage::OutOfRange("slots of a pack"));
        }
        match disk.reserved.get() {
            0 => Ok(Self {
                pack: PackId(disk.pack.get()),
                slot_count: slots,
                index_slots,
                index_hash: disk.index_hash,
                segments,
            }),
            _ => Err(Damage::NotZero),
        }
    }
}

fn bitmap_len(segment_slots: u32) -> usize {
    segment_slots.div_ceil(8) as usize
}

/// The bits that are set, as runs.
fn runs_of(bitmap: &[u8]) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    let bits = (0..8).map(|bit| 1_u8 << bit);
    let all = bitmap
        .iter()
        .flat_map(|byte| bits.clone().map(move |bit| byte & bit != 0));
    for (slot, _) in (0_u32..).zip(all).filter(|(_, is_set)| *is_set) {
        match runs.last_mut() {
            Some(run) if run.end == slot => run.end += 1,
            _ => runs.push(slot..slot + 1),
        }
    }
    runs
}

const _: () = assert!(CRC_END == std::mem::offset_of!(DiskPackHeader, version));

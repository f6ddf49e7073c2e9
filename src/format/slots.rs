//! Sets of slots of one segment, as a checkpoint's tables hold them.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::Damage;
use crate::format::entry::SLOT_BITS;
use crate::format::layout::disk_struct;
use crate::units::{KeyEpoch, LineageEpoch, SegmentId};

const LIVE: u8 = 1;
const DEAD_PAGES: u8 = 2;
const DEAD_NODES: u8 = 3;
const RUNS: u8 = 1;
const BITS: u8 = 2;

disk_struct! {
    /// Slots of a segment: runs or bits follow, whichever are fewer bytes.
    pub struct DiskSlots = 24 {
        /// The segment.
        segment: U32,
        /// 1 slots that live items take, 2 and 3 the first slots of pages and of nodes on a deadlist.
        purpose: u8,
        /// 1 runs of slots follow, 2 bits (64 in a little-endian number, the lowest first).
        form: u8,
        /// Zeroes.
        reserved: [u8; 2],
        /// The lineage epoch whose deadlist it is, or 0.
        lineage: U32,
        /// The key epoch that the items on the deadlist name, or 0.
        key_epoch: U32,
        /// Slot of the first bit, a multiple of 64, or 0.
        first_slot: U32,
        /// Runs, or numbers of 64 bits, that follow.
        count: U32,
    }
}

disk_struct! {
    /// Slots that follow each other.
    pub struct DiskSlotRun = 8 {
        /// The first slot.
        first_slot: U32,
        /// Slots.
        slot_count: U32,
    }
}

/// What a set of slots says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotsPurpose {
    /// Live pages and nodes take them.
    Live,
    /// Pages of a deadlist start there.
    DeadPages(Bucket),
    /// Nodes of a deadlist are there.
    DeadNodes(Bucket),
}

/// A part of a deadlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Whose deadlist.
    pub lineage: LineageEpoch,
    /// The key epoch that its items name.
    pub key_epoch: KeyEpoch,
}

/// Slots of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsRecord {
    /// What they say.
    pub purpose: SlotsPurpose,
    /// The segment.
    pub segment: SegmentId,
    /// The slots as runs: first slot and count, ascending, with gaps between.
    pub runs: Vec<(u32, u32)>,
}

impl SlotsRecord {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let first = self.runs.first().map_or(0, |&(first, _)| first / 64 * 64);
        let end = self.runs.last().map_or(0, |&(first, count)| first + count);
        let words = (end - first).div_ceil(64) as usize;
        let as_bits = words < self.runs.len();
        let (purpose, bucket) = match self.purpose {
            SlotsPurpose::Live => (LIVE, None),
            SlotsPurpose::DeadPages(bucket) => (DEAD_PAGES, Some(bucket)),
            SlotsPurpose::DeadNodes(bucket) => (DEAD_NODES, Some(bucket)),
        };
        let disk = DiskSlots {
            segment: self.segment.0.into(),
            purpose,
            form: if as_bits { BITS } else { RUNS },
            reserved: [0; 2],
            lineage: bucket.map_or(0, |bucket| bucket.lineage.0).into(),
            key_epoch: bucket.map_or(0, |bucket| bucket.key_epoch.0).into(),
            first_slot: if as_bits { first } else { 0 }.into(),
            count: (if as_bits { words } else { self.runs.len() } as u32).into(),
        };
        out.extend_from_slice(disk.as_bytes());
        match as_bits {
            true => out.extend_from_slice(self.bits(first, words).as_bytes()),
            false => {
                for &(first_slot, slot_count) in &self.runs {
                    let run = DiskSlotRun {
                        first_slot: first_slot.into(),
                        slot_count: slot_count.into(),
                    };
                    out.extend_from_slice(run.as_bytes());
                }
            }
        }
    }

    fn bits(&self, first: u32, words: usize) -> Vec<U64> {
        let mut bits = vec![0_u64; words];
        for slot in self
            .runs
            .iter()
            .flat_map(|&(first, count)| first..first + count)
        {
            if let Some(word) = bits.get_mut(((slot - first) / 64) as usize) {
                *word |= 1 << (slot % 64);
            }
        }
        bits.into_iter().map(U64::new).collect()
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Damage> {
        let (disk, rest) = DiskSlots::ref_from_prefix(body).map_err(|_| Damage::Truncated)?;
        if disk.reserved != [0; 2] {
            return Err(Damage::NotZero);
        }
        let bucket = Bucket {
            lineage: LineageEpoch(disk.lineage.get()),
            key_epoch: KeyEpoch(disk.key_epoch.get()),
        };
        let is_bucket = bucket.lineage.0 != 0 && bucket.key_epoch.0 != 0;
        let purpose = match disk.purpose {
            LIVE if bucket.lineage.0 == 0 && bucket.key_epoch.0 == 0 => SlotsPurpose::Live,
            DEAD_PAGES if is_bucket => SlotsPurpose::DeadPages(bucket),
            DEAD_NODES if is_bucket => SlotsPurpose::DeadNodes(bucket),
            _ => return Err(Damage::OutOfRange("purpose, lineage or key_epoch")),
        };
        let count = disk.count.get() as usize;
        let runs = match disk.form {
            RUNS if disk.first_slot.get() == 0 => decode_runs(rest, count)?,
            BITS => decode_bits(rest, count, disk.first_slot.get())?,
            _ => return Err(Damage::OutOfRange("form")),
        };
        let starts_in_header = runs.first().is_none_or(|&(first, _)| first == 0);
        if disk.segment.get() == 0 || starts_in_header {
            return Err(Damage::OutOfRange("segment or slots"));
        }
        Ok(Self {
            purpose,
            segment: SegmentId(disk.segment.get()),
            runs,
        })
    }
}

fn decode_runs(bytes: &[u8], count: usize) -> Result<Vec<(u32, u32)>, Damage> {
    let disk = <[DiskSlotRun]>::ref_from_bytes(bytes).map_err(|_| Damage::Truncated)?;
    if disk.len() != count {
        return Err(Damage::OutOfRange("count"));
    }
    let mut after = 0;
    let mut runs = Vec::with_capacity(disk.len());
    for run in disk {
        let (first, count) = (run.first_slot.get(), run.slot_count.get());
        let end = first
            .checked_add(count)
            .filter(|&end| end <= 1 << SLOT_BITS);
        let end = end.filter(|_| count > 0 && (first > after || after == 0));
        after = end.ok_or(Damage::OutOfRange("slot run"))?;
        runs.push((first, count));
    }
    Ok(runs)
}

fn decode_bits(bytes: &[u8], count: usize, first: u32) -> Result<Vec<(u32, u32)>, Damage> {
    let words = <[U64]>::ref_from_bytes(bytes).map_err(|_| Damage::Truncated)?;
    let end = (count as u64).saturating_mul(64) + u64::from(first);
    if words.len() != count || !first.is_multiple_of(64) || end > 1 << SLOT_BITS {
        return Err(Damage::OutOfRange("count or first_slot"));
    }
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for (word, start) in words.iter().zip((first..).step_by(64)) {
        for bit in (0..64).filter(|bit| word.get() >> bit & 1 == 1) {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == start + bit => *count += 1,
                _ => runs.push((start + bit, 1)),
            }
        }
    }
    Ok(runs)
}

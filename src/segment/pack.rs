//! Packed files: opened and mapped like segments, and where a slot of a virtual segment is in them.

use std::ops::Range;

use crate::error::{Damage, Result};
use crate::format::pack::{PackIndex, PackPart, PackRecord};
use crate::io::{Access, Disk, DiskFile, Map};
use crate::slots::runs_of;
use crate::sync::Arc;
use crate::units::{PackId, SLOT_LEN, SegmentId, StoreId};

/// An open packed file.
#[derive(Debug)]
pub struct Pack {
    id: PackId,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) map: Arc<dyn Map>,
    /// Ascending by segment.
    parts: Vec<Part>,
}

/// Where the slots of a virtual segment are.
#[derive(Debug)]
struct Part {
    segment: SegmentId,
    slots: Ranked,
}

/// A set of slots, each with its place in the file.
#[derive(Debug)]
enum Ranked {
    /// First slot, slots, and the place of the first.
    Runs(Vec<(u32, u32, u32)>),
    /// A bit a slot, and for each word the place of its first slot.
    Bitmap(Vec<(u64, u32)>),
}

impl Ranked {
    fn new(part: &PackPart, base: u32) -> Self {
        let end = part.runs.last().map_or(0, |run| run.end);
        let words = end.div_ceil(u64::BITS) as usize;
        if part.runs.len() <= words {
            let mut place = base;
            let runs = part.runs.iter().map(|run| {
                let count = run.end - run.start;
                place += count;
                (run.start, count, place - count)
            });
            return Self::Runs(runs.collect());
        }
        let mut bitmap = vec![(0_u64, 0); words];
        for slot in part.runs.iter().cloned().flatten() {
            bitmap[(slot / u64::BITS) as usize].0 |= 1 << (slot % u64::BITS);
        }
        let mut place = base;
        for (word, first) in &mut bitmap {
            *first = place;
            place += word.count_ones();
        }
        Self::Bitmap(bitmap)
    }

    /// The place of a slot, if it is in the set.
    fn place(&self, slot: u32) -> Option<u32> {
        match self {
            Self::Runs(runs) => {
                let after = runs.partition_point(|&(first, _, _)| first <= slot);
                let (first, count, place) = *runs.get(after.checked_sub(1)?)?;
                let within = slot - first;
                (within < count).then_some(place + within)
            }
            Self::Bitmap(bitmap) => {
                let (word, first) = *bitmap.get((slot / u64::BITS) as usize)?;
                let bit = 1_u64 << (slot % u64::BITS);
                let below = (word & (bit - 1)).count_ones();
                (word & bit != 0).then_some(first + below)
            }
        }
    }

    /// Its slots as runs, ascending, each with the place of its first slot.
    fn runs(&self) -> Vec<(Range<u32>, u32)> {
        match self {
            Self::Runs(runs) => {
                let run = |&(first, count, place): &(u32, u32, u32)| (first..first + count, place);
                runs.iter().map(run).collect()
            }
            Self::Bitmap(bitmap) => {
                let mut runs: Vec<(Range<u32>, u32)> = Vec::new();
                for (&(word, mut place), first) in bitmap.iter().zip((0..).step_by(64)) {
                    for run in runs_of(word, first) {
                        let len = run.end - run.start;
                        match runs.last_mut() {
                            Some((before, _)) if before.end == run.start => before.end = run.end,
                            _ => runs.push((run, place)),
                        }
                        place += len;
                    }
                }
                runs
            }
        }
    }
}

impl Pack {
    /// Opens the file of a pack. The inner error says what is wrong with it.
    pub(super) fn open(
        disk: &dyn Disk,
        name: &str,
        record: &PackRecord,
        store_id: StoreId,
        segment_slots: u32,
    ) -> std::io::Result<Result<Self, Damage>> {
        let file = disk.open(name, Access::ReadWrite).or_else(|error| {
            let kinds = [
                std::io::ErrorKind::PermissionDenied,
                std::io::ErrorKind::ReadOnlyFilesystem,
            ];
            match kinds.contains(&error.kind()) {
                true => disk.open(name, Access::Read),
                false => Err(error),
            }
        })?;
        if file.len()? < u64::from(record.slot_count) * SLOT_LEN as u64 {
            return Ok(Err(Damage::Truncated));
        }
        let mut slots = vec![0; record.index_slots as usize * SLOT_LEN];
        file.read_exact_at(&mut slots, 0)?;
        let index = match PackIndex::decode(&slots) {
            Ok(index) => index,
            Err(damage) => return Ok(Err(damage)),
        };
        if !record.matches(&slots, &index) {
            return Ok(Err(Damage::BadHash));
        }
        if (index.store_id, index.segment_slots) != (store_id, segment_slots) {
            return Ok(Err(Damage::WrongIdentity));
        }
        Ok(Ok(Self::new(&index, file.clone(), file.map()?)))
    }

    pub(super) fn new(index: &PackIndex, file: Arc<dyn DiskFile>, map: Arc<dyn Map>) -> Self {
        let mut base = index.index_slots();
        let parts = index.parts.iter().map(|part| {
            let slots = Ranked::new(part, base);
            base += part.slot_count();
            Part {
                segment: part.segment,
                slots,
            }
        });
        Self {
            id: index.pack,
            parts: parts.collect(),
            file,
            map,
        }
    }

    /// Its number.
    pub fn id(&self) -> PackId {
        self.id
    }

    /// The place of neighbouring slots of a virtual segment, if they are all here.
    pub fn place(&self, segment: SegmentId, slot: u32, count: u32) -> Option<u32> {
        let part = self.part(segment)?;
        let first = part.slots.place(slot)?;
        let last = slot.checked_add(count.checked_sub(1)?)?;
        // Slots are in ascending order: if the last is as far from the first as it should be, all
        // between are here.
        (part.slots.place(last)? - first == count - 1).then_some(first)
    }

    /// The slots of a virtual segment that are here, as runs with the places of their first slots.
    pub fn runs(&self, segment: SegmentId) -> Vec<(Range<u32>, u32)> {
        self.part(segment)
            .map(|part| part.slots.runs())
            .unwrap_or_default()
    }

    fn part(&self, segment: SegmentId) -> Option<&Part> {
        let found = self
            .parts
            .binary_search_by_key(&segment, |part| part.segment);
        self.parts.get(found.ok()?)
    }
}

#[cfg(test)]
mod tests;

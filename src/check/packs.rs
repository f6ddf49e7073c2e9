//! Packed files: which there are, whether they are what the log says, and where in them a slot of
//! a virtual segment is.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::check::codes;
use crate::check::files::{Files, Trouble, slot_offset};
use crate::check::finding::Findings;
use crate::check::state::State;
use crate::error::Damage;
use crate::format::pack::{PackIndex, PackPart, PackRecord, pack_file_name};
use crate::format::superblock::Superblock;
use crate::units::{PackId, SegmentId, SlotAddr};

/// Virtual segments that are in packs.
#[derive(Debug, Default)]
pub(super) struct Packed(HashMap<SegmentId, Part>);

/// A run of slots of a virtual segment, and its place in the file.
pub(super) type Placed = (Range<u32>, u32);

/// What a pack holds of a virtual segment.
#[derive(Debug)]
struct Part {
    pack: PackId,
    /// Runs of its slots, each with its place in the file; `None` if the index cannot be read.
    runs: Option<Vec<Placed>>,
}

impl Packed {
    /// The pack of a segment.
    pub fn pack(&self, segment: SegmentId) -> Option<PackId> {
        self.0.get(&segment).map(|part| part.pack)
    }

    /// Whether slots of a segment in a pack are there; so it seems, if the index is not known.
    pub fn has(&self, at: SlotAddr, count: u32) -> Option<bool> {
        let part = self.0.get(&at.segment)?;
        Some(part.runs.is_none() || part.place(at.slot, count).is_some())
    }

    /// The virtual segments in a pack, each with runs of its slots and where each run is in the file.
    pub fn parts_of(&self, pack: PackId) -> impl Iterator<Item = (SegmentId, &[Placed])> {
        let parts = self.0.iter().filter(move |(_, part)| part.pack == pack);
        parts.map(|(&segment, part)| (segment, part.runs.as_deref().unwrap_or_default()))
    }

    /// Runs of the slots of a virtual segment that is in a pack, and where each is in the file.
    pub fn runs_of(&self, segment: SegmentId) -> Option<&[Placed]> {
        let part = self.0.get(&segment)?;
        Some(part.runs.as_deref().unwrap_or_default())
    }

    /// The pack of a slot, and its place there.
    pub fn place(&self, at: SlotAddr, count: u32) -> Option<Result<(PackId, u32), Trouble>> {
        let part = self.0.get(&at.segment)?;
        let place = part.place(at.slot, count);
        Some(match place {
            Some(place) => Ok((part.pack, place)),
            None => Err(Damage::Missing.into()),
        })
    }
}

impl Part {
    fn place(&self, slot: u32, count: u32) -> Option<u32> {
        let end = slot.checked_add(count)?;
        let runs = self.runs.as_ref()?;
        let after = runs.partition_point(|(run, _)| run.start <= slot);
        let (run, place) = runs.get(after.checked_sub(1)?)?;
        if end > run.end {
            return None;
        }
        Some(place + (slot - run.start))
    }
}

/// Reads the indices of all packs that virtual segments are in.
pub(super) fn load(
    files: &Files<'_>,
    state: &State,
    superblock: &Superblock,
    findings: &mut Findings,
) -> Packed {
    let mut packed = Packed::default();
    for (segments, record) in in_use(state) {
        check_record(record, superblock, findings);
        let name = pack_file_name(record.pack);
        let index = match files.has(&name) {
            true => index(files, record, superblock, &name, findings),
            // Whether it is missed depends on whether anything in it is still in use.
            false => None,
        };
        let mut base = record.index_slots;
        let mut places = BTreeMap::new();
        for part in index.iter().flat_map(|index| &index.parts) {
            places.insert(part.segment, runs(part, base));
            base = base.saturating_add(part.slot_count());
        }
        for segment in segments {
            let part = Part {
                pack: record.pack,
                runs: index
                    .as_ref()
                    .map(|_| places.remove(&segment).unwrap_or_default()),
            };
            packed.0.insert(segment, part);
        }
    }
    packed
}

/// The packs that virtual segments are in.
fn in_use(state: &State) -> Vec<(Vec<SegmentId>, &PackRecord)> {
    let mut packs: BTreeMap<PackId, Vec<SegmentId>> = BTreeMap::new();
    for (&segment, &pack) in &state.in_pack {
        packs.entry(pack).or_default().push(segment);
    }
    let record = |pack: &PackId| state.packs.get(pack);
    let packs = packs.into_iter();
    packs
        .filter_map(|(pack, segments)| Some((segments, record(&pack)?)))
        .collect()
}

fn check_record(record: &PackRecord, superblock: &Superblock, findings: &mut Findings) {
    if record.slot_count > superblock.geometry.segment_slots {
        let location = format!("file {}", pack_file_name(record.pack));
        let message = format!("it is recorded with {} slots", record.slot_count);
        findings.add(codes::PACK_RECORD, location, message);
    }
}

fn index(
    files: &Files<'_>,
    record: &PackRecord,
    superblock: &Superblock,
    name: &str,
    findings: &mut Findings,
) -> Option<PackIndex> {
    let location = format!("file {name}");
    let geometry = &superblock.geometry;
    let lens = slot_offset(record.slot_count)..=slot_offset(geometry.segment_slots);
    match files.len(name) {
        Ok(len) if lens.contains(&len) => {}
        Ok(len) => {
            let message = format!("it has {len} bytes, not {}", lens.start());
            findings.add(codes::PACK_LENGTH, &location, message);
        }
        Err(trouble) => findings.add(codes::PACK_LENGTH, &location, trouble),
    }
    let read = files.read_named(name, 0, record.index_slots);
    let index = read.and_then(|slots| Ok((PackIndex::decode(&slots)?, slots)));
    let (index, slots) = match index {
        Ok(index) => index,
        Err(trouble) => {
            findings.add(codes::PACK_INDEX, location, trouble);
            return None;
        }
    };
    if !record.matches(&slots, &index) {
        findings.add(codes::PACK_INDEX, location, "it is not the one recorded");
        return None;
    }
    let expected = (superblock.store_id, geometry.segment_slots);
    if (index.store_id, index.segment_slots) != expected {
        let message = "it belongs to another store";
        findings.add(codes::PACK_IDENTITY, location, message);
    }
    Some(index)
}

fn runs(part: &PackPart, mut place: u32) -> Vec<Placed> {
    let runs = part.runs.iter().map(|run| {
        let first = place;
        place = place.saturating_add(run.end - run.start);
        (run.clone(), first)
    });
    runs.collect()
}

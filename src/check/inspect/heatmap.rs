//! The files that slots are in, cut into cells: what each is used for, and how old it is.

use crate::check::image::Image;
use crate::check::inspect::usage::{SlotCounts, Usage, Use};
use crate::check::inspect::{Loaded, Problem, load};
use crate::check::lock_shared;
use crate::error::Result;
use crate::format::pack::pack_of_file;
use crate::format::segment::{segment_of_file, spare_of_file};
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::{PackId, SLOT_LEN, SegmentId, Seq, SlotAddr};

/// Fewer slots make no cell: the cells of a large store have to fit into memory.
const CELL_SLOTS_MIN: u32 = 16;

/// All files that slots are in.
#[derive(Clone, Debug)]
pub struct HeatmapView {
    /// Slots of a cell; the last one of a file may have fewer.
    pub cell_slots: u32,
    /// The last batch of the log: ages are counted from it.
    pub seq: Seq,
    /// Segments, ascending, then packs, then spares.
    pub files: Vec<FileMap>,
    /// All slots of these files.
    pub total: SlotCounts,
    /// What could not be read: what lies below it is counted as waiting or dead.
    pub problems: Vec<Problem>,
}

/// A file that slots are in.
#[derive(Clone, Debug)]
pub struct FileMap {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Bytes that it takes on the disk.
    pub allocated_len: u64,
    /// Its newest batch; if that is not known exactly, one that is as new at least.
    pub newest: Option<Seq>,
    /// All its slots.
    pub total: SlotCounts,
    /// Its cells, from front to back.
    pub cells: Vec<CellView>,
}

/// What a file is that slots are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A segment's own.
    Segment,
    /// One that what is left of several segments was packed into.
    Pack,
    /// One that no segment is in, kept to be written.
    Spare,
}

/// Neighbouring slots of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellView {
    /// The first of them.
    pub first: u32,
    /// What they are used for.
    pub slots: SlotCounts,
}

/// Maps all files, by a walk of all page tables. A cell has `cell_slots` slots, 16 at least; if that is 0, a
/// segment.
pub fn heatmap(
    disk: &dyn Disk,
    kms: Option<&dyn KeyService>,
    cell_slots: u32,
) -> Result<HeatmapView> {
    let _guard = lock_shared(disk)?;
    let Loaded {
        image,
        mut problems,
    } = load(disk, kms)?;
    let usage = Usage::of(&image, None);
    problems.extend(usage.problems.iter().cloned());
    let segment_slots = image.superblock.geometry.segment_slots;
    let cell_slots = match cell_slots {
        0 => segment_slots,
        slots => slots.clamp(CELL_SLOTS_MIN, segment_slots.max(CELL_SLOTS_MIN)),
    };
    let newest = Newest::of(&image);
    let names = image.files.names.iter();
    let mut files: Vec<_> = names
        .filter_map(|name| file(&image, &usage, &newest, name, cell_slots))
        .collect();
    // Names are sorted already, but packs come before segments.
    files.sort_by_key(|file| match file.kind {
        FileKind::Segment => 0,
        FileKind::Pack => 1,
        FileKind::Spare => 2,
    });
    let mut total = SlotCounts::default();
    files.iter().for_each(|file| total.add(&file.total));
    Ok(HeatmapView {
        cell_slots,
        seq: image.end.seq,
        files,
        total,
        problems,
    })
}

fn file(
    image: &Image<'_>,
    usage: &Usage<'_>,
    newest: &Newest,
    name: &str,
    cell_slots: u32,
) -> Option<FileMap> {
    let (kind, mut uses, newest) = if let Some(segment) = segment_of_file(name) {
        let uses = match image.files.packed.pack(segment) {
            // It was packed, and the crash came before its own file was removed.
            Some(_) => vec![Use::Dead; file_slots(image, name)],
            None => usage.of_segment(segment),
        };
        (FileKind::Segment, uses, newest.of_segment(segment))
    } else if let Some(pack) = pack_of_file(name) {
        let parts = image.files.packed.parts_of(pack);
        let newest = parts.filter_map(|(segment, _)| newest.of_segment(segment));
        (
            FileKind::Pack,
            of_pack(image, usage, name, pack),
            newest.max(),
        )
    } else if spare_of_file(name).is_some() {
        (
            FileKind::Spare,
            vec![Use::Free; file_slots(image, name)],
            None,
        )
    } else {
        return None;
    };
    free_holes(image, name, &mut uses);
    let cells = uses.chunks(cell_slots as usize).zip(0_u32..);
    Some(FileMap {
        name: name.to_owned(),
        kind,
        allocated_len: image.files.allocated_len(name).unwrap_or(0),
        newest,
        total: SlotCounts::of(&uses),
        cells: cells
            .map(|(uses, index)| CellView {
                first: index.saturating_mul(cell_slots),
                slots: SlotCounts::of(uses),
            })
            .collect(),
    })
}

/// Slots of a file, but no more than a segment has.
fn file_slots(image: &Image<'_>, name: &str) -> usize {
    let len = image.files.len(name).unwrap_or(0) / SLOT_LEN as u64;
    let most = image.superblock.geometry.segment_slots;
    len.min(most.into()) as usize
}

/// What the slots of a packed file are used for: those of virtual segments, each at its place.
fn of_pack(image: &Image<'_>, usage: &Usage<'_>, name: &str, pack: PackId) -> Vec<Use> {
    let mut uses = vec![Use::Free; file_slots(image, name)];
    let Some(record) = image.state.packs.get(&pack) else {
        uses.fill(Use::Dead);
        return uses;
    };
    let written = (record.slot_count as usize).min(uses.len());
    let (written, _) = uses.split_at_mut(written);
    written.fill(Use::Dead);
    let index = (record.index_slots as usize).min(written.len());
    let (index, _) = written.split_at_mut(index);
    index.fill(Use::Header);
    for (segment, runs) in image.files.packed.parts_of(pack) {
        let of_segment = usage.of_segment(segment);
        for (run, place) in runs {
            let from = of_segment.get(run.start as usize..run.end as usize);
            let to = uses.iter_mut().skip(*place as usize);
            to.zip(from.unwrap_or_default())
                .for_each(|(to, from)| *to = *from);
        }
    }
    uses
}

/// What is dead and takes no space any more is free.
fn free_holes(image: &Image<'_>, name: &str, uses: &mut [Use]) {
    let len = uses.len() as u64 * SLOT_LEN as u64;
    let allocated = image.files.allocated_len(name);
    if allocated.is_none_or(|allocated| allocated >= len) {
        return;
    }
    let mut data_from = 0;
    for (slot, what) in (0_u32..).zip(uses) {
        if *what != Use::Dead {
            continue;
        }
        if slot >= data_from {
            match image.files.next_data(name, slot) {
                Some(next) => data_from = next,
                // It may be that it cannot be told: what is dead stays dead then.
                None => return,
            }
        }
        if slot < data_from {
            *what = Use::Free;
        }
    }
}

/// The first batches of segments, ascending by segment: those of the one before are older.
struct Newest {
    firsts: Vec<(SegmentId, Seq)>,
    end: Seq,
}

impl Newest {
    fn of(image: &Image<'_>) -> Self {
        let geometry = &image.superblock.geometry;
        let segments = image.files.segments().into_iter();
        let segments = segments.filter(|segment| *segment <= image.end.end.segment);
        let first = |segment| {
            let first = image.files.batch(SlotAddr { segment, slot: 1 }, geometry);
            Some((segment, first.ok()?.header.seq))
        };
        Self {
            firsts: segments.filter_map(first).collect(),
            end: image.end.seq,
        }
    }

    fn of_segment(&self, segment: SegmentId) -> Option<Seq> {
        let after = self.firsts.partition_point(|(first, _)| *first <= segment);
        match self.firsts.get(after) {
            Some((_, next)) => next.0.checked_sub(1).map(Seq),
            None => Some(self.end),
        }
    }
}

impl SlotCounts {
    fn add(&mut self, other: &Self) {
        self.header += other.header;
        self.pages += other.pages;
        self.nodes += other.nodes;
        self.shared += other.shared;
        self.log += other.log;
        self.waiting += other.waiting;
        self.dead += other.dead;
        self.free += other.free;
    }
}

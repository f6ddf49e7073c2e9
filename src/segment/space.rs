//! Which files there are, what is in them, and how they are packed, punched and removed.
//!
//! Whoever calls has to know which slots are still needed; nothing here does.

use std::io;
use std::ops::Range;

use crate::error::{Damage, Error, Result};
use crate::format::pack::{PackIndex, PackPart, PackRecord, pack_file_name, pack_of_file};
use crate::format::segment::segment_file_name;
use crate::io::{Access, DiskFile, Map, publish};
use crate::segment::file::{Segment, Segments, corrupt_file, io_error, offset};
use crate::segment::pack::Pack;
use crate::segment::table::{FileId, Place};
use crate::sync::Arc;
use crate::units::{Location, PackId, SLOT_LEN, SegmentId, SlotAddr};

/// Most slots that are copied at once, and sent to the disk.
const COPY_SLOTS: u32 = 64;
/// Bytes of a file that are punched at once.
const PUNCH_LEN: u64 = 1 << 20;
/// Of a file that is to be removed so much is left to the removal, 1 slot in so many.
const HEAD_SHARE: u32 = 16;
/// Look-ups of a segment whose file is taken away meanwhile, again and again.
const LOOK_UPS: usize = 3;

/// An open file that has slots of a virtual segment.
#[derive(Debug)]
pub(super) enum Holder {
    Segment(Arc<Segment>),
    Pack(Arc<Pack>),
}

impl Holder {
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        match self {
            Self::Segment(segment) => segment.file(),
            Self::Pack(pack) => &pack.file,
        }
    }

    pub fn map(&self) -> &Arc<dyn Map> {
        match self {
            Self::Segment(segment) => &segment.map,
            Self::Pack(pack) => &pack.map,
        }
    }

    /// The name of the file, as long as it is what it was.
    pub fn name(&self) -> String {
        match self {
            Self::Segment(segment) => FileId::Segment(segment.id()).name(),
            Self::Pack(pack) => FileId::Pack(pack.id()).name(),
        }
    }

    /// The slot of the file in which so many bytes of a virtual segment begin.
    pub fn place(&self, at: SlotAddr, len: usize) -> Result<u32> {
        let count = len.div_ceil(SLOT_LEN) as u32;
        match self {
            Self::Segment(_) => Ok(at.slot),
            Self::Pack(pack) => {
                let place = pack.place(at.segment, at.slot, count);
                place.ok_or(Error::Corrupt {
                    location: Location::Slot(at),
                    damage: Damage::Missing,
                })
            }
        }
    }
}

impl FileId {
    /// The name of the file.
    pub fn name(self) -> String {
        match self {
            Self::Segment(segment) => segment_file_name(segment),
            Self::Pack(pack) => pack_file_name(pack),
        }
    }
}

impl Segments {
    /// Opens the file that a virtual segment is in.
    pub(super) fn holder(&self, segment: SegmentId, mut place: Place) -> Result<Holder> {
        for again in (0..LOOK_UPS).rev() {
            let opened = match &place {
                Place::Segment(open) => return Ok(Holder::Segment(open.clone())),
                Place::Pack(open) => return Ok(Holder::Pack(open.clone())),
                Place::ClosedSegment => self.open(segment).map(Holder::Segment),
                Place::ClosedPack(record) => self.open_pack(record).map(Holder::Pack),
            };
            let was_in = match &place {
                Place::ClosedPack(record) => Some(record.pack),
                _ => None,
            };
            // The file may have been packed, and then removed or used again, since it was looked up.
            match opened {
                Err(Error::Corrupt {
                    damage: Damage::Missing | Damage::WrongIdentity,
                    ..
                }) if again > 0 && self.table.pack_of(segment) != was_in => {
                    place = self.table.place(segment);
                }
                opened => return opened,
            }
        }
        unreachable!("BUG: the last look-up returns")
    }

    fn open_pack(&self, record: &PackRecord) -> Result<Arc<Pack>> {
        let name = pack_file_name(record.pack);
        let opened = self.with_descriptors(|| {
            let slots = self.geometry.segment_slots;
            let opened = Pack::open(&*self.disk, &name, record, self.store_id, slots);
            let opened = opened.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => corrupt_file(&name, Damage::Missing),
                _ => io_error("open", Location::File(name.clone()), error, &*self.disk),
            });
            opened?.map_err(|damage| corrupt_file(&name, damage))
        })?;
        Ok(self.table.insert_pack(Arc::new(opened)))
    }

    /// Notes that virtual segments are in a pack from now on.
    pub fn note_pack(&self, record: PackRecord) {
        self.table.note_pack(record);
    }

    /// The packs that virtual segments are in, ascending.
    pub fn packs(&self) -> Vec<Arc<PackRecord>> {
        self.table.packs()
    }

    /// Whether a virtual segment is in a pack.
    pub fn is_packed(&self, segment: SegmentId) -> bool {
        self.table.pack_of(segment).is_some()
    }

    /// The files that are there, segments first, each kind ascending.
    pub fn files(&self) -> Result<Vec<FileId>> {
        let names = self.disk.list().map_err(|error| {
            let location = Location::Directory(self.disk.describe());
            io_error("list", location, error, &*self.disk)
        })?;
        let packs = names.iter().filter_map(|name| pack_of_file(name));
        let segments = self.list()?.into_iter().map(FileId::Segment);
        let mut files: Vec<_> = segments.chain(packs.map(FileId::Pack)).collect();
        files.sort_unstable();
        Ok(files)
    }

    /// The virtual segments that are in a file.
    pub fn segments_in(&self, file: FileId) -> Vec<SegmentId> {
        match file {
            FileId::Segment(segment) if self.is_packed(segment) => Vec::new(),
            FileId::Segment(segment) => vec![segment],
            FileId::Pack(pack) => self.table.segments_in(pack),
        }
    }

    /// The virtual segments that something is known of: where they are, or a salt.
    pub fn known(&self) -> Vec<SegmentId> {
        self.table.segments()
    }

    /// Bytes that a file takes; `None` if it is not there.
    pub fn allocated_len(&self, file: FileId) -> Result<Option<u64>> {
        let name = file.name();
        match self.disk.allocated_len(&name) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let location = Location::File(name);
                Err(io_error("measure", location, error, &*self.disk))
            }
        }
    }

    /// Bytes that all files take.
    pub fn allocated(&self) -> Result<u64> {
        let mut sum = 0;
        for file in self.files()? {
            sum += self.allocated_len(file)?.unwrap_or(0);
        }
        Ok(sum)
    }

    /// What a file has of a virtual segment that is in it, as runs of slots, each with its place in
    /// the file. (Of a file of the segment's own that is all but the header.)
    pub fn runs_in(&self, file: FileId, segment: SegmentId) -> Result<Vec<(Range<u32>, u32)>> {
        match (file, self.table.place(segment)) {
            (FileId::Segment(_), _) => Ok(vec![(1..self.geometry.segment_slots, 1)]),
            (FileId::Pack(_), place) => match self.holder(segment, place)? {
                Holder::Pack(pack) => Ok(pack.runs(segment)),
                Holder::Segment(_) => Ok(Vec::new()),
            },
        }
    }

    /// Makes a packed file with copies of slots, durable with its name before this returns. The
    /// virtual segments stay where they are until [`Self::note_pack`].
    pub fn write_pack(&self, pack: PackId, parts: Vec<PackPart>) -> Result<PackRecord> {
        let index = PackIndex {
            pack,
            store_id: self.store_id,
            segment_slots: self.geometry.segment_slots,
            parts,
        };
        let record = index.record();
        let (name, len) = (pack_file_name(pack), offset(record.slot_count));
        // What cannot be read is told as such, not as a failed write.
        let mut unread = None;
        let mut fill = |file: &dyn DiskFile| self.copy_parts(&index, file, &mut unread);
        let made = self.pack_into_kept(&name, len, &mut fill);
        let made = match made.transpose() {
            Some(made) => made,
            None => publish::publish_with(&*self.disk, &name, len, &mut fill),
        };
        let made = match made {
            // What it replaces is given back, so the reserve gets more than it gives.
            Err(full) if full.kind() == io::ErrorKind::StorageFull => {
                self.pack_into_spare(&name, len, fill, full)
            }
            made => made,
        };
        match (made, unread) {
            (Ok(_), _) => Ok(record),
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) if error.kind() == io::ErrorKind::StorageFull => {
                let free = self.disk.free_len().unwrap_or(0);
                Err(Error::NoSpace { need: len, free })
            }
            (Err(error), None) => {
                let location = Location::File(name);
                Err(io_error("create", location, error, &*self.disk))
            }
        }
    }

    /// Writes the index of a pack and copies of its slots.
    fn copy_parts(
        &self,
        index: &PackIndex,
        file: &dyn DiskFile,
        unread: &mut Option<Error>,
    ) -> io::Result<()> {
        let mut bytes = index.encode();
        let mut written = 0;
        for (at, count) in chunks(&index.parts) {
            let start = bytes.len();
            bytes.resize(start + count as usize * SLOT_LEN, 0);
            let read = bytes
                .get_mut(start..)
                .map_or(Ok(()), |buf| self.read_slots(at, buf));
            if let Err(error) = read {
                *unread = Some(error);
                return Err(io::Error::other("the slots to be packed cannot be read"));
            }
            // Runs are short, and many writes of a slot each would be slow.
            if bytes.len() >= COPY_SLOTS as usize * SLOT_LEN {
                // Else a sync of the log would wait for the whole pack, tens of milliseconds.
                self.step_aside();
                file.write_all_at(&bytes, written)?;
                file.write_back(written, bytes.len() as u64)?;
                written += bytes.len() as u64;
                bytes.clear();
            }
        }
        file.write_all_at(&bytes, written)
    }

    /// Makes a pack out of a spare; what it does not need of it is a hole, if the file system can.
    fn pack_into_spare(
        &self,
        name: &str,
        len: u64,
        mut fill: impl FnMut(&dyn DiskFile) -> io::Result<()>,
        full: io::Error,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let taken = self.take_for(name, |file| {
            fill(file)?;
            self.punch_rest(file, len)
        })?;
        taken.ok_or(full)
    }

    /// Takes a file away, and forgets the virtual segments that are in it. Nothing may need their
    /// slots any more.
    pub fn remove(&self, file: FileId) -> Result<()> {
        if !self.table.close(file) {
            self.empty(&file.name());
        }
        self.remove_file(file)?;
        self.forget_file(file);
        Ok(())
    }

    /// Forgets the virtual segments that are in a file.
    pub(super) fn forget_file(&self, file: FileId) {
        match file {
            FileId::Segment(segment) if self.is_packed(segment) => {}
            FileId::Segment(segment) => self.table.forget(segment),
            FileId::Pack(pack) => self.table.forget_pack(pack),
        }
    }

    /// Lets go of the memory that the system caches a file in that nobody will read any more.
    pub(super) fn drop_cache(&self, name: &str) {
        if let Ok(file) = self.disk.open(name, Access::ReadWrite) {
            file.drop_cache();
        }
    }

    /// Gives most of the space of a file back that nobody reads any more, little by little: where the file system
    /// discards what it frees, writes of others wait for as much as is discarded at once. The
    /// first slots stay, so that it still is a segment or a pack if the machine fails before it
    /// is removed.
    pub(super) fn empty(&self, name: &str) {
        let Ok(file) = self.disk.open(name, Access::ReadWrite) else {
            return;
        };
        let first = offset((self.geometry.segment_slots / HEAD_SHARE).max(1));
        // What this does not give back, the file's removal does.
        let _ = file
            .len()
            .and_then(|end| self.punch_range(&*file, first..end));
    }

    /// Forgets a virtual segment that has no file.
    pub fn forget(&self, segment: SegmentId) {
        self.table.forget(segment);
    }

    fn remove_file(&self, file: FileId) -> Result<()> {
        let name = file.name();
        match self.disk.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let location = Location::File(name);
                Err(io_error("remove", location, error, &*self.disk))
            }
            _ => Ok(()),
        }
    }

    /// Gives the space of slots of a file back. Nothing may need them any more.
    pub fn punch(&self, file: FileId, slots: Range<u32>) -> Result<()> {
        let segments = self.segments_in(file);
        let Some(&segment) = segments.first() else {
            return Ok(());
        };
        let holder = self.holder(segment, self.table.place(segment))?;
        let range = offset(slots.start)..offset(slots.end);
        let punched = self.punch_range(&**holder.file(), range);
        punched.map_err(|error| {
            let location = Location::File(file.name());
            io_error("punch a hole into", location, error, &*self.disk)
        })
    }

    /// Punches a range, little by little.
    fn punch_range(&self, file: &dyn DiskFile, range: Range<u64>) -> io::Result<()> {
        let mut start = range.start;
        while start < range.end {
            let len = PUNCH_LEN.min(range.end - start);
            self.step_aside();
            file.punch(start, len)?;
            start += len;
        }
        Ok(())
    }

    /// Gives back what a file has behind its first bytes; where the file system cannot, it stays.
    pub(super) fn punch_rest(&self, file: &dyn DiskFile, len: u64) -> io::Result<()> {
        match self.punch_range(file, len..file.len()?) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            punched => punched,
        }
    }

    /// Removes what a crash left: files of segments that are in a pack by now, and packs that no
    /// virtual segment is in.
    pub fn remove_stale(&self) -> Result<()> {
        for file in self.files()? {
            let is_stale = match file {
                FileId::Segment(segment) => match self.table.place(segment) {
                    // Not if the pack is damaged: then this may be all there is.
                    Place::ClosedPack(record) => self.open_pack(&record).is_ok(),
                    Place::Pack(_) => true,
                    Place::Segment(_) | Place::ClosedSegment => false,
                },
                FileId::Pack(pack) => self.table.segments_in(pack).is_empty(),
            };
            if is_stale {
                self.remove_file(file)?;
            }
        }
        Ok(())
    }
}

/// The slots of parts in their order, a chunk at a time.
fn chunks(parts: &[PackPart]) -> impl Iterator<Item = (SlotAddr, u32)> + '_ {
    let runs = parts
        .iter()
        .flat_map(|part| part.runs.iter().map(|run| (part.segment, run.clone())));
    runs.flat_map(|(segment, run)| {
        let starts = run.clone().step_by(COPY_SLOTS as usize);
        starts.map(move |slot| {
            let count = COPY_SLOTS.min(run.end - slot);
            (SlotAddr { segment, slot }, count)
        })
    })
}

#[cfg(test)]
mod tests;

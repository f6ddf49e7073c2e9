//! Spares: files of a segment's length that no segment is in.
//!
//! Some are the reserve that lets a store go on when its disk is full, so every block of those was
//! written. New ones are zeroes; the others were segments and packs of which nothing is live any more, and
//! keep what was in them. That means nothing: a batch counts only with the id of the segment that
//! it is in and its place in the keyed chain. Where one had holes they were only given space: it is
//! beyond the reserve, and used first.
//!
//! Invariant: a file has the name of a spare durably before a byte of it changes, and is whole
//! before it has the name of a segment again.

use std::collections::BTreeSet;
use std::io;

use crate::error::{Error, Result};
use crate::format::segment::{SegmentHeader, segment_file_name, spare_file_name, spare_of_file};
use crate::io::{Access, DiskFile, publish};
use crate::segment::file::{Segment, Segments, io_error};
use crate::segment::table::FileId;
use crate::sync::{Arc, Mutex};
use crate::units::{Location, SLOT_LEN, SegmentId};

/// The spares of a store.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    numbers: BTreeSet<u32>,
    /// Above the numbers of all that were ever there.
    next: u32,
    /// Spares that only what needs the reserve may take.
    reserve: usize,
}

impl State {
    fn new_number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }
}

impl Segments {
    /// Looks for spares. Those that are not what they should be are removed if `access` allows it.
    pub fn find_spares(&self, access: Access) -> Result<()> {
        let names = self.disk.list().map_err(|error| {
            let location = Location::Directory(self.disk.describe());
            io_error("list", location, error, &*self.disk)
        })?;
        let mut state = self.spares.0.lock();
        for (name, number) in names
            .iter()
            .filter_map(|name| Some((name, spare_of_file(name)?)))
        {
            state.next = state.next.max(number);
            if access == Access::Read || self.is_whole(name) {
                if access == Access::ReadWrite {
                    // Who could not fill it may have died before it was removed.
                    self.drop_cache(name);
                }
                state.numbers.insert(number);
            } else {
                let removed = self.disk.remove(name);
                let location = || Location::File(name.clone());
                removed.map_err(|error| io_error("remove", location(), error, &*self.disk))?;
            }
        }
        Ok(())
    }

    /// Whether a file is as long as a segment, without holes: writing into it takes no space.
    fn is_whole(&self, name: &str) -> bool {
        let file = self.disk.open(name, Access::Read);
        let len = file.and_then(|file| file.len());
        let allocated = self.disk.allocated_len(name);
        let is_full = |len: io::Result<u64>| len.is_ok_and(|len| len == self.segment_len());
        is_full(len) && is_full(allocated)
    }

    pub(super) fn segment_len(&self) -> u64 {
        u64::from(self.geometry.segment_slots) * SLOT_LEN as u64
    }

    /// Spares that are there.
    pub fn spare_count(&self) -> usize {
        self.spares.0.lock().numbers.len()
    }

    /// Bytes that they take.
    pub fn spare_len(&self) -> u64 {
        self.spare_count() as u64 * self.segment_len()
    }

    /// Spares that are kept for what must go on when the disk is full.
    pub fn reserve(&self) -> usize {
        self.spares.0.lock().reserve
    }

    /// Sets how many spares are kept so.
    pub fn set_reserve(&self, count: usize) {
        self.spares.0.lock().reserve = count;
    }

    /// Makes a spare.
    pub fn make_spare(&self) -> Result<()> {
        let number = self.spares.0.lock().new_number();
        let (name, len) = (spare_file_name(number), self.segment_len());
        let made = publish::publish_written(&*self.disk, &name, len);
        made.map_err(|error| self.not_created(name, len, error))?;
        self.spares.0.lock().numbers.insert(number);
        Ok(())
    }

    /// Makes a segment file, durable with its name before this returns. Leaves the reserve alone.
    pub fn create(&self, id: SegmentId) -> Result<Arc<Segment>> {
        match self.take(id, self.reserve())? {
            Some(segment) => Ok(segment),
            None => self.create_new(id),
        }
    }

    /// The same, from the reserve if the disk has no space for it.
    pub fn create_from_reserve(&self, id: SegmentId) -> Result<Arc<Segment>> {
        match self.create(id) {
            Err(full @ Error::NoSpace { .. }) => self.take(id, 0)?.ok_or(full),
            created => created,
        }
    }

    fn create_new(&self, id: SegmentId) -> Result<Arc<Segment>> {
        let (name, len) = (segment_file_name(id), self.segment_len());
        let made = publish::publish(&*self.disk, &name, len, &self.header(id))
            .and_then(|file| Ok((file.map()?, file)));
        let (map, file) = made.map_err(|error| self.not_created(name, len, error))?;
        Ok(self.table.insert(Arc::new(Segment::new(id, file, map))))
    }

    /// Makes a segment out of a spare, if so many are left then.
    fn take(&self, id: SegmentId, left: usize) -> Result<Option<Arc<Segment>>> {
        let name = segment_file_name(id);
        while let Some(spare) = self.pop(left) {
            let header = self.header(id);
            let taken = self.fill_spare(spare, &name, |file| file.write_all_at(&header, 0));
            let taken = taken.and_then(|file| file.map(|file| Ok((file.map()?, file))).transpose());
            let made =
                taken.map_err(|error| self.not_created(name.clone(), self.segment_len(), error))?;
            if let Some((map, file)) = made {
                let segment = Segment::written(id, file, map);
                return Ok(Some(self.table.insert(Arc::new(segment))));
            }
        }
        Ok(None)
    }

    /// Makes a file of another kind out of a spare, if there is one; of the reserve, too.
    pub(super) fn take_for(
        &self,
        name: &str,
        mut fill: impl FnMut(&dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<Option<Arc<dyn DiskFile>>> {
        while let Some(spare) = self.pop(0) {
            if let Some(file) = self.fill_spare(spare, name, &mut fill)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    fn pop(&self, left: usize) -> Option<u32> {
        let mut state = self.spares.0.lock();
        match state.numbers.len() > left {
            // What was filled up is newer than the reserve.
            true => state.numbers.pop_last(),
            false => None,
        }
    }

    /// Nothing if somebody took the spare away or changed it.
    fn fill_spare(
        &self,
        spare: u32,
        name: &str,
        fill: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let from = spare_file_name(spare);
        if !self.is_whole(&from) {
            return Ok(None);
        }
        let filled = publish::reuse(&*self.disk, &from, name, fill);
        filled.map(Some).inspect_err(|_| {
            // What could not be written may not be durable when it is written again (`docs/decisions/0015`). The error
            // that counts is the first one.
            let _ = self.disk.remove(&from);
        })
    }

    /// Removes spares beyond so many; never those of the reserve.
    pub fn remove_spares(&self, spares_max: usize) -> Result<()> {
        while let Some(spare) = self.pop(spares_max.max(self.reserve())) {
            let name = spare_file_name(spare);
            self.empty(&name);
            match self.disk.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let location = Location::File(name);
                    return Err(io_error("remove", location, error, &*self.disk));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes a spare out of a file that nothing needs any more, and forgets the virtual segments in it; not if there
    /// are as many of them as there may be, or somebody still reads it. What is no whole segment is
    /// filled up with what is only allocated, so it does not become one of the reserve. Says
    /// whether it did.
    pub fn recycle(&self, file: FileId, spares_max: usize) -> Result<bool> {
        let name = file.name();
        let (count, reserve) = (self.spare_count(), self.reserve());
        let is_whole = self.is_whole(&name);
        if count >= spares_max || (!is_whole && count < reserve) || self.table.close(file) {
            return Ok(false);
        }
        if !is_whole && !self.make_whole(&name) {
            return Ok(false);
        }
        let number = self.spares.0.lock().new_number();
        self.forget_file(file);
        let spare = spare_file_name(number);
        let renamed = publish::rename(&*self.disk, &name, &spare);
        let location = Location::File(name);
        renamed.map_err(|error| io_error("rename", location, error, &*self.disk))?;
        self.drop_cache(&spare);
        self.spares.0.lock().numbers.insert(number);
        Ok(true)
    }

    /// Gives a file a segment's length, without holes, if the file system can and has the space.
    fn make_whole(&self, name: &str) -> bool {
        let file = self.disk.open(name, Access::ReadWrite);
        let filled = file.and_then(|file| file.fill_holes(self.segment_len()));
        filled.is_ok() && self.is_whole(name)
    }

    fn header(&self, segment: SegmentId) -> Vec<u8> {
        let header = SegmentHeader {
            segment,
            store_id: self.store_id,
            slot_count: self.geometry.segment_slots,
        };
        header.encode()
    }

    pub(super) fn not_created(&self, name: String, need: u64, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::StorageFull => Error::NoSpace {
                need,
                free: self.disk.free_len().unwrap_or(0),
            },
            _ => io_error("create", Location::File(name), error, &*self.disk),
        }
    }
}

#[cfg(test)]
mod tests;

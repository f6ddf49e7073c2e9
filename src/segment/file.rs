//! Segment files: created durably, opened and mapped when first used.

use std::io;

use crate::error::{Damage, Error, Result};
use crate::format::segment::{SegmentHeader, segment_file_name, segment_of_file};
use crate::format::superblock::Geometry;
use crate::io::{Access, Disk, DiskFile, Map, is_out_of_descriptors};
use crate::segment::aside::Syncs;
use crate::segment::kept::Kept;
use crate::segment::spare::Spares;
use crate::segment::table::{Place, Salt, Table};
use crate::sync::Arc;
use crate::units::{Location, SLOT_LEN, SegmentId, SlotAddr, StoreId};

/// So many bytes are read by a call rather than copied out of a map.
const READ_LEN_MIN: usize = 32 << 10;

/// All segments of a store, those that are open, and the salts that their pages are sealed under.
#[derive(Debug)]
pub struct Segments {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) store_id: StoreId,
    pub(super) geometry: Geometry,
    open_max: usize,
    pub(super) table: Table,
    pub(super) spares: Spares,
    pub(super) kept: Kept,
    pub(super) syncs: Syncs,
}

/// An open segment file.
#[derive(Debug)]
pub struct Segment {
    id: SegmentId,
    file: Arc<dyn DiskFile>,
    pub(super) map: Arc<dyn Map>,
    is_written: bool,
}

impl Segments {
    /// The segments of a store; opens none. Keeps up to `open_max` open that nobody holds.
    pub fn new(
        disk: Arc<dyn Disk>,
        store_id: StoreId,
        geometry: Geometry,
        open_max: usize,
    ) -> Self {
        Self {
            disk,
            store_id,
            geometry,
            open_max,
            table: Table::new(open_max),
            spares: Spares::default(),
            kept: Kept::default(),
            syncs: Syncs::default(),
        }
    }

    /// The store's id.
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// Sizes of pages and segments.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The segments that have a file, ascending. The first unused id is above the last.
    pub fn list(&self) -> Result<Vec<SegmentId>> {
        let location = || Location::Directory(self.disk.describe());
        let names = self
            .disk
            .list()
            .map_err(|e| io_error("list", location(), e, &*self.disk))?;
        let mut ids: Vec<_> = names
            .iter()
            .filter_map(|name| segment_of_file(name))
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Another handle to a segment's file, for writing large pieces.
    pub(super) fn open_bulk(&self, id: SegmentId) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&segment_file_name(id), Access::Bulk)
    }

    /// A segment that exists, opened if it is not yet.
    pub fn get(&self, id: SegmentId) -> Result<Arc<Segment>> {
        match self.table.get(id) {
            Some(segment) => Ok(segment),
            None => self.open(id),
        }
    }

    pub(super) fn open(&self, id: SegmentId) -> Result<Arc<Segment>> {
        let opened = self.with_descriptors(|| self.open_file(id))?;
        Ok(self.table.insert(Arc::new(opened)))
    }

    /// Opens a file, if need be after closing all others that nobody holds.
    pub(super) fn with_descriptors<T>(&self, open: impl Fn() -> Result<T>) -> Result<T> {
        match open() {
            // Others in this process may have taken what the limit leaves to us.
            Err(Error::Io { source, .. }) if is_out_of_descriptors(&source) => {
                self.table.shrink(0);
                open()
            }
            opened => opened,
        }
    }

    /// Segments that may wait for a sync, each with its descriptor, before somebody must flush.
    pub fn unsynced_max(&self) -> usize {
        (self.open_max / 2).max(1)
    }

    /// Segments that are open: each takes a descriptor and a map.
    pub fn open_count(&self) -> usize {
        self.table.open_count()
    }

    fn open_file(&self, id: SegmentId) -> Result<Segment> {
        let name = segment_file_name(id);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => corrupt_file(&name, Damage::Missing),
            _ => io_error("open", Location::File(name.clone()), error, &*self.disk),
        };
        let file = self
            .disk
            .open(&name, Access::ReadWrite)
            .or_else(|error| match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    self.disk.open(&name, Access::Read)
                }
                _ => Err(error),
            });
        let file = file.map_err(failed)?;
        let len = u64::from(self.geometry.segment_slots) * SLOT_LEN as u64;
        if file.len().map_err(failed)? != len {
            return Err(corrupt_file(&name, Damage::Truncated));
        }
        let mut slot = vec![0; SLOT_LEN];
        file.read_exact_at(&mut slot, 0).map_err(failed)?;
        let header = SegmentHeader::decode(&slot).map_err(|damage| corrupt_file(&name, damage))?;
        let expected = SegmentHeader {
            segment: id,
            store_id: self.store_id,
            slot_count: self.geometry.segment_slots,
        };
        if header != expected {
            return Err(corrupt_file(&name, Damage::WrongIdentity));
        }
        let map = file.map().map_err(failed)?;
        Ok(Segment::new(id, file, map))
    }

    /// Notes the salt of the pages from a slot of a segment on.
    pub fn note_salt(&self, at: SlotAddr, salt: Salt) {
        self.table.note_salt(at, salt);
    }

    /// All salts, each with the place from which it is used.
    pub fn salts(&self) -> Vec<(SlotAddr, Salt)> {
        self.table.salts()
    }

    /// Turns an error of a segment's file into the library's.
    pub fn failed(&self, op: &'static str, at: SlotAddr, error: io::Error) -> Error {
        io_error(op, Location::Slot(at), error, &*self.disk)
    }

    /// Reads slots through the file, so that bad media is an error and not a signal.
    pub fn read_slots(&self, at: SlotAddr, buf: &mut [u8]) -> Result<()> {
        let read = match self.table.place(at.segment) {
            Place::Segment(segment) => segment.file.read_exact_at(buf, offset(at.slot)),
            place => {
                let holder = self.holder(at.segment, place)?;
                let slot = holder.place(at, buf.len())?;
                holder.file().read_exact_at(buf, offset(slot))
            }
        };
        read.map_err(|error| self.failed("read", at, error))
    }

    /// Reads slots past the cache of the operating system where the file system can do that: so from the
    /// medium. `buf` is whole blocks of memory.
    pub fn read_slots_directly(&self, at: SlotAddr, buf: &mut [u8]) -> Result<()> {
        let holder = self.holder(at.segment, self.table.place(at.segment))?;
        let slot = holder.place(at, buf.len())?;
        let open = || {
            let opened = self.disk.open(&holder.name(), Access::Medium);
            opened.map_err(|error| self.failed("open", at, error))
        };
        let direct = self.with_descriptors(open)?;
        let read = match direct.read_exact_at(buf, offset(slot)) {
            // It wants larger blocks than ours.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                holder.file().read_exact_at(buf, offset(slot))
            }
            read => read,
        };
        read.map_err(|error| self.failed("read", at, error))
    }

    /// The salt that pages in a slot are sealed under, if it is known.
    pub fn salt(&self, at: SlotAddr) -> Option<Salt> {
        self.table.look_up(at).0
    }

    /// The first slot from `at` on, in its segment, that may have been written.
    pub fn next_written(&self, at: SlotAddr) -> Result<Option<u32>> {
        let segment = self.get(at.segment)?;
        let found = segment.file.next_data(offset(at.slot));
        let found = found.map_err(|error| self.failed("read", at, error))?;
        Ok(found.map(|byte| (byte / SLOT_LEN as u64) as u32))
    }

    /// Copies the ciphertext of a page, or of several of one batch, out. Gives the salt that they
    /// are sealed under, or nothing, and copies nothing, if that is not known.
    pub fn copy_pages(&self, at: SlotAddr, buf: &mut [u8]) -> Result<Option<Salt>> {
        let (salt, place) = self.table.look_up(at);
        if salt.is_none() {
            return Ok(None);
        }
        let copied = match place {
            Place::Segment(segment) => copy(&*segment.file, &*segment.map, buf, at.slot),
            place => {
                let holder = self.holder(at.segment, place)?;
                let slot = holder.place(at, buf.len())?;
                copy(&**holder.file(), &**holder.map(), buf, slot)
            }
        };
        copied.map_err(|error| self.failed("read", at, error))?;
        Ok(salt)
    }
}

/// Copies slots out of the map, or from the file if they are many: then one call fetches what a
/// map would fetch page by page.
fn copy(file: &dyn DiskFile, map: &dyn Map, buf: &mut [u8], slot: u32) -> io::Result<()> {
    match buf.len() >= READ_LEN_MIN {
        true => file.read_exact_at(buf, offset(slot)),
        false => map.copy_out(buf, offset(slot)),
    }
}

impl Segment {
    pub(super) fn new(id: SegmentId, file: Arc<dyn DiskFile>, map: Arc<dyn Map>) -> Self {
        Self {
            id,
            file,
            map,
            is_written: false,
        }
    }

    /// One of which every block was written before, but for those of holes that were filled.
    pub(super) fn written(id: SegmentId, file: Arc<dyn DiskFile>, map: Arc<dyn Map>) -> Self {
        Self {
            is_written: true,
            ..Self::new(id, file, map)
        }
    }

    /// Whether the blocks of its file were written before, most of them at least, as far as this process knows.
    pub fn is_written(&self) -> bool {
        self.is_written
    }

    /// Its number.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Its file, for whoever orders the syncs.
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Writes slots that were never acknowledged.
    pub fn write_slots(&self, slot: u32, bytes: &[u8]) -> io::Result<()> {
        self.write_slots_to(&*self.file, slot, bytes)
    }

    /// The same by way of another handle to its file.
    pub(super) fn write_slots_to(
        &self,
        file: &dyn DiskFile,
        slot: u32,
        bytes: &[u8],
    ) -> io::Result<()> {
        file.write_all_at(bytes, offset(slot))
    }
}

pub(super) fn offset(slot: u32) -> u64 {
    u64::from(slot) * SLOT_LEN as u64
}

pub(super) fn corrupt_file(name: &str, damage: Damage) -> Error {
    match damage {
        Damage::BadVersion(found) => Error::UnsupportedVersion {
            location: Location::File(name.to_owned()),
            found,
            known: crate::format::superblock::FORMAT_VERSION,
        },
        _ => Error::Corrupt {
            location: Location::File(name.to_owned()),
            damage,
        },
    }
}

/// The library's error for one of the operating system: a full disk is one of its own.
pub(super) fn io_error(
    op: &'static str,
    location: Location,
    source: io::Error,
    disk: &dyn Disk,
) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace {
            need: 0,
            free: disk.free_len().unwrap_or(0),
        },
        io::ErrorKind::UnexpectedEof => Error::Corrupt {
            location,
            damage: Damage::Truncated,
        },
        _ => Error::Io {
            op,
            location,
            source,
        },
    }
}

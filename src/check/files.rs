//! Reads of the store's files, by position, that trust no length and no name.

use std::collections::HashMap;
use std::fmt;
use std::io;

use crate::check::packs::Packed;
use crate::error::{Damage, Error, Result};
use crate::format::batch::BatchHead;
use crate::format::node::{DiskNode, NodeRef};
use crate::format::pack::pack_file_name;
use crate::format::segment::{segment_file_name, segment_of_file};
use crate::format::superblock::Geometry;
use crate::io::{Access, Disk, DiskFile, is_out_of_descriptors};
use crate::sync::{Arc, Mutex};
use crate::units::{Location, PackId, SLOT_LEN, SegmentId, SlotAddr};

/// Most files that are open at a time, and most nodes that are remembered.
const OPEN_MAX: usize = 64;
const NODES_MAX: usize = 4096;
/// Slots that are compared with the medium at a time.
const COMPARED_SLOTS: u32 = 256;

type OpenFiles = HashMap<FileId, Arc<dyn DiskFile>>;

/// A file that slots are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FileId {
    Segment(SegmentId),
    Pack(PackId),
}

/// The files of a store.
#[derive(Debug)]
pub(super) struct Files<'a> {
    disk: &'a dyn Disk,
    /// All names in the directory, sorted.
    pub names: Vec<String>,
    /// The virtual segments that are not in files of their own.
    pub packed: Packed,
    open: Mutex<OpenFiles>,
    nodes: Mutex<HashMap<NodeRef, Arc<DiskNode>>>,
}

/// Why something could not be read.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// Its bytes are wrong.
    Damage(Damage),
    /// The operating system refuses.
    Io(String),
}

impl Trouble {
    /// The error of a call that needs what is there.
    pub fn at(self, location: Location) -> Error {
        match self {
            Self::Damage(damage) => Error::Corrupt { location, damage },
            Self::Io(text) => Error::Io {
                op: "read",
                location,
                source: io::Error::other(text),
            },
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(damage) => damage.fmt(f),
            Self::Io(text) => write!(f, "it cannot be read: {text}"),
        }
    }
}

impl From<Damage> for Trouble {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

fn trouble(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Trouble::Damage(Damage::Truncated),
        io::ErrorKind::NotFound => Trouble::Damage(Damage::Missing),
        _ => Trouble::Io(error.to_string()),
    }
}

impl<'a> Files<'a> {
    /// Lists a directory.
    pub fn list(disk: &'a dyn Disk) -> Result<Self> {
        let mut names = disk.list().map_err(|source| Error::Io {
            op: "list",
            location: Location::Directory(disk.describe()),
            source,
        })?;
        names.sort_unstable();
        Ok(Self {
            disk,
            names,
            packed: Packed::default(),
            open: Mutex::default(),
            nodes: Mutex::default(),
        })
    }

    /// Whether there is a file of that name.
    pub fn has(&self, name: &str) -> bool {
        let found = self
            .names
            .binary_search_by(|other| other.as_str().cmp(name));
        found.is_ok()
    }

    /// The segments of which there is a file, ascending.
    pub fn segments(&self) -> Vec<SegmentId> {
        let mut ids: Vec<_> = self
            .names
            .iter()
            .filter_map(|name| segment_of_file(name))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Length of a file.
    pub fn len(&self, name: &str) -> Result<u64, Trouble> {
        let file = self.open_named(name, &mut self.open.lock())?;
        file.len().map_err(trouble)
    }

    /// Bytes that a file takes on the disk, if that can be told.
    pub fn allocated_len(&self, name: &str) -> Option<u64> {
        self.disk.allocated_len(name).ok()
    }

    /// The first slot from one on that may hold something else than a hole; `None` if there is none, or
    /// if that cannot be told.
    pub fn next_data(&self, name: &str, slot: u32) -> Option<u32> {
        let file = self.open_named(name, &mut self.open.lock()).ok()?;
        let data = file.next_data(slot_offset(slot)).ok()??;
        u32::try_from(data / SLOT_LEN as u64).ok()
    }

    /// Whole slots that a segment file has; 0 if it cannot be opened.
    pub fn slot_count(&self, segment: SegmentId) -> u32 {
        let file = self.slot_file(FileId::Segment(segment));
        let len = file.and_then(|f| f.len().map_err(trouble));
        let slots = len.unwrap_or(0) / SLOT_LEN as u64;
        u32::try_from(slots).unwrap_or(u32::MAX)
    }

    /// Slots of a file that is not a segment.
    pub fn read_named(&self, name: &str, first: u32, count: u32) -> Result<Vec<u8>, Trouble> {
        let file = self.open_named(name, &mut self.open.lock())?;
        read_slots(&*file, first, count)
    }

    /// The same, from the medium.
    pub fn read_medium(&self, name: &str, first: u32, count: u32) -> Result<Vec<u8>, Trouble> {
        let mut bytes = vec![0; count as usize * SLOT_LEN];
        let mut read = || crate::io::read_medium(self.disk, name, &mut bytes, slot_offset(first));
        let done = match read() {
            // The process may have fewer than `OPEN_MAX`: all that are open here can go.
            Err(error) if is_out_of_descriptors(&error) => {
                self.open.lock().clear();
                read()
            }
            done => done,
        };
        done.map_err(trouble)?;
        Ok(bytes)
    }

    /// Whether the medium has what the cache of the operating system shows of slots of a segment's own file.
    pub fn is_on_medium(&self, at: SlotAddr, count: u32) -> bool {
        let name = segment_file_name(at.segment);
        let mut done = 0;
        while done < count {
            let (first, some) = (
                at.slot.saturating_add(done),
                (count - done).min(COMPARED_SLOTS),
            );
            let shown = self.read_own(SlotAddr { slot: first, ..at }, some);
            match (shown, self.read_medium(&name, first, some)) {
                (Ok(shown), Ok(there)) if shown == there => done += some,
                _ => return false,
            }
        }
        true
    }

    /// All of a file that has no more than so many bytes.
    pub fn read_all(&self, name: &str, len_max: u64) -> Result<Vec<u8>, Trouble> {
        let file = self.open_named(name, &mut self.open.lock())?;
        let len = file.len().map_err(trouble)?;
        if len > len_max {
            return Err(Damage::OutOfRange("length").into());
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| Damage::Truncated)?];
        file.read_exact_at(&mut bytes, 0).map_err(trouble)?;
        Ok(bytes)
    }

    /// Slots of a segment.
    pub fn read(&self, at: SlotAddr, count: u32) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        self.read_into(at, count, &mut bytes)?;
        Ok(bytes)
    }

    /// The same, into a buffer that is used again: only its first `count` slots are new.
    pub fn read_into(&self, at: SlotAddr, count: u32, bytes: &mut Vec<u8>) -> Result<(), Trouble> {
        let (file, slot) = match self.packed.place(at, count) {
            Some(placed) => placed.map(|(pack, slot)| (FileId::Pack(pack), slot))?,
            None => (FileId::Segment(at.segment), at.slot),
        };
        read_slots_into(&*self.slot_file(file)?, slot, count, bytes)
    }

    /// Slots of the file of a segment, whatever is in a pack.
    pub fn read_own(&self, at: SlotAddr, count: u32) -> Result<Vec<u8>, Trouble> {
        let file = self.slot_file(FileId::Segment(at.segment))?;
        read_slots(&*file, at.slot, count)
    }

    fn open_named(&self, name: &str, open: &mut OpenFiles) -> Result<Arc<dyn DiskFile>, Trouble> {
        let file = match self.disk.open(name, Access::Read) {
            // The process may have fewer than `OPEN_MAX`: all that are open here can go.
            Err(error) if is_out_of_descriptors(&error) => {
                open.clear();
                self.disk.open(name, Access::Read)
            }
            opened => opened,
        };
        file.map_err(trouble)
    }

    fn slot_file(&self, id: FileId) -> Result<Arc<dyn DiskFile>, Trouble> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(&id) {
            return Ok(Arc::clone(file));
        }
        let name = match id {
            FileId::Segment(segment) => segment_file_name(segment),
            FileId::Pack(pack) => pack_file_name(pack),
        };
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        let file = self.open_named(&name, &mut open)?;
        open.insert(id, Arc::clone(&file));
        Ok(file)
    }

    /// The header slots of the batch at `at`.
    pub fn batch(&self, at: SlotAddr, geometry: &Geometry) -> Result<BatchHead, Trouble> {
        let left = geometry.segment_slots.saturating_sub(at.slot);
        let mut slots = self.read(at, 1)?;
        let count = BatchHead::peek(&slots, at, left)?;
        if count > 1 {
            slots = self.read(at, count)?;
        }
        Ok(BatchHead::decode(&slots, at, left)?)
    }

    /// The node that a reference names, which is not remembered.
    pub fn read_node(&self, node: &NodeRef) -> Result<DiskNode, Trouble> {
        Ok(DiskNode::decode(&self.read(node.at, 1)?, node)?)
    }

    /// The node that a reference names.
    pub fn node(&self, node: &NodeRef) -> Result<Arc<DiskNode>, Trouble> {
        if let Some(known) = self.nodes.lock().get(node) {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(self.read_node(node)?);
        let mut nodes = self.nodes.lock();
        if nodes.len() >= NODES_MAX {
            nodes.clear();
        }
        nodes.insert(*node, Arc::clone(&read));
        Ok(read)
    }
}

fn read_slots(file: &dyn DiskFile, first: u32, count: u32) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    read_slots_into(file, first, count, &mut bytes)?;
    Ok(bytes)
}

/// Reads slots; nothing is allocated that the file does not have, and it is only asked where something is.
fn read_slots_into(
    file: &dyn DiskFile,
    first: u32,
    count: u32,
    bytes: &mut Vec<u8>,
) -> Result<(), Trouble> {
    let (offset, len) = (slot_offset(first), slot_offset(count));
    let len = usize::try_from(len).map_err(|_| Damage::Truncated)?;
    if bytes.len() < len {
        if len > SLOT_LEN && file.len().map_err(trouble)? < offset + len as u64 {
            return Err(Damage::Truncated.into());
        }
        bytes.resize(len, 0);
    }
    let bytes = bytes.get_mut(..len).unwrap_or_default();
    file.read_exact_at(bytes, offset).map_err(trouble)
}

/// Bytes before a slot.
pub(super) fn slot_offset(slot: u32) -> u64 {
    u64::from(slot) * SLOT_LEN as u64
}

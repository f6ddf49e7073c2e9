//! Packed files, and what is in them.

use crate::check::files::Files;
use crate::check::lock_shared;
use crate::error::Result;
use crate::format::pack::{PackIndex, PackPart, pack_of_file};
use crate::io::Disk;
use crate::units::{PackId, SLOT_LEN, SegmentId, StoreId};

/// A packed file, whether or not it is in use.
#[derive(Clone, Debug)]
pub struct PackView {
    /// The pack.
    pub pack: PackId,
    /// The store that it says it belongs to.
    pub store_id: StoreId,
    /// Slots in use in the file, the index included.
    pub slot_count: u32,
    /// Slots of the index.
    pub index_slots: u32,
    /// What it holds, ascending by segment.
    pub parts: Vec<PackPartView>,
    /// Why there is no more to say, if so.
    pub problem: Option<String>,
}

/// What a pack holds of a virtual segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackPartView {
    /// The virtual segment.
    pub segment: SegmentId,
    /// Slots of it.
    pub slots: u32,
    /// Runs of neighbours that they form.
    pub runs: u32,
}

/// All packed files, ascending.
pub fn packs(disk: &dyn Disk) -> Result<Vec<PackView>> {
    let _guard = lock_shared(disk)?;
    let files = Files::list(disk)?;
    let names = files.names.iter();
    let packs = names.filter_map(|name| Some((name, pack_of_file(name)?)));
    Ok(packs.map(|(name, pack)| view(&files, name, pack)).collect())
}

fn view(files: &Files<'_>, name: &str, pack: PackId) -> PackView {
    let file_slots = files.len(name).unwrap_or(0) / SLOT_LEN as u64;
    let file_slots = u32::try_from(file_slots).unwrap_or(u32::MAX);
    let index = files.read_named(name, 0, 1).and_then(|first| {
        let count = PackIndex::peek(&first, file_slots)?;
        let slots = files.read_named(name, 0, count)?;
        Ok(PackIndex::decode(&slots)?)
    });
    match index {
        Ok(index) => PackView {
            pack,
            store_id: index.store_id,
            slot_count: index.slot_count(),
            index_slots: index.index_slots(),
            parts: index.parts.iter().map(part).collect(),
            problem: None,
        },
        Err(trouble) => PackView {
            pack,
            store_id: StoreId::default(),
            slot_count: file_slots,
            index_slots: 0,
            parts: Vec::new(),
            problem: Some(trouble.to_string()),
        },
    }
}

fn part(part: &PackPart) -> PackPartView {
    PackPartView {
        segment: part.segment,
        slots: part.slot_count(),
        runs: part.runs.len() as u32,
    }
}

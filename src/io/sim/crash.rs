//! What a power loss keeps.
//!
//! Of the writes that no completed sync covers, in their order over all files: each prefix (none
//! and all are two of them), all but one, or all with one torn at the edges of its sectors; a hole
//! that is punched counts as a write of zeroes. Of
//! the changes of names: each prefix. A kept write that lies past the durable end makes the file
//! longer, with zeroes between. A file whose bytes were never synced has its created length.
//!
//! Or each sector or block of each write and each change of names for itself ([`WriteChoice::Apart`]): then a file that
//! was never synced may be shorter than it was created, one that grew may have zeroes for what was written there, a
//! hole may be punched in part, and what was being written may be neither old nor new.

use super::SimRandom;
use super::image::Image;
use super::state::{Change, InodeNo, Names, PendingWrite, State, WriteKind};
use crate::source::Random;
use crate::sync::Arc;

/// Bytes that a power loss writes all of or none of.
pub const SECTOR_LEN: u64 = 512;

/// Bytes that a file system writes out together.
const BLOCK_LEN: u64 = 4096;

/// Up to so many sectors each way of tearing a write in two is tried.
const TORN_SECTORS_MAX: usize = 32;

/// One way to lose power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Crash {
    /// Which writes are kept.
    pub writes: WriteChoice,
    /// So many changes of names are kept, the oldest. Where all is chosen apart this is not asked.
    pub names: usize,
}

impl Crash {
    /// Nothing that is pending is kept.
    pub const NONE_KEPT: Self = Self {
        writes: WriteChoice::Prefix(0),
        names: 0,
    };

    /// All that is pending is kept.
    pub const ALL_KEPT: Self = Self {
        writes: WriteChoice::Prefix(usize::MAX),
        names: usize::MAX,
    };
}

/// Which pending writes are kept. They are counted from 0 in their order over all files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteChoice {
    /// So many, the oldest.
    Prefix(usize),
    /// All but this one.
    AllBut(usize),
    /// This one alone.
    Only(usize),
    /// Of each write each unit for itself, and each change of names; equal seeds choose equally.
    Apart {
        /// Chooses.
        seed: u64,
        /// What is kept, lost or spoilt as a whole.
        unit: Unit,
    },
    /// All, but of this one only some sectors.
    Torn {
        /// The torn write.
        write: usize,
        /// What remains of it.
        sectors: Sectors,
    },
}

/// What a power loss that chooses apart keeps or loses as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// A sector.
    Sector,
    /// 4 KiB as they lie in the file.
    Block,
    /// A sector, which may also become neither what it was nor what was written; not the only one of a write, which is
    /// written as a whole.
    SpoiltSector,
}

/// Which sectors of a torn write are kept. They are counted as they lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sectors {
    /// So many, the first.
    First(usize),
    /// So many, the last.
    Last(usize),
    /// A random subset, the same for the same seed.
    Seeded(u64),
}

/// All pending writes that a crash can show, oldest first.
pub(super) fn pending_writes(state: &State) -> Vec<(InodeNo, &PendingWrite)> {
    let mut writes: Vec<_> = state
        .reachable()
        .flat_map(|(no, inode)| inode.pending.iter().map(move |write| (no, write)))
        .collect();
    writes.sort_by_key(|(_, write)| write.order);
    writes
}

pub(super) fn all(state: &State) -> Vec<Crash> {
    let writes = pending_writes(state);
    let mut choices: Vec<_> = (0..=writes.len()).map(WriteChoice::Prefix).collect();
    // Without the last one it is a prefix.
    choices.extend((0..writes.len().saturating_sub(1)).map(WriteChoice::AllBut));
    for (index, (_, write)) in writes.iter().enumerate() {
        let torn = ways_to_tear(sector_count(write), index as u64);
        choices.extend(torn.map(|sectors| WriteChoice::Torn {
            write: index,
            sectors,
        }));
    }
    let names = 0..=state.changes.len();
    names
        .flat_map(|names| choices.iter().map(move |&writes| Crash { writes, names }))
        .collect()
}

pub(super) fn sample(state: &State, seed: u64) -> Crash {
    let random = SimRandom::new(seed);
    let writes = pending_writes(state);
    let names = random.below(state.changes.len() + 1);
    let prefix = WriteChoice::Prefix(random.below(writes.len() + 1));
    if writes.is_empty() {
        return Crash {
            writes: prefix,
            names,
        };
    }
    let index = random.below(writes.len());
    let count = sector_count(writes[index].1);
    let kept = 1 + random.below(count.saturating_sub(1));
    let sectors = match random.below(3) {
        0 => Sectors::First(kept),
        1 => Sectors::Last(kept),
        _ => Sectors::Seeded(seed),
    };
    let writes = match random.below(4) {
        0 => WriteChoice::AllBut(index),
        1 | 2 if count > 1 => WriteChoice::Torn {
            write: index,
            sectors,
        },
        _ => prefix,
    };
    Crash { writes, names }
}

/// One of the power losses that choose all apart, or keep a write alone.
pub(super) fn sample_apart(state: &State, seed: u64) -> Crash {
    let random = SimRandom::new(seed);
    let names = random.below(state.changes.len() + 1);
    let count = pending_writes(state).len();
    let unit = match random.below(4) {
        0 if count > 0 => {
            let writes = WriteChoice::Only(random.below(count));
            return Crash { writes, names };
        }
        0 | 1 => Unit::Sector,
        2 => Unit::Block,
        _ => Unit::SpoiltSector,
    };
    let writes = WriteChoice::Apart { seed, unit };
    Crash { writes, names }
}

pub(super) fn lose_power(state: &State, crash: &Crash) -> State {
    let capacity = state.free_len.saturating_add(state.named_len());
    let mut after = state.fork();
    for inode in after.inodes.values_mut().map(Arc::make_mut) {
        inode.pending.clear();
        inode.forget_lost();
        inode.live = inode.durable.clone();
    }
    let apart = match crash.writes {
        WriteChoice::Apart { seed, unit } => Some((SimRandom::new(seed), unit)),
        _ => None,
    };
    if let Some((random, _)) = &apart {
        for inode in after.inodes.values_mut().filter(|it| !it.is_synced) {
            shorten(&mut Arc::make_mut(inode).live, random);
        }
    }
    for (index, (no, write)) in pending_writes(state).into_iter().enumerate() {
        let live = &mut after.inode_mut(no).live;
        match &apart {
            Some((random, unit)) => keep_units(live, write, random, *unit),
            None => keep_write(live, write, index, crash.writes),
        }
    }
    for inode in after.inodes.values_mut().map(Arc::make_mut) {
        inode.durable = inode.live.clone();
        inode.is_synced = true;
    }
    let changes = std::mem::take(&mut after.changes);
    let kept = if apart.is_some() {
        usize::MAX
    } else {
        crash.names
    };
    for pending in changes.into_iter().take(kept) {
        let names = after.directories.get_mut(&pending.directory);
        let names = names.expect("BUG: a directory is never removed");
        let names = Arc::make_mut(&mut names.durable);
        match &apart {
            Some((random, _)) if random.below(2) == 0 || !is_possible(&pending.change, names) => {}
            _ => pending.change.apply(names),
        }
    }
    for names in after.directories.values_mut() {
        names.live = Arc::clone(&names.durable);
        for (name, no) in &*names.live {
            let inode = after.inodes.get_mut(no);
            let inode = inode.expect("BUG: a fork has all reachable inodes");
            Arc::make_mut(inode).name = Arc::clone(name);
        }
    }
    after.free_len = capacity.saturating_sub(after.named_len());
    after.drop_unreachable();
    after
}

/// Writes as much of a pending write as the choice leaves.
fn keep_write(image: &mut Image, write: &PendingWrite, index: usize, choice: WriteChoice) {
    match choice {
        WriteChoice::Prefix(count) if index >= count => {}
        WriteChoice::AllBut(lost) if index == lost => {}
        WriteChoice::Only(kept) if index != kept => {}
        WriteChoice::Torn {
            write: torn,
            sectors,
        } if index == torn => {
            keep_sectors(image, write, sectors);
        }
        _ => write.keep(image, write.offset, 0..write.bytes.len()),
    }
}

/// Of a file of which no sync said that it is as long as it was made.
fn shorten(image: &mut Image, random: &SimRandom) {
    match random.below(4) {
        0 => *image = Image::zeroes(0),
        1 => *image = Image::zeroes(random.below(image.len() as usize + 1) as u64),
        _ => {}
    }
}

/// Whether the file of a change has its name: what gave it that may be lost. A rename is of one file, and never of another
/// that had the name before.
fn is_possible(change: &Change, names: &Names) -> bool {
    match change {
        Change::Insert { .. } => true,
        Change::Rename { from, inode, .. } => names.get(from) == Some(inode),
        Change::Remove { name } => names.contains_key(name),
    }
}

/// Keeps, loses or spoils each unit of a write for itself.
fn keep_units(image: &mut Image, write: &PendingWrite, random: &SimRandom, unit: Unit) {
    let len = match unit {
        Unit::Block => BLOCK_LEN,
        Unit::Sector | Unit::SpoiltSector => SECTOR_LEN,
    };
    let end = write.offset + write.bytes.len() as u64;
    if end > image.len() && random.below(4) == 0 {
        image.grow(end);
    }
    let may_spoil =
        unit == Unit::SpoiltSector && sector_count(write) > 1 && write.kind == WriteKind::Bytes;
    let mut start = write.offset;
    while start < end {
        let next = ((start / len + 1) * len).min(end);
        let part = (start - write.offset) as usize..(next - write.offset) as usize;
        match random.below(8) {
            0 if may_spoil => {
                let mut garbage = vec![0; part.len()];
                random.fill(&mut garbage);
                image.write(&garbage, start);
            }
            0..4 => {}
            _ => write.keep(image, start, part),
        }
        start = next;
    }
}

fn keep_sectors(image: &mut Image, write: &PendingWrite, sectors: Sectors) {
    let count = sector_count(write);
    let mut bits = vec![0; count.div_ceil(8)];
    if let Sectors::Seeded(seed) = sectors {
        SimRandom::new(seed).fill(&mut bits);
    }
    let end = write.offset + write.bytes.len() as u64;
    let mut start = write.offset;
    for sector in 0..count {
        let next = ((start / SECTOR_LEN + 1) * SECTOR_LEN).min(end);
        let kept = match sectors {
            Sectors::First(first) => sector < first,
            Sectors::Last(last) => sector >= count.saturating_sub(last),
            Sectors::Seeded(_) => bits[sector / 8] >> (sector % 8) & 1 == 1,
        };
        if kept {
            let part = (start - write.offset) as usize..(next - write.offset) as usize;
            write.keep(image, start, part);
        }
        start = next;
    }
}

/// Sectors that a write touches.
fn sector_count(write: &PendingWrite) -> usize {
    let end = write.offset + write.bytes.len() as u64;
    (end.div_ceil(SECTOR_LEN) - write.offset / SECTOR_LEN) as usize
}

/// Ways to keep some sectors of a write, neither all nor none.
fn ways_to_tear(count: usize, seed: u64) -> impl Iterator<Item = Sectors> {
    let sizes: Vec<usize> = if count <= TORN_SECTORS_MAX {
        (1..count).collect()
    } else {
        // A sector and a page at either end, and the middle.
        vec![1, 8, count / 2, count - 8, count - 1]
    };
    // Of two sectors the first and the last are all there is.
    let seeded = (count > 2).then_some(Sectors::Seeded(seed));
    let first = sizes.clone().into_iter().map(Sectors::First);
    first
        .chain(sizes.into_iter().map(Sectors::Last))
        .chain(seeded)
}

//! What a power loss keeps.
//!
//! Of the writes that no completed sync covers, in their order over all files: each prefix (none
//! and all are two of them), all but one, or all with one torn at the edges of its sectors; a hole
//! that is punched counts as a write of zeroes. Of
//! the changes of names: each prefix. A kept write that lies past the durable end makes the file
//! longer, with zeroes between. A file whose bytes were never synced has its created length.

use super::SimRandom;
use super::image::Image;
use super::state::{InodeNo, PendingWrite, State};
use crate::source::Random;
use crate::sync::Arc;

/// Bytes that a power loss writes all of or none of.
pub const SECTOR_LEN: u64 = 512;

/// Up to so many sectors each way of tearing a write in two is tried.
const TORN_SECTORS_MAX: usize = 32;

/// One way to lose power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Crash {
    /// Which writes are kept.
    pub writes: WriteChoice,
    /// So many changes of names are kept, the oldest.
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
    /// All, but of this one only some sectors.
    Torn {
        /// The torn write.
        write: usize,
        /// What remains of it.
        sectors: Sectors,
    },
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
    let reachable = state.reachable();
    let mut writes: Vec<_> = reachable
        .into_iter()
        .flat_map(|no| state.inode(no).pending.iter().map(move |write| (no, write)))
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

pub(super) fn lose_power(state: &State, crash: &Crash) -> State {
    let capacity = state.free_len.saturating_add(state.named_len());
    let mut after = state.fork();
    for inode in after.inodes.values_mut() {
        inode.pending.clear();
        inode.live = inode.durable.clone();
    }
    for (index, (no, write)) in pending_writes(state).into_iter().enumerate() {
        let inode = after
            .inodes
            .get_mut(&no)
            .expect("BUG: a fork has all reachable inodes");
        keep_write(&mut inode.live, write, index, crash.writes);
    }
    for inode in after.inodes.values_mut() {
        inode.durable = inode.live.clone();
    }
    for pending in after.changes.drain(..).take(crash.names) {
        let names = after.directories.get_mut(&pending.directory);
        pending
            .change
            .apply(&mut names.expect("BUG: a directory is never removed").durable);
    }
    for names in after.directories.values_mut() {
        names.live = names.durable.clone();
        for (name, no) in &names.live {
            let inode = after.inodes.get_mut(no);
            inode.expect("BUG: a fork has all reachable inodes").name = Arc::clone(name);
        }
    }
    after.free_len = capacity.saturating_sub(after.named_len());
    // Forgets the inodes that have lost their last name.
    after.fork()
}

/// Writes as much of a pending write as the choice leaves.
fn keep_write(image: &mut Image, write: &PendingWrite, index: usize, choice: WriteChoice) {
    match choice {
        WriteChoice::Prefix(count) if index >= count => {}
        WriteChoice::AllBut(lost) if index == lost => {}
        WriteChoice::Torn {
            write: torn,
            sectors,
        } if index == torn => {
            keep_sectors(image, write, sectors);
        }
        _ => write.keep(image, write.offset, 0..write.bytes.len()),
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

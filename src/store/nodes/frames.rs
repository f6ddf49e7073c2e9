//! Memory for the slots of nodes, and which of them stay in it.

use foldhash::{HashMap, HashMapExt};
use memmap2::{Advice, MmapMut};

use crate::btree::{Look, look};
use crate::error::Damage;
use crate::format::node::{DiskNode, NodeView};
use crate::sync::{AtomicBool, Ordering};
use crate::units::{KeyEpoch, PageNo, SLOT_LEN, SlotAddr};

/// What a node takes beside its slot: its place in the hash table, which is half empty at worst, and
/// in the order.
const ENTRY_COST: usize = 112;
/// Memory for one node.
pub(super) const FRAME_COST: usize = SLOT_LEN + ENTRY_COST;

/// Frames that memory is asked for at once: those of a large page.
const CHUNK_FRAMES: usize = 512;

/// Slots of nodes by their addresses, as they are on disk: all of them were verified.
///
/// They lie one behind the other on large pages of memory, so that looking into one fetches few lines from
/// far away: one of the hash table, which has what a search begins with, and those of the items looked at.
/// A hand goes round: whatever was used since it passed last stays.
#[derive(Debug)]
pub(super) struct Frames {
    index: HashMap<SlotAddr, Known>,
    chunks: Vec<MmapMut>,
    /// What is in each frame in use.
    owners: Vec<SlotAddr>,
    max: usize,
    hand: usize,
}

/// What is known of a node without looking at its slot.
#[derive(Debug)]
pub(super) struct Known {
    /// The node's key epoch.
    pub(super) key_epoch: KeyEpoch,
    /// Its level.
    pub(super) level: u8,
    /// How many items it has.
    pub(super) count: u8,
    /// The numbers of its first and last item.
    pub(super) ends: (PageNo, PageNo),
    frame: u32,
    /// Whether it was used since the hand passed.
    used: AtomicBool,
}

impl Known {
    /// What there is to know of a node; `None` if it has no items.
    pub(super) fn of(node: &DiskNode) -> Option<Self> {
        Some(Self {
            key_epoch: node.key_epoch,
            level: node.level(),
            count: u8::try_from(node.items.count()).ok()?,
            ends: node.items.ends()?,
            frame: 0,
            used: AtomicBool::new(false),
        })
    }

    /// The node of which this is known and which lies in `slot`.
    pub(super) fn decode(&self, slot: &[u8]) -> Result<DiskNode, Damage> {
        let view = NodeView::new(slot, self.level, usize::from(self.count))?;
        Ok(DiskNode {
            key_epoch: self.key_epoch,
            items: view.decode(self.level)?,
        })
    }

    /// What a node, of which this is known and which lies in `slot`, says of a page.
    pub(super) fn look(&self, slot: &[u8], page: PageNo) -> Result<Look, Damage> {
        let view = NodeView::new(slot, self.level, usize::from(self.count))?;
        Ok(Look {
            level: self.level,
            key_epoch: self.key_epoch,
            ends: self.ends,
            seen: look(view, self.ends, page)?,
        })
    }
}

impl Frames {
    /// Room for `max` nodes, which takes memory only as it is used.
    pub(super) fn new(max: usize) -> Self {
        Self {
            index: HashMap::new(),
            chunks: Vec::new(),
            owners: Vec::new(),
            max,
            hand: 0,
        }
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// What is known of a node, and its slot. It counts as used.
    pub(super) fn get(&self, at: SlotAddr) -> Option<(&Known, &[u8])> {
        let known = self.index.get(&at)?;
        // Looking is cheaper than writing to memory that all readers share.
        if !known.used.load(Ordering::Relaxed) {
            known.used.store(true, Ordering::Relaxed);
        }
        let (chunk, start) = place(known.frame as usize);
        let slot = self.chunks.get(chunk)?.get(start..start + SLOT_LEN)?;
        Some((known, slot))
    }

    /// Adds a node, in place of one that was not used for a while if there is no room.
    pub(super) fn insert(&mut self, at: SlotAddr, known: Known, slot: &[u8]) {
        let frame = match self.index.get(&at) {
            Some(old) => Some(old.frame as usize),
            None => self.free_frame(at),
        };
        let Some(frame) = frame else { return };
        let (chunk, start) = place(frame);
        self.chunks[chunk][start..start + SLOT_LEN].copy_from_slice(slot);
        let known = Known {
            frame: frame as u32,
            ..known
        };
        self.index.insert(at, known);
    }

    /// A frame for a node that is not there; none if there is no memory for a first one.
    fn free_frame(&mut self, at: SlotAddr) -> Option<usize> {
        let frame = self.owners.len();
        if frame < self.max && self.has_memory(frame) {
            self.owners.push(at);
            return Some(frame);
        }
        if self.owners.is_empty() {
            return None;
        }
        let was_used = |known: &mut Known| std::mem::take(known.used.get_mut());
        loop {
            let frame = self.hand;
            self.hand = (frame + 1) % self.owners.len();
            let owner = self.owners[frame];
            if !self.index.get_mut(&owner).is_some_and(was_used) {
                self.index.remove(&owner);
                self.owners[frame] = at;
                return Some(frame);
            }
        }
    }

    /// Whether there is memory for one frame more, asked for if need be.
    fn has_memory(&mut self, frame: usize) -> bool {
        let (chunk, _) = place(frame);
        if chunk < self.chunks.len() {
            return true;
        }
        let count = CHUNK_FRAMES.min(self.max - frame);
        let Ok(memory) = MmapMut::map_anon(count * SLOT_LEN) else {
            return false;
        };
        // It is faster so; a kernel without large pages gives small ones.
        let _ = memory.advise(Advice::HugePage);
        self.chunks.push(memory);
        true
    }
}

/// The chunk that a frame is in, and where it begins there.
fn place(frame: usize) -> (usize, usize) {
    (frame / CHUNK_FRAMES, frame % CHUNK_FRAMES * SLOT_LEN)
}

//! Who says that a slot is his. Eight bytes a slot, for segments that anybody claims.

use foldhash::{HashMap, HashMapExt};

use crate::check::options::mixed;
use crate::format::entry::DataEntry;
use crate::slots::SlotSet;
use crate::units::{PageNo, SegmentId, SlotAddr};

/// Claims of slots.
#[derive(Debug)]
pub(super) struct Claims {
    segment_slots: u32,
    /// For each slot 0 or a mark of its claimant.
    slots: HashMap<SegmentId, Vec<u64>>,
}

/// Who claims: the same mark is the same claimant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claimant(u64);

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nobody had the slots.
    New,
    /// The same claimant had them.
    Same,
    /// Another page has one.
    TakenByPage,
    /// A node or a batch header has one.
    TakenByMetadata,
}

const PAGE: u64 = 1;
const NODE: u64 = 2;
const HEADER: u64 = 3;
const KIND_MASK: u64 = 3;

impl Claimant {
    /// A page: all that the entries that share it must agree on.
    pub fn page(page: PageNo, entry: &DataEntry) -> Self {
        let numbers = u64::from(entry.key_epoch.0) << 32 | u64::from(entry.crc);
        let mark = mixed(page.0 ^ mixed(numbers));
        Self::new(with_bytes(with_bytes(mark, &entry.nonce), &entry.tag), PAGE)
    }

    /// A node, by its hash.
    pub fn node(hash_of_node: &[u8; 32]) -> Self {
        Self::new(with_bytes(0, hash_of_node), NODE)
    }

    /// The header slots of the batch at a place.
    pub fn header(at: SlotAddr) -> Self {
        let place = u64::from(at.segment.0) << 32 | u64::from(at.slot);
        Self::new(mixed(place), HEADER)
    }

    /// Whether it is a page.
    pub fn is_page(self) -> bool {
        self.0 & KIND_MASK == PAGE
    }

    fn new(mark: u64, kind: u64) -> Self {
        Self(mark & !KIND_MASK | kind)
    }

    /// The mark of its slot of that index: pages that overlap shifted must not look the same.
    fn mark(self, index: u32) -> u64 {
        let shifted =
            (self.0 >> 2).wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        shifted << 2 | self.0 & KIND_MASK
    }
}

/// A mark that bytes have a part in. Pages claim by the million, so it is a quick one: what it has to
/// tell apart is what the store's own mistakes mix up; forgers are kept out by keys.
fn with_bytes(mark: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(mark, |mark, chunk| {
        let number = chunk.iter().rev();
        mixed(mark ^ number.fold(0, |number, &byte| number << 8 | u64::from(byte)))
    })
}

impl Claims {
    /// Nobody claims any slot.
    pub fn new(segment_slots: u32) -> Self {
        Self {
            segment_slots,
            slots: HashMap::new(),
        }
    }

    /// The slots that pages and nodes have.
    pub fn of_items(&self) -> SlotSet {
        let mut items = SlotSet::default();
        for (&segment, slots) in &self.slots {
            let has_item = |mark: &u64| *mark != 0 && mark & KIND_MASK != HEADER;
            let mut slot = 0;
            // Runs of slots that have items, and of such that have none.
            for run in slots.chunk_by(|a, b| has_item(a) == has_item(b)) {
                if run.first().is_some_and(has_item) {
                    items.insert_run(SlotAddr { segment, slot }, run.len() as u32);
                }
                slot += run.len() as u32;
            }
        }
        items
    }

    /// Whether a node or a page has a slot; `None` if neither has.
    pub fn is_node(&self, at: SlotAddr) -> Option<bool> {
        let mark = self.slots.get(&at.segment)?.get(at.slot as usize)?;
        match mark & KIND_MASK {
            NODE => Some(true),
            PAGE => Some(false),
            _ => None,
        }
    }

    /// Claims slots of a segment that is known to have them.
    pub fn claim(&mut self, at: SlotAddr, count: u32, claimant: Claimant) -> Claim {
        let all = self.segment_slots as usize;
        let segment = self.slots.entry(at.segment).or_insert_with(|| vec![0; all]);
        let range = at.slot as usize..at.slot.saturating_add(count) as usize;
        let Some(slots) = segment.get_mut(range) else {
            // The caller has checked the address: this claims nothing.
            return Claim::Same;
        };
        let marks = || (0..count).map(|index| claimant.mark(index));
        if slots.iter().all(|&slot| slot == 0) {
            slots
                .iter_mut()
                .zip(marks())
                .for_each(|(slot, mark)| *slot = mark);
            return Claim::New;
        }
        let taken = slots.iter().zip(marks()).find(|(slot, mark)| *slot != mark);
        let taken = taken.map(|(&slot, _)| slot);
        match taken {
            None => Claim::Same,
            // Free slots beside taken ones: look at who has the others.
            Some(0) => match slots.iter().find(|&&slot| slot != 0) {
                Some(slot) if slot & KIND_MASK != PAGE => Claim::TakenByMetadata,
                _ => Claim::TakenByPage,
            },
            Some(slot) if slot & KIND_MASK != PAGE => Claim::TakenByMetadata,
            Some(_) => Claim::TakenByPage,
        }
    }
}

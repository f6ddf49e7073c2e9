//! Who says that a slot is his. Eight bytes a slot, for segments that anybody claims.

use std::collections::HashMap;

use crate::crypto::hash;
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
        let mut identity = Vec::with_capacity(48);
        identity.extend_from_slice(&page.0.to_le_bytes());
        identity.extend_from_slice(&entry.key_epoch.0.to_le_bytes());
        identity.extend_from_slice(&entry.crc.to_le_bytes());
        identity.extend_from_slice(&entry.nonce);
        identity.extend_from_slice(&entry.tag);
        Self::new(&identity, PAGE)
    }

    /// A node, by its hash.
    pub fn node(hash_of_node: &[u8; 32]) -> Self {
        Self::new(hash_of_node, NODE)
    }

    /// The header slots of the batch at a place.
    pub fn header(at: SlotAddr) -> Self {
        let mut identity = at.segment.0.to_le_bytes().to_vec();
        identity.extend_from_slice(&at.slot.to_le_bytes());
        Self::new(&identity, HEADER)
    }

    /// Whether it is a page.
    pub fn is_page(self) -> bool {
        self.0 & KIND_MASK == PAGE
    }

    fn new(identity: &[u8], kind: u64) -> Self {
        let hash = hash(identity);
        let (first, _) = hash.split_at(8);
        let mark = first
            .iter()
            .fold(0, |mark, &byte| mark << 8 | u64::from(byte));
        Self(mark & !KIND_MASK | kind)
    }

    /// The mark of its slot of that index: pages that overlap shifted must not look the same.
    fn mark(self, index: u32) -> u64 {
        let shifted =
            (self.0 >> 2).wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        shifted << 2 | self.0 & KIND_MASK
    }
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
            let has_item = |mark: u64| mark != 0 && mark & KIND_MASK != HEADER;
            let taken = (0..).zip(slots).filter(|&(_, &mark)| has_item(mark));
            items.extend(taken.map(|(slot, _)| SlotAddr { segment, slot }));
        }
        items
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

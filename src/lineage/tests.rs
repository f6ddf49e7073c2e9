//! Random histories with crashes against mark and sweep, fixed scenarios, and single rules.
//!
//! The histories are those of an executable model of lifetimes, which was written before this
//! code. Heads hold trees of two levels with nodes that are copied on write; the lineage under
//! test is told what a store would tell it; what heads reach is found by walking the trees. Under test
//! beside the lineage are the rules of the catalog that stand on it: which slots may be used again
//! ([`Space`](crate::catalog::Space)), who opens which keys, and which keys are dropped.

mod check;
mod costs;
mod disk;
mod epochs;
mod history;
mod keys;
mod oracle;
mod parts;
mod planted;
mod rules;
mod run;
mod store;

use crate::format::catalog::LineageRecord;
use crate::lineage::{Item, ItemKind, Lineage};
use crate::units::{KeyEpoch, LineageEpoch, SegmentId, SlotAddr};

/// A generator of random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    /// True in so many of a thousand cases.
    pub fn in_thousand(&mut self, count: usize) -> bool {
        self.below(1000) < count
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// The slot of that number.
pub fn slot(number: u32) -> SlotAddr {
    SlotAddr {
        segment: SegmentId(1 + number / 1000),
        slot: number % 1000,
    }
}

fn item(number: u32, key: u32, kind: ItemKind) -> Item {
    Item {
        at: slot(number),
        key_epoch: KeyEpoch(key),
        kind,
    }
}

fn page(number: u32, key: u32) -> Item {
    item(number, key, ItemKind::Page)
}

/// Epochs 1, 2, ... with these parents, 0 for none, and a key epoch of the same number for each.
fn lineage(parents: &[u32]) -> Lineage {
    let mut lineage = Lineage::default();
    for (index, &parent) in parents.iter().enumerate() {
        let number = index as u32 + 1;
        let record = LineageRecord {
            lineage: LineageEpoch(number),
            parent: (parent != 0).then_some(LineageEpoch(parent)),
            changed: false,
            beside: None,
        };
        lineage.insert(&record).expect("a parent");
        lineage.set_row(KeyEpoch(number), LineageEpoch(number));
    }
    lineage
}

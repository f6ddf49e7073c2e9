//! Sets of slots: compressed bitmaps ("Roaring Bitmaps: Implementation of an Optimized Software
//! Library", 2018), so that a set costs a bit a slot at most, and a few bytes a run.

use std::ops::{Range, RangeInclusive};

use roaring::{RoaringBitmap, RoaringTreemap};

use crate::units::{SegmentId, SlotAddr};

/// Slots are numbered in so many bits: see `docs/format.md`.
const SLOT_BITS: u32 = 24;

/// A set of slots of any segments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotSet(RoaringTreemap);

impl SlotSet {
    /// Adds a slot; whether it was not there.
    pub fn insert(&mut self, at: SlotAddr) -> bool {
        self.0.insert(number(at))
    }

    /// Adds slots from `at` on; how many were not there.
    pub fn insert_run(&mut self, at: SlotAddr, count: u32) -> u64 {
        if count == 1 {
            // Most pages are a slot, and a range costs several times as much.
            return self.insert(at).into();
        }
        let first = number(at);
        self.0.insert_range(first..first + u64::from(count))
    }

    /// Takes a slot out; whether it was there.
    pub fn remove(&mut self, at: SlotAddr) -> bool {
        self.0.remove(number(at))
    }

    /// Takes slots from `at` on out; how many were there.
    pub fn remove_run(&mut self, at: SlotAddr, count: u32) -> u64 {
        if count == 1 {
            return self.remove(at).into();
        }
        let first = number(at);
        self.0.remove_range(first..first + u64::from(count))
    }

    /// Whether a slot is in the set.
    pub fn contains(&self, at: SlotAddr) -> bool {
        self.0.contains(number(at))
    }

    /// How many slots there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all slots of another set.
    pub fn add(&mut self, other: &Self) {
        self.0 |= &other.0;
    }

    /// Takes all slots of another set out.
    pub fn subtract(&mut self, other: &Self) {
        self.0 -= &other.0;
    }

    /// Keeps only slots that another set has, too.
    pub fn intersect(&mut self, other: &Self) {
        self.0 &= &other.0;
    }

    /// All slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = SlotAddr> + '_ {
        self.0.iter().map(address)
    }

    /// The segments that any slot is of, ascending.
    pub fn segments(&self) -> impl Iterator<Item = SegmentId> + '_ {
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let mut iter = self.0.iter();
            iter.advance_to(next?);
            let segment = address(iter.next()?).segment;
            next = segment
                .0
                .checked_add(1)
                .map(|id| numbers(SegmentId(id)).start);
            Some(segment)
        })
    }

    /// The slots of a segment as runs of neighbours, ascending.
    pub fn runs_in(&self, segment: SegmentId) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        let Some((bitmap, range)) = self.bitmap_of(segment) else {
            return runs;
        };
        let mut found = bitmap.range(range.clone());
        while let Some(run) = found.next_range() {
            let (start, last) = (*run.start(), (*run.end()).min(*range.end()));
            let run = start - range.start()..last - range.start() + 1;
            match runs.last_mut() {
                Some(before) if before.end == run.start => before.end = run.end,
                _ => runs.push(run),
            }
        }
        runs
    }

    /// The bitmap that has the slots of a segment, and where there. Its iterator gives runs at once,
    /// which that of the whole set does not.
    fn bitmap_of(&self, segment: SegmentId) -> Option<(&RoaringBitmap, RangeInclusive<u32>)> {
        let first = numbers(segment).start;
        let (high, low) = ((first >> 32) as u32, first as u32);
        let mut bitmaps = self.0.bitmaps();
        let (_, bitmap) = bitmaps.find(|&(number, _)| number == high)?;
        Some((bitmap, low..=low + ((1 << SLOT_BITS) - 1)))
    }

    /// How many slots of a segment there are.
    pub fn count_in(&self, segment: SegmentId) -> u32 {
        self.bitmap_of(segment)
            .map_or(0, |(bitmap, range)| bitmap.range_cardinality(range) as u32)
    }
}

/// A set of places of slots in one file: a plain bitmap, for sets that are made and looked through at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places(Vec<u64>);

impl Places {
    /// Adds a run of places.
    pub fn insert(&mut self, run: Range<u32>) {
        let words = run.end.div_ceil(u64::BITS) as usize;
        self.0.resize(words.max(self.0.len()), 0);
        for (word, bits) in words_of(run) {
            self.0[word] |= bits;
        }
    }

    /// Takes a run of places out.
    pub fn remove(&mut self, run: Range<u32>) {
        for (word, bits) in words_of(run) {
            if let Some(word) = self.0.get_mut(word) {
                *word &= !bits;
            }
        }
    }

    /// Takes all places of another set out.
    pub fn subtract(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
    }

    /// Runs of neighbours, ascending.
    pub fn runs(&self) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        let words = self.0.iter().zip((0..).step_by(u64::BITS as usize));
        for run in words.flat_map(|(&word, first)| runs_of(word, first)) {
            match runs.last_mut() {
                Some(before) if before.end == run.start => before.end = run.end,
                _ => runs.push(run),
            }
        }
        runs
    }
}

/// The words that a run has bits in, and these.
fn words_of(run: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let words = run.start / u64::BITS..run.end.div_ceil(u64::BITS);
    words.map(move |word| {
        let first = word * u64::BITS;
        let (start, end) = (run.start.max(first) - first, run.end - first);
        let below = u64::MAX >> (u64::BITS - end.min(u64::BITS));
        (word as usize, below & (u64::MAX << start))
    })
}

/// The runs of bits of a word, the lowest of which is number `first`.
pub fn runs_of(mut word: u64, first: u32) -> impl Iterator<Item = Range<u32>> {
    std::iter::from_fn(move || {
        let start = word.trailing_zeros();
        if start == u64::BITS {
            return None;
        }
        // Nothing but zeroes is shifted in, so a run ends at the end of the word at the latest.
        let end = start + (!(word >> start)).trailing_zeros();
        word = word.checked_shr(end).map_or(0, |rest| rest << end);
        Some(first + start..first + end)
    })
}

#[cfg(test)]
impl SlotSet {
    /// How many slots both have.
    pub fn common_len(&self, other: &Self) -> u64 {
        self.0.intersection_len(&other.0)
    }
}

impl FromIterator<SlotAddr> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotAddr>>(slots: I) -> Self {
        Self(slots.into_iter().map(number).collect())
    }
}

impl Extend<SlotAddr> for SlotSet {
    fn extend<I: IntoIterator<Item = SlotAddr>>(&mut self, slots: I) {
        self.0.extend(slots.into_iter().map(number));
    }
}

fn number(at: SlotAddr) -> u64 {
    u64::from(at.segment.0) << SLOT_BITS | u64::from(at.slot)
}

fn numbers(segment: SegmentId) -> Range<u64> {
    let first = u64::from(segment.0) << SLOT_BITS;
    first..first + (1 << SLOT_BITS)
}

fn address(number: u64) -> SlotAddr {
    SlotAddr {
        segment: SegmentId((number >> SLOT_BITS) as u32),
        slot: (number & ((1 << SLOT_BITS) - 1)) as u32,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn at(segment: u32, slot: u32) -> SlotAddr {
        SlotAddr {
            segment: SegmentId(segment),
            slot,
        }
    }

    proptest! {
        #[test]
        fn a_set_of_slots_is_like_a_plain_one(
            slots in prop::collection::vec((0_u32..4, 0_u32..9, any::<bool>()), 0..60),
        ) {
            let (mut set, mut plain) = (SlotSet::default(), BTreeSet::new());
            for (segment, slot, insert) in slots {
                let at = at(segment, slot);
                match insert {
                    true => assert_eq!(set.insert(at), plain.insert(at)),
                    false => assert_eq!(set.remove(at), plain.remove(&at)),
                }
            }
            assert!(set.iter().eq(plain.iter().copied()));
            let segments: BTreeSet<_> = plain.iter().map(|at| at.segment).collect();
            assert!(set.segments().eq(segments));
            for segment in (0..5).map(SegmentId) {
                let of = plain.iter().filter(|at| at.segment == segment);
                let of: Vec<u32> = of.map(|at| at.slot).collect();
                    assert_eq!(set.count_in(segment), of.len() as u32);
                assert!(set.runs_in(segment).into_iter().flatten().eq(of));
            }
        }
    }

    proptest! {
        #[test]
        fn a_set_of_places_is_like_a_plain_one(
            runs in prop::collection::vec((0_u32..400, 0_u32..150, 0_u8..3), 0..30),
        ) {
            let (mut set, mut plain) = (Places::default(), BTreeSet::new());
            for (start, len, what) in runs {
                let run = start..start + len;
                match what {
                    0 => {
                        set.remove(run.clone());
                        plain.retain(|place| !run.contains(place));
                    }
                    1 => {
                        set.insert(run.clone());
                        plain.extend(run);
                    }
                    _ => {
                        let mut other = Places::default();
                        other.insert(run.clone());
                        set.subtract(&other);
                        plain.retain(|place| !run.contains(place));
                    }
                }
            }
            let runs = set.runs();
            assert!(runs.iter().cloned().flatten().eq(plain.iter().copied()));
            assert!(runs.windows(2).all(|two| two[0].end < two[1].start));
        }
    }

    #[test]
    fn runs_of_neighbouring_segments_are_apart_and_long_ones_in_one_piece() {
        let mut set = SlotSet::default();
        // Dense and sparse, over the bounds of what the bitmap stores together.
        set.insert_run(at(255, (1 << SLOT_BITS) - 5), 5);
        set.insert_run(at(256, 0), 200_000);
        set.insert_run(at(257, 0), 3);
        for slot in (0..60_000).step_by(3) {
            set.insert_run(at(258, slot), 2);
        }
        let runs = |segment| set.runs_in(SegmentId(segment));
        let one = |start, end| vec![Range { start, end }];
        let last = 1 << SLOT_BITS;
        assert_eq!(runs(255), one(last - 5, last));
        assert_eq!(runs(256), one(0, 200_000));
        assert_eq!(runs(257), one(0, 3));
        assert_eq!(runs(258).len(), 20_000);
        assert!(runs(258).iter().all(|run| run.end - run.start == 2));
        assert_eq!(set.count_in(SegmentId(258)), 40_000);
        assert_eq!((runs(254), runs(259)), (vec![], vec![]));
    }

    #[test]
    fn the_last_slot_of_the_last_segment_is_a_slot_like_others() {
        let last = at(u32::MAX, (1 << SLOT_BITS) - 1);
        let mut set = SlotSet::from_iter([at(1, 1)]);
        assert!(set.insert(last));
        assert_eq!(set.count_in(SegmentId(u32::MAX)), 1);
        assert_eq!(
            set.segments().collect::<Vec<_>>(),
            [SegmentId(1), SegmentId(u32::MAX)]
        );
        assert_eq!(set.remove_run(last, 1), 1);
        assert_eq!(set.len(), 1);
    }
}

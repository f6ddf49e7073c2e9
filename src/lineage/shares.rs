//! Accounting: what heads have in common, and who bears what they share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use crate::lineage::{Buckets, Counts, Lineage};
use crate::units::{LineageEpoch, ResourceId, SlotAddr};

/// A head that pages can be charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer {
    /// Its open epoch.
    pub open: LineageEpoch,
    /// Its id.
    pub id: ResourceId,
    /// What it was made from.
    pub origin: Option<ResourceId>,
}

/// What a head is charged for, in bytes of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// What was written before a branch is charged to its source; when that is gone, evenly to those
    /// made from it.
    pub even: u64,
    /// Each page evenly to all that map it.
    pub exact: f64,
}

/// Places of epochs in a walk of the tree: those below one are between two numbers.
struct Places(HashMap<LineageEpoch, Range<u32>>);

/// Those to whom an interior epoch's pages are charged.
#[derive(Default)]
struct Bearers {
    count: u64,
    oldest: usize,
}

impl Lineage {
    /// What the heads with these open epochs both map. Exact, settled or not.
    pub fn common_items(&self, one: LineageEpoch, other: LineageEpoch) -> Counts {
        let (mut a, mut b) = (one, other);
        let mut let_go = Buckets::default();
        // Parents have lesser numbers.
        while a != b {
            let lower = if a > b { &mut a } else { &mut b };
            self.add_deadlist(*lower, &mut let_go);
            match self.parent(*lower) {
                Some(parent) => *lower = parent,
                None => return Counts::default(),
            }
        }
        let mut common = Counts::default();
        let mut shared = BTreeSet::new();
        let mut at = Some(a);
        while let Some(epoch) = at {
            common += self.own(epoch);
            shared.insert(epoch);
            self.add_deadlist(epoch, &mut let_go);
            at = self.parent(epoch);
        }
        for (key, items) in let_go.iter() {
            if self.birth(key).is_some_and(|birth| shared.contains(&birth)) {
                common -= items.counts();
            }
        }
        common
    }

    fn add_deadlist(&self, epoch: LineageEpoch, to: &mut Buckets) {
        if let Some(epoch) = self.epochs.get(&epoch) {
            for (key, items) in Buckets::clone(&epoch.deadlist) {
                to.splice(key, items);
            }
        }
    }

    /// What each of these heads is charged for. They are all there are, oldest first.
    pub fn shares(&self, heads: &[Payer], page_len: u64) -> Vec<Share> {
        let exact = self.exact_pages(heads);
        let even = self.even_bytes(heads, page_len).into_iter();
        let both = even.zip(heads).map(|(even, head)| Share {
            even,
            exact: exact.get(&head.open).copied().unwrap_or(0.0) * page_len as f64,
        });
        both.collect()
    }

    /// Pages born in an epoch are charged to those of the heads below it that were not made from
    /// another one below it: first the source alone, and when that is gone, all that it left.
    fn even_bytes(&self, heads: &[Payer], page_len: u64) -> Vec<u64> {
        let places = self.places();
        let open: HashMap<ResourceId, LineageEpoch> =
            heads.iter().map(|head| (head.id, head.open)).collect();
        let borne = |head: &Payer| {
            let origin = head.origin.and_then(|id| open.get(&id).copied());
            let up = std::iter::successors(Some(head.open), |&epoch| self.parent(epoch));
            up.take_while(|&epoch| origin.is_none_or(|origin| !places.is_below(origin, epoch)))
                .collect::<Vec<_>>()
        };
        let mut bearers: BTreeMap<LineageEpoch, Bearers> = BTreeMap::new();
        for (index, head) in heads.iter().enumerate() {
            for epoch in borne(head) {
                let bearers = bearers.entry(epoch).or_default();
                if bearers.count == 0 {
                    bearers.oldest = index;
                }
                bearers.count += 1;
            }
        }
        let part = |index: usize, epoch: LineageEpoch| {
            let Some(bearers) = bearers.get(&epoch) else {
                return 0;
            };
            let bytes = self.own(epoch).pages * page_len;
            let rest = match bearers.oldest == index {
                true => bytes % bearers.count,
                false => 0,
            };
            bytes / bearers.count + rest
        };
        let heads = heads.iter().enumerate();
        let sums = heads.map(|(index, head)| {
            let parts = borne(head).into_iter().map(|epoch| part(index, epoch));
            parts.sum()
        });
        sums.collect()
    }

    /// Pages of each head, each divided by the number of heads that map it.
    fn exact_pages(&self, heads: &[Payer]) -> HashMap<LineageEpoch, f64> {
        let mut below: HashMap<LineageEpoch, u64> =
            heads.iter().map(|head| (head.open, 1)).collect();
        for (&id, epoch) in self.epochs.iter().rev() {
            let count = below.get(&id).copied().unwrap_or(0);
            if let Some(parent) = epoch.parent {
                *below.entry(parent).or_default() += count;
            }
        }
        let below = |epoch: LineageEpoch| below.get(&epoch).copied().unwrap_or(0);
        // Items on deadlists, and how many heads let go of each.
        let mut let_go: BTreeMap<LineageEpoch, HashMap<SlotAddr, u64>> = BTreeMap::new();
        for (&id, epoch) in &self.epochs {
            for (key, items) in epoch.deadlist.iter() {
                let Some(birth) = self.birth(key) else {
                    continue;
                };
                let let_go = let_go.entry(birth).or_default();
                for page in items.pages.iter() {
                    *let_go.entry(page).or_default() += below(id);
                }
            }
        }
        let worth = |birth: LineageEpoch, page: SlotAddr| {
            let lost = let_go.get(&birth).and_then(|pages| pages.get(&page));
            match below(birth).saturating_sub(lost.copied().unwrap_or(0)) {
                0 => 0.0,
                count => 1.0 / count as f64,
            }
        };
        let mut sums: HashMap<LineageEpoch, f64> = HashMap::new();
        for (&id, epoch) in &self.epochs {
            let pages = let_go.get(&id);
            let listed = pages.map_or(0, HashMap::len) as u64;
            let by_all = self.own(id).pages.saturating_sub(listed) as f64;
            let mut sum = by_all / below(id).max(1) as f64;
            sum += pages.map_or(0.0, |pages| pages.keys().map(|&page| worth(id, page)).sum());
            for (key, items) in epoch.deadlist.iter() {
                if let Some(birth) = self.birth(key) {
                    let lost = items.pages.iter().map(|page| worth(birth, page));
                    sum -= lost.sum::<f64>();
                }
            }
            // Parents have lesser numbers, so theirs is known.
            let above = epoch.parent.and_then(|parent| sums.get(&parent));
            sums.insert(id, sum + above.copied().unwrap_or(0.0));
        }
        sums
    }

    fn places(&self) -> Places {
        let mut places: HashMap<LineageEpoch, Range<u32>> = HashMap::new();
        let roots = self
            .epochs
            .iter()
            .filter(|(_, epoch)| epoch.parent.is_none());
        let mut next = 0;
        // Each is met twice: before those below it and after them.
        let mut waiting: Vec<(LineageEpoch, bool)> = roots.map(|(&id, _)| (id, false)).collect();
        while let Some((id, is_done)) = waiting.pop() {
            if is_done {
                places.entry(id).and_modify(|place| place.end = next);
                continue;
            }
            places.insert(id, next..next);
            next += 1;
            waiting.push((id, true));
            let children = self.epochs.get(&id).map(|epoch| &epoch.children);
            waiting.extend(children.into_iter().flatten().map(|&child| (child, false)));
        }
        Places(places)
    }
}

impl Places {
    /// Whether an epoch is another one, or below it.
    fn is_below(&self, epoch: LineageEpoch, above: LineageEpoch) -> bool {
        let range = self.0.get(&above);
        let place = self.0.get(&epoch);
        range
            .zip(place)
            .is_some_and(|(range, place)| range.contains(&place.start))
    }
}

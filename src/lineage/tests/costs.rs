//! What things cost, counted in buckets and deadlists.

use crate::format::catalog::LineageRecord;
use crate::lineage::tests::page;
use crate::lineage::{Branch, Buckets, Counts, Item, ItemSet, Lineage};
use crate::units::{KeyEpoch, LineageEpoch};

/// A source without a tree: pages are only numbers.
struct Source {
    lineage: Lineage,
    open: u32,
    last: u32,
    pages: Vec<Item>,
    last_slot: u32,
}

impl Source {
    /// A volume that wrote so many pages.
    fn new(pages: usize) -> Self {
        let mut source = Self {
            lineage: Lineage::default(),
            open: 1,
            last: 0,
            pages: Vec::new(),
            last_slot: 0,
        };
        source.add(None);
        for _ in 0..pages {
            let page = source.new_page();
            source.pages.push(page);
        }
        source
    }

    fn add(&mut self, parent: Option<LineageEpoch>) -> LineageEpoch {
        self.last += 1;
        let lineage = LineageEpoch(self.last);
        let record = LineageRecord {
            lineage,
            parent,
            changed: false,
            beside: None,
        };
        self.lineage.insert(&record).expect("a parent");
        self.lineage.set_row(KeyEpoch(self.last), lineage);
        lineage
    }

    fn new_page(&mut self) -> Item {
        self.last_slot += 1;
        let page = page(self.last_slot, self.open);
        self.lineage.mark_changed(LineageEpoch(self.open));
        assert_eq!(self.lineage.born(page), Some(LineageEpoch(self.open)));
        page
    }

    fn write(&mut self, number: usize) {
        let page = self.new_page();
        let old = std::mem::replace(&mut self.pages[number], page);
        let open = LineageEpoch(self.open);
        self.lineage.let_go(open, old, &mut ItemSet::default());
    }

    fn clone_it(&mut self) -> LineageEpoch {
        let parent = match self.lineage.branch(LineageEpoch(self.open)) {
            Branch::Share(parent) => parent,
            Branch::Split => {
                let parent = LineageEpoch(self.open);
                self.open = self.add(Some(parent)).0;
                parent
            }
        };
        self.add(Some(parent))
    }
}

/// Deletes 200 untouched clones of a source that later overwrote all of its 2,000 pages.
fn delete_clones(source_changes: bool, reverse: bool) {
    let mut source = Source::new(2000);
    let mut clones = Vec::new();
    for number in 0..200 {
        if source_changes {
            source.write(number);
        }
        clones.push(source.clone_it());
    }
    (0..2000).for_each(|number| source.write(number));
    if reverse {
        clones.reverse();
    }
    let (mut buckets, mut freed) = (Vec::new(), Vec::new());
    for clone in clones {
        let mut dead = ItemSet::default();
        let touched = source.lineage.remove(clone, &Buckets::default(), &mut dead);
        buckets.push(touched);
        freed.push(dead.counts().pages);
        assert_eq!(source.lineage.check(), Ok(()));
    }
    freed.sort_unstable();
    assert!(freed.pop() >= Some(1800), "{freed:?}");
    assert!(
        freed.last() <= Some(&4),
        "an untouched clone holds little: {freed:?}"
    );
    // Forward, one delete may find many names of one birth; but each name is found once.
    assert!(buckets.iter().sum::<u64>() <= 4 * 200, "{buckets:?}");
    assert!(!reverse || buckets.iter().max() <= Some(&4), "{buckets:?}");
    let own = source.lineage.own(LineageEpoch(source.open));
    assert_eq!(
        own,
        Counts {
            pages: 2000,
            nodes: 0
        }
    );
    assert_eq!(source.lineage.records().count(), 1);
}

#[test]
fn deleting_an_untouched_clone_touches_few_buckets_and_no_item_that_stays() {
    for source_changes in [false, true] {
        for reverse in [false, true] {
            delete_clones(source_changes, reverse);
        }
    }
}

#[test]
fn clones_of_an_idle_volume_are_siblings_and_cost_hoist_nothing() {
    let mut source = Source::new(100);
    let clones: Vec<LineageEpoch> = (0..10_000).map(|_| source.clone_it()).collect();
    let lineage = &source.lineage;
    assert!(
        clones
            .iter()
            .all(|&clone| lineage.parent(clone) == Some(LineageEpoch(1)))
    );
    assert_eq!(
        lineage.parent(LineageEpoch(source.open)),
        Some(LineageEpoch(1))
    );
    for round in 0..100 {
        source.write(round);
        let asked = source.lineage.hoist(&mut ItemSet::default());
        assert!(asked <= 2, "{asked} deadlists");
    }
    // All but the last clone let go of a page: the last one is remembered.
    let mut freed = ItemSet::default();
    for &clone in &clones[..9_999] {
        source.lineage.let_go(clone, page(1, 1), &mut freed);
    }
    let first = source.lineage.hoist(&mut freed);
    assert!(first >= 10_000, "{first}");
    for &clone in &clones[..100] {
        source.lineage.let_go(clone, page(2, 1), &mut freed);
        let asked = source.lineage.hoist(&mut freed);
        assert!(asked <= 2, "{asked} deadlists");
    }
    assert!(freed.is_empty());
    let last = source.lineage.exclusive(clones[9_999]);
    assert_eq!(last, Counts { pages: 1, nodes: 0 });
    source.lineage.let_go(clones[9_999], page(1, 1), &mut freed);
    source.lineage.hoist(&mut freed);
    assert_eq!(freed.counts(), last);
    assert_eq!(source.lineage.check(), Ok(()));
}

#[test]
fn a_clone_of_the_lineage_shares_deadlists_until_they_change() {
    let mut source = Source::new(1000);
    source.clone_it();
    (0..1000).for_each(|number| source.write(number));
    let copy = source.lineage.clone();
    let open = LineageEpoch(source.open);
    let shared = |a: &Lineage, b: &Lineage| {
        std::ptr::eq(&*a.epochs[&open].deadlist, &*b.epochs[&open].deadlist)
    };
    assert!(shared(&copy, &source.lineage));
    source.write(0);
    assert!(
        shared(&copy, &source.lineage),
        "its own page is on no deadlist"
    );
}

/// What it costs that an epoch becomes one with its only child, if so many buckets wait in each.
fn buckets_of_a_collapse(above: usize, below: usize) -> u64 {
    let mut source = Source::new(1);
    for _ in 0..above + below {
        source.clone_it();
        let page = source.new_page();
        source.pages.push(page);
    }
    (0..above).for_each(|number| source.write(number));
    let own = source.pages.len() - 1;
    let clone = source.clone_it();
    (above..above + below).for_each(|number| source.write(number));
    source.write(own);
    let mut freed = ItemSet::default();
    let touched = source
        .lineage
        .remove(clone, &Buckets::default(), &mut freed);
    assert_eq!(freed.counts().pages, 1, "what was born in the epoch");
    assert_eq!(source.lineage.check(), Ok(()));
    touched
}

#[test]
fn a_collapse_moves_the_fewer_buckets_and_counts_them() {
    assert_eq!(buckets_of_a_collapse(3, 5), 1 + 3);
    assert_eq!(buckets_of_a_collapse(5, 3), 1 + 3);
    assert_eq!(buckets_of_a_collapse(0, 5), 1);
}

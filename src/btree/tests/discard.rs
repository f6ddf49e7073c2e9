//! Removing ranges costs loads by the height of the tree and its inner nodes, not by the pages.

use crate::btree::node::Body;
use crate::btree::tests::{ALL, EPOCH, Memory, Walker, entry, read_all, set_all};
use crate::btree::{Child, Fanout, Tree};
use crate::error::Error;
use crate::format::entry::Entry;
use crate::units::{KeyEpoch, PageNo};

const PAGES: u64 = 100_000;
/// Pages of 4 KiB in 2 TiB.
const VOLUME: u64 = 1 << 29;
const STRIDE: u64 = VOLUME / PAGES;

/// A written tree of sparse pages, every fifth of them an explicit zero.
fn sparse(source: &Memory) -> Tree {
    let tree = set_all(
        source,
        Fanout::default(),
        (0..PAGES).map(|page| page * STRIDE),
    );
    source.reload(&tree)
}

/// About how many nodes have children.
fn inner_nodes(source: &Memory) -> usize {
    source.slots.borrow().len() / 70
}

/// Removes a range, and checks what it cost and what is left.
fn discard(source: &Memory, tree: &Tree, from: u64, to: u64) {
    let fanout = Fanout::default();
    let height = usize::from(tree.root.as_ref().map_or(0, Child::level)) + 1;
    let mut after = tree.clone();
    source.fail(0);
    let range = PageNo(from)..PageNo(to);
    let removed = after
        .remove_range(source, fanout, KeyEpoch(2), range.clone())
        .unwrap();
    let loads = source.loads.get();
    // Two edges; what became small looks at its neighbours on both sides; each inner node tells
    // which leaves go.
    let most = 6 * height + inner_nodes(source);
    assert!(loads <= most, "{loads} loads for {from}..{to}");
    let mut left = read_all(source, tree);
    let count = left.len();
    left.retain(|(page, _)| !range.contains(page));
    assert_eq!(removed, left.len() < count);
    assert_eq!(Walker::walk(source, fanout, &after).pages, left);
}

#[test]
fn discard_by_subtree() {
    let source = Memory::default();
    let tree = sparse(&source);
    let Some(Child::Disk(root)) = &tree.root else {
        panic!("the tree is reloaded");
    };
    assert!(root.level >= 2);
    assert!(source.slots.borrow().len() > 1000);
    let leaf = 78 * STRIDE;
    for (from, to) in [
        (0, VOLUME),
        (0, u64::MAX),
        (leaf * 100, leaf * 900),
        (leaf * 78, leaf * 78 * 5),
        (leaf * 100 + 1, leaf * 900 - 1),
        (leaf * 77 - STRIDE, leaf * 901 + STRIDE),
        (12_345_678, 456_789_012),
        (VOLUME / 2, VOLUME),
        (1, 2),
        (VOLUME, u64::MAX),
    ] {
        discard(&source, &tree, from, to);
    }
}

#[test]
fn a_discard_of_everything_by_a_higher_end_leaves_no_root() {
    let source = Memory::default();
    let mut tree = sparse(&source);
    source.fail(0);
    assert!(
        tree.remove_range(&source, Fanout::default(), EPOCH, ALL)
            .unwrap()
    );
    let most = 4 + inner_nodes(&source);
    assert!(source.loads.get() <= most, "no leaf but the last");
    assert_eq!(tree.root_ref(), Some(None));
    assert!(
        !tree
            .remove_range(&source, Fanout::default(), EPOCH, ALL)
            .unwrap()
    );
}

#[test]
fn a_discard_that_finds_nothing_changes_nothing() {
    let source = Memory::default();
    let tree = sparse(&source);
    let mut same = tree.clone();
    for (from, to) in [(1, STRIDE), (7, 7), (9, 3), (VOLUME, u64::MAX)] {
        let range = PageNo(from)..PageNo(to);
        assert!(
            !same
                .remove_range(&source, Fanout::default(), EPOCH, range)
                .unwrap()
        );
        assert!(same.same_as(&tree));
        assert!(same.unwritten().is_empty());
    }
}

#[test]
fn an_explicit_zero_is_no_hole_and_a_key_that_is_gone_is_neither() {
    let source = Memory::default();
    let mut tree = sparse(&source);
    let get = |tree: &Tree, page| tree.get(&source, PageNo(page)).unwrap();
    // What is known of keys changes no entry: a page of a lost key stays a page.
    assert_eq!(get(&tree, STRIDE * 4), Some(entry(4, EPOCH)));
    assert!(matches!(get(&tree, STRIDE * 4), Some(Entry::Data(_))));
    assert_eq!(
        get(&tree, STRIDE * 5),
        Some(Entry::Zero { key_epoch: EPOCH })
    );
    assert_eq!(get(&tree, STRIDE * 5 + 1), None);
    let zero = PageNo(STRIDE * 5)..PageNo(STRIDE * 5 + 1);
    assert!(
        tree.remove_range(&source, Fanout::default(), EPOCH, zero)
            .unwrap()
    );
    assert_eq!(get(&tree, STRIDE * 5), None);
    assert_eq!(get(&tree, STRIDE * 4), Some(entry(4, EPOCH)));
}

#[test]
fn what_becomes_small_merges_and_a_root_with_one_child_goes() {
    let source = Memory::default();
    let fanout = Fanout::default();
    let mut tree = source.reload(&set_all(&source, fanout, 0..7800));
    for page in (0..7800).filter(|page| page % 10 != 0) {
        let range = PageNo(page)..PageNo(page + 1);
        assert!(tree.remove_range(&source, fanout, EPOCH, range).unwrap());
    }
    let leaves = Walker::walk(&source, fanout, &tree).leaves;
    assert!(leaves.len() <= 780 * 4 / 78, "{} leaves", leaves.len());
    tree.remove_range(&source, fanout, EPOCH, PageNo(700)..PageNo(7700))
        .unwrap();
    tree.remove_range(&source, fanout, EPOCH, PageNo(10)..PageNo(690))
        .unwrap();
    tree.remove_range(&source, fanout, EPOCH, PageNo(7720)..ALL.end)
        .unwrap();
    let Some(Child::Memory(root)) = &tree.root else {
        panic!("the tree has changed");
    };
    assert!(matches!(root.body(), Body::Leaf(pages) if pages.len() == 4));
}

#[test]
fn a_failed_load_leaves_the_original_as_it_was() {
    let source = Memory::default();
    let fanout = Fanout::new(3);
    let written = source.reload(&set_all(&source, fanout, (10..110).map(|page| page * 2)));
    let mut dirty = written.clone();
    dirty
        .set(&source, fanout, EPOCH, PageNo(111), entry(1, EPOCH))
        .unwrap();
    let ranges = [
        (0, 500),
        (20, 219),
        (37, 181),
        (64, 65),
        (0, 100),
        (100, 500),
    ];
    let mut failures = 0;
    for tree in [&written, &dirty] {
        let pages = read_all(&source, tree);
        let root = tree.root_ref();
        for change in 0..ranges.len() + 3 {
            for load in 1.. {
                source.fail(load);
                let mut clone = tree.clone();
                let done = match ranges.get(change) {
                    Some(&(from, to)) => clone
                        .remove_range(&source, fanout, KeyEpoch(2), PageNo(from)..PageNo(to))
                        .map(drop),
                    None => {
                        let page = PageNo([0, 99, 100][change - ranges.len()]);
                        clone
                            .set(&source, fanout, KeyEpoch(2), page, entry(2, KeyEpoch(2)))
                            .map(drop)
                    }
                };
                source.fail(0);
                assert_eq!(tree.root_ref(), root);
                assert_eq!(Walker::walk(&source, fanout, tree).pages, pages);
                match done {
                    Ok(()) => break,
                    Err(error) => assert!(matches!(error, Error::Poisoned)),
                }
                failures += 1;
            }
        }
    }
    assert!(failures > 50);
}

#[test]
fn an_iterator_ends_after_a_failed_load() {
    let source = Memory::default();
    let tree = source.reload(&set_all(&source, Fanout::new(3), 0..100));
    for load in 1..20 {
        source.fail(load);
        let items: Vec<_> = tree.iter(&source, ALL).collect();
        assert!(matches!(items.last(), Some(Err(Error::Poisoned))));
        assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1);
    }
}

#[test]
fn a_root_with_one_child_goes_at_every_level() {
    let source = Memory::default();
    let fanout = Fanout::new(3);
    let mut tree = set_all(&source, fanout, 0..243);
    assert_eq!(tree.root.as_ref().map(Child::level), Some(4));
    for range in [0..100, 101..243] {
        let range = PageNo(range.start)..PageNo(range.end);
        tree.remove_range(&source, fanout, EPOCH, range).unwrap();
    }
    assert_eq!(tree.root.as_ref().map(Child::level), Some(0));
    assert_eq!(read_all(&source, &tree), [(PageNo(100), entry(100, EPOCH))]);
}

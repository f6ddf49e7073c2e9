//! Rules that are easy to get wrong, one by one.

use std::collections::BTreeSet;

use crate::lineage::tests::{item, lineage, page};
use crate::lineage::{Buckets, Counts, Item, ItemKind, ItemSet, Lineage};
use crate::units::{KeyEpoch, LineageEpoch};

const PAGE: Counts = Counts { pages: 1, nodes: 0 };
const NODE: Counts = Counts { pages: 0, nodes: 1 };
const NONE: Counts = Counts { pages: 0, nodes: 0 };

fn let_go(lineage: &mut Lineage, epoch: u32, item: Item) -> Counts {
    let mut freed = ItemSet::default();
    lineage.let_go(LineageEpoch(epoch), item, &mut freed);
    freed.counts()
}

fn remove(lineage: &mut Lineage, epoch: u32, own: &[Item]) -> Counts {
    let mut freed = ItemSet::default();
    let own: Buckets = own.iter().copied().collect();
    lineage.remove(LineageEpoch(epoch), &own, &mut freed);
    assert_eq!(lineage.check(), Ok(()));
    freed.counts()
}

fn hoist(lineage: &mut Lineage) -> Counts {
    let mut freed = ItemSet::default();
    lineage.hoist(&mut freed);
    assert_eq!(lineage.check(), Ok(()));
    assert!(lineage.is_settled());
    freed.counts()
}

#[test]
fn what_was_born_in_the_open_epoch_dies_at_once_and_else_it_waits() {
    let mut lineage = lineage(&[0, 1, 1]);
    lineage.born(page(1, 1));
    lineage.born(page(2, 2));
    assert_eq!(lineage.own(LineageEpoch(2)), PAGE);
    assert_eq!(let_go(&mut lineage, 2, page(2, 2)), PAGE);
    assert_eq!(let_go(&mut lineage, 2, page(1, 1)), NONE);
    assert_eq!(lineage.sealed_count(KeyEpoch(1)), 1);
    // The other side is the last to reach it.
    assert_eq!(lineage.exclusive(LineageEpoch(3)), PAGE);
    assert_eq!(remove(&mut lineage, 3, &[]), PAGE);
    assert_eq!(lineage.sealed_count(KeyEpoch(1)), 0);
}

#[test]
fn collapse_frees_every_name_of_one_birth() {
    // 1 has children 2 and 3; 2 has 4 and 5. First 1 becomes one with 2, then 2 with 5.
    let mut lineage = lineage(&[0, 1, 1, 2, 2]);
    for item in [page(1, 1), page(2, 2)] {
        lineage.born(item);
        assert_eq!(let_go(&mut lineage, 5, item), NONE);
    }
    assert_eq!(remove(&mut lineage, 3, &[]), NONE);
    assert_eq!(lineage.birth(KeyEpoch(1)), Some(LineageEpoch(2)));
    assert_eq!(remove(&mut lineage, 4, &[]), Counts { pages: 2, nodes: 0 });
}

#[test]
fn an_item_counts_as_exclusive_up_to_its_birth_but_not_beyond_a_cousin() {
    let mut lineage = lineage(&[0, 1, 1, 2, 2]);
    lineage.born(page(1, 1));
    assert_eq!(let_go(&mut lineage, 4, page(1, 1)), NONE);
    // 3 reaches it, too.
    assert_eq!(lineage.exclusive(LineageEpoch(5)), NONE);
    assert_eq!(let_go(&mut lineage, 3, page(1, 1)), NONE);
    assert_eq!(lineage.exclusive(LineageEpoch(5)), PAGE);
    assert_eq!(lineage.freed_with(&BTreeSet::from([LineageEpoch(5)])), PAGE);
    assert_eq!(remove(&mut lineage, 5, &[]), NONE);
    assert_eq!(hoist(&mut lineage), PAGE);
}

#[test]
fn hoist_moves_up_level_by_level() {
    let mut lineage = lineage(&[0, 1, 1, 2, 2]);
    lineage.born(page(1, 1));
    for head in [4, 5] {
        assert_eq!(let_go(&mut lineage, head, page(1, 1)), NONE);
    }
    assert!(!lineage.is_settled());
    assert_eq!(hoist(&mut lineage), NONE);
    assert_eq!(lineage.exclusive(LineageEpoch(3)), PAGE);
    assert_eq!(let_go(&mut lineage, 3, page(1, 1)), NONE);
    assert!(!lineage.is_settled());
    assert_eq!(hoist(&mut lineage), PAGE);
}

#[test]
fn a_sibling_that_reaches_everything_keeps_it_settled() {
    let mut lineage = lineage(&[0, 1, 1, 1]);
    lineage.born(page(1, 1));
    for head in [2, 3] {
        assert_eq!(let_go(&mut lineage, head, page(1, 1)), NONE);
        assert!(lineage.is_settled());
    }
    assert_eq!(remove(&mut lineage, 4, &[]), NONE);
    assert!(!lineage.is_settled());
    assert_eq!(hoist(&mut lineage), PAGE);
}

#[test]
fn a_node_that_got_its_address_late_is_let_go_by_all_who_had_done_so() {
    let node = item(1, 1, ItemKind::Node);
    let mut before = lineage(&[0, 1, 1]);
    let late = |lineage: &mut Lineage, epochs: &[u32]| {
        let mut freed = ItemSet::default();
        let epochs = epochs.iter().map(|&epoch| LineageEpoch(epoch));
        let died = lineage.born_late(node, epochs, &mut freed);
        assert_eq!(died, !freed.is_empty());
        assert_eq!(lineage.check(), Ok(()));
        freed.counts()
    };
    // One side: it waits for the other.
    assert_eq!(late(&mut before.clone(), &[2]), NONE);
    // The epoch in which it was born.
    assert_eq!(late(&mut lineage(&[0]), &[1]), NODE);
    // Both sides, and one is gone: the names of both mean epochs that are one with its birth.
    remove(&mut before, 3, &[]);
    assert_eq!(late(&mut before.clone(), &[2]), NODE);
    assert_eq!(late(&mut before.clone(), &[3, 2]), NODE);
    assert_eq!(late(&mut before.clone(), &[2, 3]), NODE);
    // A side that is gone does not count: the other reaches it.
    assert_eq!(late(&mut before.clone(), &[3]), NONE);
    // All are gone.
    remove(&mut before, 2, &[]);
    assert_eq!(late(&mut before.clone(), &[2, 3]), NODE);
    assert_eq!(late(&mut before, &[]), NODE);
}

#[test]
fn names_are_kept_until_a_checkpoint_that_began_after_the_merge() {
    let node = item(1, 1, ItemKind::Node);
    // 2 let go of a node born in 1 that has no address yet, then it was split.
    let mut lineage = lineage(&[0, 1, 1, 2, 2, 5, 5]);
    remove(&mut lineage, 6, &[]);
    let began = lineage.merge_count();
    remove(&mut lineage, 4, &[]);
    lineage.forget_names(began);
    assert_eq!(lineage.resolve(LineageEpoch(2)), Some(LineageEpoch(7)));
    assert_eq!(lineage.resolve(LineageEpoch(5)), None);
    assert_eq!(lineage.birth(KeyEpoch(5)), Some(LineageEpoch(7)));
    let mut freed = ItemSet::default();
    lineage
        .clone()
        .born_late(node, [LineageEpoch(2)], &mut freed);
    lineage.born_late(node, [LineageEpoch(2)], &mut freed);
    assert_eq!(let_go(&mut lineage, 3, node), NONE);
    assert_eq!(hoist(&mut lineage), NODE);
    lineage.forget_names(lineage.merge_count());
    assert_eq!(lineage.resolve(LineageEpoch(2)), None);
    assert_eq!(lineage.birth(KeyEpoch(2)), Some(LineageEpoch(7)));
}

#[test]
fn a_set_of_heads_frees_more_than_its_members_alone() {
    let mut lineage = lineage(&[0, 1, 1, 1]);
    lineage.born(page(1, 1));
    lineage.born(page(2, 2));
    assert_eq!(let_go(&mut lineage, 4, page(1, 1)), NONE);
    let freed = |heads: &[u32]| {
        let heads = heads.iter().map(|&head| LineageEpoch(head)).collect();
        lineage.freed_with(&heads).pages
    };
    assert_eq!([freed(&[2]), freed(&[3]), freed(&[4])], [1, 0, 0]);
    assert_eq!(
        [freed(&[2, 3]), freed(&[3, 4]), freed(&[2, 3, 4])],
        [2, 0, 2]
    );
    assert_eq!(freed(&[1, 9]), 0);
}

#[test]
fn a_row_stays_while_an_item_names_it_or_it_is_in_use() {
    let mut lineage = lineage(&[0, 1, 1]);
    lineage.set_row(KeyEpoch(4), LineageEpoch(2));
    lineage.born(item(1, 4, ItemKind::Node));
    let in_use = BTreeSet::from([KeyEpoch(2)]);
    assert_eq!(lineage.droppable_rows(&in_use), [KeyEpoch(1), KeyEpoch(3)]);
    lineage.drop_row(KeyEpoch(4));
    assert_eq!(lineage.birth(KeyEpoch(4)), Some(LineageEpoch(2)));
    let_go(&mut lineage, 2, item(1, 4, ItemKind::Node));
    lineage.drop_row(KeyEpoch(4));
    assert_eq!(lineage.birth(KeyEpoch(4)), None);
}

#[test]
fn removing_what_is_not_a_leaf_does_nothing() {
    let mut lineage = lineage(&[0, 1, 1]);
    assert_eq!(remove(&mut lineage, 1, &[]), NONE);
    assert_eq!(remove(&mut lineage, 9, &[]), NONE);
    assert_eq!(lineage.records().count(), 3);
}

#[test]
fn an_item_of_an_unknown_birth_is_kept() {
    let mut lineage = lineage(&[0, 1, 1]);
    assert_eq!(lineage.born(page(1, 9)), None);
    assert_eq!(let_go(&mut lineage, 2, page(1, 9)), NONE);
    assert_eq!(lineage.check(), Ok(()));
}

//! A lineage in parts.

use crate::lineage::tests::disk::loaded;
use crate::lineage::tests::{item, lineage, page};
use crate::lineage::{Counts, Item, ItemKind, ItemSet, Row};
use crate::slots::SlotSet;
use crate::units::{KeyEpoch, LineageEpoch};

#[test]
fn a_lineage_reads_back_from_its_parts_under_todays_names() {
    let mut before = lineage(&[0, 1, 1, 2, 2]);
    let mut freed = ItemSet::default();
    let node = item(2, 2, ItemKind::Node);
    for item in [page(1, 1), node] {
        before.born(item);
        before.let_go(LineageEpoch(5), item, &mut freed);
    }
    before.remove(LineageEpoch(3), &Default::default(), &mut freed);
    let after = loaded(&before);
    let row = Row {
        key_epoch: KeyEpoch(1),
        lineage: LineageEpoch(2),
        live: Counts::one(ItemKind::Page),
    };
    assert_eq!(after.rows().next(), Some(row));
    // Rows of epochs that are gone are left out.
    assert!(after.rows().all(|row| row.key_epoch != KeyEpoch(3)));
    let parts: Vec<_> = after.dead_parts().collect();
    assert_eq!(parts.len(), 2);
    for (part, item) in parts.iter().zip([page(1, 1), node]) {
        let found = Item {
            at: part.slots.iter().next().unwrap(),
            key_epoch: part.key_epoch,
            kind: part.kind,
        };
        assert_eq!((part.lineage, found), (LineageEpoch(5), item));
    }
}

#[test]
fn hoist_finds_after_a_load_what_it_had_not_found_before() {
    let mut before = lineage(&[0, 1, 1]);
    let mut freed = ItemSet::default();
    before.born(page(1, 1));
    for head in [2, 3] {
        before.let_go(LineageEpoch(head), page(1, 1), &mut freed);
    }
    let mut after = loaded(&before);
    assert!(!after.is_settled());
    after.hoist(&mut freed);
    assert_eq!(freed.counts(), Counts::one(ItemKind::Page));
    assert!(after.is_settled());
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let mut lineage = lineage(&[0, 1, 1]);
    let row = |key, epoch| Row {
        key_epoch: KeyEpoch(key),
        lineage: LineageEpoch(epoch),
        live: Counts::default(),
    };
    assert!(lineage.load_row(&row(4, 9)).is_err());
    assert!(lineage.load_row(&row(5, 3)).is_ok());
    let mut load = |epoch, key| {
        let slots = SlotSet::from_iter([page(1, key).at]);
        lineage.load_dead(LineageEpoch(epoch), KeyEpoch(key), ItemKind::Page, slots)
    };
    // No such epoch, no such key epoch, an epoch that is gone, born in the epoch itself.
    for (epoch, key) in [(9, 1), (3, 7), (3, 4), (3, 3), (3, 5)] {
        assert!(load(epoch, key).is_err(), "{epoch} {key}");
    }
    assert!(load(3, 1).is_ok());
}

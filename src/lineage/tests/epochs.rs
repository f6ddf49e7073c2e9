//! The tree of epochs.

use crate::error::Damage;
use crate::format::catalog::LineageRecord;
use crate::lineage::Branch;
use crate::lineage::tests::lineage;
use crate::lineage::{Buckets, ItemSet};
use crate::units::LineageEpoch;

#[test]
fn an_idle_epoch_is_shared_and_a_changed_one_is_split() {
    let mut tree = lineage(&[0, 1]);
    assert_eq!(tree.branch(LineageEpoch(1)), Branch::Split);
    assert_eq!(tree.branch(LineageEpoch(2)), Branch::Share(LineageEpoch(1)));
    tree.mark_changed(LineageEpoch(2));
    assert_eq!(tree.branch(LineageEpoch(2)), Branch::Split);
}

#[test]
fn an_epoch_that_took_over_a_changed_one_is_not_idle() {
    let mut tree = lineage(&[0, 1, 1, 2, 2]);
    tree.mark_changed(LineageEpoch(2));
    assert_eq!(tree.branch(LineageEpoch(4)), Branch::Share(LineageEpoch(2)));
    tree.remove(
        LineageEpoch(5),
        &Buckets::default(),
        &mut ItemSet::default(),
    );
    assert_eq!(tree.parent(LineageEpoch(4)), Some(LineageEpoch(1)));
    assert_eq!(tree.branch(LineageEpoch(4)), Branch::Split);
}

#[test]
fn distance_counts_edges_up_and_only_up() {
    let tree = lineage(&[0, 1, 1, 3]);
    assert_eq!(tree.distance(LineageEpoch(4), LineageEpoch(4)), Some(0));
    assert_eq!(tree.distance(LineageEpoch(4), LineageEpoch(1)), Some(2));
    assert_eq!(tree.distance(LineageEpoch(4), LineageEpoch(2)), None);
    assert_eq!(tree.distance(LineageEpoch(1), LineageEpoch(4)), None);
}

#[test]
fn an_epoch_goes_below_one_that_exists_and_is_older() {
    let mut tree = lineage(&[0, 1, 1]);
    for parent in [9, 4, 5] {
        let record = LineageRecord {
            lineage: LineageEpoch(4),
            parent: Some(LineageEpoch(parent)),
            changed: false,
            beside: None,
        };
        assert!(matches!(tree.insert(&record), Err(Damage::Inconsistent(_))));
    }
    let beside =
        |sibling| lineage(&[0, 1, 1]).insert_beside(LineageEpoch(4), LineageEpoch(sibling));
    assert!(beside(1).is_err() && beside(9).is_err());
    assert_eq!(beside(2), Ok(LineageEpoch(1)));
    assert_eq!(tree.check(), Ok(()));
}

#[test]
fn an_epoch_that_is_inserted_again_moves_with_what_it_has() {
    let mut tree = lineage(&[0, 1, 1, 2, 2, 3, 3]);
    let record = LineageRecord {
        lineage: LineageEpoch(7),
        parent: Some(LineageEpoch(2)),
        changed: true,
        beside: None,
    };
    let third = LineageRecord {
        lineage: LineageEpoch(8),
        parent: Some(LineageEpoch(3)),
        changed: false,
        beside: None,
    };
    tree.insert(&third).unwrap();
    tree.insert(&record).unwrap();
    assert_eq!(tree.check(), Ok(()));
    assert_eq!(tree.distance(LineageEpoch(7), LineageEpoch(2)), Some(1));
    assert!(tree.is_changed(LineageEpoch(7)));
    assert!(tree.records().any(|other| other == record));
}

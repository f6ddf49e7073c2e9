use super::{Branch, LineageTree};
use crate::format::catalog::LineageRecord;
use crate::units::LineageEpoch;

fn tree(parents: &[u32]) -> LineageTree {
    let mut tree = LineageTree::default();
    for (index, &parent) in parents.iter().enumerate() {
        tree.insert(&LineageRecord {
            lineage: LineageEpoch(index as u32 + 1),
            parent: (parent != 0).then_some(LineageEpoch(parent)),
            changed: false,
        });
    }
    tree
}

#[test]
fn an_idle_epoch_is_shared_and_a_changed_one_is_split() {
    let mut tree = tree(&[0, 1]);
    assert_eq!(tree.branch(LineageEpoch(1)), Branch::Split);
    assert_eq!(tree.branch(LineageEpoch(2)), Branch::Share(LineageEpoch(1)));
    tree.mark_changed(LineageEpoch(2));
    assert_eq!(tree.branch(LineageEpoch(2)), Branch::Split);
}

#[test]
fn distance_counts_edges_up_and_only_up() {
    let tree = tree(&[0, 1, 1, 3]);
    assert_eq!(tree.distance(LineageEpoch(4), LineageEpoch(4)), Some(0));
    assert_eq!(tree.distance(LineageEpoch(4), LineageEpoch(1)), Some(2));
    assert_eq!(tree.distance(LineageEpoch(4), LineageEpoch(2)), None);
    assert_eq!(tree.distance(LineageEpoch(1), LineageEpoch(4)), None);
}

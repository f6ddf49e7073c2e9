//! Nodes that no honest writer makes are refused, whoever vouches for them.

use std::collections::HashMap;

use crate::btree::tests::{ALL, EPOCH, entry};
use crate::btree::{Fanout, Node, NodeSource, Tree};
use crate::error::{Damage, Error, Result};
use crate::format::node::{DiskNode, Items, NodeRef};
use crate::sync::Arc;
use crate::units::{KeyEpoch, Location, PageNo, SegmentId, SlotAddr};

/// Nodes by slot, unchecked.
struct Hostile(HashMap<SlotAddr, DiskNode>);

impl NodeSource for Hostile {
    fn load(&self, node: &NodeRef) -> Result<Arc<Node>> {
        Ok(Arc::new(Node::from_disk(self.0[&node.at].clone(), *node)))
    }
}

fn at(slot: u32, level: u8) -> NodeRef {
    NodeRef {
        at: SlotAddr {
            segment: SegmentId(1),
            slot,
        },
        level,
        key_epoch: EPOCH,
        hash: [0; 32],
    }
}

fn leaf(pages: &[u64]) -> DiskNode {
    let pages = pages.iter().map(|&page| (PageNo(page), entry(1, EPOCH)));
    DiskNode {
        key_epoch: EPOCH,
        items: Items::Leaf(pages.collect()),
    }
}

fn inner(level: u8, children: &[(u64, NodeRef)]) -> DiskNode {
    let children = children
        .iter()
        .map(|&(first, child)| (PageNo(first), child));
    DiskNode {
        key_epoch: EPOCH,
        items: Items::Inner {
            level,
            children: children.collect(),
        },
    }
}

/// A root in slot 1 whose middle child, of pages 100 to 199, is in slot 3.
fn store(level: u8, middle: DiskNode) -> Hostile {
    let below = level - 1;
    let root = inner(
        level,
        &[(0, at(2, below)), (100, at(3, below)), (200, at(4, below))],
    );
    let (first, last) = match below {
        0 => (leaf(&[5, 50]), leaf(&[200, 250])),
        _ => (
            inner(below, &[(5, at(5, below - 1))]),
            inner(below, &[(200, at(6, below - 1))]),
        ),
    };
    let nodes = [
        (1, root),
        (2, first),
        (3, middle),
        (4, last),
        (5, leaf(&[5])),
        (6, leaf(&[200])),
    ];
    let place = |(slot, node)| (at(slot, 0).at, node);
    Hostile(nodes.into_iter().map(place).collect())
}

/// Everything that comes upon the slot says that it is damaged, and nothing panics or loops.
fn refused(source: &Hostile, root: NodeRef, slot: u32, expected: Damage) {
    let tree = Tree::from_root(Some(root));
    let fanout = Fanout::default();
    let page = PageNo(150);
    let range = PageNo(140)..PageNo(160);
    let errors = [
        tree.get(source, page).err(),
        tree.iter(source, range.clone()).next().transpose().err(),
        tree.iter(source, ALL).find_map(Result::err),
        tree.clone()
            .set(source, fanout, EPOCH, page, entry(1, EPOCH))
            .err(),
        tree.clone()
            .remove_range(source, fanout, EPOCH, range)
            .err(),
    ];
    for error in errors {
        let Some(Error::Corrupt { location, damage }) = error else {
            panic!("not refused: {error:?}");
        };
        assert_eq!(location, Location::Slot(at(slot, 0).at));
        assert_eq!(damage, expected);
    }
}

#[test]
fn a_sound_node_is_read() {
    let source = store(1, leaf(&[100, 150, 199]));
    let tree = Tree::from_root(Some(at(1, 1)));
    assert_eq!(
        tree.get(&source, PageNo(150)).unwrap(),
        Some(entry(1, EPOCH))
    );
    assert_eq!(tree.iter(&source, ALL).count(), 7);
}

#[test]
fn items_outside_the_separators_are_refused() {
    let outside = Damage::Inconsistent("items are outside the parent's separators");
    for pages in [&[99, 150][..], &[150, 200], &[0], &[u64::MAX]] {
        refused(&store(1, leaf(pages)), at(1, 1), 3, outside);
    }
    for children in [[99, 150], [150, 200], [0, 1], [200, 300]] {
        let [one, two] = children.map(|first| (first, at(5, 0)));
        refused(&store(2, inner(1, &[one, two])), at(1, 2), 3, outside);
    }
}

#[test]
fn a_node_of_another_level_or_epoch_is_refused() {
    let other = Damage::WrongIdentity;
    refused(&store(1, inner(1, &[(100, at(2, 0))])), at(1, 1), 3, other);
    refused(&store(2, leaf(&[100])), at(1, 2), 3, other);
    refused(&store(1, leaf(&[100])), at(1, 2), 1, other);
    let mut later = leaf(&[100]);
    later.key_epoch = KeyEpoch(2);
    refused(&store(1, later), at(1, 1), 3, other);
}

#[test]
fn a_node_that_is_its_own_child_is_refused() {
    let mut source = store(1, leaf(&[150]));
    source.0.insert(at(1, 0).at, inner(1, &[(0, at(1, 1))]));
    refused(&source, at(1, 1), 1, Damage::WrongIdentity);
}

#[test]
fn a_shape_that_cannot_be_is_refused() {
    refused(
        &store(1, leaf(&[])),
        at(1, 1),
        3,
        Damage::OutOfRange("item_count"),
    );
    let flat = inner(0, &[(100, at(2, 0))]);
    refused(&store(1, flat), at(1, 1), 3, Damage::OutOfRange("level"));
    let high = store(200, leaf(&[150]));
    refused(&high, at(1, 200), 1, Damage::OutOfRange("level"));
}

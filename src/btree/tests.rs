mod damage;
mod discard;
mod histories;
mod rank;
mod table;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::btree::node::Body;
use crate::btree::{Child, Fanout, Node, NodeSource, Tree};
use crate::crypto::hash;
use crate::error::{Error, Result};
use crate::format::entry::{DataEntry, Entry};
use crate::format::node::{DiskNode, LEVEL_MAX, NODE_ITEMS_MAX, NodeRef};
use crate::sync::Arc;
use crate::units::{KeyEpoch, PageNo, SegmentId, SlotAddr};

const EPOCH: KeyEpoch = KeyEpoch(1);
const ALL: Range<PageNo> = PageNo(0)..PageNo(u64::MAX);

type Model = BTreeMap<PageNo, Entry>;

/// Slots in memory, with or without a cache above them.
#[derive(Default)]
struct Memory {
    slots: RefCell<HashMap<SlotAddr, Vec<u8>>>,
    cache: RefCell<HashMap<NodeRef, Arc<Node>>>,
    cached: bool,
    loads: Cell<usize>,
    /// The load that fails, counted from 1.
    failing: Cell<usize>,
}

impl NodeSource for Memory {
    fn load(&self, node: &NodeRef) -> Result<Arc<Node>> {
        self.loads.set(self.loads.get() + 1);
        if self.loads.get() == self.failing.get() {
            return Err(Error::Poisoned);
        }
        if let Some(node) = self.cache.borrow().get(node) {
            return Ok(Arc::clone(node));
        }
        let slots = self.slots.borrow();
        let disk = DiskNode::decode(&slots[&node.at], node).expect("a written node decodes");
        let loaded = Arc::new(Node::from_disk(disk, *node));
        if self.cached {
            self.cache.borrow_mut().insert(*node, Arc::clone(&loaded));
        }
        Ok(loaded)
    }
}

impl Memory {
    /// Writes what has no address yet, as a checkpoint does; says how many nodes that were.
    fn checkpoint(&self, tree: &Tree) -> usize {
        let nodes = tree.unwritten();
        assert!(nodes.is_sorted_by_key(|node| node.level()));
        for node in &nodes {
            let slot = node.to_disk().encode();
            let at = SlotAddr {
                segment: SegmentId(1),
                slot: self.slots.borrow().len() as u32 + 1,
            };
            node.set_written(NodeRef {
                at,
                level: node.level(),
                key_epoch: node.key_epoch(),
                hash: hash(&slot),
            });
            self.slots.borrow_mut().insert(at, slot);
        }
        assert!(tree.unwritten().is_empty());
        nodes.len()
    }

    /// The tree as it is after a checkpoint and a restart.
    fn reload(&self, tree: &Tree) -> Tree {
        self.checkpoint(tree);
        Tree::from_root(tree.root_ref().expect("the root is written"))
    }

    /// Counts loads from now on, and lets the given one fail.
    fn fail(&self, load: usize) {
        self.loads.set(0);
        self.failing.set(load);
    }
}

fn entry(number: u32, key_epoch: KeyEpoch) -> Entry {
    if number.is_multiple_of(5) {
        return Entry::Zero { key_epoch };
    }
    let mut tag = [0xa5; 16];
    tag[..4].copy_from_slice(&number.to_le_bytes());
    Entry::Data(DataEntry {
        at: SlotAddr {
            segment: SegmentId(7),
            slot: 1 + number % 1000,
        },
        key_epoch,
        crc: number,
        nonce: [9; 12],
        tag,
    })
}

/// Checks what must hold of the nodes below a child, and gathers the pages and the fill.
struct Walker<'a> {
    source: &'a Memory,
    fanout: Fanout,
    pages: Vec<(PageNo, Entry)>,
    leaves: Vec<usize>,
    levels: Vec<u8>,
}

impl<'a> Walker<'a> {
    fn walk(source: &'a Memory, fanout: Fanout, tree: &Tree) -> Self {
        let mut walker = Self {
            source,
            fanout,
            pages: Vec::new(),
            leaves: Vec::new(),
            levels: Vec::new(),
        };
        if let Some(root) = &tree.root {
            walker.visit(root, (0, 1 << 64), KeyEpoch(u32::MAX));
        }
        walker
    }

    fn visit(&mut self, child: &Child, (start, end): (u128, u128), parent_epoch: KeyEpoch) {
        let node = match child {
            Child::Disk(at) => self.source.load(at).expect("no load fails"),
            Child::Memory(node) => Arc::clone(node),
        };
        assert_eq!(node.level(), child.level());
        assert!(
            node.key_epoch() <= parent_epoch,
            "a change dirties the path to it"
        );
        assert!((1..=self.fanout.0).contains(&node.body().len()));
        if let Some(at) = node.written()
            && matches!(child, Child::Memory(_))
        {
            assert_eq!(
                hash(&node.to_disk().encode()),
                at.hash,
                "a written node has changed"
            );
        }
        self.levels.push(node.level());
        match node.body() {
            Body::Leaf(pages) => {
                assert_eq!(node.level(), 0);
                assert!(pages.is_sorted_by(|a, b| a.0 < b.0));
                assert!(start <= pages[0].0.0.into());
                assert!(u128::from(pages[pages.len() - 1].0.0) < end);
                for (_, entry) in pages {
                    assert!(entry.key_epoch() <= node.key_epoch());
                }
                self.leaves.push(pages.len());
                self.pages.extend_from_slice(pages);
            }
            Body::Inner(children) => {
                assert!(start <= children[0].0.0.into());
                for (index, (first, child)) in children.iter().enumerate() {
                    assert_eq!(child.level() + 1, node.level());
                    let below = children.get(index + 1).map_or(end, |next| next.0.0.into());
                    assert!(u128::from(first.0) < below);
                    self.visit(child, (first.0.into(), below), node.key_epoch());
                }
            }
        }
    }
}

/// Sets pages one after the other, each to an entry made of its place in the order.
fn set_all(source: &Memory, fanout: Fanout, pages: impl IntoIterator<Item = u64>) -> Tree {
    let mut tree = Tree::default();
    for (index, page) in pages.into_iter().enumerate() {
        let entry = entry(index as u32, EPOCH);
        let old = tree.set(source, fanout, EPOCH, PageNo(page), entry);
        assert_eq!(old.expect("no load fails"), None);
    }
    tree
}

fn read_all(source: &dyn NodeSource, tree: &Tree) -> Vec<(PageNo, Entry)> {
    tree.iter(source, ALL)
        .collect::<Result<_>>()
        .expect("no load fails")
}

/// A permutation of the numbers below a power of two.
fn shuffled(count: u64) -> impl Iterator<Item = u64> {
    assert!(count.is_power_of_two());
    (0..count).scan(0_u64, move |state, _| {
        *state = (state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)) % count;
        Some(*state)
    })
}

#[test]
fn an_empty_tree_has_no_root() {
    let source = Memory::default();
    let mut tree = Tree::default();
    assert_eq!(tree.root_ref(), Some(None));
    assert!(tree.same_as(&Tree::from_root(None)));
    assert_eq!(tree.iter(&source, ALL).next().transpose().unwrap(), None);
    let fanout = Fanout::default();
    assert!(!tree.remove_range(&source, fanout, EPOCH, ALL).unwrap());
    tree.set(&source, fanout, EPOCH, PageNo(3), entry(1, EPOCH))
        .unwrap();
    assert_eq!(tree.root_ref(), None);
    assert!(!tree.same_as(&Tree::default()));
    assert_eq!(
        tree.iter(&source, ALL).next().transpose().unwrap(),
        Some((PageNo(3), entry(1, EPOCH)))
    );
    assert!(tree.remove_range(&source, fanout, EPOCH, ALL).unwrap());
    assert_eq!(tree.root_ref(), Some(None));
}

#[test]
fn ascending_pages_fill_leaves_and_random_pages_fill_them_well() {
    let source = Memory::default();
    let fanout = Fanout::default();
    let ascending = set_all(&source, fanout, 0..7800);
    let leaves = Walker::walk(&source, fanout, &ascending).leaves;
    assert_eq!(leaves, [NODE_ITEMS_MAX; 100]);
    let random = set_all(&source, fanout, shuffled(8192));
    let leaves = Walker::walk(&source, fanout, &random).leaves;
    assert!(
        leaves.len() < 8192 * 2 / NODE_ITEMS_MAX,
        "{} leaves",
        leaves.len()
    );
}

/// The first leaf is full, and each page is the next behind it for a moment.
#[test]
fn descending_pages_behind_a_full_leaf_fill_leaves_by_half() {
    let source = Memory::default();
    for fanout in [Fanout::new(4), Fanout::default()] {
        let full = fanout.0 as u64;
        let pages = (0..full).chain((full..7800).rev());
        let tree = set_all(&source, fanout, pages);
        let leaves = Walker::walk(&source, fanout, &tree).leaves.len();
        let least = 7800_usize.div_ceil(fanout.0);
        assert!(leaves < 2 * least + 2, "{leaves} leaves, not twice {least}");
    }
}

#[test]
fn a_change_shadows_its_path_and_a_checkpoint_writes_that_alone() {
    let source = Memory {
        cached: true,
        ..Memory::default()
    };
    let fanout = Fanout::new(4);
    let mut tree = set_all(&source, fanout, 0..200);
    assert!(source.checkpoint(&tree) > 50);
    for (round, reload) in [(2, false), (3, true), (4, false)] {
        let later = KeyEpoch(round);
        let height = usize::from(Walker::walk(&source, fanout, &tree).levels[0]) + 1;
        let before = tree.clone();
        let at = tree.root_ref();
        tree.set(&source, fanout, later, PageNo(77), entry(9, later))
            .unwrap();
        let dirty = tree.unwritten();
        assert_eq!(dirty.len(), height);
        assert!(dirty.iter().all(|node| node.key_epoch() == later));
        assert_eq!((before.root_ref(), tree.root_ref()), (at, None));
        assert_eq!(source.checkpoint(&tree), height);
        if reload {
            tree = source.reload(&tree);
        }
    }
}

#[test]
fn a_clone_shares_what_is_not_written() {
    let source = Memory::default();
    let tree = set_all(&source, Fanout::new(3), 0..50);
    let clone = tree.clone();
    assert!(tree.same_as(&clone));
    assert!(source.checkpoint(&tree) > 0);
    assert_eq!(source.checkpoint(&clone), 0);
    assert_eq!(clone.root_ref(), tree.root_ref());
    assert!(clone.same_as(&source.reload(&tree)));
}

#[test]
fn an_iterator_does_not_see_later_changes() {
    let source = Memory::default();
    let fanout = Fanout::new(3);
    let mut tree = set_all(&source, fanout, 0..100);
    let before = read_all(&source, &tree);
    let mut pages = tree.iter(&source, ALL);
    let mut seen: Vec<_> = pages.by_ref().take(10).map(|item| item.unwrap()).collect();
    tree.set(&source, fanout, EPOCH, PageNo(50), entry(1000, EPOCH))
        .unwrap();
    tree.remove_range(&source, fanout, EPOCH, PageNo(5)..PageNo(90))
        .unwrap();
    seen.extend(pages.map(|item| item.unwrap()));
    assert_eq!(seen, before);
    assert_eq!(read_all(&source, &tree).len(), 15);
}

/// All nodes but the last are full, so a page in a gap splits every node on its way.
#[test]
fn pages_that_may_raise_a_tree_too_high_are_not_settable() {
    let source = Memory::default();
    let fanout = Fanout::new(3);
    let full = 3_u64.pow(u32::from(LEVEL_MAX));
    let pages = (0..full).map(|number| (PageNo(number * 1000), entry(1, EPOCH)));
    let mut tree = Tree::default();
    for (page, entry) in pages {
        tree.set(&source, fanout, EPOCH, page, entry)
            .expect("it fits");
    }
    assert_eq!(tree.level_count(), LEVEL_MAX);
    for (count, fits) in [(1, true), (2, true), (3, true), (256, false)] {
        let gap = full / count;
        let pages: Vec<PageNo> = (0..count)
            .map(|number| PageNo(number * gap * 1000 + 1))
            .collect();
        let mut clone = tree.clone();
        let mut set = |page| clone.set(&source, fanout, EPOCH, page, entry(2, EPOCH));
        let set: Result<Vec<_>> = pages.iter().map(|&page| set(page)).collect();
        assert_eq!(set.is_ok(), fits, "{count} pages");
        let is_settable = tree.settable(fanout, &pages).is_some();
        assert!(fits || !is_settable, "{count} pages");
        assert!(is_settable || count > 2, "{count} pages");
        // What is there already raises no tree.
        let there: Vec<PageNo> = pages.iter().map(|page| PageNo(page.0 - 1)).collect();
        assert!(tree.settable(fanout, &there).is_some());
    }
}

#[test]
fn a_tree_never_gets_too_high() {
    let source = Memory::default();
    let fanout = Fanout::new(3);
    let full = 3_u64.pow(u32::from(LEVEL_MAX) + 1);
    let tree = set_all(&source, fanout, 0..full);
    let mut clone = tree.clone();
    let set = clone.set(&source, fanout, EPOCH, PageNo(full), entry(1, EPOCH));
    assert!(matches!(set, Err(Error::LimitExceeded { max: 11, .. })));
    assert_eq!(read_all(&source, &tree).len() as u64, full);
}

//! What is reachable, exclusive and on deadlists, from the trees alone; and what must be so.

use std::collections::{BTreeMap, BTreeSet};

use crate::lineage::tests::store::{Store, node_item};
use crate::lineage::{Counts, Item, ItemKind, ItemSet};
use crate::units::{KeyEpoch, LineageEpoch};

impl Store {
    /// All nodes that a head reaches, with address or without.
    pub fn reached_nodes(&self) -> BTreeSet<u32> {
        let roots: BTreeSet<u32> = self.heads.values().filter_map(|head| head.root).collect();
        let leaves = roots
            .iter()
            .flat_map(|root| self.nodes[root].leaves.values());
        leaves.chain(&roots).copied().collect()
    }

    /// The items with slots that a head reaches.
    pub fn reach(&self, head: u32) -> BTreeSet<Item> {
        let root = self.heads[&head].root;
        let leaves = root
            .iter()
            .flat_map(|root| self.nodes[root].leaves.values());
        let nodes: BTreeSet<u32> = root.iter().chain(leaves).copied().collect();
        self.items_in(&nodes)
    }

    /// The pages that a head reaches.
    pub fn reach_pages(&self, head: u32) -> impl Iterator<Item = Item> + '_ {
        let root = self.heads[&head].root;
        let leaves = root
            .into_iter()
            .flat_map(|root| self.nodes[&root].leaves.values());
        let pages = leaves.flat_map(|leaf| self.nodes[leaf].pages.values());
        pages.map(|page| page.item)
    }

    /// The items with slots that any head reaches.
    pub fn reach_all(&self) -> BTreeSet<Item> {
        self.items_in(&self.reached_nodes())
    }

    fn items_in(&self, nodes: &BTreeSet<u32>) -> BTreeSet<Item> {
        let nodes = nodes.iter().map(|id| &self.nodes[id]);
        let items = nodes.flat_map(|node| {
            let itself = node.at.map(|at| node_item(at, node.key));
            let pages = node.pages.values().map(|page| page.item);
            itself.into_iter().chain(pages)
        });
        items.collect()
    }

    /// What only these heads reach, by mark and sweep.
    pub fn only_reached_by(&self, heads: &BTreeSet<u32>) -> BTreeSet<Item> {
        let reach = |wanted: bool| {
            let heads = self
                .heads
                .keys()
                .filter(move |id| heads.contains(id) == wanted);
            heads.flat_map(|&head| self.reach(head))
        };
        let mut only: BTreeSet<Item> = reach(true).collect();
        for other in reach(false) {
            only.remove(&other);
        }
        only
    }

    /// The deadlists that trees and lineage ask for.
    fn rebuilt_deadlists(&self) -> BTreeMap<LineageEpoch, BTreeSet<Item>> {
        let mut reached: BTreeMap<LineageEpoch, BTreeSet<Item>> = BTreeMap::new();
        for (&id, head) in &self.heads {
            reached.insert(head.lineage, self.reach(id));
        }
        let epochs: Vec<_> = self.lineage.records().collect();
        for epoch in epochs.iter().rev() {
            let here = reached.entry(epoch.lineage).or_default().clone();
            if let Some(parent) = epoch.parent {
                reached.entry(parent).or_default().extend(here);
            }
        }
        let missing = |epoch: LineageEpoch, parent: LineageEpoch| {
            let above = reached[&parent].difference(&reached[&epoch]);
            // What was born below the parent was never on this side.
            let old = above.filter(|item| self.lineage.birth(item.key_epoch) <= Some(parent));
            old.copied().collect()
        };
        let rebuilt = epochs.iter().map(|epoch| {
            let items = epoch.parent.map(|parent| missing(epoch.lineage, parent));
            (epoch.lineage, items.unwrap_or_default())
        });
        rebuilt.collect()
    }

    /// Nothing that died since the last call is reachable.
    pub fn check_safety(&mut self) {
        let died = std::mem::take(&mut self.died);
        if !died.is_empty() {
            for item in self.reach_all() {
                assert!(!died.of(item.kind).contains(item.at), "UNSAFE: {item:?}");
            }
        }
    }

    /// What holds at any time, as far as it is slow to check.
    pub fn check_deep(&self) {
        self.lineage.check().expect("a consistent lineage");
        let mut live = self.live.pages.clone();
        live.add(&self.live.nodes);
        assert_eq!(self.space.live(), &live);
        for item in self.reach_all() {
            assert!(
                self.live.of(item.kind).contains(item.at),
                "UNSAFE: {item:?}"
            );
        }
        for (&id, head) in &self.heads {
            let pages = self.mapped(id);
            assert_eq!(pages, head.contents, "contents of {id}");
            self.check_births(id);
            let exclusive = self.lineage.exclusive(head.lineage);
            let marked = counts(&self.only_reached_by(&BTreeSet::from([id])));
            let bounded = exclusive.pages <= marked.pages && exclusive.nodes <= marked.nodes;
            assert!(
                bounded,
                "exclusive is no lower bound: {exclusive:?}, {marked:?}"
            );
        }
    }

    fn mapped(&self, head: u32) -> BTreeMap<u32, u32> {
        let root = self.heads[&head].root;
        let leaves = root
            .iter()
            .flat_map(|root| self.nodes[root].leaves.values());
        let pages = leaves.flat_map(|leaf| &self.nodes[leaf].pages);
        pages.map(|(&number, page)| (number, page.data)).collect()
    }

    /// Items were born in the first epoch on the way down to the head that is not older than where
    /// their key epoch was opened: epochs become one with those below.
    fn check_births(&self, head: u32) {
        let open = self.heads[&head].lineage;
        let up = std::iter::successors(Some(open), |&epoch| self.lineage.parent(epoch));
        let mut path: Vec<LineageEpoch> = up.collect();
        path.reverse();
        for item in self.reach(head) {
            let origin = self.origins[&item.key_epoch];
            let birth = path.iter().find(|&&epoch| epoch >= origin).copied();
            assert_eq!(self.lineage.birth(item.key_epoch), birth, "{item:?}");
        }
    }

    /// After a hoist everything is exact.
    pub fn check_hoisted(&mut self) {
        assert!(self.lineage.is_settled());
        let reached = self.reach_all();
        assert_eq!(self.live, set(&reached), "live items are not those reached");
        let rebuilt = self.rebuilt_deadlists();
        for (epoch, items) in &rebuilt {
            let mut on_list = BTreeSet::new();
            for (key_epoch, bucket) in self.lineage.epochs[epoch].deadlist.iter() {
                for kind in [ItemKind::Page, ItemKind::Node] {
                    let items = bucket.of(kind).iter();
                    on_list.extend(items.map(|at| Item {
                        at,
                        key_epoch,
                        kind,
                    }));
                }
            }
            assert_eq!(&on_list, items, "deadlist of {epoch}");
        }
        for (&id, head) in &self.heads {
            let marked = counts(&self.only_reached_by(&BTreeSet::from([id])));
            assert_eq!(self.lineage.exclusive(head.lineage), marked, "head {id}");
        }
        self.check_rows(&reached);
    }

    /// Rows are there for open key epochs and those that an item names, with its count; others can go.
    fn check_rows(&self, reached: &BTreeSet<Item>) {
        let unwritten = self.nodes.values().filter(|node| node.at.is_none());
        let mut named: BTreeMap<KeyEpoch, Counts> = BTreeMap::new();
        let open = self.heads.values().map(|head| head.key);
        for key in open.chain(unwritten.map(|node| node.key)) {
            named.entry(key).or_default();
        }
        let mut lineage = self.lineage.clone();
        for key in lineage.droppable_rows(&named.keys().copied().collect()) {
            lineage.drop_row(key);
        }
        for item in reached {
            *named.entry(item.key_epoch).or_default() += Counts::one(item.kind);
        }
        let rows: BTreeMap<KeyEpoch, Counts> = lineage
            .rows()
            .map(|row| (row.key_epoch, row.live))
            .collect();
        let live = |key| named.get(&key).map_or(0, |counts| counts.pages);
        assert!(
            named
                .keys()
                .all(|&key| self.lineage.sealed_count(key) == live(key))
        );
        // A node without an address may name an epoch that is gone: then it is on its way out.
        let named = named.into_iter();
        let named: BTreeMap<_, _> = named
            .filter(|(key, _)| self.lineage.birth(*key).is_some())
            .collect();
        assert_eq!(rows, named);
    }

    /// A store without heads keeps nothing.
    pub fn check_empty(&mut self) {
        assert!(self.heads.is_empty());
        assert!(self.live.is_empty(), "LEAK: slots");
        assert!(self.space.live().is_empty(), "LEAK: slots");
        self.nodes.clear();
        self.prune_keys();
        assert_eq!(self.lineage.births.len(), 0, "LEAK: rows");
        assert!(self.keys.is_empty(), "LEAK: key records");
        self.lineage.forget_names(self.lineage.merge_count());
        assert!(self.lineage.merged.is_empty(), "LEAK: names");
        assert!(self.lineage.epochs.is_empty(), "LEAK: epochs");
        self.hoist();
        assert!(self.lineage.unsettled.is_empty(), "LEAK: work");
    }
}

/// How many items there are.
pub fn counts(items: &BTreeSet<Item>) -> Counts {
    set(items).counts()
}

/// The items as a set of slots.
pub fn set(items: &BTreeSet<Item>) -> ItemSet {
    let mut set = ItemSet::default();
    for item in items {
        set.of_mut(item.kind).insert(item.at);
    }
    set
}

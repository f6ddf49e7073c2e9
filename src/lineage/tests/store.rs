//! A store as far as lifetimes go: heads, trees of two levels, and the lineage under test.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::Space;
use crate::format::catalog::{HeadKind, LineageRecord};
use crate::format::entry::DataEntry;
use crate::format::node::NodeRef;
use crate::lineage::tests::keys::{KeyRecord, NewKey};
use crate::lineage::{Buckets, Item, ItemKind, ItemSet, Lineage};
use crate::units::{KeyEpoch, LineageEpoch, SlotAddr};

/// So many pages are in a leaf.
const LEAF_PAGES: u32 = 8;

/// A sealed page, and what was written to it.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub item: Item,
    pub data: u32,
}

/// A node: the root has leaves, a leaf has pages.
#[derive(Clone, Debug)]
pub struct Node {
    pub key: KeyEpoch,
    /// `None` until a checkpoint writes it.
    pub at: Option<SlotAddr>,
    pub leaves: BTreeMap<u32, u32>,
    pub pages: BTreeMap<u32, Page>,
}

#[derive(Clone, Debug)]
pub struct Head {
    pub lineage: LineageEpoch,
    pub key: KeyEpoch,
    pub root: Option<u32>,
    pub kind: HeadKind,
    /// Names its head key.
    pub token: u32,
    /// A tombstone: it waits to be removed.
    pub deleted: bool,
    /// What it should read.
    pub contents: BTreeMap<u32, u32>,
}

/// What the log says. All numbers are those of the first time, so that a replay does the same.
#[derive(Clone, Debug)]
pub enum Op {
    Create {
        head: u32,
        token: u32,
        lineage: LineageEpoch,
        key: NewKey,
    },
    Write {
        head: u32,
        number: u32,
        page: Page,
    },
    /// A copy under a newer key, mapped only if the old page is still there.
    Rekey {
        head: u32,
        number: u32,
        old: SlotAddr,
        page: Page,
    },
    Discard {
        head: u32,
        number: u32,
    },
    Branch {
        source: u32,
        /// The parent of the new epoch when this was logged.
        parent: LineageEpoch,
        /// The source's new epochs, if its old one became the parent.
        split: Option<(LineageEpoch, NewKey)>,
        head: u32,
        token: u32,
        lineage: LineageEpoch,
        key: NewKey,
        kind: HeadKind,
    },
    NewKey {
        head: u32,
        key: NewKey,
    },
    Delete(u32),
}

#[derive(Clone, Debug)]
pub struct Store {
    pub lineage: Lineage,
    /// Under test, too: which slots must not be used again yet.
    pub space: Space,
    /// Items that have slots.
    pub live: ItemSet,
    /// What died since somebody looked.
    pub died: ItemSet,
    pub heads: BTreeMap<u32, Head>,
    pub keys: BTreeMap<KeyEpoch, KeyRecord>,
    pub nodes: BTreeMap<u32, Node>,
    /// Epochs that let go of nodes before these had addresses.
    pub notes: BTreeMap<u32, Vec<LineageEpoch>>,
    /// Nodes that a checkpoint is about to write.
    pub frozen: BTreeSet<u32>,
    /// Where each key epoch was opened.
    pub origins: BTreeMap<KeyEpoch, LineageEpoch>,
    pub last: Last,
}

/// The last numbers given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Last {
    pub head: u32,
    pub lineage: u32,
    pub key: u32,
    pub node: u32,
}

impl Store {
    pub fn new() -> Self {
        Self {
            lineage: Lineage::default(),
            space: Space::new(1),
            live: ItemSet::default(),
            died: ItemSet::default(),
            heads: BTreeMap::new(),
            keys: BTreeMap::new(),
            nodes: BTreeMap::new(),
            notes: BTreeMap::new(),
            frozen: BTreeSet::new(),
            origins: BTreeMap::new(),
            last: Last::default(),
        }
    }

    /// Does what an entry of the log says.
    pub fn apply(&mut self, op: &Op) {
        match *op {
            Op::Create {
                head,
                token,
                lineage,
                key,
            } => {
                self.add_epoch(lineage, None);
                self.add_head(head, token, lineage, key, HeadKind::Volume);
            }
            Op::Write { head, number, page } => {
                self.born(page.item, head);
                self.map(head, number, Some(page));
            }
            Op::Rekey {
                head,
                number,
                old,
                page,
            } => {
                self.born(page.item, head);
                match self.page_at(head, number) {
                    Some(now) if now.item.at == old => self.map(head, number, Some(page)),
                    _ => self.let_go(head, page.item),
                }
            }
            Op::Discard { head, number } => self.map(head, number, None),
            Op::Branch { .. } => self.branch(op),
            Op::NewKey { head, key } => self.new_key(head, key),
            Op::Delete(head) => self.head_mut(head).deleted = true,
        }
    }

    pub fn head_mut(&mut self, head: u32) -> &mut Head {
        self.heads.get_mut(&head).expect("a head")
    }

    fn add_epoch(&mut self, lineage: LineageEpoch, parent: Option<LineageEpoch>) {
        let record = LineageRecord {
            lineage,
            parent,
            changed: false,
            beside: None,
        };
        self.lineage.insert(&record).expect("a parent");
        self.last.lineage = self.last.lineage.max(lineage.0);
    }

    fn add_key(&mut self, key: NewKey, lineage: LineageEpoch) {
        self.lineage.set_row(key.id, lineage);
        self.origins.insert(key.id, lineage);
        self.keys.insert(key.id, key.record());
        self.last.key = self.last.key.max(key.id.0);
    }

    fn add_head(
        &mut self,
        id: u32,
        token: u32,
        lineage: LineageEpoch,
        key: NewKey,
        kind: HeadKind,
    ) {
        self.add_key(key, lineage);
        let head = Head {
            lineage,
            key: key.id,
            root: None,
            kind,
            token,
            deleted: false,
            contents: BTreeMap::new(),
        };
        self.heads.insert(id, head);
        self.last.head = self.last.head.max(id);
    }

    fn new_key(&mut self, head: u32, key: NewKey) {
        let lineage = self.heads[&head].lineage;
        self.add_key(key, lineage);
        self.head_mut(head).key = key.id;
    }

    fn branch(&mut self, op: &Op) {
        let &Op::Branch {
            source,
            parent,
            split,
            head,
            token,
            lineage,
            key,
            kind,
        } = op
        else {
            panic!("not a branch: {op:?}");
        };
        if let Some((own, own_key)) = split {
            assert_eq!(self.heads[&source].lineage, parent, "{op:?}");
            self.add_epoch(own, Some(parent));
            self.head_mut(source).lineage = own;
            self.new_key(source, own_key);
            self.add_epoch(lineage, Some(parent));
        } else {
            let sibling = self.heads[&source].lineage;
            let under = self.lineage.insert_beside(lineage, sibling);
            assert_eq!(under, Ok(parent), "{op:?}");
            self.last.lineage = self.last.lineage.max(lineage.0);
        }
        self.add_head(head, token, lineage, key, kind);
        let source = self.heads[&source].clone();
        let new = self.head_mut(head);
        new.root = source.root;
        new.contents = source.contents;
    }

    // Items

    fn born(&mut self, item: Item, head: u32) {
        self.space.page_born(&mut self.lineage, &entry(item));
        let birth = self.lineage.birth(item.key_epoch);
        assert_eq!(birth, Some(self.heads[&head].lineage), "{item:?}");
        assert!(self.live.of_mut(item.kind).insert(item.at), "{item:?}");
    }

    fn let_go(&mut self, head: u32, item: Item) {
        let by = self.heads[&head].lineage;
        let (space, lineage) = (&mut self.space, &mut self.lineage);
        match item.kind {
            ItemKind::Page => space.page_let_go(lineage, by, item.at, item.key_epoch),
            ItemKind::Node => space.node_let_go(lineage, by, &node_ref(item)),
        }
        self.take_if_dead(item);
    }

    fn take_if_dead(&mut self, item: Item) {
        if !self.space.live().contains(item.at) {
            let mut freed = ItemSet::default();
            freed.of_mut(item.kind).insert(item.at);
            self.take(&freed);
        }
    }

    /// Takes what was freed out of the live items.
    pub fn take(&mut self, freed: &ItemSet) {
        let mut left = self.live.counts();
        self.live.subtract(freed);
        left -= freed.counts();
        assert_eq!(self.live.counts(), left, "an item died twice: {freed:?}");
        self.died.add(freed);
    }

    pub fn is_own(&self, key: KeyEpoch, lineage: LineageEpoch) -> bool {
        self.lineage.birth(key) == Some(lineage)
    }

    // Trees

    pub fn page_at(&self, head: u32, number: u32) -> Option<Page> {
        let root = &self.nodes[&self.heads[&head].root?];
        let leaf = root.leaves.get(&(number / LEAF_PAGES))?;
        self.nodes[leaf].pages.get(&number).copied()
    }

    pub fn leaf_at(&self, head: u32, index: u32) -> Option<&Node> {
        let root = &self.nodes[&self.heads[&head].root?];
        Some(&self.nodes[root.leaves.get(&index)?])
    }

    fn map(&mut self, head: u32, number: u32, page: Option<Page>) {
        let contents = &mut self.head_mut(head).contents;
        match page {
            Some(page) => _ = contents.insert(number, page.data),
            None => _ = contents.remove(&number).expect("a page"),
        }
        let lineage = self.heads[&head].lineage;
        self.lineage.mark_changed(lineage);
        let root = self.shadow(head, self.heads[&head].root);
        self.head_mut(head).root = Some(root);
        let index = number / LEAF_PAGES;
        let leaf = self.nodes[&root].leaves.get(&index).copied();
        let leaf = self.shadow(head, leaf);
        self.node_mut(root).leaves.insert(index, leaf);
        if let Some(old) = self.node_mut(leaf).pages.remove(&number) {
            self.let_go(head, old.item);
        }
        if let Some(page) = page {
            self.node_mut(leaf).pages.insert(number, page);
            return;
        }
        if self.nodes[&leaf].pages.is_empty() {
            self.node_mut(root).leaves.remove(&index);
            self.let_go_node(head, leaf);
        }
        if self.nodes[&root].leaves.is_empty() {
            self.head_mut(head).root = None;
            self.let_go_node(head, root);
        }
    }

    fn node_mut(&mut self, id: u32) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node")
    }

    /// The node if this head may change it in place, else a copy.
    fn shadow(&mut self, head: u32, node: Option<u32>) -> u32 {
        let (lineage, key) = (self.heads[&head].lineage, self.heads[&head].key);
        let mut copy = Node {
            key,
            at: None,
            leaves: BTreeMap::new(),
            pages: BTreeMap::new(),
        };
        if let Some(id) = node {
            let old = &self.nodes[&id];
            let is_ours = self.is_own(old.key, lineage) && !self.frozen.contains(&id);
            if old.at.is_none() && is_ours {
                self.node_mut(id).key = key;
                return id;
            }
            copy.leaves.clone_from(&old.leaves);
            copy.pages.clone_from(&old.pages);
            self.let_go_node(head, id);
        }
        self.last.node += 1;
        self.nodes.insert(self.last.node, copy);
        self.last.node
    }

    fn let_go_node(&mut self, head: u32, id: u32) {
        let node = &self.nodes[&id];
        let epoch = self.heads[&head].lineage;
        match node.at {
            Some(at) => self.let_go(head, node_item(at, node.key)),
            None if self.is_own(node.key, epoch) && !self.frozen.contains(&id) => {
                self.nodes.remove(&id);
                self.notes.remove(&id);
            }
            None => self.notes.entry(id).or_default().push(epoch),
        }
    }

    // Removal

    /// Removes a head that is deleted.
    pub fn remove(&mut self, id: u32) {
        let head = self.heads.remove(&id).expect("a head");
        let own = self.own_items(&head);
        let mut freed = ItemSet::default();
        self.lineage.remove(head.lineage, &own, &mut freed);
        self.space.free_unlogged(&freed);
        self.take(&freed);
    }

    /// What was born in the epoch of a head; nodes of older epochs are skipped.
    fn own_items(&self, head: &Head) -> Buckets {
        let mut own = Buckets::default();
        let mut todo: Vec<u32> = head.root.into_iter().collect();
        while let Some(id) = todo.pop() {
            let node = &self.nodes[&id];
            if !self.is_own(node.key, head.lineage) {
                continue;
            }
            own.extend(node.at.map(|at| node_item(at, node.key)));
            let pages = node.pages.values().map(|page| page.item);
            own.extend(pages.filter(|page| self.is_own(page.key_epoch, head.lineage)));
            todo.extend(node.leaves.values());
        }
        own
    }

    pub fn hoist(&mut self) {
        let mut freed = ItemSet::default();
        self.lineage.hoist(&mut freed);
        self.space.free_unlogged(&freed);
        self.take(&freed);
    }

    // Checkpoints

    /// Begins a checkpoint: from now on the nodes that a head reaches do not change.
    pub fn freeze(&mut self) {
        let reached = self.reached_nodes();
        let unwritten = |id: &u32| self.nodes[id].at.is_none();
        self.frozen = reached.into_iter().filter(unwritten).collect();
    }

    /// Gives the frozen nodes the slots after this one. Names of epochs that were part of others
    /// before the checkpoint began are forgotten. The last slot.
    pub fn write_frozen(&mut self, mut last_slot: u32, merge_count: u64) -> u32 {
        for id in std::mem::take(&mut self.frozen) {
            last_slot += 1;
            let at = super::slot(last_slot);
            let node = self.node_mut(id);
            node.at = Some(at);
            let item = node_item(at, node.key);
            let notes = self.notes.remove(&id).unwrap_or_default();
            self.live.nodes.insert(at);
            let (space, lineage) = (&mut self.space, &mut self.lineage);
            space.node_born(lineage, &node_ref(item), notes);
            self.take_if_dead(item);
        }
        self.forget_nodes();
        self.lineage.forget_names(merge_count);
        last_slot
    }

    /// Forgets nodes that no head reaches: either they are on deadlists by their addresses, or
    /// nobody will ever write them.
    fn forget_nodes(&mut self) {
        let reached = self.reached_nodes();
        self.nodes.retain(|id, _| reached.contains(id));
        self.notes.retain(|id, _| reached.contains(id));
    }
}

/// A node as an item.
pub fn node_item(at: SlotAddr, key_epoch: KeyEpoch) -> Item {
    Item {
        at,
        key_epoch,
        kind: ItemKind::Node,
    }
}

fn node_ref(item: Item) -> NodeRef {
    NodeRef {
        at: item.at,
        level: 0,
        key_epoch: item.key_epoch,
        hash: [0; 32],
    }
}

fn entry(item: Item) -> DataEntry {
    DataEntry {
        at: item.at,
        key_epoch: item.key_epoch,
        crc: 0,
        nonce: [0; 12],
        tag: [0; 16],
    }
}

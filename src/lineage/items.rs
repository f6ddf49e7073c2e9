//! Pages and nodes as the lineage knows them, one by one and in sets.

use std::collections::BTreeMap;
use std::ops::{AddAssign, SubAssign};

use crate::slots::SlotSet;
use crate::sync::Arc;
use crate::units::{KeyEpoch, SlotAddr};

/// What takes slots, is born, may wait on deadlists, and dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The first slot: the lineage does not know how many a page takes.
    pub at: SlotAddr,
    /// The key epoch that its entry names.
    pub key_epoch: KeyEpoch,
    /// Page or node.
    pub kind: ItemKind,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemKind {
    /// A sealed page.
    Page,
    /// A node of a page table.
    Node,
}

/// Numbers of items. A page counts once however many slots it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pages.
    pub pages: u64,
    /// Nodes.
    pub nodes: u64,
}

/// A set of items, by their first slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItemSet {
    /// Pages.
    pub pages: SlotSet,
    /// Nodes.
    pub nodes: SlotSet,
}

/// Items by key epoch, those born last at the end.
#[derive(Clone, Debug, Default)]
pub struct Buckets(BTreeMap<KeyEpoch, Arc<ItemSet>>);

impl Counts {
    /// One item.
    pub fn one(kind: ItemKind) -> Self {
        let (pages, nodes) = match kind {
            ItemKind::Page => (1, 0),
            ItemKind::Node => (0, 1),
        };
        Self { pages, nodes }
    }

    /// Whether there is none.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.pages += other.pages;
        self.nodes += other.nodes;
    }
}

impl SubAssign for Counts {
    fn sub_assign(&mut self, other: Self) {
        // Counts that a checkpoint wrote may be wrong; fsck says so.
        self.pages = self.pages.saturating_sub(other.pages);
        self.nodes = self.nodes.saturating_sub(other.nodes);
    }
}

impl ItemSet {
    /// The items of a kind.
    pub fn of(&self, kind: ItemKind) -> &SlotSet {
        match kind {
            ItemKind::Page => &self.pages,
            ItemKind::Node => &self.nodes,
        }
    }

    /// The items of a kind, to be changed.
    pub fn of_mut(&mut self, kind: ItemKind) -> &mut SlotSet {
        match kind {
            ItemKind::Page => &mut self.pages,
            ItemKind::Node => &mut self.nodes,
        }
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        Counts {
            pages: self.pages.len(),
            nodes: self.nodes.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.nodes.is_empty()
    }

    /// Adds all items of another set.
    pub fn add(&mut self, other: &Self) {
        self.pages.add(&other.pages);
        self.nodes.add(&other.nodes);
    }

    /// Takes all items of another set out.
    pub fn subtract(&mut self, other: &Self) {
        self.pages.subtract(&other.pages);
        self.nodes.subtract(&other.nodes);
    }

    fn intersect(&mut self, other: &Self) {
        self.pages.intersect(&other.pages);
        self.nodes.intersect(&other.nodes);
    }

    fn len(&self) -> u64 {
        self.pages.len() + self.nodes.len()
    }
}

impl Buckets {
    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many buckets there are.
    pub fn bucket_count(&self) -> usize {
        self.0.len()
    }

    /// All buckets, those born last at the end. None is empty.
    pub fn iter(&self) -> impl Iterator<Item = (KeyEpoch, &ItemSet)> + '_ {
        self.0.iter().map(|(&key, set)| (key, &**set))
    }

    /// Adds an item; whether it was not there.
    pub fn insert(&mut self, item: Item) -> bool {
        let bucket = Arc::make_mut(self.0.entry(item.key_epoch).or_default());
        bucket.of_mut(item.kind).insert(item.at)
    }

    /// Adds items of one key epoch: the fewer go to the more.
    pub(super) fn splice(&mut self, key: KeyEpoch, mut bucket: Arc<ItemSet>) {
        if bucket.is_empty() {
            return;
        }
        let here = self.0.entry(key).or_default();
        if here.len() < bucket.len() {
            std::mem::swap(here, &mut bucket);
        }
        if !bucket.is_empty() {
            Arc::make_mut(here).add(&bucket);
        }
    }

    /// The key epoch of the bucket that was born last.
    pub(super) fn last_key(&self) -> Option<KeyEpoch> {
        self.0.last_key_value().map(|(&key, _)| key)
    }

    /// Takes the bucket out that was born last.
    pub(super) fn pop_last(&mut self) -> Option<(KeyEpoch, Arc<ItemSet>)> {
        self.0.pop_last()
    }

    /// Takes all items out that the other has.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.change(other, |mine, other| {
            if let Some(other) = other {
                Arc::make_mut(mine).subtract(other);
            }
        });
    }

    /// Keeps only items that the other has, too.
    pub(super) fn intersect(&mut self, other: &Self) {
        self.change(other, |mine, other| match other {
            Some(other) if Arc::ptr_eq(mine, other) => {}
            // The fewer are copied, if any.
            Some(other) if other.len() < mine.len() => {
                let mut common = Arc::clone(other);
                Arc::make_mut(&mut common).intersect(mine);
                *mine = common;
            }
            Some(other) => Arc::make_mut(mine).intersect(other),
            None => *mine = Arc::default(),
        });
    }

    fn change(&mut self, other: &Self, change: impl Fn(&mut Arc<ItemSet>, Option<&Arc<ItemSet>>)) {
        self.0.retain(|&key, mine| {
            change(mine, other.0.get(&key));
            !mine.is_empty()
        });
    }
}

impl IntoIterator for Buckets {
    type Item = (KeyEpoch, Arc<ItemSet>);
    type IntoIter = std::collections::btree_map::IntoIter<KeyEpoch, Arc<ItemSet>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<Item> for Buckets {
    fn extend<I: IntoIterator<Item = Item>>(&mut self, items: I) {
        for item in items {
            self.insert(item);
        }
    }
}

impl FromIterator<Item> for Buckets {
    fn from_iter<I: IntoIterator<Item = Item>>(items: I) -> Self {
        let mut buckets = Self::default();
        buckets.extend(items);
        buckets
    }
}

//! Setting pages. Shadows the path from the root to the leaf, and splits what becomes too full.
//!
//! A node without an address that nothing else refers to is changed in place: nobody will miss it.

use std::cell::{Cell, RefCell};
use std::mem;

use crate::btree::node::{Body, Child, Node, NodeSource, Span, child_index, load};
use crate::btree::{Dropped, Fanout, Tree};
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::format::node::LEVEL_MAX;
use crate::sync::Arc;
use crate::units::{KeyEpoch, PageNo};

/// What every step of a change needs.
pub(super) struct Change<'a> {
    pub(super) source: &'a dyn NodeSource,
    pub(super) fanout: Fanout,
    pub(super) key_epoch: KeyEpoch,
    /// The nodes that the change takes out of the tree.
    dropped: RefCell<Vec<Dropped>>,
    /// Nodes that it makes.
    made: Cell<u64>,
}

impl Tree {
    /// Sets a page, and returns what was there.
    ///
    /// The nodes it changes are born in `key_epoch`. Pages set in ascending order fill leaves to
    /// the last item.
    pub fn set(
        &mut self,
        source: &dyn NodeSource,
        fanout: Fanout,
        key_epoch: KeyEpoch,
        page: PageNo,
        entry: Entry,
    ) -> Result<Option<Entry>> {
        let change = Change::new(source, fanout, key_epoch);
        let Some(root) = &mut self.root else {
            let leaf = Node::new(key_epoch, 0, Body::Leaf(vec![(page, entry)]));
            self.root = Some(Child::memory(leaf));
            self.made += 1;
            return Ok(None);
        };
        let span = Span::of_root(root);
        let set = change.set(root, span, page, entry)?;
        change.end(&mut self.dropped, &mut self.made);
        if let Some((first, right)) = set.split {
            if span.level >= LEVEL_MAX {
                let max = u64::from(LEVEL_MAX) + 1;
                return Err(Error::LimitExceeded {
                    limit: "levels of a page table",
                    max,
                });
            }
            let right = Child::memory(Node::new(key_epoch, span.level, right));
            // Nothing is left of the first child, so it may hold every page from the first on.
            let children = vec![(span.start, root.clone()), (first, right)];
            let node = Node::new(key_epoch, span.level + 1, Body::Inner(children));
            self.root = Some(Child::memory(node));
            self.made += 2;
        }
        Ok(set.old)
    }

    /// What the table says of pages, if setting each of them loads no node and cannot fail: all nodes
    /// on the way are in memory without an address, and stay so until a checkpoint gives them one.
    pub fn settable(&self, fanout: Fanout, pages: &[PageNo]) -> Option<Vec<Option<Entry>>> {
        let root = self.root.as_ref()?;
        let olds = pages.iter().map(|&page| settable(root, page));
        let olds: Vec<Option<Entry>> = olds.collect::<Option<_>>()?;
        let new = olds.iter().filter(|old| old.is_none()).count();
        let levels = usize::from(root.level()) + fanout.levels_added_max(new);
        (levels <= usize::from(LEVEL_MAX)).then_some(olds)
    }
}

fn settable(mut child: &Child, page: PageNo) -> Option<Option<Entry>> {
    loop {
        let Child::Memory(node) = child else {
            return None;
        };
        if node.written().is_some() {
            return None;
        }
        match node.body() {
            Body::Leaf(pages) => return Some(node.entry(pages, page)),
            Body::Inner(children) => {
                let index = node.child(children, page).unwrap_or(0);
                child = &children[index].1;
            }
        }
    }
}

/// What setting a page did to a node.
struct Set {
    old: Option<Entry>,
    /// What its new right neighbour has, and the first page there.
    split: Option<(PageNo, Body)>,
}

impl<'a> Change<'a> {
    pub(super) fn new(source: &'a dyn NodeSource, fanout: Fanout, key_epoch: KeyEpoch) -> Self {
        Self {
            source,
            fanout,
            key_epoch,
            dropped: RefCell::default(),
            made: Cell::default(),
        }
    }

    /// Adds what it took out of the tree, and how many nodes it made.
    pub(super) fn end(self, dropped: &mut Vec<Dropped>, made: &mut u64) {
        dropped.append(&mut self.dropped.into_inner());
        *made += self.made.get();
    }

    /// Notes that the tree does not have this node any more.
    pub(super) fn drop_node(&self, child: &Child) {
        let dropped = match child {
            Child::Disk(at) => Dropped::Written(*at),
            Child::Memory(node) => match node.written() {
                Some(at) => Dropped::Written(at),
                None => Dropped::Unwritten(Arc::clone(node)),
            },
        };
        self.dropped.borrow_mut().push(dropped);
    }

    fn set(&self, child: &mut Child, span: Span, page: PageNo, entry: Entry) -> Result<Set> {
        match self.shadow(child, span)? {
            Body::Leaf(pages) => match pages.binary_search_by_key(&page, |&(page, _)| page) {
                Ok(index) => {
                    let old = mem::replace(&mut pages[index].1, entry);
                    Ok(Set {
                        old: Some(old),
                        split: None,
                    })
                }
                Err(index) => {
                    let split = self.insert(pages, index, (page, entry));
                    let split = split.map(|(first, right)| (first, Body::Leaf(right)));
                    Ok(Set { old: None, split })
                }
            },
            Body::Inner(children) => {
                let index = child_index(children, page);
                // A page below the first child: that child takes it.
                children[index].0 = children[index].0.min(page);
                let below = span.of_child(children, index);
                let Set { old, split } = self.set(&mut children[index].1, below, page, entry)?;
                let split = split.and_then(|right| self.insert_child(children, index + 1, right));
                let split = split.map(|(first, right)| (first, Body::Inner(right)));
                Ok(Set { old, split })
            }
        }
    }

    /// The child's items, to be changed: in a copy if anything else refers to the child.
    fn shadow<'c>(&self, child: &'c mut Child, span: Span) -> Result<&'c mut Body> {
        let is_own = match child {
            Child::Memory(node) => node.written().is_none() && Arc::strong_count(node) == 1,
            Child::Disk(_) => false,
        };
        if !is_own {
            self.drop_node(child);
            self.made.set(self.made.get() + 1);
        }
        if let Child::Disk(at) = child {
            *child = Child::Memory(load(self.source, at, span)?);
        }
        match child {
            Child::Memory(node) => Ok(Arc::make_mut(node).body_mut(self.key_epoch)),
            Child::Disk(_) => unreachable!("BUG: a loaded child is not in memory"),
        }
    }

    /// Inserts a child of these items; or adds them to the child that would follow it, if that is at most half full
    /// then: else descending pages behind a full leaf would get a leaf each.
    fn insert_child(
        &self,
        children: &mut Vec<(PageNo, Child)>,
        index: usize,
        (first, body): (PageNo, Body),
    ) -> Option<(PageNo, Vec<(PageNo, Child)>)> {
        if let Some((next_first, Child::Memory(next))) = children.get_mut(index)
            && let Some(next) = Arc::get_mut(next)
            && next.written().is_none()
            && next.body().len() + body.len() <= self.fanout.0 / 2
        {
            *next_first = first;
            next.body_mut(self.key_epoch).prepend(body);
            return None;
        }
        let level = children[index - 1].1.level();
        self.insert(children, index, (first, self.child(level, body)))
    }

    /// Inserts an item, and splits off what the new right neighbour gets if it is one too many.
    fn insert<T>(
        &self,
        items: &mut Vec<(PageNo, T)>,
        index: usize,
        item: (PageNo, T),
    ) -> Option<(PageNo, Vec<(PageNo, T)>)> {
        items.insert(index, item);
        if items.len() <= self.fanout.0 {
            return None;
        }
        // An item at the end is likely the next of an ascending run: the full node stays full.
        let at = if index + 1 == items.len() {
            index
        } else {
            items.len() / 2
        };
        let right = items.split_off(at);
        Some((right[0].0, right))
    }

    pub(super) fn child(&self, level: u8, body: Body) -> Child {
        Child::memory(self.node(level, body))
    }

    pub(super) fn node(&self, level: u8, body: Body) -> Node {
        self.made.set(self.made.get() + 1);
        Node::new(self.key_epoch, level, body)
    }
}

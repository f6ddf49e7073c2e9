//! A page table: a written tree, and over it what recovery found in the log.
//!
//! Rolling forward must not read a leaf for each page that the log names, or opening a large
//! store takes minutes. So it puts pages into a second tree, in memory, which hides the first;
//! they are folded into the first one by the next checkpoint.
//!
//! Invariant: a page of the overlay is newer than what the base says of it. It was written in the
//! head's open epoch, and not changed after the recovery.

use std::collections::HashSet;
use std::iter::{FusedIterator, Peekable};
use std::ops::Range;

use crate::btree::node::{Node, NodeSource};
use crate::btree::{Dropped, Fanout, Found, Iter, Tree};
use crate::error::Result;
use crate::format::entry::Entry;
use crate::format::node::NodeRef;
use crate::sync::Arc;
use crate::units::{KeyEpoch, PageNo};

/// The page table of a head. A clone costs nothing and shares every node.
///
/// A change that fails leaves the table it was made on unusable, but no other: make it on a clone.
#[derive(Clone, Debug, Default)]
pub struct PageTable {
    pub(super) base: Tree,
    overlay: Tree,
}

impl PageTable {
    /// The table whose root was written there; without a root, the empty one.
    pub fn from_root(root: Option<NodeRef>) -> Self {
        Self {
            base: Tree::from_root(root),
            ..Self::default()
        }
    }

    /// Whether both have the same roots, and so the same pages.
    pub fn same_as(&self, other: &Self) -> bool {
        self.base.same_as(&other.base) && self.overlay.same_as(&other.overlay)
    }

    /// Nodes on the way from the root to a page, both ends included.
    pub fn level_count(&self) -> u8 {
        self.base.level_count()
    }

    /// The root's address: `Some(None)` of an empty table, `None` if it has none yet.
    pub fn root_ref(&self) -> Option<Option<NodeRef>> {
        self.base.root_ref().filter(|_| !self.is_overlaid())
    }

    /// The nodes that this table does not have any more: see [`Tree::take_dropped`].
    pub fn take_dropped(&mut self) -> Vec<Dropped> {
        // Nodes of the overlay never get an address.
        self.overlay.take_dropped();
        self.base.take_dropped()
    }

    /// How many nodes changes made: see [`Tree::take_made`].
    pub fn take_made(&mut self) -> u64 {
        self.base.take_made()
    }

    /// How many nodes a checkpoint would write, or more: those without an address that are not among
    /// `counted` (see [`Tree::count_unwritten`]), and those that folding the overlay in would make.
    pub fn unwritten_max(
        &self,
        source: &dyn NodeSource,
        fanout: Fanout,
        counted: &mut HashSet<usize>,
    ) -> Result<u64> {
        let mut count = self.base.count_unwritten(counted);
        let mut last = None;
        for item in self.overlay.iter(source, PageNo(0)..PageNo(u64::MAX)) {
            // Pages that are so near to each other are in one leaf, or in two with others between.
            let place = item?.0.0 / fanout.items_min();
            if last.replace(place) != Some(place) {
                count += 2;
            }
        }
        let levels = u64::from(self.base.level_count()) + 1;
        Ok(count + if self.is_overlaid() { 2 * levels } else { 0 })
    }

    /// The nodes without an address: see [`Tree::unwritten`].
    pub fn unwritten(&self) -> Vec<Arc<Node>> {
        self.base.unwritten()
    }

    /// What the table says of a page: nothing if it is a hole.
    pub fn get(&self, source: &dyn NodeSource, page: PageNo) -> Result<Option<Entry>> {
        match self.overlay.get(source, page)? {
            None => self.base.get(source, page),
            found => Ok(found),
        }
    }

    /// The pages of a range in ascending order, as they are now: later changes do not show.
    pub fn iter<'a>(&self, source: &'a dyn NodeSource, range: Range<PageNo>) -> TableIter<'a> {
        TableIter {
            base: self.base.iter(source, range.clone()).peekable(),
            overlay: self.overlay.iter(source, range).peekable(),
        }
    }

    /// Sets a page, and returns what was there: see [`Tree::set`].
    pub fn set(
        &mut self,
        source: &dyn NodeSource,
        fanout: Fanout,
        key_epoch: KeyEpoch,
        page: PageNo,
        entry: Entry,
    ) -> Result<Option<Entry>> {
        let below = self.base.set(source, fanout, key_epoch, page, entry)?;
        let above = self.uncover(source, page..PageNo(page.0.saturating_add(1)))?;
        Ok(above.or(below))
    }

    /// What the table says of pages, if setting each of them cannot fail: see [`Tree::settable`].
    pub fn settable(&self, fanout: Fanout, pages: &[PageNo]) -> Option<Vec<Option<Entry>>> {
        if self.is_overlaid() {
            return None;
        }
        self.base.settable(fanout, pages)
    }

    /// Makes a range a hole: see [`Tree::remove_range`].
    pub fn remove_range(
        &mut self,
        source: &dyn NodeSource,
        fanout: Fanout,
        key_epoch: KeyEpoch,
        range: Range<PageNo>,
    ) -> Result<bool> {
        let above = self.uncover(source, range.clone())?.is_some();
        let below = self.base.remove_range(source, fanout, key_epoch, range)?;
        Ok(above || below)
    }

    /// Removes a range from the overlay; gives the first entry that was there.
    fn uncover(&mut self, source: &dyn NodeSource, range: Range<PageNo>) -> Result<Option<Entry>> {
        let Some(first) = self
            .overlay
            .iter(source, range.clone())
            .next()
            .transpose()?
        else {
            return Ok(None);
        };
        let (fanout, key_epoch) = (Fanout::default(), first.1.key_epoch());
        self.overlay
            .remove_range(source, fanout, key_epoch, range)?;
        Ok(Some(first.1))
    }

    /// Sets a page without loading a node. Returns what the overlay said of it, if anything.
    pub fn overlay(
        &mut self,
        source: &dyn NodeSource,
        page: PageNo,
        entry: Entry,
    ) -> Result<Option<Entry>> {
        let fanout = Fanout::default();
        self.overlay
            .set(source, fanout, entry.key_epoch(), page, entry)
    }

    /// Whether recovery left pages over the base.
    pub fn is_overlaid(&self) -> bool {
        self.overlay.root_ref() != Some(None)
    }

    /// The first pages of the overlay, at most `count`.
    pub fn overlaid(&self, source: &dyn NodeSource, count: usize) -> Result<Vec<PageNo>> {
        let all = self.overlay.iter(source, PageNo(0)..PageNo(u64::MAX));
        all.take(count)
            .map(|item| item.map(|(page, _)| page))
            .collect()
    }

    /// Moves the first pages of the overlay, at most `count`, into the base. Nodes that this
    /// changes are born in `key_epoch`.
    pub fn fold(
        &mut self,
        source: &dyn NodeSource,
        fanout: Fanout,
        key_epoch: KeyEpoch,
        count: usize,
    ) -> Result<()> {
        let items: Vec<_> = self
            .overlay
            .iter(source, PageNo(0)..PageNo(u64::MAX))
            .take(count)
            .collect::<Result<_>>()?;
        for &(page, entry) in &items {
            self.base.set(source, fanout, key_epoch, page, entry)?;
        }
        if let Some(&(last, _)) = items.last() {
            let range = PageNo(0)..PageNo(last.0 + 1);
            self.overlay
                .remove_range(source, Fanout::default(), key_epoch, range)?;
        }
        Ok(())
    }

    /// Names what was born in certain key epochs: see [`Tree::visit_own`]. Recovery must have left
    /// nothing over the base.
    pub fn visit_own(
        &self,
        source: &dyn NodeSource,
        is_own: &mut dyn FnMut(KeyEpoch) -> bool,
        found: &mut dyn FnMut(Found),
    ) -> Result<()> {
        assert!(!self.is_overlaid(), "BUG: the overlay was not folded in");
        self.base.visit_own(source, is_own, found)
    }

    /// Warms the cache for pages about to be set: afterwards their leaves are likely in memory.
    pub fn load(&self, source: &dyn NodeSource, pages: &[PageNo]) -> Result<()> {
        pages
            .iter()
            .try_for_each(|&page| self.base.get(source, page).map(drop))
    }
}

/// The pages of a range of a page table. Made by [`PageTable::iter`].
///
/// After an error there is nothing more.
pub struct TableIter<'a> {
    base: Peekable<Iter<'a>>,
    overlay: Peekable<Iter<'a>>,
}

impl Iterator for TableIter<'_> {
    type Item = Result<(PageNo, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(Ok((above, _))) = self.overlay.peek() else {
            // Nothing, or an error, which goes first.
            return self.overlay.next().or_else(|| self.base.next());
        };
        match self.base.peek() {
            Some(Ok((below, _))) if below > above => self.overlay.next(),
            Some(Ok((below, _))) if below == above => {
                self.base.next();
                self.overlay.next()
            }
            Some(_) => self.base.next(),
            None => self.overlay.next(),
        }
    }
}

impl FusedIterator for TableIter<'_> {}

//! Finding a page's item in a node, in memory or where its slot lies.

use crate::btree::node::{Body, Child, Node};
use crate::error::Damage;
use crate::format::entry::Entry;
use crate::format::node::{NodeRef, NodeView};
use crate::units::{KeyEpoch, PageNo};

/// What a node is, and what it says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The node's level.
    pub level: u8,
    /// Its key epoch.
    pub key_epoch: KeyEpoch,
    /// The numbers of its first and last item.
    pub ends: (PageNo, PageNo),
    /// What it says.
    pub seen: Seen,
}

/// What a node says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: the page is a hole.
    Nothing,
    /// Where it is.
    Entry(Entry),
    /// Which child knows.
    Child {
        /// The child.
        at: NodeRef,
        /// The least page number that it may hold.
        first: PageNo,
        /// The next child's, unless it is the last.
        end: Option<PageNo>,
    },
}

/// What the items of a node, of which the first and the last are `ends`, say of a page.
pub fn look(view: NodeView<'_>, ends: (PageNo, PageNo), page: PageNo) -> Result<Seen, Damage> {
    match view {
        NodeView::Leaf(items) => {
            let at = |index: usize| PageNo(items[index].page.get());
            match rank(items.len(), ends, page, at).checked_sub(1) {
                Some(index) if at(index) == page => {
                    Entry::decode(&items[index].entry).map(Seen::Entry)
                }
                _ => Ok(Seen::Nothing),
            }
        }
        NodeView::Inner(items) => {
            let at = |index: usize| PageNo(items[index].first_page.get());
            let Some(index) = rank(items.len(), ends, page, at).checked_sub(1) else {
                return Ok(Seen::Nothing);
            };
            Ok(Seen::Child {
                at: NodeRef::decode(&items[index].child)?,
                first: at(index),
                end: (index + 1 < items.len()).then(|| at(index + 1)),
            })
        }
    }
}

impl Node {
    /// What the node, which was read from a disk, says of a page.
    pub fn look(&self, page: PageNo) -> Result<Look, Damage> {
        let ends = self.checked_ends()?;
        let seen = match self.body() {
            Body::Leaf(pages) => self.entry(pages, page).map_or(Seen::Nothing, Seen::Entry),
            Body::Inner(children) => match self.child(children, page) {
                Some(index) => {
                    let (first, child) = &children[index];
                    child.written().map_or(Seen::Nothing, |at| Seen::Child {
                        at,
                        first: *first,
                        end: children.get(index + 1).map(|&(first, _)| first),
                    })
                }
                None => Seen::Nothing,
            },
        };
        Ok(Look {
            level: self.level(),
            key_epoch: self.key_epoch(),
            ends,
            seen,
        })
    }

    /// What a leaf says of a page.
    pub(super) fn entry(&self, pages: &[(PageNo, Entry)], page: PageNo) -> Option<Entry> {
        let index = self.rank(pages, page).checked_sub(1)?;
        let (found, entry) = pages[index];
        (found == page).then_some(entry)
    }

    /// The index of the child that may hold the page; `None` if the page is below the first.
    pub(super) fn child(&self, children: &[(PageNo, Child)], page: PageNo) -> Option<usize> {
        self.rank(children, page).checked_sub(1)
    }

    fn rank<T>(&self, items: &[(PageNo, T)], page: PageNo) -> usize {
        let ends = self.ends();
        ends.map_or(0, |ends| {
            rank(items.len(), ends, page, |index| items[index].0)
        })
    }
}

/// How many of a node's items are at or below the page; the first and the last are `ends`.
///
/// Each item that is looked at may have to come from far memory, so this starts where the
/// page is if all items are equally far apart, as most are.
fn rank(
    count: usize,
    (first, last): (PageNo, PageNo),
    page: PageNo,
    at: impl Fn(usize) -> PageNo,
) -> usize {
    if page < first {
        return 0;
    }
    if page >= last {
        return count;
    }
    let (mut low, mut step) = (guess(count, first, last, page), 1);
    let mut high = low + 1;
    while at(low) > page {
        high = low;
        low = low.saturating_sub(step);
        step *= 2;
    }
    while at(high) <= page {
        low = high;
        high = (high + step).min(count - 1);
        step *= 2;
    }
    // The first is at or below the page, the item at `high` above it.
    while low + 1 < high {
        let middle = low.midpoint(high);
        match at(middle) <= page {
            true => low = middle,
            false => high = middle,
        }
    }
    low + 1
}

/// About where among `count` items from `first` to `last` a page between them is: below the last.
fn guess(count: usize, first: PageNo, last: PageNo, page: PageNo) -> usize {
    let steps = (count - 1) as u64;
    let index = (page.0 - first.0).checked_mul(steps);
    index.map_or(0, |index| (index / (last.0 - first.0)) as usize)
}

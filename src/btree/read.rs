//! Looking pages up. Reading never changes a tree: what it loads stays with the source.

use std::ops::Range;

use crate::btree::node::{Body, Child, Node, NodeSource, Span, load};
use crate::btree::{Iter, Tree};
use crate::error::Result;
use crate::format::entry::Entry;
use crate::units::PageNo;

impl Tree {
    /// What the table says of a page: nothing if it is a hole.
    pub fn get(&self, source: &dyn NodeSource, page: PageNo) -> Result<Option<Entry>> {
        match &self.root {
            Some(root) => get(source, root, Span::of_root(root), page),
            None => Ok(None),
        }
    }

    /// The pages of a range in ascending order, as they are now: later changes do not show.
    ///
    /// After an error there is nothing more.
    pub fn iter<'a>(&self, source: &'a dyn NodeSource, range: Range<PageNo>) -> Iter<'a> {
        Iter::new(source, self.root.clone(), range)
    }
}

fn get(source: &dyn NodeSource, child: &Child, span: Span, page: PageNo) -> Result<Option<Entry>> {
    let loaded;
    // Nodes in memory are borrowed: many readers share the root's reference count.
    let node: &Node = match child {
        Child::Memory(node) => node,
        Child::Disk(at) => {
            loaded = load(source, at, span)?;
            &loaded
        }
    };
    match node.body() {
        Body::Leaf(pages) => Ok(node.entry(pages, page)),
        Body::Inner(children) => match node.child(children, page) {
            Some(index) => {
                let span = span.of_child(children, index);
                get(source, &children[index].1, span, page)
            }
            None => Ok(None),
        },
    }
}

//! Looking pages up. Reading never changes a tree: what it loads stays with the source.

use std::ops::Range;

use crate::btree::look::Seen;
use crate::btree::node::{Body, Child, NodeSource, Span, damaged};
use crate::btree::{Iter, Tree};
use crate::error::Result;
use crate::format::entry::Entry;
use crate::format::node::NodeRef;
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
    // Nodes in memory are borrowed: many readers share the root's reference count.
    let node = match child {
        Child::Memory(node) => node,
        Child::Disk(at) => return get_written(source, *at, span, page),
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

/// The same from a written node on: below it all are.
fn get_written(
    source: &dyn NodeSource,
    mut at: NodeRef,
    mut span: Span,
    page: PageNo,
) -> Result<Option<Entry>> {
    loop {
        let look = source.look(&at, page)?;
        let checked = span.check_ends((look.level, look.key_epoch), look.ends, &at);
        checked.map_err(|damage| damaged(&at, damage))?;
        match look.seen {
            Seen::Nothing => return Ok(None),
            Seen::Entry(entry) => return Ok(Some(entry)),
            Seen::Child {
                at: child,
                first,
                end,
            } => {
                at = child;
                span = span.below(first, end);
            }
        }
    }
}

//! Walking a tree from a page on, past nodes that cannot be read and nodes that were seen before.

use crate::btree::node::{Body, Child, NodeSource, Span, child_index, load};
use crate::btree::{PageTable, Tree};
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::format::node::NodeRef;
use crate::sync::Arc;
use crate::units::PageNo;

/// Who is shown a tree.
pub trait Visitor {
    /// Whether to look into a written node and what lies below.
    fn enters(&mut self, at: &NodeRef) -> bool;

    /// A written node cannot be read; it may hold pages from `first` on. Whether the walk goes past it, or ends.
    fn broken(&mut self, at: &NodeRef, error: Error, first: PageNo) -> bool;

    /// What a leaf says of a page.
    fn entry(&mut self, page: PageNo, entry: &Entry);

    /// Whether that was enough: the walk ends before the next node.
    fn is_full(&self) -> bool;

    /// Everything in and below a written node was shown, in this walk or in those that it goes on from.
    fn done(&mut self, at: &NodeRef);

    /// Everything in and below a written node was shown up to a page, at which the walk ends.
    fn left(&mut self, at: &NodeRef, next: PageNo);

    /// Whether a walk before left a written node at that page.
    fn was_left(&self, at: &NodeRef, next: PageNo) -> bool;
}

impl PageTable {
    /// Shows the table from a page on; gives the page to go on from if that was not all of it.
    /// Recovery must have left nothing over the base.
    pub fn visit(
        &self,
        source: &dyn NodeSource,
        from: PageNo,
        visitor: &mut dyn Visitor,
    ) -> Option<PageNo> {
        assert!(!self.is_overlaid(), "BUG: the overlay was not folded in");
        self.base.visit(source, from, visitor)
    }
}

impl Tree {
    /// Shows the tree from a page on; gives the page to go on from if that was not all of it.
    pub fn visit(
        &self,
        source: &dyn NodeSource,
        from: PageNo,
        visitor: &mut dyn Visitor,
    ) -> Option<PageNo> {
        let root = self.root.as_ref()?;
        visit(source, root, Span::of_root(root), from, visitor)
    }
}

fn visit(
    source: &dyn NodeSource,
    child: &Child,
    span: Span,
    from: PageNo,
    visitor: &mut dyn Visitor,
) -> Option<PageNo> {
    let first = span.start.max(from);
    if visitor.is_full() {
        return Some(first);
    }
    let at = child.written();
    if at.is_some_and(|at| !visitor.enters(&at)) {
        return None;
    }
    let node = match fetch_written(source, child, span) {
        Ok(node) => node,
        Err((at, error)) => return (!visitor.broken(&at, error, first)).then_some(first),
    };
    let (begin, end) = match node.body() {
        Body::Leaf(pages) => {
            let shown = pages.iter().filter(|(page, _)| *page >= from);
            shown.for_each(|(page, entry)| visitor.entry(*page, entry));
            (pages.first().map(|(page, _)| *page), None)
        }
        Body::Inner(children) => {
            let mut below = (child_index(children, from)..children.len()).map(|index| {
                let span = span.of_child(children, index);
                visit(source, &children[index].1, span, from, visitor)
            });
            (
                children.first().map(|(page, _)| *page),
                below.find_map(|next| next),
            )
        }
    };
    if let Some(at) = at
        && (begin.is_none_or(|begin| from <= begin) || visitor.was_left(&at, from))
    {
        match end {
            None => visitor.done(&at),
            Some(next) => visitor.left(&at, next),
        }
    }
    end
}

/// A child as it is on disk, also if it is in memory; only if it was not written yet, as it is there.
fn fetch_written(
    source: &dyn NodeSource,
    child: &Child,
    span: Span,
) -> Result<Arc<crate::btree::Node>, (NodeRef, Error)> {
    match (child, child.written()) {
        (Child::Memory(node), None) => Ok(Arc::clone(node)),
        (Child::Disk(at), None) => load(source, at, span).map_err(|error| (*at, error)),
        (_, Some(at)) => load(source, &at, span).map_err(|error| (at, error)),
    }
}

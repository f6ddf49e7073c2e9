//! Walking a range of a tree. Holds what it walks, so that no change shows, and changes nothing.

use std::iter::FusedIterator;
use std::ops::Range;

use crate::btree::node::{Body, Child, Node, NodeSource, Span, child_index, fetch};
use crate::error::Result;
use crate::format::entry::Entry;
use crate::sync::Arc;
use crate::units::PageNo;

/// The pages of a range in ascending order. Made by [`Tree::iter`](crate::btree::Tree::iter).
pub struct Iter<'a> {
    source: &'a dyn NodeSource,
    range: Range<PageNo>,
    /// The root before the first step.
    root: Option<Child>,
    /// The nodes from the root down.
    path: Vec<Step>,
}

struct Step {
    node: Arc<Node>,
    span: Span,
    /// The next item to look at.
    next: usize,
}

impl<'a> Iter<'a> {
    pub(super) fn new(
        source: &'a dyn NodeSource,
        root: Option<Child>,
        range: Range<PageNo>,
    ) -> Self {
        let root = if range.is_empty() { None } else { root };
        Self {
            source,
            range,
            root,
            path: Vec::new(),
        }
    }

    fn step(&mut self) -> Result<Option<(PageNo, Entry)>> {
        if let Some(root) = self.root.take() {
            self.enter(&root, Span::of_root(&root))?;
        }
        while let Some(step) = self.path.last_mut() {
            let index = step.next;
            step.next += 1;
            match step.node.body() {
                Body::Leaf(pages) => match pages.get(index) {
                    Some(&(page, entry)) if page < self.range.end => {
                        return Ok(Some((page, entry)));
                    }
                    Some(_) => self.path.clear(),
                    None => drop(self.path.pop()),
                },
                Body::Inner(children) => match children.get(index) {
                    Some((first, child)) if *first < self.range.end => {
                        let (child, span) = (child.clone(), step.span.of_child(children, index));
                        self.enter(&child, span)?;
                    }
                    Some(_) => self.path.clear(),
                    None => drop(self.path.pop()),
                },
            }
        }
        Ok(None)
    }

    fn enter(&mut self, child: &Child, span: Span) -> Result<()> {
        let node = fetch(self.source, child, span)?;
        let next = match node.body() {
            Body::Leaf(pages) => pages.partition_point(|&(page, _)| page < self.range.start),
            Body::Inner(children) => child_index(children, self.range.start),
        };
        self.path.push(Step { node, span, next });
        Ok(())
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<(PageNo, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step();
        if item.is_err() {
            self.path.clear();
        }
        item.transpose()
    }
}

impl FusedIterator for Iter<'_> {}

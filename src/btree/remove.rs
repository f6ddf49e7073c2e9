//! Removing ranges. Drops whole subtrees by their separators; loads the edges, and neighbours of
//! what became small.
//!
//! Invariant: works on copies alone, so a failure changes nothing at all.

use std::ops::Range;

use crate::btree::node::{Body, Child, Node, NodeSource, Span, child_index, fetch};
use crate::btree::write::Change;
use crate::btree::{Fanout, Tree};
use crate::error::Result;
use crate::units::{KeyEpoch, PageNo};

/// What removing a range left of a node.
enum Left {
    /// It had no page of the range.
    Same,
    /// All its pages were in the range.
    Nothing,
    /// It has changed.
    Node(Node),
}

impl Tree {
    /// Makes a range a hole, and says whether it was none. Entries of explicit zeroes go too.
    ///
    /// Costs a few loads per level, and one of each inner node in the range, but of no leaf there.
    pub fn remove_range(
        &mut self,
        source: &dyn NodeSource,
        fanout: Fanout,
        key_epoch: KeyEpoch,
        range: Range<PageNo>,
    ) -> Result<bool> {
        let Some(root) = self.root.as_ref().filter(|_| !range.is_empty()) else {
            return Ok(false);
        };
        let change = Change::new(source, fanout, key_epoch);
        let left = change.remove(root, Span::of_root(root), &range)?;
        self.root = match left {
            Left::Same => return Ok(false),
            Left::Nothing => None,
            Left::Node(node) => Some(change.collapse(Child::memory(node))),
        };
        change.end(&mut self.dropped, &mut self.made);
        Ok(true)
    }
}

impl Change<'_> {
    /// A root with one child gives way to it, as far as that is known without loading anything.
    fn collapse(&self, mut root: Child) -> Child {
        while let Child::Memory(node) = &root
            && let Body::Inner(children) = node.body()
            && let [(_, only)] = children.as_slice()
        {
            let only = only.clone();
            self.drop_node(&root);
            root = only;
        }
        root
    }

    /// Notes that the tree does not have any node of a subtree any more. Loads no leaf.
    fn drop_subtree(&self, child: &Child, span: Span) -> Result<()> {
        self.drop_node(child);
        if span.level == 0 {
            return Ok(());
        }
        let node = fetch(self.source, child, span)?;
        if let Body::Inner(children) = node.body() {
            for (index, (_, child)) in children.iter().enumerate() {
                self.drop_subtree(child, span.of_child(children, index))?;
            }
        }
        Ok(())
    }

    fn remove(&self, child: &Child, span: Span, range: &Range<PageNo>) -> Result<Left> {
        let node = fetch(self.source, child, span)?;
        let left = match node.body() {
            Body::Leaf(pages) => {
                let from = pages.partition_point(|&(page, _)| page < range.start);
                let to = pages.partition_point(|&(page, _)| page < range.end);
                if from == to {
                    return Ok(Left::Same);
                }
                Body::Leaf([&pages[..from], &pages[to..]].concat())
            }
            Body::Inner(children) => match self.remove_children(children, span, range)? {
                Some(children) => Body::Inner(children),
                None => return Ok(Left::Same),
            },
        };
        self.drop_node(child);
        match left.len() {
            0 => Ok(Left::Nothing),
            _ => Ok(Left::Node(self.node(span.level, left))),
        }
    }

    /// The children that are left, unless nothing was removed.
    fn remove_children(
        &self,
        children: &[(PageNo, Child)],
        span: Span,
        range: &Range<PageNo>,
    ) -> Result<Option<Vec<(PageNo, Child)>>> {
        let from = child_index(children, range.start);
        let to = children.partition_point(|&(first, _)| first < range.end);
        let mut left = children[..from].to_vec();
        let mut changed = Vec::new();
        for (index, (first, child)) in children.iter().enumerate().take(to).skip(from) {
            let below = span.of_child(children, index);
            // Only the first and the last can be partly outside.
            if range.start <= below.start && below.end.is_some_and(|end| end <= range.end) {
                self.drop_subtree(child, below)?;
                continue;
            }
            match self.remove(child, below, range)? {
                Left::Nothing => {}
                Left::Same => left.push((*first, child.clone())),
                Left::Node(node) => {
                    changed.push(left.len());
                    left.push((*first, Child::memory(node)));
                }
            }
        }
        left.extend_from_slice(&children[to..]);
        if changed.is_empty() && left.len() == children.len() {
            return Ok(None);
        }
        // From the right, as merging moves what is on the right.
        for &index in changed.iter().rev() {
            if self.is_small(&left[index].1) {
                self.merge(&mut left, index, span)?;
            }
            if index > 0 && self.is_small(&left[index].1) {
                self.merge(&mut left, index - 1, span)?;
            }
        }
        Ok(Some(left))
    }

    /// Whether a changed child is so small that it is worth loading a neighbour to merge with.
    fn is_small(&self, child: &Child) -> bool {
        match child {
            Child::Memory(node) => node.body().len() * 4 < self.fanout.0 || node.body().len() == 1,
            Child::Disk(_) => false,
        }
    }

    /// Makes the children at `left` and after it one node, if both fit into it.
    fn merge(&self, children: &mut Vec<(PageNo, Child)>, left: usize, span: Span) -> Result<()> {
        let right = left + 1;
        if right >= children.len() {
            return Ok(());
        }
        let one = fetch(
            self.source,
            &children[left].1,
            span.of_child(children, left),
        )?;
        let two = fetch(
            self.source,
            &children[right].1,
            span.of_child(children, right),
        )?;
        if one.body().len() + two.body().len() > self.fanout.0 {
            return Ok(());
        }
        let both = match (one.body(), two.body()) {
            (Body::Leaf(one), Body::Leaf(two)) => Body::Leaf([&one[..], two].concat()),
            (Body::Inner(one), Body::Inner(two)) => Body::Inner([&one[..], two].concat()),
            _ => unreachable!("BUG: neighbours of different levels"),
        };
        self.drop_node(&children[left].1);
        self.drop_node(&children[right].1);
        children[left].1 = self.child(one.level(), both);
        children.remove(right);
        Ok(())
    }
}

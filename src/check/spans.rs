//! What the log changed in a page table: a map from spans of pages to what is there now.
//!
//! It is a persistent AVL tree: a clone costs nothing and shares all, so that a log full of
//! clones is replayed in linear space. Spans never overlap; data is in spans of one page.

use std::ops::Range;

use crate::format::entry::Entry;
use crate::sync::Arc;
use crate::units::PageNo;

/// Spans of pages that the log changed. Pages in none of them are as the tree says.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans(Tree);

pub(super) type Tree = Option<Arc<SpanNode>>;

/// Pages that have become the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// First page.
    pub first: u64,
    /// Last page.
    pub last: u64,
    /// What each of them is now; `None` is unmapped.
    pub value: Option<Entry>,
}

#[derive(Clone, Debug)]
pub(super) struct SpanNode {
    pub span: Span,
    pub left: Tree,
    pub right: Tree,
    height: u8,
}

impl Spans {
    /// The tree of spans.
    pub fn root(&self) -> &Tree {
        &self.0
    }

    /// What the log says of a page: `None` if nothing, `Some(None)` if it was unmapped.
    pub fn get(&self, page: PageNo) -> Option<Option<Entry>> {
        let mut tree = &self.0;
        while let Some(node) = tree {
            tree = if page.0 < node.span.first {
                &node.left
            } else if page.0 > node.span.last {
                &node.right
            } else {
                return Some(node.span.value);
            };
        }
        None
    }

    /// Sets the pages of a span.
    pub fn set(&mut self, span: Span) {
        let (before, rest) = split(self.0.take(), span.first);
        let after = match span.last.checked_add(1) {
            Some(next) => split(rest, next).1,
            None => None,
        };
        self.0 = join(before, span, after);
    }

    /// Gives all spans that have pages of a range, front to back.
    pub fn each(&self, range: &Range<PageNo>, give: &mut dyn FnMut(&Span)) {
        each(&self.0, range, give);
    }

    /// Whether every page of a range was unmapped.
    pub fn unmaps(&self, first: u64, last: u64) -> bool {
        let (_, rest) = split(self.0.clone(), first);
        let (tree, _) = match last.checked_add(1) {
            Some(next) => split(rest, next),
            None => (rest, None),
        };
        // Unmapped spans that are as many pages as the range must be all of it.
        unmapped_pages(&tree).is_some_and(|pages| pages == u128::from(last - first) + 1)
    }
}

fn each(tree: &Tree, range: &Range<PageNo>, give: &mut dyn FnMut(&Span)) {
    let Some(node) = tree else {
        return;
    };
    let span = &node.span;
    if range.start.0 < span.first {
        each(&node.left, range, give);
    }
    if span.first < range.end.0 && span.last >= range.start.0 {
        give(span);
    }
    if range.end.0 > span.last {
        each(&node.right, range, give);
    }
}

/// Pages in the spans of a tree; `None` if one is mapped.
fn unmapped_pages(tree: &Tree) -> Option<u128> {
    let Some(node) = tree else {
        return Some(0);
    };
    if node.span.value.is_some() {
        return None;
    }
    let own = u128::from(node.span.last - node.span.first) + 1;
    Some(unmapped_pages(&node.left)? + own + unmapped_pages(&node.right)?)
}

fn height(tree: &Tree) -> u8 {
    tree.as_ref().map_or(0, |node| node.height)
}

fn node(left: Tree, span: Span, right: Tree) -> Arc<SpanNode> {
    let height = 1 + height(&left).max(height(&right));
    Arc::new(SpanNode {
        span,
        left,
        right,
        height,
    })
}

/// The parts of a node; they are moved out if nobody else has it.
fn parts(node: Arc<SpanNode>) -> (Tree, Span, Tree) {
    let node = Arc::unwrap_or_clone(node);
    (node.left, node.span, node.right)
}

/// A balanced tree of all in `left`, then a span, then all in `right`.
fn join(left: Tree, span: Span, right: Tree) -> Tree {
    let (left_height, right_height) = (height(&left), height(&right));
    Some(match (left, right) {
        (Some(left), right) if left_height > right_height + 1 => join_right(left, span, right),
        (left, Some(right)) if right_height > left_height + 1 => join_left(left, span, right),
        (left, right) => node(left, span, right),
    })
}

fn join_right(tree: Arc<SpanNode>, span: Span, right: Tree) -> Arc<SpanNode> {
    let (outer, top, inner) = parts(tree);
    let joined = join(inner, span, right);
    balance(outer, top, joined)
}

fn join_left(left: Tree, span: Span, tree: Arc<SpanNode>) -> Arc<SpanNode> {
    let (inner, top, outer) = parts(tree);
    let joined = join(left, span, inner);
    balance(joined, top, outer)
}

/// A node of two trees whose heights differ by at most two.
fn balance(left: Tree, span: Span, right: Tree) -> Arc<SpanNode> {
    let (left_height, right_height) = (height(&left), height(&right));
    match (left, right) {
        (Some(left), right) if left_height > right_height + 1 => {
            let (a, low, b) = parts(left);
            match b {
                Some(b) if b.height > height(&a) => {
                    let (b, middle, c) = parts(b);
                    node(Some(node(a, low, b)), middle, Some(node(c, span, right)))
                }
                b => node(a, low, Some(node(b, span, right))),
            }
        }
        (left, Some(right)) if right_height > left_height + 1 => {
            let (c, high, d) = parts(right);
            match c {
                Some(c) if c.height > height(&d) => {
                    let (b, middle, c) = parts(c);
                    node(Some(node(left, span, b)), middle, Some(node(c, high, d)))
                }
                c => node(Some(node(left, span, c)), high, d),
            }
        }
        (left, right) => node(left, span, right),
    }
}

/// The pages before `at`, and those from it on. A span across is cut in two.
fn split(tree: Tree, at: u64) -> (Tree, Tree) {
    let Some(tree) = tree else {
        return (None, None);
    };
    let (left, span, right) = parts(tree);
    if at <= span.first {
        let (before, after) = split(left, at);
        (before, join(after, span, right))
    } else if at > span.last {
        let (before, after) = split(right, at);
        (join(left, span, before), after)
    } else {
        let low = Span {
            last: at - 1,
            ..span
        };
        let high = Span { first: at, ..span };
        (join(left, low, None), join(None, high, right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::KeyEpoch;

    fn check_balance(tree: &Tree) -> u8 {
        let Some(node) = tree else { return 0 };
        let (left, right) = (check_balance(&node.left), check_balance(&node.right));
        assert!(left.abs_diff(right) <= 1);
        assert_eq!(node.height, 1 + left.max(right));
        node.height
    }

    #[test]
    fn spans_act_like_an_array_and_clones_stay_as_they_were() {
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
            (random >> 33) % below
        };
        let (mut spans, mut model) = (Spans::default(), vec![None; 200]);
        let mut kept = Vec::new();
        for step in 0..5000_u32 {
            let first = next(200);
            let last = (first + next(30) * next(2)).min(199);
            let value = (next(3) > 0).then_some(Entry::Zero {
                key_epoch: KeyEpoch(step + 1),
            });
            spans.set(Span { first, last, value });
            model
                .iter_mut()
                .take(last as usize + 1)
                .skip(first as usize)
                .for_each(|page| *page = Some(value));
            check_balance(spans.root());
            if step % 500 == 0 {
                kept.push((spans.clone(), model.clone()));
            }
        }
        kept.push((spans, model));
        for (spans, model) in kept {
            for (page, value) in model.iter().enumerate() {
                assert_eq!(spans.get(PageNo(page as u64)), *value);
            }
            for first in 0..200 {
                let all = model.iter().skip(first).take(5).all(|v| *v == Some(None));
                let last = (first + 4).min(199) as u64;
                assert_eq!(spans.unmaps(first as u64, last), all);
            }
        }
    }

    #[test]
    fn the_last_page_number_has_a_place() {
        let mut spans = Spans::default();
        let last = u64::MAX;
        spans.set(Span {
            first: 0,
            last,
            value: None,
        });
        assert!(spans.unmaps(0, last));
        assert_eq!(spans.get(PageNo(last)), Some(None));
    }
}

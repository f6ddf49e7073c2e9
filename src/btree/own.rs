//! What a tree has that was born in certain key epochs.

use crate::btree::Tree;
use crate::btree::node::{Body, Child, NodeSource, Span, fetch};
use crate::error::Result;
use crate::format::entry::{DataEntry, Entry};
use crate::format::node::NodeRef;
use crate::units::KeyEpoch;

/// What takes slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A page with contents.
    Page(DataEntry),
    /// A node with an address.
    Node(NodeRef),
}

impl Tree {
    /// Names all pages and nodes that were born in key epochs of which `is_own` says yes.
    ///
    /// A node is at least as young as all below it, so nothing below another is looked at: this
    /// costs what it finds.
    pub fn visit_own(
        &self,
        source: &dyn NodeSource,
        is_own: &mut dyn FnMut(KeyEpoch) -> bool,
        found: &mut dyn FnMut(Found),
    ) -> Result<()> {
        match &self.root {
            Some(root) => visit(source, root, Span::of_root(root), is_own, found),
            None => Ok(()),
        }
    }
}

fn visit(
    source: &dyn NodeSource,
    child: &Child,
    span: Span,
    is_own: &mut dyn FnMut(KeyEpoch) -> bool,
    found: &mut dyn FnMut(Found),
) -> Result<()> {
    let key_epoch = match child {
        Child::Disk(at) => at.key_epoch,
        Child::Memory(node) => node.key_epoch(),
    };
    if !is_own(key_epoch) {
        return Ok(());
    }
    if let Some(at) = child.written() {
        found(Found::Node(at));
    }
    let node = fetch(source, child, span)?;
    match node.body() {
        Body::Leaf(pages) => {
            for (_, entry) in pages {
                if let Entry::Data(page) = entry
                    && is_own(page.key_epoch)
                {
                    found(Found::Page(*page));
                }
            }
        }
        Body::Inner(children) => {
            for (index, (_, child)) in children.iter().enumerate() {
                visit(source, child, span.of_child(children, index), is_own, found)?;
            }
        }
    }
    Ok(())
}

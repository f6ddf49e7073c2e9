//! The page table of a volume or snapshot, level by level.

use std::collections::HashSet;

use crate::check::image::Image;
use crate::check::inspect::{Loaded, Problem, find_head, load};
use crate::check::lock_shared;
use crate::error::{Kind, Result};
use crate::format::node::{Items, NodeRef};
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::{HeadId, KeyEpoch, LineageEpoch, PageNo, SlotAddr};

/// A page table as it is on disk; the log may say more.
#[derive(Clone, Debug)]
pub struct TreeView {
    /// The head.
    pub head: HeadId,
    /// Levels; 0 if it is empty.
    pub height: u32,
    /// Nodes that could be read.
    pub nodes: u64,
    /// Pages that are mapped in them.
    pub pages: u64,
    /// The levels, the root's first.
    pub levels: Vec<LevelView>,
    /// What could not be read beside its nodes.
    pub problems: Vec<Problem>,
}

/// The nodes of a level, from left to right.
#[derive(Clone, Debug)]
pub struct LevelView {
    /// The level; 0 holds leaves.
    pub level: u8,
    /// Its nodes, each once.
    pub nodes: Vec<NodeView>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its slot.
    pub at: SlotAddr,
    /// The key epoch of the change that last dirtied it.
    pub key_epoch: KeyEpoch,
    /// The lineage epoch it was born in, if the key epoch is known.
    pub lineage: Option<LineageEpoch>,
    /// BLAKE3 hash of its slot, as its parent names it.
    pub hash: [u8; 32],
    /// Items in it; 0 if it cannot be read.
    pub items: u64,
    /// Page number of its first item.
    pub first_page: PageNo,
    /// Page number of its last item.
    pub last_page: PageNo,
    /// Why it cannot be read, if so.
    pub damage: Option<String>,
}

/// Reads a page table.
pub fn tree(
    disk: &dyn Disk,
    kms: Option<&dyn KeyService>,
    kind: Kind,
    name: &str,
) -> Result<TreeView> {
    let _guard = lock_shared(disk)?;
    let Loaded { image, problems } = load(disk, kms)?;
    let head = find_head(&image, kind, name)?;
    let mut tree = TreeView {
        head: head.record.head,
        height: head.root.map_or(0, |root| u32::from(root.level) + 1),
        nodes: 0,
        pages: 0,
        levels: Vec::new(),
        problems,
    };
    let mut row: Vec<NodeRef> = head.root.into_iter().collect();
    while let Some(first) = row.first() {
        let mut level = LevelView {
            level: first.level,
            nodes: Vec::new(),
        };
        let mut below = Vec::new();
        // In a damaged tree one node may be many nodes' child.
        let mut seen = HashSet::new();
        for node in row.iter().filter(|node| seen.insert(**node)) {
            level.nodes.push(view(&image, node, &mut below, &mut tree));
        }
        tree.levels.push(level);
        row = below;
    }
    Ok(tree)
}

fn view(
    image: &Image<'_>,
    node: &NodeRef,
    below: &mut Vec<NodeRef>,
    tree: &mut TreeView,
) -> NodeView {
    let (mut first_page, mut last_page) = (PageNo(0), PageNo(0));
    let (mut items, mut damage) = (0, None);
    match image.files.node(node) {
        Ok(read) => {
            let numbers: Vec<PageNo> = match &read.items {
                Items::Leaf(pages) => {
                    tree.pages += pages.len() as u64;
                    pages.iter().map(|(page, _)| *page).collect()
                }
                Items::Inner { children, .. } => {
                    below.extend(children.iter().map(|(_, child)| *child));
                    children.iter().map(|(first, _)| *first).collect()
                }
            };
            tree.nodes += 1;
            items = numbers.len() as u64;
            first_page = numbers.first().copied().unwrap_or_default();
            last_page = numbers.last().copied().unwrap_or_default();
        }
        Err(trouble) => damage = Some(trouble.to_string()),
    }
    NodeView {
        at: node.at,
        key_epoch: node.key_epoch,
        lineage: image.state.lineage_of(node.key_epoch),
        hash: node.hash,
        items,
        first_page,
        last_page,
        damage,
    }
}

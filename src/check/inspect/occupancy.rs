//! What the slots of one segment are used for, and by whom.

use std::collections::HashMap;

use crate::check::image::Image;
use crate::check::inspect::usage::{SlotCounts, Usage};
use crate::check::inspect::{Loaded, Problem, kind_of, load};
use crate::check::lock_shared;
use crate::check::spans::{SpanNode, Tree};
use crate::check::state::Head;
use crate::error::{Kind, Result};
use crate::format::entry::Entry;
use crate::format::node::{Items, NodeRef};
use crate::format::pack::pack_file_name;
use crate::format::segment::segment_file_name;
use crate::io::Disk;
use crate::kms::KeyService;
use crate::sync::Arc;
use crate::units::{HeadId, SegmentId};

/// What the slots of a virtual segment are used for.
#[derive(Clone, Debug)]
pub struct OccupancyView {
    /// The segment.
    pub segment: SegmentId,
    /// The file that its slots are in, of its own or a packed one; `None` if there is none any more.
    pub file: Option<String>,
    /// Its slots, by what they are used for.
    pub slots: SlotCounts,
    /// Volumes, snapshots and pins that have slots in it.
    pub owners: Vec<OwnerView>,
    /// What could not be read: what lies below it is counted as waiting or dead.
    pub problems: Vec<Problem>,
}

/// A head that has slots in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerView {
    /// The head.
    pub head: HeadId,
    /// Volume, snapshot or pin.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Slots of pages and nodes that it has.
    pub slots: u64,
    /// Of these, slots that nobody else has.
    pub exclusive: u64,
}

/// Counts the slots of a virtual segment, by a walk of all page tables.
pub fn occupancy(
    disk: &dyn Disk,
    kms: Option<&dyn KeyService>,
    segment: SegmentId,
) -> Result<OccupancyView> {
    let _guard = lock_shared(disk)?;
    let Loaded {
        image,
        mut problems,
    } = load(disk, kms)?;
    let usage = Usage::of(&image, Some(segment));
    problems.extend(usage.problems.iter().cloned());
    let exclusive = usage.exclusive();
    let mut counter = Counter::new(&image, segment);
    let heads = image.state.heads.values();
    let owners = heads.filter(|head| !head.is_deleted()).filter_map(|head| {
        let (id, slots) = (head.record.head, counter.head(head));
        (slots > 0).then(|| OwnerView {
            head: id,
            kind: kind_of(head.record.kind),
            name: head.record.name.clone(),
            slots,
            exclusive: exclusive.get(&id).copied().unwrap_or(0),
        })
    });
    let own = segment_file_name(segment);
    let file = match image.files.packed.pack(segment) {
        Some(pack) => Some(pack_file_name(pack)),
        None => Some(own).filter(|own| image.files.has(own)),
    };
    Ok(OccupancyView {
        segment,
        file,
        slots: SlotCounts::of(&usage.of_segment(segment)),
        owners: owners.collect(),
        problems,
    })
}

/// Counts slots of one segment below nodes, for each node once.
struct Counter<'a> {
    image: &'a Image<'a>,
    segment: SegmentId,
    nodes: HashMap<NodeRef, u64>,
    spans: HashMap<usize, u64>,
}

impl<'a> Counter<'a> {
    fn new(image: &'a Image<'a>, segment: SegmentId) -> Self {
        Self {
            image,
            segment,
            nodes: HashMap::new(),
            spans: HashMap::new(),
        }
    }

    fn head(&mut self, head: &Head) -> u64 {
        let tree = head.root.map_or(0, |root| self.node(&root));
        tree.saturating_add(self.tree(head.spans.root()))
    }

    fn node(&mut self, node: &NodeRef) -> u64 {
        if let Some(&known) = self.nodes.get(node) {
            return known;
        }
        let own = u64::from(node.at.segment == self.segment);
        // What cannot be read was reported by the walk before.
        let below = match self.image.files.node(node).as_deref() {
            Ok(read) => match &read.items {
                Items::Leaf(pages) => pages.iter().map(|(_, entry)| self.entry(entry)).sum(),
                Items::Inner { children, .. } => {
                    let children = children.iter();
                    children.fold(0_u64, |sum, (_, child)| {
                        sum.saturating_add(self.node(child))
                    })
                }
            },
            Err(_) => 0,
        };
        let all = below.saturating_add(own);
        self.nodes.insert(*node, all);
        all
    }

    fn tree(&mut self, tree: &Tree) -> u64 {
        let Some(node) = tree else { return 0 };
        let address = Arc::as_ptr(node).addr();
        if let Some(&known) = self.spans.get(&address) {
            return known;
        }
        let SpanNode {
            span, left, right, ..
        } = &**node;
        let own = span.value.map_or(0, |entry| self.entry(&entry));
        let all = own + self.tree(left) + self.tree(right);
        self.spans.insert(address, all);
        all
    }

    fn entry(&self, entry: &Entry) -> u64 {
        match entry {
            Entry::Data(data) if data.at.segment == self.segment => {
                self.image.superblock.geometry.page_slots().into()
            }
            _ => 0,
        }
    }
}

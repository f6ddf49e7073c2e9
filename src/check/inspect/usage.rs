//! What each slot of a store is used for, by a walk of all page tables that goes on where a node cannot be
//! read.
//!
//! A node is looked at once for its first user and once more for all others together, so that the walk
//! costs what is there and not how many share it.

use std::collections::HashMap;

use crate::check::finding::Findings;
use crate::check::image::Image;
use crate::check::inspect::Problem;
use crate::check::log::{Depth, Log};
use crate::check::spans::Tree;
use crate::check::state::Head;
use crate::check::tables;
use crate::format::entry::Entry;
use crate::format::node::{Items, NodeRef};
use crate::format::segment::segment_file_name;
use crate::slots::SlotSet;
use crate::sync::Arc;
use crate::units::{HeadId, SegmentId, Seq, SlotAddr};

/// Most problems that are kept: damage repeats itself.
const PROBLEMS_MAX: usize = 1000;

/// Slots, by what they are used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// The header of a segment file, or the index of a packed one.
    pub header: u64,
    /// Pages that page tables name, shared ones included.
    pub pages: u64,
    /// Nodes of page tables, shared ones included.
    pub nodes: u64,
    /// Pages and nodes that more than one volume or snapshot has.
    pub shared: u64,
    /// Headers of batches that an open may read, from either superblock, and tables.
    pub log: u64,
    /// What the last checkpoint counts as live and no page table names that can be read: it died
    /// since, or a deleted head still has it, or it lies below damage.
    pub waiting: u64,
    /// Written once and needed by nothing now.
    pub dead: u64,
    /// Never written, or given back.
    pub free: u64,
}

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Free,
    Dead,
    Waiting,
    Log,
    Header,
    Page,
    Node,
    SharedPage,
    SharedNode,
}

/// Who was seen with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Once(HeadId),
    Shared,
}

/// What the slots of a store are used for.
pub(super) struct Usage<'a> {
    image: &'a Image<'a>,
    pages: SlotSet,
    nodes: SlotSet,
    shared: SlotSet,
    log: SlotSet,
    seen_nodes: HashMap<NodeRef, Seen>,
    /// Of the log's changes, by address: the image keeps them all.
    seen_spans: HashMap<usize, Seen>,
    /// Where the log left a segment, as the first batch of the next one says.
    left_at: HashMap<SegmentId, u32>,
    /// The first user of each slot of one segment, if that is asked for.
    first_users: Option<(SegmentId, HashMap<u32, HeadId>)>,
    /// What could not be read on the way.
    pub problems: Vec<Problem>,
}

impl SlotCounts {
    /// Counts slots.
    pub(super) fn of(uses: &[Use]) -> Self {
        let mut counts = Self::default();
        for slot in uses {
            match slot {
                Use::Free => counts.free += 1,
                Use::Dead => counts.dead += 1,
                Use::Waiting => counts.waiting += 1,
                Use::Log => counts.log += 1,
                Use::Header => counts.header += 1,
                Use::Page | Use::SharedPage => counts.pages += 1,
                Use::Node | Use::SharedNode => counts.nodes += 1,
            }
            counts.shared += u64::from(matches!(slot, Use::SharedPage | Use::SharedNode));
        }
        counts
    }
}

impl<'a> Usage<'a> {
    /// Walks all page tables. Whose the slots of `segment` are is noted.
    pub fn of(image: &'a Image<'a>, segment: Option<SegmentId>) -> Self {
        let mut usage = Self {
            image,
            pages: SlotSet::default(),
            nodes: SlotSet::default(),
            shared: SlotSet::default(),
            log: SlotSet::default(),
            seen_nodes: HashMap::new(),
            seen_spans: HashMap::new(),
            left_at: left_at(image),
            first_users: segment.map(|segment| (segment, HashMap::new())),
            problems: Vec::new(),
        };
        usage.note_log();
        let heads = image.state.heads.values();
        for head in heads.filter(|head| !head.is_deleted()) {
            if let Some(root) = head.root {
                usage.node(&root, head);
            }
            usage.spans(head.spans.root(), head);
        }
        usage
    }

    /// What each slot of a virtual segment is used for.
    pub fn of_segment(&self, segment: SegmentId) -> Vec<Use> {
        let slots = self.image.superblock.geometry.segment_slots;
        let mut uses = vec![Use::Free; slots as usize];
        match self.image.files.packed.runs_of(segment) {
            Some(runs) => {
                for (run, _) in runs {
                    set(&mut uses, run.clone(), Use::Dead);
                }
            }
            None => {
                set(&mut uses, 1..self.written_in(segment), Use::Dead);
                if self.image.files.has(&segment_file_name(segment)) {
                    set(&mut uses, 0..1, Use::Header);
                }
            }
        }
        for (set_of, what) in [
            (&self.image.state.live, Use::Waiting),
            (&self.log, Use::Log),
            (&self.pages, Use::Page),
            (&self.nodes, Use::Node),
        ] {
            for run in set_of.runs_in(segment) {
                set(&mut uses, run, what);
            }
        }
        for slot in self.shared.runs_in(segment).into_iter().flatten() {
            if let Some(slot) = uses.get_mut(slot as usize) {
                *slot = match slot {
                    Use::Node => Use::SharedNode,
                    _ => Use::SharedPage,
                };
            }
        }
        uses
    }

    /// Of the slots of the segment that is asked for, how many only one head has, by head.
    pub fn exclusive(&self) -> HashMap<HeadId, u64> {
        let mut exclusive = HashMap::new();
        let Some((segment, users)) = &self.first_users else {
            return exclusive;
        };
        let mut is_shared = vec![false; self.image.superblock.geometry.segment_slots as usize];
        for slot in self.shared.runs_in(*segment).into_iter().flatten() {
            if let Some(slot) = is_shared.get_mut(slot as usize) {
                *slot = true;
            }
        }
        for (slot, head) in users {
            if is_shared.get(*slot as usize) == Some(&false) {
                *exclusive.entry(*head).or_insert(0) += 1;
            }
        }
        exclusive
    }

    /// Slots of a segment's own file that were ever written. If that is not known, all.
    fn written_in(&self, segment: SegmentId) -> u32 {
        let is_known = self.image.state.segments.contains_key(&segment);
        let written = match is_known || self.image.complete {
            true => self.image.written_in(segment),
            false => self.image.superblock.geometry.segment_slots,
        };
        let left_at = self.left_at.get(&segment);
        left_at.map_or(written, |&left_at| written.min(left_at))
    }

    /// The header slots of batches that an open may read.
    fn note_log(&mut self) {
        let image = self.image;
        let older = image.older.as_ref();
        let from = older.unwrap_or(&image.superblock);
        let geometry = image.superblock.geometry;
        let log = Log::new(&image.files, geometry, None, from.position.end.segment);
        let path = log.follow(from.position, Seq(u64::MAX), Depth::Headers);
        let links = path.links.iter();
        let kept = links.filter(|link| link.after.seq <= image.end.seq);
        let kept = kept.map(|link| (link.at, link.header_slots));
        let older = older.map(|older| {
            let (tables, _) = tables::salvage(&image.files, older, &mut Findings::default());
            tables.batches
        });
        let tables = older.into_iter().flatten();
        for (at, slots) in kept.chain(tables).chain(image.headers.iter().copied()) {
            self.log.insert_run(at, slots);
        }
    }

    fn node(&mut self, node: &NodeRef, head: &Head) {
        if !enter(&mut self.seen_nodes, *node, head.record.head) {
            return;
        }
        if !self.image.is_written(node.at, 1) {
            self.problem(node.at, "a node should be there, but it was never written");
            return;
        }
        if self.take(node.at, 1, head) {
            self.nodes.insert(node.at);
        }
        let read = match self.image.files.node(node) {
            Ok(read) => read,
            Err(trouble) => {
                let what = format!("a node of {}: {trouble}", head.describe());
                self.problem(node.at, what);
                return;
            }
        };
        match &read.items {
            Items::Leaf(pages) => pages.iter().for_each(|(_, entry)| self.entry(entry, head)),
            Items::Inner { children, .. } => {
                children
                    .iter()
                    .for_each(|(_, child)| self.node(child, head));
            }
        }
    }

    fn spans(&mut self, tree: &Tree, head: &Head) {
        let Some(node) = tree else { return };
        let address = Arc::as_ptr(node).addr();
        if !enter(&mut self.seen_spans, address, head.record.head) {
            return;
        }
        if let Some(entry) = &node.span.value {
            self.entry(entry, head);
        }
        self.spans(&node.left, head);
        self.spans(&node.right, head);
    }

    fn entry(&mut self, entry: &Entry, head: &Head) {
        let Entry::Data(data) = entry else { return };
        let slots = self.image.superblock.geometry.page_slots();
        if !self.image.is_written(data.at, slots) {
            let what = format!(
                "a page of {} should be there, but it was never written",
                head.describe()
            );
            self.problem(data.at, what);
            return;
        }
        if self.take(data.at, slots, head) {
            self.pages.insert_run(data.at, slots);
        }
    }

    /// Notes a user of slots; whether it is the first one.
    fn take(&mut self, at: SlotAddr, slots: u32, head: &Head) -> bool {
        // Slots of one page or node are taken together, so the first one speaks for all.
        let is_first = !self.pages.contains(at) && !self.nodes.contains(at);
        if !is_first {
            self.shared.insert_run(at, slots);
        }
        if let Some((segment, users)) = &mut self.first_users
            && *segment == at.segment
            && is_first
        {
            let taken = at.slot..at.slot.saturating_add(slots);
            users.extend(taken.map(|slot| (slot, head.record.head)));
        }
        is_first
    }

    fn problem(&mut self, at: SlotAddr, what: impl std::fmt::Display) {
        let problem = Problem::at(at, what);
        // Whoever comes to it next would say the same.
        let is_known = self
            .problems
            .iter()
            .any(|known| known.place == problem.place);
        if self.problems.len() < PROBLEMS_MAX && !is_known {
            self.problems.push(problem);
        }
    }
}

/// Where the log left segments, as far as the batches that took over are still there.
fn left_at(image: &Image<'_>) -> HashMap<SegmentId, u32> {
    let segments = image.files.segments().into_iter();
    let segments = segments.filter(|segment| *segment <= image.end.end.segment);
    let ends = segments.filter_map(|segment| {
        let first = SlotAddr { segment, slot: 1 };
        let first = image.files.batch(first, &image.superblock.geometry).ok()?;
        let end = first.header.previous_end;
        // It goes on in a segment in which it was before only after a clean close, from its end on.
        (end.segment < segment).then_some((end.segment, end.slot))
    });
    ends.collect()
}

/// Notes that a head has something; whether what lies below is to be looked at for it.
fn enter<K: std::hash::Hash + Eq>(seen: &mut HashMap<K, Seen>, what: K, head: HeadId) -> bool {
    let before = seen.get(&what).copied();
    let now = match before {
        None => Seen::Once(head),
        // In a damaged tree one node may be many nodes' child.
        Some(Seen::Once(first)) if first == head => return false,
        Some(Seen::Once(_)) => Seen::Shared,
        Some(Seen::Shared) => return false,
    };
    seen.insert(what, now);
    true
}

fn set(uses: &mut [Use], run: std::ops::Range<u32>, what: Use) {
    let end = (run.end as usize).min(uses.len());
    if let Some(slots) = uses.get_mut(run.start as usize..end) {
        slots.fill(what);
    }
}

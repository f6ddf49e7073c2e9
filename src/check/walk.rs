//! Walks over page tables: each distinct node once, whatever number of heads share it.
//!
//! A node is checked against what lies right below it, and gives a summary of all below it to
//! whoever refers to it. So a shared node costs every further head one look.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use foldhash::{HashMap, HashMapExt};
use rayon::ThreadPool;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::check::claims::{Claim, Claimant, Claims};
use crate::check::codes::{self, Code};
use crate::check::data::Reader;
use crate::check::files::Trouble;
use crate::check::finding::Findings;
use crate::check::forest::Forest;
use crate::check::image::Image;
use crate::check::lost::Lost;
use crate::check::state::Head;
use crate::check::watch::Watch;
use crate::error::Damage;
use crate::format::entry::Entry;
use crate::format::node::{DiskNode, Items, NodeRef};
use crate::format::pack::pack_file_name;
use crate::format::segment::segment_file_name;
use crate::units::{KeyEpoch, LineageEpoch, PageNo, SLOT_LEN, SegmentId, SlotAddr};

/// What came of reading a node.
type ReadNode = Result<DiskNode, Trouble>;

/// A walk over all page tables of a store.
#[derive(Debug)]
pub(super) struct Walk<'a, 's, 'w> {
    pub image: &'a Image<'a>,
    pub lineages: &'a Forest,
    pub findings: &'s mut Findings,
    /// Reads pages.
    pub reader: Reader<'s, 'a>,
    /// The threads that read nodes ahead; if pages are read they have enough to do.
    ahead: Option<&'a ThreadPool>,
    pub watch: &'s mut Watch<'w>,
    pub claims: Claims,
    /// Nodes that were visited, and what lies below each; `None` if it cannot be read.
    nodes: HashMap<NodeRef, Option<Summary>>,
    /// Spans of the log that were visited, by address.
    pub(super) spans: HashMap<usize, super::overlay::Summary>,
    pub counts: Counts,
    pub(super) lost: Lost,
    /// The head that is walked, for messages.
    pub(super) head: String,
    /// Pages and nodes that heads name, each once, by key epoch.
    pub(super) live: BTreeMap<KeyEpoch, Live>,
    /// Segments without a file, of which nothing was in use so far.
    missing: BTreeSet<SegmentId>,
    pub(super) last: Last,
}

/// What was looked up last: neighbours in a leaf ask for the same.
#[derive(Debug, Default)]
pub(super) struct Last {
    /// A segment with a file of its own, and the slots of it that were written.
    written: Option<(SegmentId, u32)>,
    /// Slots that have one salt.
    salted: Option<Range<SlotAddr>>,
    lineage: Option<(KeyEpoch, Option<LineageEpoch>)>,
}

/// What a walk has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub nodes: u64,
    pub pages: u64,
    pub pages_read: u64,
    pub pages_opened: u64,
    pub pages_locked: u64,
}

/// What of a key epoch is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub pages: u64,
    pub nodes: u64,
}

/// What lies in and below a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    /// Least page number it says it may hold.
    first: u64,
    /// Greatest page number it holds.
    last: u64,
    /// Its lineage epoch, if it is known: those below are above it.
    lineage: Option<LineageEpoch>,
    /// Pages with contents, if all below could be read.
    pages: Option<u64>,
}

/// How the birth of something relates to that of what refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    Fits,
    Newer,
    Elsewhere,
}

impl<'a, 's, 'w> Walk<'a, 's, 'w> {
    pub fn new(
        image: &'a Image<'a>,
        lineages: &'a Forest,
        findings: &'s mut Findings,
        reader: Reader<'s, 'a>,
        ahead: Option<&'a ThreadPool>,
        watch: &'s mut Watch<'w>,
    ) -> Self {
        let mut walk = Self {
            image,
            lineages,
            findings,
            reader,
            ahead,
            watch,
            claims: Claims::new(image.superblock.geometry.segment_slots),
            nodes: HashMap::new(),
            spans: HashMap::new(),
            counts: Counts::default(),
            lost: Lost::default(),
            head: String::new(),
            live: BTreeMap::new(),
            missing: missing(image),
            last: Last::default(),
        };
        for &(at, count) in &image.headers {
            if image.is_written(at, count) {
                walk.claim(at, count, Claimant::header(at));
            }
        }
        walk
    }

    /// Checks the page table of a head.
    pub fn head(&mut self, head: &Head) {
        self.head = head.describe();
        let tree = head.root.and_then(|root| self.node(&root, None));
        if let (Some(root), Some(summary)) = (head.root, tree)
            && self.birth(summary.lineage, Some(head.record.lineage)) != Birth::Fits
        {
            let message = format!("{} does not descend from it", head.describe());
            self.findings
                .add(codes::NODE_OUTSIDE_LINEAGE, root.at, message);
        }
        let mapped = match head.root {
            None => Some(0),
            Some(_) => tree.and_then(|summary| summary.pages),
        };
        if let (Some(said), Some(mapped)) = (head.page_count, mapped)
            && said != mapped
        {
            let message = format!("{said} pages, but its page table has {mapped}");
            self.findings
                .add(codes::HEAD_PAGE_COUNT, head.place(), message);
        }
        self.overlay(head);
        let end = head.record.len / u64::from(self.image.superblock.geometry.page_len);
        if let Some(summary) = tree
            && summary.last >= end
            && !head.spans.unmaps(end, summary.last)
        {
            let message = format!("page {} or one before is mapped", summary.last);
            self.findings
                .add(codes::PAGE_BEYOND_END, head.place(), message);
        }
    }

    /// Checks a node and all below it, once. It may have been read already.
    fn node(&mut self, node: &NodeRef, read: Option<ReadNode>) -> Option<Summary> {
        if let Some(known) = self.nodes.get(node) {
            return *known;
        }
        let summary = self.new_node(node, read);
        self.nodes.insert(*node, summary);
        summary
    }

    fn new_node(&mut self, node: &NodeRef, read: Option<ReadNode>) -> Option<Summary> {
        if self.watch.is_cancelled() {
            return None;
        }
        if !self.is_written(node.at, 1) {
            let message = "a node should be there, but it was never written";
            self.findings.add(codes::NODE_NOT_WRITTEN, node.at, message);
            return None;
        }
        if self.claim(node.at, 1, Claimant::node(&node.hash)) == Claim::New {
            self.live.entry(node.key_epoch).or_default().nodes += 1;
        }
        let read = match read.unwrap_or_else(|| self.image.files.read_node(node)) {
            Ok(read) => read,
            Err(trouble) => {
                self.findings.add(node_code(&trouble), node.at, trouble);
                return None;
            }
        };
        self.counts.nodes += 1;
        self.watch.advance(SLOT_LEN as u64);
        let lineage = self.lineage_of(node.key_epoch);
        if lineage.is_none() {
            let message = format!("its key epoch {} does not exist", node.key_epoch);
            self.findings
                .add(codes::NODE_KEY_EPOCH_UNKNOWN, node.at, message);
        }
        let (first, last, pages) = match &read.items {
            Items::Leaf(pages) => {
                for (page, entry) in pages {
                    self.entry(*page, entry, node.at, lineage);
                }
                let data = pages
                    .iter()
                    .filter(|(_, entry)| matches!(entry, Entry::Data(_)));
                let count = data.count() as u64;
                (pages.first()?.0.0, pages.last()?.0.0, Some(count))
            }
            Items::Inner { children, .. } => {
                let first = children.first()?.0.0;
                let (last, pages) = self.children(children, node, lineage);
                (first, last, pages)
            }
        };
        Some(Summary {
            first,
            last,
            lineage,
            pages,
        })
    }

    /// Checks the children of a node; gives the greatest page below, and how many have contents.
    fn children(
        &mut self,
        children: &[(PageNo, NodeRef)],
        node: &NodeRef,
        lineage: Option<LineageEpoch>,
    ) -> (u64, Option<u64>) {
        let (mut last, mut pages) = (0, Some(0_u64));
        let mut ahead = self.read_ahead(children).into_iter();
        let ends = children.iter().skip(1).map(|(next, _)| next.0);
        let ends = ends.map(Some).chain(std::iter::once(None));
        for ((first, child), end) in children.iter().zip(ends) {
            let Some(below) = self.node(child, ahead.next().flatten()) else {
                pages = None;
                continue;
            };
            pages = pages
                .zip(below.pages)
                .and_then(|(sum, more)| sum.checked_add(more));
            last = last.max(below.last);
            if below.first < first.0 || end.is_some_and(|end| below.last >= end) {
                let message = format!(
                    "it holds pages {} to {}; its parent at {} says from {first}{}",
                    below.first,
                    below.last,
                    node.at,
                    end.map(|end| format!(" to below {end}"))
                        .unwrap_or_default(),
                );
                self.findings.add(codes::NODE_RANGE, child.at, message);
            }
            match self.birth(below.lineage, lineage) {
                Birth::Fits => {}
                Birth::Newer => self.born_later(child.key_epoch, child.at, node.at),
                Birth::Elsewhere => {
                    let message = format!("its parent at {} is of another branch", node.at);
                    self.findings
                        .add(codes::NODE_OUTSIDE_LINEAGE, child.at, message);
                }
            }
        }
        (last, pages)
    }

    /// Has all threads read and decode nodes that the walk comes to next, and was not at.
    fn read_ahead(&self, children: &[(PageNo, NodeRef)]) -> Vec<Option<ReadNode>> {
        let Some(pool) = self.ahead else {
            return Vec::new();
        };
        let (known, files) = (&self.nodes, &self.image.files);
        let read = |(_, child): &(PageNo, NodeRef)| {
            let is_new = !known.contains_key(child);
            is_new.then(|| files.read_node(child))
        };
        pool.install(|| children.par_iter().map(read).collect())
    }

    /// Whether all nodes could be read. If not, what lies below one may be named there, and nobody can tell.
    pub fn is_whole(&self) -> bool {
        self.nodes.values().all(Option::is_some)
    }

    /// Compares what is in use of each key epoch with what the tables say. What the log changed they do not know.
    pub fn check_counts(&mut self) {
        let state = &self.image.state;
        let has_deleted = state.heads.values().any(Head::is_deleted);
        let is_comparable = self.image.log_batches == 0 && !has_deleted && self.is_whole();
        for record in state.key_epochs.values().filter(|_| is_comparable) {
            let found = self
                .live
                .get(&record.key_epoch)
                .copied()
                .unwrap_or_default();
            let (pages, nodes) = (record.live_pages, record.live_nodes);
            if found != (Live { pages, nodes }) {
                let Live {
                    pages: has,
                    nodes: and,
                } = found;
                let message =
                    format!("{pages} pages and {nodes} nodes, but {has} and {and} are in use");
                let place = format!("key epoch {}", record.key_epoch);
                self.findings.add(codes::KEY_EPOCH_COUNTS, place, message);
            }
        }
        let born = self
            .live
            .keys()
            .filter_map(|key_epoch| state.lineage_of(*key_epoch));
        for record in born.filter_map(|lineage| state.lineages.get(&lineage)) {
            if !record.changed {
                let place = format!("lineage epoch {}", record.lineage);
                let message = "it is said to be unchanged, and something was born in it";
                self.findings.add(codes::LINEAGE_UNCHANGED, place, message);
            }
        }
    }

    /// Whether slots were ever written, as far as that is known.
    pub(super) fn is_written(&mut self, at: SlotAddr, slots: u32) -> bool {
        let end = at.slot.checked_add(slots);
        if let Some((segment, written)) = self.last.written
            && segment == at.segment
        {
            return at.slot > 0 && end.is_some_and(|end| end <= written);
        }
        if self.image.files.packed.pack(at.segment).is_none() {
            self.last.written = Some((at.segment, self.image.written_in(at.segment)));
        }
        self.image.is_written(at, slots)
    }

    /// Whether there is a salt for a slot.
    pub(super) fn has_salt(&mut self, at: SlotAddr) -> bool {
        let known = self.last.salted.as_ref();
        if known.is_some_and(|span| span.contains(&at)) {
            return true;
        }
        self.last.salted = self.image.state.salt_span(at);
        self.last.salted.is_some()
    }

    /// The lineage epoch of a key epoch.
    pub(super) fn lineage_of(&mut self, key_epoch: KeyEpoch) -> Option<LineageEpoch> {
        match self.last.lineage {
            Some((last, lineage)) if last == key_epoch => lineage,
            _ => {
                let lineage = self.image.state.lineage_of(key_epoch);
                self.last.lineage = Some((key_epoch, lineage));
                lineage
            }
        }
    }

    /// Whether the file of slots is not there, and nothing in it was in use so far.
    pub(super) fn is_missed(&self, at: SlotAddr) -> bool {
        self.missing.contains(&at.segment)
    }

    /// Reports the file of slots that are in use, once, if it is not there.
    pub(super) fn in_use(&mut self, at: SlotAddr) {
        if !self.missing.remove(&at.segment) {
            return;
        }
        let (code, name) = match self.image.files.packed.pack(at.segment) {
            Some(pack) => (codes::PACK_MISSING, pack_file_name(pack)),
            None => (codes::SEGMENT_MISSING, segment_file_name(at.segment)),
        };
        self.findings
            .add(code, format!("file {name}"), Damage::Missing);
    }

    /// Compares births. What is not known was reported, so it fits.
    pub fn birth(&self, below: Option<LineageEpoch>, holder: Option<LineageEpoch>) -> Birth {
        let (Some(below), Some(holder)) = (below, holder) else {
            return Birth::Fits;
        };
        if below == holder {
            return Birth::Fits;
        }
        let known = self.lineages.contains(below.0) && self.lineages.contains(holder.0);
        if !known || self.lineages.is_above(below.0, holder.0) {
            Birth::Fits
        } else if self.lineages.is_above(holder.0, below.0) {
            Birth::Newer
        } else {
            Birth::Elsewhere
        }
    }
}

/// The segments that are known and have no file. What is missing in the log was reported.
fn missing(image: &Image<'_>) -> BTreeSet<SegmentId> {
    let packed = image.state.in_pack.iter();
    let packed = packed.filter(|(_, pack)| !image.files.has(&pack_file_name(**pack)));
    let own = image.state.segments.keys().filter(|segment| {
        image.files.packed.pack(**segment).is_none()
            && **segment < image.kept_from
            && !image.files.has(&segment_file_name(**segment))
    });
    let packed = packed.map(|(segment, _)| segment);
    packed.chain(own).copied().collect()
}

fn node_code(trouble: &Trouble) -> Code {
    match trouble {
        Trouble::Damage(Damage::BadHash | Damage::Truncated | Damage::Missing) | Trouble::Io(_) => {
            codes::NODE_DAMAGED
        }
        Trouble::Damage(_) => codes::NODE_MALFORMED,
    }
}

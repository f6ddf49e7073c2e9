//! What the catalog says, as of a place in the log.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::check::codes;
use crate::check::files::{Files, Trouble};
use crate::check::finding::{Findings, Place};
use crate::check::spans::Spans;
use crate::error::Damage;
use crate::format::catalog::{
    HeadKind, HeadRecord, HeadState, KeyEpochRecord, LineageRecord, RootSource, SegmentRecord,
};
use crate::format::entry::{DataEntry, Entry};
use crate::format::node::{Items, NodeRef};
use crate::format::pack::PackRecord;
use crate::format::quota::Quota;
use crate::format::record::Record;
use crate::format::slots::{SlotsPurpose, SlotsRecord};
use crate::slots::SlotSet;
use crate::units::{HeadId, KeyEpoch, LineageEpoch, PackId, PageNo, SegmentId, SlotAddr};

/// The catalog, and what the log changed in page tables.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub heads: BTreeMap<HeadId, Head>,
    pub lineages: BTreeMap<LineageEpoch, LineageRecord>,
    pub key_epochs: BTreeMap<KeyEpoch, KeyEpochRecord>,
    pub segments: BTreeMap<SegmentId, SegmentRecord>,
    pub quota: Quota,
    /// Slots that the tables say live items take.
    pub live: SlotSet,
    /// Pages and nodes that the tables count as live.
    pub counted: (u64, u64),
    /// Deadlists, and where they are.
    pub dead: Vec<(SlotsRecord, SlotAddr)>,
    pub packs: BTreeMap<PackId, PackRecord>,
    /// The pack that a virtual segment is in, if it is in one.
    pub in_pack: BTreeMap<SegmentId, PackId>,
    /// Salts by the first slot they are for.
    pub salts: BTreeMap<SlotAddr, [u8; 12]>,
}

/// A head and its page table: a tree under what the log says.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub record: HeadRecord,
    pub root: Option<NodeRef>,
    /// Pages with contents that the tables say are below the root.
    pub page_count: Option<u64>,
    pub spans: Spans,
}

impl Head {
    pub fn is_deleted(&self) -> bool {
        self.record.state == HeadState::Deleted
    }

    /// Kind and name, for messages.
    pub fn describe(&self) -> String {
        let kind = match self.record.kind {
            HeadKind::Volume => "volume",
            HeadKind::Snapshot => "snapshot",
            HeadKind::Pin => "pin",
        };
        format!("{kind} {:?}", self.record.name)
    }

    /// Where something is that concerns the head as a whole.
    pub fn place(&self) -> Place {
        Place {
            head: Some(self.describe()),
            ..self.describe().into()
        }
    }

    /// What a page is, by the log or else by the tree.
    pub fn entry(&self, files: &Files<'_>, page: PageNo) -> Result<Option<Entry>, Trouble> {
        self.entry_by(files, page, &mut |_| {})
    }

    /// Whether a page is that one. What cannot be told is not.
    pub fn maps(&self, files: &Files<'_>, page: PageNo, entry: &DataEntry) -> bool {
        self.entry(files, page).ok() == Some(Some(Entry::Data(*entry)))
    }

    /// The same as [`Self::entry`], and tells by which nodes; of those the last is the one that cannot be read, if so.
    pub fn entry_by(
        &self,
        files: &Files<'_>,
        page: PageNo,
        note: &mut dyn FnMut(SlotAddr),
    ) -> Result<Option<Entry>, Trouble> {
        match (self.spans.get(page), self.root) {
            (Some(value), _) => Ok(value),
            (None, Some(root)) => find(files, root, page, note),
            (None, None) => Ok(None),
        }
    }
}

impl Head {
    /// Gives the pages with contents in a range, by the log or else by the tree.
    pub fn each_page(
        &self,
        files: &Files<'_>,
        range: &Range<PageNo>,
        give: &mut dyn FnMut(&DataEntry),
    ) -> Result<(), Trouble> {
        if let Some(root) = self.root {
            self.pages_below(files, &root, range, give)?;
        }
        self.spans.each(range, &mut |span| {
            if let Some(Entry::Data(data)) = &span.value {
                give(data);
            }
        });
        Ok(())
    }

    fn pages_below(
        &self,
        files: &Files<'_>,
        node: &NodeRef,
        range: &Range<PageNo>,
        give: &mut dyn FnMut(&DataEntry),
    ) -> Result<(), Trouble> {
        match &files.node(node)?.items {
            Items::Leaf(items) => {
                let first = items.partition_point(|(page, _)| *page < range.start);
                let items = items.iter().skip(first);
                for (page, entry) in items.take_while(|(page, _)| *page < range.end) {
                    if let Entry::Data(data) = entry
                        && self.spans.get(*page).is_none()
                    {
                        give(data);
                    }
                }
            }
            Items::Inner { children, .. } => {
                let after = children.partition_point(|(first, _)| *first <= range.start);
                let children = children.iter().skip(after.saturating_sub(1));
                for (_, child) in children.take_while(|(first, _)| *first < range.end) {
                    self.pages_below(files, child, range, give)?;
                }
            }
        }
        Ok(())
    }
}

/// Looks a page up in a tree.
fn find(
    files: &Files<'_>,
    root: NodeRef,
    page: PageNo,
    note: &mut dyn FnMut(SlotAddr),
) -> Result<Option<Entry>, Trouble> {
    let mut at = root;
    loop {
        note(at.at);
        // Levels fall by one, or the node does not decode: this ends.
        match &files.node(&at)?.items {
            Items::Leaf(pages) => {
                let found = pages.binary_search_by_key(&page, |(page, _)| *page).ok();
                let entry = found.and_then(|index| pages.get(index));
                return Ok(entry.map(|(_, entry)| *entry));
            }
            Items::Inner { children, .. } => {
                let after = children.partition_point(|(first, _)| *first <= page);
                match after.checked_sub(1).and_then(|index| children.get(index)) {
                    Some((_, child)) => at = *child,
                    None => return Ok(None),
                }
            }
        }
    }
}

impl State {
    /// The lineage epoch of a key epoch.
    pub fn lineage_of(&self, key_epoch: KeyEpoch) -> Option<LineageEpoch> {
        self.key_epochs.get(&key_epoch).map(|record| record.lineage)
    }

    /// The salt for pages in a slot.
    pub fn salt(&self, at: SlotAddr) -> Option<[u8; 12]> {
        let first = SlotAddr { slot: 0, ..at };
        self.salts
            .range(first..=at)
            .next_back()
            .map(|(_, &salt)| salt)
    }

    /// Notes where virtual segments are from a pack's record on. Whether the pack was known.
    pub fn add_pack(&mut self, record: PackRecord) -> bool {
        let pack = record.pack;
        let known = self.packs.contains_key(&pack);
        self.in_pack.retain(|_, other| *other != pack);
        for &segment in &record.segments {
            self.in_pack.insert(segment, pack);
        }
        self.packs.insert(pack, record);
        known
    }

    /// The places from which on and up to which the salt for a slot is the one, if there is one.
    pub fn salt_span(&self, at: SlotAddr) -> Option<std::ops::Range<SlotAddr>> {
        let first = SlotAddr { slot: 0, ..at };
        let (&from, _) = self.salts.range(first..=at).next_back()?;
        let end = SlotAddr {
            slot: u32::MAX,
            ..at
        };
        let next = self.salts.range(at..).find(|(next, _)| **next > at);
        Some(from..next.map_or(end, |(&next, _)| next.min(end)))
    }

    /// Takes over what a later state, of which parts are lost, knows better.
    pub fn absorb(&mut self, later: Self) {
        self.heads.extend(later.heads);
        self.lineages.extend(later.lineages);
        self.key_epochs.extend(later.key_epochs);
        self.segments.extend(later.segments);
        self.salts.extend(later.salts);
        self.live.add(&later.live);
        for record in later.packs.into_values() {
            self.add_pack(record);
        }
    }

    /// Takes up a record of a table batch.
    pub fn add_table_record(&mut self, record: Record, at: SlotAddr, findings: &mut Findings) {
        let (what, twice) = match record {
            Record::Head(record) => {
                let root = match record.root {
                    RootSource::Empty => None,
                    RootSource::Node(node) => Some(node),
                    RootSource::Keep | RootSource::CopyOf(_) => {
                        let message = format!("head {} has no root of its own", record.head);
                        findings.add(codes::TABLE_RECORD, at, message);
                        None
                    }
                };
                let id = record.head;
                let head = Head {
                    page_count: Some(record.page_count),
                    record: *record,
                    root,
                    spans: Spans::default(),
                };
                (format!("head {id}"), self.heads.insert(id, head).is_some())
            }
            Record::Lineage(record) => (
                format!("lineage epoch {}", record.lineage),
                self.lineages.insert(record.lineage, record).is_some(),
            ),
            Record::KeyEpoch(record) => {
                let (pages, nodes) = self.counted;
                let pages = pages.saturating_add(record.live_pages);
                self.counted = (pages, nodes.saturating_add(record.live_nodes));
                (
                    format!("key epoch {}", record.key_epoch),
                    self.key_epochs.insert(record.key_epoch, *record).is_some(),
                )
            }
            Record::Segment(record) => (
                format!("segment {}", record.segment),
                self.segments.insert(record.segment, record).is_some(),
            ),
            Record::Pack(record) => (format!("pack {}", record.pack), self.add_pack(*record)),
            Record::Salt(record) => {
                let first = SlotAddr {
                    segment: record.segment,
                    slot: record.first_slot,
                };
                (
                    format!("salt of {first}"),
                    self.salts.insert(first, record.salt).is_some(),
                )
            }
            Record::Slots(record) => {
                if record.purpose == SlotsPurpose::Live {
                    for (slot, count) in record.runs {
                        let segment = record.segment;
                        self.live.insert_run(SlotAddr { segment, slot }, count);
                    }
                } else {
                    self.dead.push((record, at));
                }
                return;
            }
            // It bounds what comes, and says nothing of what is there.
            Record::Quota(quota) => {
                self.quota = quota;
                return;
            }
            Record::Pages { .. }
            | Record::Zeroes(_)
            | Record::Discard(_)
            | Record::Lost(_)
            | Record::Nodes(_)
            | Record::Summary(_)
            | Record::Table { .. } => {
                let damage = Damage::Inconsistent("a record of the log is in a table");
                findings.add(codes::TABLE_RECORD, at, damage);
                return;
            }
        };
        if twice {
            findings.add(codes::ID_DUPLICATE, at, format!("{what} is there twice"));
        }
    }
}

//! Heads, names, lineage and key epochs, and what a record does to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use crate::btree::{Dropped, Fanout, NodeSource, PageTable};
use crate::catalog::space::Space;
use crate::error::{Damage, Error, Result};
use crate::format::catalog::{
    HeadKind, HeadRecord, HeadState, KeyEpochRecord, LineageRecord, RootSource,
};
use crate::format::entry::Entry;
use crate::format::node::NodeRef;
use crate::format::quota::Quota;
use crate::format::record::{PageDelta, PageRange, PageRun, Record};
use crate::format::superblock::NextIds;
use crate::lineage::{Buckets, Counts, ItemSet, Lineage, Row};
use crate::sync::Arc;
use crate::units::{HeadId, KeyEpoch, LineageEpoch, Location, PageNo, Seq, SlotAddr};

/// A volume or a snapshot, with its page table.
#[derive(Clone, Debug)]
pub struct Head {
    /// All but the root, which is `Keep` here, and the pages, which are 0.
    pub record: HeadRecord,
    /// The page table.
    pub tree: PageTable,
    /// Pages with contents that it maps.
    pub page_count: u64,
}

/// The state of a store but for its segments.
#[derive(Clone, Debug)]
pub struct Catalog {
    heads: BTreeMap<HeadId, Head>,
    names: HashMap<(HeadKind, String), HeadId>,
    /// Tombstones.
    deleted: BTreeSet<HeadId>,
    pub(super) lineage: Lineage,
    pub(super) key_epochs: BTreeMap<KeyEpoch, KeyEpochRecord>,
    pub(super) space: Space,
    quota: Quota,
    next: NextIds,
}

/// A head's page table after a change, and what the change did to its pages.
#[derive(Debug, Default)]
pub struct Changed<'a> {
    /// The page table; `None` if the pages that were written are to be set in the one that the head
    /// has, in which they are [settable](PageTable::settable). That copies no nodes.
    pub tree: Option<PageTable>,
    /// Pages that were written.
    pub deltas: &'a [PageDelta],
    /// Other pages that were there before.
    pub gone: &'a [PageRun],
}

/// Nodes without an address: how many a change made, and how many are gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChangedNodes {
    /// In the new page table.
    pub made: u64,
    /// With what the head had before.
    pub gone: u64,
}

/// How much there is in a catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatalogCounts {
    /// Heads that are not deleted.
    pub heads: u64,
    /// Tombstones.
    pub deleted_heads: u64,
    /// Lineage epochs.
    pub lineage_epochs: u64,
    /// Key epochs.
    pub key_epochs: u64,
    /// Levels of the highest page table.
    pub tree_levels: u64,
}

/// What applying a record needs beside the catalog.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Loads nodes.
    pub nodes: &'a dyn NodeSource,
    /// Most items in a node.
    pub fanout: Fanout,
    /// The batch that the record is in, for messages.
    pub at: SlotAddr,
    /// Its place in the order.
    pub seq: Seq,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Context<'_> {
    fn inconsistent(&self, what: &'static str) -> Error {
        self.corrupt(Damage::Inconsistent(what))
    }

    fn corrupt(&self, damage: Damage) -> Error {
        Error::Corrupt {
            location: Location::Slot(self.at),
            damage,
        }
    }
}

impl Catalog {
    /// An empty catalog of a store whose pages take so many slots each.
    pub fn new(next: NextIds, page_slots: u32) -> Self {
        Self {
            heads: BTreeMap::new(),
            names: HashMap::new(),
            deleted: BTreeSet::new(),
            lineage: Lineage::default(),
            key_epochs: BTreeMap::new(),
            space: Space::new(page_slots),
            quota: Quota::default(),
            next,
        }
    }

    /// The next unused ids.
    pub fn next(&self) -> NextIds {
        self.next
    }

    /// A head that is not deleted.
    pub fn head(&self, id: HeadId) -> Option<&Head> {
        self.heads
            .get(&id)
            .filter(|head| head.record.state != HeadState::Deleted)
    }

    /// A head, be it deleted.
    pub fn any_head(&self, id: HeadId) -> Option<&Head> {
        self.heads.get(&id)
    }

    /// All heads, tombstones included, in the order of their numbers.
    pub fn heads(&self) -> impl Iterator<Item = &Head> {
        self.heads.values()
    }

    /// Deleted heads that wait to be removed, in the order of their numbers.
    pub fn deleted(&self) -> impl Iterator<Item = &Head> {
        self.deleted.iter().filter_map(|id| self.heads.get(id))
    }

    /// The head of that name, in the form that the checks of names return.
    pub fn find(&self, kind: HeadKind, name: &str) -> Option<&Head> {
        self.names
            .get(&(kind, name.to_owned()))
            .and_then(|&id| self.head(id))
    }

    /// A key epoch.
    pub fn key_epoch(&self, id: KeyEpoch) -> Option<&KeyEpochRecord> {
        self.key_epochs.get(&id)
    }

    /// How much the store may take.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Heads that are not deleted.
    pub fn live_count(&self) -> u64 {
        self.names.len() as u64
    }

    /// How much there is of everything.
    pub fn counts(&self) -> CatalogCounts {
        let deleted_heads = self.deleted.len() as u64;
        let levels = self.heads().map(|head| head.tree.level_count());
        CatalogCounts {
            heads: self.heads.len() as u64 - deleted_heads,
            deleted_heads,
            lineage_epochs: self.lineage.records().count() as u64,
            key_epochs: self.key_epochs.len() as u64,
            tree_levels: levels.max().unwrap_or(0).into(),
        }
    }

    /// The lineage tree.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Shows a change of a head's pages or nodes, which is in the batch of the context.
    pub fn install(
        &mut self,
        id: HeadId,
        changed: Changed<'_>,
        context: Context<'_>,
    ) -> ChangedNodes {
        let Some(head) = self.heads.get_mut(&id) else {
            return ChangedNodes::default();
        };
        match changed.tree {
            Some(tree) => head.tree = tree,
            None => {
                for delta in changed.deltas {
                    let set = set_page(&mut head.tree, delta, context);
                    set.expect("BUG: a page that is settable was not set");
                }
            }
        }
        let made = head.tree.take_made();
        let dropped = head.tree.take_dropped();
        let lineage = head.record.lineage;
        let mut count = head.page_count;
        for delta in changed.deltas {
            count = count.saturating_add(delta.old_at.is_none().into());
            self.space.page_born(&mut self.lineage, &delta.entry);
            if let (Some(at), Some(key_epoch)) = (delta.old_at, delta.old_key_epoch) {
                self.space
                    .page_let_go(&mut self.lineage, lineage, at, key_epoch);
            }
        }
        for run in changed.gone {
            count = count.saturating_sub(run.count.into());
            self.space.run_let_go(&mut self.lineage, lineage, run);
        }
        if let Some(head) = self.heads.get_mut(&id) {
            head.page_count = count;
        }
        let mut gone = 0;
        for node in dropped {
            match node {
                Dropped::Written(at) => self.space.node_let_go(&mut self.lineage, lineage, &at),
                // If nobody else refers to it, it never gets an address.
                Dropped::Unwritten(node) if Arc::strong_count(&node) > 1 => {
                    node.note_let_go(lineage, context.seq);
                }
                Dropped::Unwritten(_) => gone += 1,
            }
        }
        self.lineage.mark_changed(lineage);
        ChangedNodes { made, gone }
    }

    /// Gives a head the written form of the page table it has, if it still has that one.
    pub fn install_written(&mut self, id: HeadId, before: &PageTable, written: PageTable) {
        if let Some(head) = self
            .heads
            .get_mut(&id)
            .filter(|head| head.tree.same_as(before))
        {
            head.tree = written;
        }
    }

    /// Does what a record says. On an error the catalog must not be used any more.
    pub fn apply(&mut self, record: &Record, context: Context<'_>) -> Result<()> {
        match record {
            Record::Pages { head, deltas } => {
                let mut tree = self.tree_of(*head, context)?;
                for delta in deltas {
                    let entry = Entry::Data(delta.entry);
                    let old = tree.overlay(context.nodes, delta.page, entry)?;
                    if old.is_some() && !delta.replaces(old.as_ref()) {
                        return Err(context.inconsistent("a page replaces another than it says"));
                    }
                }
                let changed = Changed {
                    tree: Some(tree),
                    deltas,
                    ..Changed::default()
                };
                self.install(*head, changed, context);
            }
            Record::Zeroes(range) | Record::Lost(range) => {
                let mut tree = self.tree_of(range.head, context)?;
                let key_epoch = range.key_epoch;
                let entry = match record {
                    Record::Lost(_) => Entry::Lost { key_epoch },
                    _ => Entry::Zero { key_epoch },
                };
                for page in range.pages().start.0..range.pages().end.0 {
                    tree.overlay(context.nodes, PageNo(page), entry)?;
                }
                self.install_cleared(range, tree, context);
            }
            Record::Discard(range) => {
                let mut tree = self.tree_of(range.head, context)?;
                if discard(&mut tree, range, context)? {
                    self.install_cleared(range, tree, context);
                }
            }
            Record::Head(record) => self.apply_head(record, context)?,
            Record::Lineage(record) => self.apply_lineage(record, context)?,
            Record::KeyEpoch(record) => {
                let after = after(record.key_epoch.0, "key_epoch", context)?;
                self.next.key_epoch = self.next.key_epoch.max(KeyEpoch(after));
                let row = Row {
                    key_epoch: record.key_epoch,
                    lineage: record.lineage,
                    live: Counts {
                        pages: record.live_pages,
                        nodes: record.live_nodes,
                    },
                };
                let loaded = self.lineage.load_row(&row);
                loaded.map_err(|damage| context.corrupt(damage))?;
                let record = KeyEpochRecord {
                    live_pages: 0,
                    live_nodes: 0,
                    ..(**record).clone()
                };
                self.key_epochs.insert(record.key_epoch, record);
            }
            Record::Slots(record) => {
                let loaded = self.space.load(&mut self.lineage, record);
                loaded.map_err(|damage| context.corrupt(damage))?;
            }
            Record::Quota(quota) => self.quota = *quota,
            // These say where things are, not what they are.
            Record::Nodes(_)
            | Record::Segment(_)
            | Record::Salt(_)
            | Record::Table { .. }
            | Record::Summary(_)
            | Record::Pack(_) => {}
        }
        Ok(())
    }

    /// Installs what is left of a page table after a range was cleared.
    fn install_cleared(&mut self, range: &PageRange, tree: PageTable, context: Context<'_>) {
        let changed = Changed {
            tree: Some(tree),
            gone: &range.gone,
            ..Changed::default()
        };
        self.install(range.head, changed, context);
    }

    fn apply_lineage(&mut self, record: &LineageRecord, context: Context<'_>) -> Result<()> {
        let after = after(record.lineage.0, "lineage", context)?;
        self.next.lineage = self.next.lineage.max(LineageEpoch(after));
        let inserted = match record.beside {
            Some(sibling) => self
                .lineage
                .insert_beside(record.lineage, sibling)
                .map(drop),
            None => self.lineage.insert(record),
        };
        inserted.map_err(|damage| context.corrupt(damage))
    }

    fn pages_of(&self, id: HeadId, context: Context<'_>) -> Result<(PageTable, u64)> {
        let tree = self.tree_of(id, context)?;
        Ok((tree, self.heads.get(&id).map_or(0, |head| head.page_count)))
    }

    fn tree_of(&self, id: HeadId, context: Context<'_>) -> Result<PageTable> {
        match self.heads.get(&id) {
            Some(head) => Ok(head.tree.clone()),
            None => Err(context.inconsistent("pages of a head that does not exist")),
        }
    }

    /// Folds in what recovery left over a head's page table, before its epoch ends: the nodes are
    /// born in that one, and a head that is branched off now shares them.
    fn end_epoch(&mut self, id: HeadId, context: Context<'_>) -> Result<()> {
        let Some(head) = self.heads.get(&id).filter(|head| head.tree.is_overlaid()) else {
            return Ok(());
        };
        let mut tree = head.tree.clone();
        let birth = head.record.key_epoch;
        tree.fold(context.nodes, context.fanout, birth, usize::MAX)?;
        let changed = Changed {
            tree: Some(tree),
            ..Changed::default()
        };
        self.install(id, changed, context);
        Ok(())
    }

    fn apply_head(&mut self, record: &HeadRecord, context: Context<'_>) -> Result<()> {
        let known = self.lineage.contains(record.lineage)
            && self.key_epochs.contains_key(&record.key_epoch);
        if !known {
            return Err(context.inconsistent("a head in an epoch that does not exist"));
        }
        let (tree, page_count) = match record.root {
            RootSource::Keep => {
                let old = self.heads.get(&record.head).map(|head| head.record.lineage);
                if old.is_some_and(|old| old != record.lineage) {
                    self.end_epoch(record.head, context)?;
                }
                self.pages_of(record.head, context)?
            }
            RootSource::CopyOf(source) => self.pages_of(source, context)?,
            RootSource::Empty => (PageTable::default(), 0),
            RootSource::Node(node) => (PageTable::from_root(Some(node)), record.page_count),
        };
        if let Some(old) = self.heads.get(&record.head) {
            let key = (old.record.kind, old.record.name.clone());
            if self.names.get(&key) == Some(&record.head) {
                self.names.remove(&key);
            }
        }
        if record.state == HeadState::Deleted {
            self.deleted.insert(record.head);
        } else {
            self.deleted.remove(&record.head);
            self.names
                .insert((record.kind, record.name.clone()), record.head);
        }
        let after = after(record.head.0, "head", context)?;
        self.next.head = self.next.head.max(HeadId(after));
        let record = HeadRecord {
            root: RootSource::Keep,
            page_count: 0,
            ..record.clone()
        };
        let head = Head {
            record,
            tree,
            page_count,
        };
        self.heads.insert(head.record.head, head);
        Ok(())
    }

    /// Takes a head and its open epoch out, with the items that were born in it. Other items may
    /// die with it.
    ///
    /// This is not in the log. After a crash the tombstone is there again, and so is all this.
    pub fn remove_head(&mut self, id: HeadId, own: &Buckets) {
        let Some(head) = self.heads.remove(&id) else {
            return;
        };
        self.deleted.remove(&id);
        let mut freed = ItemSet::default();
        self.lineage.remove(head.record.lineage, own, &mut freed);
        self.space.free_unlogged(&freed);
    }

    /// Whether exactly what heads reach is live: no head waits to be removed, nothing to be hoisted.
    pub fn is_settled(&self) -> bool {
        self.deleted.is_empty() && self.lineage.is_settled()
    }

    /// Lets die what no head reaches any more, on all sides of a branch. Not in the log either.
    pub fn hoist(&mut self) {
        let mut freed = ItemSet::default();
        self.lineage.hoist(&mut freed);
        self.space.free_unlogged(&freed);
    }

    /// Forgets old names of lineage epochs that nobody uses since this state was checkpointed.
    pub fn forget_names(&mut self, checkpointed: &Self) {
        self.lineage
            .forget_names(checkpointed.lineage.merge_count());
    }

    /// What the live items take.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The same, to be changed.
    pub fn space_mut(&mut self) -> &mut Space {
        &mut self.space
    }

    /// Counts a node that got an address, and what was let go of before it had one.
    pub fn node_written(
        &mut self,
        node: &NodeRef,
        let_go_by: impl IntoIterator<Item = LineageEpoch>,
    ) {
        self.space.node_born(&mut self.lineage, node, let_go_by);
    }

    /// The whole catalog as records, but for the roots, which are those of [`Catalog::heads`].
    pub fn table_records(&self) -> Vec<Record> {
        let lineage = self.lineage.records().map(Record::Lineage);
        let keys = self.lineage.rows().filter_map(|row| {
            let record = self.key_epochs.get(&row.key_epoch)?;
            Some(Record::KeyEpoch(Box::new(KeyEpochRecord {
                lineage: row.lineage,
                live_pages: row.live.pages,
                live_nodes: row.live.nodes,
                ..record.clone()
            })))
        });
        let quota = (self.quota != Quota::default()).then_some(Record::Quota(self.quota));
        lineage.chain(keys).chain(quota).collect()
    }

    /// What lives and what waits, as records. They follow those of the heads.
    pub fn space_records(&self) -> Vec<Record> {
        self.space.records(&self.lineage)
    }
}

/// Maps a page; gives what was mapped there before.
pub fn set_page(
    tree: &mut PageTable,
    delta: &PageDelta,
    context: Context<'_>,
) -> Result<Option<Entry>> {
    let entry = Entry::Data(delta.entry);
    tree.set(
        context.nodes,
        context.fanout,
        delta.entry.key_epoch,
        delta.page,
        entry,
    )
}

/// Makes pages something without contents.
pub fn set_range(
    tree: &mut PageTable,
    range: &PageRange,
    entry: Entry,
    context: Context<'_>,
) -> Result<()> {
    for page in range.pages().start.0..range.pages().end.0 {
        tree.set(
            context.nodes,
            context.fanout,
            range.key_epoch,
            PageNo(page),
            entry,
        )?;
    }
    Ok(())
}

/// The number after one that a record names. The greatest of all has none, and is given to nobody.
fn after(number: u32, what: &'static str, context: Context<'_>) -> Result<u32> {
    let after = number.checked_add(1);
    after.ok_or_else(|| context.corrupt(Damage::OutOfRange(what)))
}

/// The pages with contents that a range of a page table has.
pub fn page_runs(
    tree: &PageTable,
    range: Range<PageNo>,
    page_slots: u32,
    context: Context<'_>,
) -> Result<Vec<PageRun>> {
    let mut runs = Vec::new();
    for item in tree.iter(context.nodes, range) {
        if let (_, Entry::Data(page)) = item? {
            PageRun::push(&mut runs, &page, page_slots);
        }
    }
    Ok(runs)
}

/// Unmaps pages; says whether any was mapped.
pub fn discard(tree: &mut PageTable, range: &PageRange, context: Context<'_>) -> Result<bool> {
    tree.remove_range(
        context.nodes,
        context.fanout,
        range.key_epoch,
        range.pages(),
    )
}

//! Heads, names, lineage and key epochs, and what a record does to them.

use std::collections::{BTreeMap, HashMap};

use crate::btree::{Fanout, NodeSource, PageTable};
use crate::error::{Damage, Error, Result};
use crate::format::catalog::{HeadKind, HeadRecord, HeadState, KeyEpochRecord, RootSource};
use crate::format::entry::Entry;
use crate::format::record::{PageDelta, PageRange, Record};
use crate::format::superblock::NextIds;
use crate::lineage::LineageTree;
use crate::units::{HeadId, KeyEpoch, LineageEpoch, Location, PageNo, SlotAddr};

/// A volume or a snapshot, with its page table.
#[derive(Clone, Debug)]
pub struct Head {
    /// All but the root, which is `Keep` here.
    pub record: HeadRecord,
    /// The page table.
    pub tree: PageTable,
}

/// The state of a store but for its segments.
#[derive(Clone, Debug)]
pub struct Catalog {
    heads: BTreeMap<HeadId, Head>,
    names: HashMap<(HeadKind, String), HeadId>,
    lineage: LineageTree,
    key_epochs: BTreeMap<KeyEpoch, KeyEpochRecord>,
    next: NextIds,
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
        Error::Corrupt {
            location: Location::Slot(self.at),
            damage: Damage::Inconsistent(what),
        }
    }
}

impl Catalog {
    /// An empty catalog.
    pub fn new(next: NextIds) -> Self {
        Self {
            heads: BTreeMap::new(),
            names: HashMap::new(),
            lineage: LineageTree::default(),
            key_epochs: BTreeMap::new(),
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

    /// How much there is of everything.
    pub fn counts(&self) -> CatalogCounts {
        let is_deleted = |head: &&Head| head.record.state == HeadState::Deleted;
        let deleted_heads = self.heads().filter(is_deleted).count() as u64;
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
    pub fn lineage(&self) -> &LineageTree {
        &self.lineage
    }

    /// Gives a head a new page table after a change of its pages or nodes.
    pub fn install(&mut self, id: HeadId, tree: PageTable) {
        if let Some(head) = self.heads.get_mut(&id) {
            head.tree = tree;
            let lineage = head.record.lineage;
            self.lineage.mark_changed(lineage);
        }
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
                self.install(*head, tree);
            }
            Record::Zeroes(range) => {
                let mut tree = self.tree_of(range.head, context)?;
                let entry = Entry::Zero {
                    key_epoch: range.key_epoch,
                };
                for page in range.pages().start.0..range.pages().end.0 {
                    tree.overlay(context.nodes, PageNo(page), entry)?;
                }
                self.install(range.head, tree);
            }
            Record::Discard(range) => {
                let mut tree = self.tree_of(range.head, context)?;
                if discard(&mut tree, range, context)? {
                    self.install(range.head, tree);
                }
            }
            Record::Head(record) => self.apply_head(record, context)?,
            Record::Lineage(record) => {
                self.next.lineage = self.next.lineage.max(LineageEpoch(record.lineage.0 + 1));
                self.lineage.insert(record);
            }
            Record::KeyEpoch(record) => {
                self.next.key_epoch = self.next.key_epoch.max(KeyEpoch(record.key_epoch.0 + 1));
                self.key_epochs.insert(record.key_epoch, (**record).clone());
            }
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

    fn tree_of(&self, id: HeadId, context: Context<'_>) -> Result<PageTable> {
        match self.heads.get(&id) {
            Some(head) => Ok(head.tree.clone()),
            None => Err(context.inconsistent("pages of a head that does not exist")),
        }
    }

    /// The page table that a new head takes from another. Both are to share its nodes, so what
    /// recovery left over them is folded in first, and is born in the epoch above both.
    fn branched(
        &mut self,
        new: &HeadRecord,
        source: HeadId,
        context: Context<'_>,
    ) -> Result<PageTable> {
        let mut tree = self.tree_of(source, context)?;
        if tree.is_overlaid() {
            let epoch = self.key_epochs.get(&new.key_epoch);
            let above = epoch.and_then(|epoch| epoch.above);
            let what = "a head has pages and no key epoch above its branches";
            let birth = above.ok_or_else(|| context.inconsistent(what))?.to;
            tree.fold(context.nodes, context.fanout, birth, usize::MAX)?;
            if let Some(head) = self.heads.get_mut(&source) {
                head.tree = tree.clone();
            }
        }
        Ok(tree)
    }

    fn apply_head(&mut self, record: &HeadRecord, context: Context<'_>) -> Result<()> {
        let known = self.lineage.contains(record.lineage)
            && self.key_epochs.contains_key(&record.key_epoch);
        if !known {
            return Err(context.inconsistent("a head in an epoch that does not exist"));
        }
        let tree = match record.root {
            RootSource::Keep => self.tree_of(record.head, context)?,
            RootSource::CopyOf(source) => self.branched(record, source, context)?,
            RootSource::Empty => PageTable::default(),
            RootSource::Node(node) => PageTable::from_root(Some(node)),
        };
        if let Some(old) = self.heads.get(&record.head) {
            let key = (old.record.kind, old.record.name.clone());
            if self.names.get(&key) == Some(&record.head) {
                self.names.remove(&key);
            }
        }
        if record.state != HeadState::Deleted {
            self.names
                .insert((record.kind, record.name.clone()), record.head);
        }
        self.next.head = self.next.head.max(HeadId(record.head.0 + 1));
        let record = HeadRecord {
            root: RootSource::Keep,
            ..record.clone()
        };
        self.heads.insert(record.head, Head { record, tree });
        Ok(())
    }

    /// The whole catalog as records, but for the roots, which are those of [`Catalog::heads`].
    pub fn table_records(&self) -> Vec<Record> {
        let lineage = self.lineage.records().map(Record::Lineage);
        let keys = self
            .key_epochs
            .values()
            .map(|key| Record::KeyEpoch(Box::new(key.clone())));
        lineage.chain(keys).collect()
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

/// Makes pages explicit zeroes.
pub fn set_zeroes(tree: &mut PageTable, range: &PageRange, context: Context<'_>) -> Result<()> {
    let entry = Entry::Zero {
        key_epoch: range.key_epoch,
    };
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

/// Unmaps pages; says whether any was mapped.
pub fn discard(tree: &mut PageTable, range: &PageRange, context: Context<'_>) -> Result<bool> {
    tree.remove_range(
        context.nodes,
        context.fanout,
        range.key_epoch,
        range.pages(),
    )
}

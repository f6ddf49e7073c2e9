//! What goes on when the disk is full.
//!
//! The reserve is spares: files that are there and written ([`Segments`](crate::segment::Segments)).
//! Whatever makes the store grow is admitted only if with it the reserve still holds what the next
//! checkpoints write, so they, deletes, discards and reclaim always find a place. The rest of the
//! segment at the log's end counts for nothing there: a crash seals it.
//!
//! Who is refused is told so before anything is changed. Before that the store tries to help
//! itself: with more spares, with a checkpoint, and with what reclaim can win.

use std::collections::HashSet;

use crate::btree::PageTable;
use crate::catalog::ChangedNodes;
use crate::error::{Error, Result};
use crate::format::batch::BATCH_HEADER_LEN;
use crate::store::inner::{Commit, Inner};
use crate::store::reclaim::{Goal, Progress};
use crate::sync::{MutexGuard, Ordering};
use crate::units::SLOT_LEN;

/// Checkpoints that the reserve has to hold the tables of: two, after which reclaim may use what
/// died, and one that does not help because somebody deleted meanwhile.
const TABLES: u64 = 3;
/// Slots for what is small: deletes, discards, records of packs. In short segments so many of a segment.
const SMALL_SLOTS: u64 = 64;
const SMALL_SHARE: u64 = 4;
/// A table batch has no more slots, header included.
const TABLE_SLOTS_MAX: u64 = 65;
/// Nodes without an address may take this part of the store before a checkpoint is forced: more than
/// the leaves of one page table can.
const NODES_SHARE: u64 = 16;
/// And at least so much.
const NODES_LEN_MIN: u64 = 1 << 20;
/// A store of more than a segment keeps so many spares: if the process dies again and again, each
/// new log takes one, until two checkpoints give the ones before back.
const SPARES_MIN: usize = 2;
/// Steps of reclaim that one call waits for.
const STEPS_MAX: usize = 256;
/// Records and headers of an operation that changes no pages, in slots.
pub(super) const RECORD_SLOTS: u32 = 2;

/// What the log is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The store grows: this leaves the reserve alone.
    Growth,
    /// The store is to shrink: this may use the reserve, but for what a checkpoint needs.
    Release,
}

/// What the next checkpoint will write, or more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credit {
    /// Nodes without an address; `None` if that has to be counted.
    nodes: Option<u64>,
    /// Slots of the last tables.
    table_slots: u64,
    /// Bytes of records since then, each of which adds no more than that to the tables.
    records_len: u64,
}

/// What keeps an operation from being admitted.
#[derive(Debug)]
enum Shortage {
    /// There are fewer spares than that.
    Spares(usize),
    /// There is no place in the log, and no space for a new segment.
    Segment(Error),
    /// A checkpoint is needed first: there are too many nodes.
    Checkpoint,
}

/// What was tried last.
#[derive(Debug, Default)]
pub(super) struct Relief {
    /// Dead slots that could not be given back; 0 if it is not known that they could not.
    dead: u64,
}

impl Credit {
    /// After tables of so many bytes, and records of so many after them.
    pub fn new(tables_len: u64, records_len: u64) -> Self {
        Self {
            nodes: None,
            table_slots: tables_len.div_ceil(SLOT_LEN as u64),
            records_len,
        }
    }

    /// Notes records of a batch.
    pub fn add_records(&mut self, len: usize) {
        self.records_len += len as u64;
    }

    /// Notes a checkpoint with tables of so many slots. What is left unwritten is counted anew.
    pub fn end_checkpoint(&mut self, table_slots: u64, records_len: u64) {
        *self = Self {
            nodes: None,
            table_slots,
            records_len: self.records_len.saturating_sub(records_len),
        };
    }

    /// Bytes of records since the last tables.
    pub fn records_len(&self) -> u64 {
        self.records_len
    }

    /// Notes a change of a page table.
    pub fn change_nodes(&mut self, changed: ChangedNodes) {
        if let Some(nodes) = &mut self.nodes {
            *nodes = (*nodes + changed.made).saturating_sub(changed.gone);
        }
    }

    /// Slots that tables take by now.
    fn tables(&self, nodes: u64) -> u64 {
        // A node that takes another one's place is in the tables with 16 bytes more at most.
        let more = self.records_len + nodes * 16 + BATCH_HEADER_LEN as u64;
        self.table_slots + more.div_ceil(SLOT_LEN as u64) + 1
    }
}

/// Most nodes in one batch: few enough that the last slots of a segment are not lost for one.
pub(super) fn batch_nodes_max(segment_slots: u32) -> usize {
    let short = (segment_slots - 2).min(6);
    (segment_slots / 8).clamp(short, 256) as usize
}

/// Slots that a segment surely has for batches of a checkpoint: not its header, a summary of the
/// one before, and the rest into which the next batch does not fit.
fn usable_slots(segment_slots: u32) -> u64 {
    let slots = u64::from(segment_slots);
    let batch = (batch_nodes_max(segment_slots) as u64 + 1).max(TABLE_SLOTS_MAX.min(slots / 4));
    let lost = 1 + slots / 8 + batch;
    slots.saturating_sub(lost).max(slots / 2)
}

/// How many nodes a change of so many pages, in a range of so many, makes at most.
pub(super) fn nodes_of(pages: u64, range: u64, items_min: u64, tree: &PageTable) -> u64 {
    let levels = u64::from(tree.level_count()) + 1;
    // Copies of the leaves they are in and of nodes above, and as many new ones.
    let near = range / items_min + 2;
    2 * near.min(pages.saturating_mul(levels)) + 2 * levels
}

impl Inner {
    /// The commit lock, once a batch of at most so many slots that makes at most so many nodes may
    /// be appended. Nothing has happened if this fails.
    pub fn commit_for(
        &self,
        purpose: Purpose,
        slots: u32,
        nodes: u64,
    ) -> Result<MutexGuard<'_, Commit>> {
        loop {
            let mut commit = self.commit.lock();
            self.usable()?;
            match self.shortage(&mut commit, purpose, slots, nodes)? {
                None => return Ok(commit),
                Some(shortage) => {
                    drop(commit);
                    self.provide(shortage)?;
                }
            }
        }
    }

    fn shortage(
        &self,
        commit: &mut Commit,
        purpose: Purpose,
        slots: u32,
        nodes: u64,
    ) -> Result<Option<Shortage>> {
        let segment_slots = self.segments.geometry().segment_slots;
        if commit.credit.nodes.is_none() {
            self.count_nodes(commit)?;
        }
        if purpose == Purpose::Release {
            let left = self.left(commit).saturating_sub(slots.into());
            let short = self.checkpoint_slots(commit, nodes).saturating_sub(left);
            let more = short.div_ceil(usable_slots(segment_slots)) as usize;
            let spares = self.segments.spare_count() + more;
            return Ok((more > 0).then_some(Shortage::Spares(spares)));
        }
        let mut spares = self.spares_needed(commit, nodes);
        if self.segments.spare_count() < spares {
            self.count_nodes(commit)?;
            spares = self.spares_needed(commit, nodes);
        }
        // One change that makes more nodes than there are is not helped by a checkpoint.
        let is_much = commit.credit.nodes.is_some_and(|before| before > nodes);
        if is_much && spares > self.spares_max(commit) {
            return Ok(Some(Shortage::Checkpoint));
        }
        // Never less: spares that were made once are not used up and made again.
        self.segments
            .set_reserve(spares.max(self.segments.reserve()));
        if self.segments.spare_count() < spares {
            return Ok(Some(Shortage::Spares(spares)));
        }
        if commit
            .log
            .needs_segment(segment_slots, slots.min(segment_slots - 1))
        {
            return match commit.log.make_ready(&self.segments) {
                Ok(()) => Ok(None),
                Err(full @ Error::NoSpace { .. }) => Ok(Some(Shortage::Segment(full))),
                Err(error) => Err(error),
            };
        }
        Ok(None)
    }

    /// Counts the nodes that a checkpoint would write.
    fn count_nodes(&self, commit: &mut Commit) -> Result<()> {
        let state = self.state.read();
        let (mut counted, mut nodes) = (HashSet::new(), 0);
        for head in state.heads() {
            nodes += head
                .tree
                .unwritten_max(&self.nodes, self.fanout, &mut counted)?;
        }
        commit.credit.nodes = Some(nodes);
        Ok(())
    }

    /// Slots that a checkpoint would write, if so many nodes more were to be written.
    fn checkpoint_slots(&self, commit: &Commit, more: u64) -> u64 {
        let nodes = commit.credit.nodes.unwrap_or(0) + more;
        self.node_slots(nodes) + commit.credit.tables(nodes)
    }

    /// Slots that nodes take with the headers of their batches: each level of each head has its own.
    fn node_slots(&self, nodes: u64) -> u64 {
        let batch = batch_nodes_max(self.segments.geometry().segment_slots) as u64;
        let heads = self.state.read().live_count() + 1;
        nodes + nodes.div_ceil(batch) + nodes.min(4 * heads)
    }

    /// Slots that are left for what may use the reserve.
    fn left(&self, commit: &Commit) -> u64 {
        let segment_slots = self.segments.geometry().segment_slots;
        let lost = batch_nodes_max(segment_slots) as u64;
        let tail = u64::from(commit.log.room(segment_slots)).saturating_sub(lost);
        tail + self.segments.spare_count() as u64 * usable_slots(segment_slots)
    }

    /// Spares that the reserve must have.
    fn spares_needed(&self, commit: &Commit, more: u64) -> usize {
        let segment_slots = self.segments.geometry().segment_slots;
        let nodes = commit.credit.nodes.unwrap_or(0) + more;
        let small = SMALL_SLOTS.min(u64::from(segment_slots) / SMALL_SHARE);
        let slots = self.node_slots(nodes) + TABLES * commit.credit.tables(nodes) + small;
        let spares = slots.div_ceil(usable_slots(segment_slots)) as usize;
        let is_small = commit.used_len <= u64::from(segment_slots) * SLOT_LEN as u64;
        spares.max(if is_small { 1 } else { SPARES_MIN })
    }

    /// Spares that the reserve may have before a checkpoint is forced.
    fn spares_max(&self, commit: &Commit) -> usize {
        let usable = usable_slots(self.segments.geometry().segment_slots);
        let nodes = self.nodes_max(commit);
        let tables = TABLES * commit.credit.tables(nodes) + SMALL_SLOTS;
        (nodes + tables).div_ceil(usable) as usize + SPARES_MIN
    }

    /// Nodes without an address that there may be: a spare holds them, whatever the store takes.
    fn nodes_max(&self, commit: &Commit) -> u64 {
        let share = (commit.used_len / NODES_SHARE).max(NODES_LEN_MIN) / SLOT_LEN as u64;
        share.max(usable_slots(self.segments.geometry().segment_slots))
    }

    /// How close the reserve is to forcing a checkpoint: at 1 one is due, at 2 it has to wait for.
    pub fn credit_over(&self, commit: &mut Commit) -> f64 {
        let bound = self.nodes_max(commit) as f64 / 2.0;
        let over = |commit: &Commit| commit.credit.nodes.unwrap_or(0) as f64 / bound;
        // What is noted is an upper bound, which only counting lowers.
        if over(commit) >= 1.0 && self.count_nodes(commit).is_err() {
            commit.credit.nodes = None;
        }
        over(commit)
    }

    /// Does something about a shortage. An error says that nothing helps.
    fn provide(&self, shortage: Shortage) -> Result<()> {
        let mut relief = self.relief.lock();
        let full = match shortage {
            Shortage::Spares(count) => match self.make_spares(count) {
                Err(full @ Error::NoSpace { .. }) => full,
                made => return made,
            },
            Shortage::Segment(full) => full,
            Shortage::Checkpoint => {
                drop(relief);
                return self.checkpoint();
            }
        };
        match self.relieve(&mut relief) {
            Ok(true) => Ok(()),
            Ok(false) => Err(full),
            // Reclaim may fail for reasons of its own, which are not the caller's.
            Err(error) => self.usable().and(match error {
                Error::Poisoned => Err(error),
                _ => Err(full),
            }),
        }
    }

    fn make_spares(&self, count: usize) -> Result<()> {
        while self.segments.spare_count() < count {
            self.usable()?;
            self.segments.make_spare()?;
        }
        Ok(())
    }

    /// Fills the reserve up again as far as there is space.
    pub fn restock(&self) -> Result<()> {
        match self.make_spares(self.segments.reserve()) {
            Err(Error::NoSpace { .. }) => Ok(()),
            made => made,
        }
    }

    /// Sees to it, before a store is closed, that the next process finds a reserve.
    pub fn restock_to_close(&self) {
        let closed_at = {
            let last = &self.checkpoint.lock().superblock;
            last.clean.then_some(last.position.seq)
        };
        if closed_at == Some(self.last_seq()) {
            return;
        }
        // What fails here fails in the checkpoint, too, or does not matter to it.
        if self.set_reserve_to_need().is_ok() && self.make_spares(self.segments.reserve()).is_err()
        {
            let _ = self.relieve(&mut self.relief.lock());
        }
    }

    /// Keeps as many spares as the next checkpoints need: a process that has changed little yet does
    /// not know how many those are.
    pub fn set_reserve_to_need(&self) -> Result<()> {
        let mut commit = self.commit.lock();
        self.usable()?;
        self.count_nodes(&mut commit)?;
        let spares = self.spares_needed(&commit, 0);
        self.segments
            .set_reserve(spares.max(self.segments.reserve()));
        Ok(())
    }

    /// Gives space back on a full disk. Says whether there is more now than before.
    fn relieve(&self, relief: &mut Relief) -> Result<bool> {
        if !self.auto_reclaim {
            return Ok(false);
        }
        let (dead, left, checkpoint) = {
            let commit = self.commit.lock();
            let checkpoint = self.checkpoint_slots(&commit, 0);
            (self.dead_slots(&commit), self.left(&commit), checkpoint)
        };
        // It was tried, and little has died since.
        let segment_slots = u64::from(self.segments.geometry().segment_slots);
        if dead < relief.dead + segment_slots / 2 && relief.dead > 0 {
            return Ok(false);
        }
        // Checkpoints take space before they give some back.
        if left < checkpoint {
            return Ok(false);
        }
        let mut is_all = true;
        let gained = self.reclaim_until_enough(&mut is_all);
        relief.dead = match is_all {
            true => self.dead_slots(&self.commit.lock()).max(1),
            false => 0,
        };
        gained
    }

    /// Slots of files that nothing live is in.
    fn dead_slots(&self, commit: &Commit) -> u64 {
        let live = self.state.read().space().live().len();
        (commit.used_len / SLOT_LEN as u64).saturating_sub(live)
    }

    /// Says whether something was won, and whether that was all.
    fn reclaim_until_enough(&self, is_all: &mut bool) -> Result<bool> {
        self.settle_deaths()?;
        let segment_len = u64::from(self.segments.geometry().segment_slots) * SLOT_LEN as u64;
        let mut gained = false;
        for _ in 0..STEPS_MAX {
            let progress: Progress = self.reclaim_some(Goal::Relief)?;
            gained |= progress.freed_bytes + progress.recycled_bytes > 0;
            let free = self.disk.free_len().unwrap_or(0);
            let has_reserve = self.segments.spare_count() > self.segments.reserve();
            *is_all = progress.is_done;
            if *is_all || (has_reserve && free >= 2 * segment_len) {
                break;
            }
        }
        self.restock()?;
        Ok(gained && !self.poisoned.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests;

//! Checkpoints: nodes and tables as batches, then one superblock.
//!
//! Writers go on meanwhile: a checkpoint is of the moment it starts, and what they append is
//! rolled forward from there.

use crate::btree::{Node, PageTable};
use crate::catalog::{Catalog, Changed, Head};
use crate::error::Result;
use crate::format::batch::{header_len, header_slots};
use crate::format::catalog::{HeadRecord, RootSource, SaltRecord, SegmentRecord};
use crate::format::node::{DiskNode, NodeRef};
use crate::format::record::Record;
use crate::format::superblock::{Position, Superblock, TableRef};
use crate::log::table_parts;
use crate::store::inner::{Checkpointed, Commit, Inner};
use crate::store::reserve::batch_nodes_max;
use crate::sync::{Arc, MutexGuard, Ordering};
use crate::units::{HeadId, HeadKeyId, SegmentId, Seq, SlotAddr};

/// Bounds of the log that a recovery rolls forward. Between them it is an eighth of the store:
/// with less, a checkpoint writes more nodes than the log has pages; with more, recovery takes
/// longer.
const LOG_LEN_MIN: u64 = 64 << 20;
const LOG_LEN_MAX: u64 = 4 << 30;
const LOG_SHARE: u64 = 8;
/// Most pages that are folded into a page table at once.
const FOLD_PAGES: usize = 64;
/// Batches of nodes after which a checkpoint flushes.
const FLUSH_BATCHES: u64 = 8;

/// The log that a store of so many bytes may have after its last checkpoint.
pub(super) fn log_bound(used_len: u64) -> u64 {
    (used_len / LOG_SHARE).clamp(LOG_LEN_MIN, LOG_LEN_MAX)
}

/// Why a checkpoint is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// If something happened since the last one.
    Due,
    /// Nothing will be written after it.
    Closing,
    /// So that the last one becomes the older one.
    Forced,
}

/// The state that a checkpoint is of.
struct Moment {
    position: Position,
    summaries: u64,
    log_len: u64,
    records_len: u64,
    /// Everything, once the nodes are written.
    catalog: Catalog,
}

impl Inner {
    /// Sees to it that a checkpoint is made if much was written since the last one.
    pub fn checkpoint_if_due(&self) -> Result<()> {
        self.reclaim_if_crowded()?;
        let over = self.log_over();
        match &self.bell {
            _ if over < 1.0 => Ok(()),
            // Beyond twice the bound whoever writes has to wait.
            Some(bell) if over < 2.0 => {
                bell.checkpoint_due();
                Ok(())
            }
            _ => self.checkpoint_when_due(),
        }
    }

    /// Makes a checkpoint if it is due, or waits for the one that is being made.
    pub fn checkpoint_when_due(&self) -> Result<()> {
        let last = self.checkpoint.lock();
        match self.log_over() < 1.0 {
            true => Ok(()),
            false => self.checkpoint_with(last, false),
        }
    }

    /// The log that a recovery would roll forward, as a multiple of its bound.
    fn log_over(&self) -> f64 {
        let mut commit = self.commit.lock();
        let over = commit.log_len as f64 / log_bound(commit.used_len) as f64;
        over.max(self.credit_over(&mut commit))
    }

    /// Makes a checkpoint unless nothing happened since the last one.
    pub fn checkpoint(&self) -> Result<()> {
        self.checkpoint_with(self.checkpoint.lock(), false)
    }

    /// Makes a checkpoint though nothing may have happened since the last one.
    pub fn force_checkpoint(&self) -> Result<()> {
        self.checkpoint_for(self.checkpoint.lock(), Why::Forced)
    }

    /// Makes a checkpoint after which nothing will be written.
    pub fn last_checkpoint(&self) -> Result<()> {
        self.checkpoint_with(self.checkpoint.lock(), true)
    }

    fn checkpoint_with(&self, last: MutexGuard<'_, Checkpointed>, closing: bool) -> Result<()> {
        let why = if closing { Why::Closing } else { Why::Due };
        self.checkpoint_for(last, why)
    }

    fn checkpoint_for(&self, mut last: MutexGuard<'_, Checkpointed>, why: Why) -> Result<()> {
        let closing = why == Why::Closing;
        self.writable()?;
        self.fold_all()?;
        let removed = self.remove_deleted()?;
        let is_new = self.last_seq() != last.superblock.position.seq;
        let is_idle = !is_new && removed == 0 && why != Why::Forced;
        if is_idle && (last.superblock.clean || !closing) {
            return Ok(());
        }
        let moment = self.moment();
        let made = self.write_checkpoint(&mut last, moment, closing);
        let mut state = self.state.write();
        match made.is_ok() {
            true => state.space_mut().end_checkpoint(),
            false => state.space_mut().cancel_checkpoint(),
        }
        drop(state);
        if let Some(bell) = &self.bell {
            bell.reclaim_due();
        }
        made
    }

    fn write_checkpoint(
        &self,
        last: &mut Checkpointed,
        mut moment: Moment,
        closing: bool,
    ) -> Result<()> {
        let mut own_batches = self.write_nodes(&mut moment)?;
        let mut table_slots = 0;
        let tables = self.write_tables(&moment, &mut own_batches, &mut table_slots)?;
        if closing {
            self.blank_end()?;
        }
        self.flush()?;
        let (end, summaries) = {
            let commit = self.commit.lock();
            let summaries = commit.summaries - moment.summaries;
            (commit.log.position(), summaries)
        };
        // If nothing but this checkpoint was appended, the state after it is the same. (Summaries
        // come alone only if they are this checkpoint's.)
        let is_quiet = end.seq.0 == moment.position.seq.0 + own_batches + summaries;
        let superblock = Superblock {
            generation: last.superblock.generation + 1,
            clean: closing && is_quiet,
            next: moment.catalog.next(),
            position: if is_quiet { end } else { moment.position },
            durable_through: Seq(self.durable_through.load(Ordering::SeqCst)),
            tables: Some(tables),
            ..last.superblock.clone()
        };
        self.write_superblock(&superblock)?;
        let older = std::mem::replace(&mut last.superblock, superblock);
        self.install_written(&moment.catalog);
        let mut commit = self.commit.lock();
        commit.log_len = match is_quiet {
            true => 0,
            false => commit.log_len - moment.log_len,
        };
        commit
            .credit
            .end_checkpoint(table_slots, moment.records_len);
        commit.kept_from = older.position.end;
        drop(commit);
        self.claim_head_keys(last, &moment.catalog)?;
        self.raise_mark(&last.superblock.position)
    }

    /// Folds in what recovery left over the page tables.
    fn fold_all(&self) -> Result<()> {
        loop {
            let overlaid = |head: &&Head| head.tree.is_overlaid();
            let head = self.state.read().heads().find(overlaid).cloned();
            match head {
                Some(head) => self.fold(head.record.head)?,
                None => return Ok(()),
            }
        }
    }

    /// Folds in what recovery left over a page table, a little at a time: others write meanwhile.
    pub fn fold(&self, id: HeadId) -> Result<()> {
        let head = || self.state.read().any_head(id).cloned();
        while let Some(before) = head().filter(|head| head.tree.is_overlaid()) {
            // Leaves are read before the lock is taken.
            let pages = before.tree.overlaid(&self.nodes, FOLD_PAGES)?;
            before.tree.load(&self.nodes, &pages)?;
            let mut commit = self.commit.lock();
            self.usable()?;
            let Some(mut head) = head() else { break };
            let key_epoch = head.record.key_epoch;
            head.tree
                .fold(&self.nodes, self.fanout, key_epoch, FOLD_PAGES)?;
            let changed = Changed {
                tree: Some(head.tree),
                ..Changed::default()
            };
            self.install(&mut commit, id, changed);
        }
        Ok(())
    }

    /// Shows a change of a head's page table.
    pub fn install(&self, commit: &mut Commit, head: HeadId, changed: Changed<'_>) {
        let context = self.context(SlotAddr::default(), commit.log.position().seq);
        let nodes = self.state.write().install(head, changed, context);
        commit.credit.change_nodes(nodes);
    }

    /// What the checkpoint is of.
    fn moment(&self) -> Moment {
        let mut commit = self.commit.lock();
        // What a checkpoint begins after must not change any more.
        commit.log.end_batch();
        let mut state = self.state.write();
        state.hoist();
        state.prune_keys();
        state.space_mut().begin_checkpoint();
        Moment {
            position: commit.log.position(),
            summaries: commit.summaries,
            log_len: commit.log_len,
            records_len: commit.credit.records_len(),
            catalog: state.clone(),
        }
    }

    /// Writes all nodes that have no place yet, children before parents. Returns the batches.
    fn write_nodes(&self, moment: &mut Moment) -> Result<u64> {
        let batch_max = batch_nodes_max(self.segments.geometry().segment_slots);
        let mut batches = 0;
        let trees: Vec<PageTable> = moment
            .catalog
            .heads()
            .map(|head| head.tree.clone())
            .collect();
        for tree in trees {
            // Heads share nodes: what an earlier one wrote is not in the list of a later one.
            let nodes = tree.unwritten();
            for level in nodes.chunk_by(|a, b| a.level() == b.level()) {
                for chunk in level.chunks(batch_max) {
                    self.write_node_batch(chunk, moment)?;
                    batches += 1;
                    // Others may wait for this flush, so it is not of all nodes at once.
                    if batches % FLUSH_BATCHES == 0 {
                        self.flush()?;
                    }
                }
            }
        }
        Ok(batches)
    }

    /// Gives nodes their places. Whoever let go of one in the meantime, before it had an address,
    /// is made up for now: in the checkpoint what happened up to its moment.
    fn write_node_batch(&self, nodes: &[Arc<Node>], moment: &mut Moment) -> Result<()> {
        let disk: Vec<_> = nodes.iter().map(|node| node.to_disk()).collect();
        let slots: Vec<Vec<u8>> = disk.iter().map(DiskNode::encode).collect();
        let hashes: Vec<_> = slots.iter().map(|slot| crate::crypto::hash(slot)).collect();
        let mut records = Vec::new();
        Record::Nodes(slots.iter().map(|slot| crc32fast::hash(slot)).collect())
            .encode(&mut records);
        let mut bytes = vec![0; header_len(records.len())];
        bytes.extend(slots.iter().flatten());
        let mut commit = self.commit.lock();
        let (_, place) = self.append_plain(&mut commit, &records, bytes, slots.len() as u32)?;
        let mut state = self.state.write();
        for ((slot, node), hash) in (place.slot..).zip(nodes).zip(hashes) {
            let written = NodeRef {
                at: SlotAddr { slot, ..place },
                level: node.level(),
                key_epoch: node.key_epoch(),
                hash,
            };
            node.set_written(written);
            let let_go = node.take_let_go();
            state.node_written(&written, let_go.iter().map(|&(by, _)| by));
            let before = let_go
                .iter()
                .filter(|(_, after)| *after <= moment.position.seq);
            moment
                .catalog
                .node_written(&written, before.map(|&(by, _)| by));
        }
        drop((state, commit));
        for (slot, (node, bytes)) in (place.slot..).zip(disk.iter().zip(&slots)) {
            self.nodes.insert(SlotAddr { slot, ..place }, node, bytes);
        }
        Ok(())
    }

    /// Appends a batch that changes no pages. Returns its header's hash and its first body slot.
    pub fn append_plain(
        &self,
        commit: &mut Commit,
        records: &[u8],
        bytes: Vec<u8>,
        body_slots: u32,
    ) -> Result<([u8; 32], SlotAddr)> {
        self.usable()?;
        let place = self.place(commit, records.len(), body_slots)?;
        let salt = *self.salt.lock();
        let hash = self.append(commit, place, salt, records, bytes)?;
        // Pages are not added to it: they and nodes do not mix.
        commit.log.end_batch();
        Ok((hash, place.body()))
    }

    fn write_tables(
        &self,
        moment: &Moment,
        batches: &mut u64,
        slots: &mut u64,
    ) -> Result<TableRef> {
        let mut previous = None;
        for (part, rest) in (0..).zip(self.table(moment)?) {
            let mut records = Vec::new();
            Record::Table { part, previous }.encode(&mut records);
            records.extend_from_slice(&rest);
            let bytes = vec![0; header_len(records.len())];
            let header_slots = header_slots(records.len());
            let mut commit = self.commit.lock();
            let (hash, body) = self.append_plain(&mut commit, &records, bytes, 0)?;
            let at = SlotAddr {
                slot: body.slot - header_slots,
                ..body
            };
            previous = Some(TableRef { at, hash });
            *batches += 1;
            *slots += u64::from(header_slots);
        }
        Ok(previous.expect("BUG: there is at least one part"))
    }

    /// All tables as encoded records, split over batches.
    fn table(&self, moment: &Moment) -> Result<Vec<Vec<u8>>> {
        let slot_count = self.segments.geometry().segment_slots;
        let mut records = Vec::new();
        let segments = self.segments.list()?;
        // Not one whose making failed at the last step: its name may be lost with the power.
        let next = self.commit.lock().log.next_segment();
        let own = |segment: &SegmentId| *segment < next && !self.segments.is_packed(*segment);
        for segment in segments.into_iter().filter(own) {
            records.push(Record::Segment(SegmentRecord {
                segment,
                slot_count,
            }));
        }
        for pack in self.segments.packs() {
            records.push(Record::Pack(Box::new((*pack).clone())));
        }
        for (at, salt) in self.segments.salts() {
            let salt = SaltRecord {
                segment: at.segment,
                first_slot: at.slot,
                salt,
            };
            records.push(Record::Salt(salt));
        }
        records.extend(moment.catalog.table_records());
        for head in moment.catalog.heads() {
            let root = head.tree.root_ref();
            let root = root.expect("BUG: its nodes were just written");
            let root = root.map_or(RootSource::Empty, RootSource::Node);
            records.push(Record::Head(Box::new(HeadRecord {
                root,
                page_count: head.page_count,
                ..head.record.clone()
            })));
        }
        records.extend(moment.catalog.space_records());
        Ok(table_parts(&records, slot_count))
    }

    /// Heads that did not change since go on with the written form, which takes no memory.
    fn install_written(&self, checkpointed: &Catalog) {
        let mut state = self.state.write();
        for head in checkpointed.heads() {
            let root = head.tree.root_ref();
            let root = root.expect("BUG: its nodes were just written");
            state.install_written(head.record.head, &head.tree, PageTable::from_root(root));
        }
        state.forget_names(checkpointed);
    }

    /// Tells the KMS which head keys durable records name.
    fn claim_head_keys(&self, last: &mut Checkpointed, checkpointed: &Catalog) -> Result<()> {
        let all = checkpointed.heads().map(|head| head.record.head_key);
        let new: Vec<HeadKeyId> = all.filter(|id| !last.claimed.contains(id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let key = last.superblock.store_key.kms_key;
        self.kms
            .claim_head_keys(self.store_id(), &new)
            .map_err(|error| crate::store::inner::kms_error(error, &key))?;
        last.claimed.extend(new);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

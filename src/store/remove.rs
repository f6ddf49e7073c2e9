//! Removing deleted heads: what only they reached dies.
//!
//! Nothing of this is in the log: a checkpoint has it, or it is done again after a crash. So
//! whoever does it holds the checkpoint lock. The store's thread does it soon after the delete, a few heads
//! at a time; without one it is done when a checkpoint begins.

use crate::btree::Found;
use crate::catalog::Head;
use crate::error::{Error, Result};
use crate::format::catalog::HeadRecord;
use crate::lineage::{Buckets, Item, ItemKind};
use crate::store::checkpoint::log_bound;
use crate::store::inner::Inner;
use crate::units::{HeadId, SLOT_LEN};

/// The thread removes so many heads before it looks whether something else is due.
const HEADS_AT_ONCE: usize = 64;
/// When so much that removals let go of waits for checkpoints to know of its death, and such a part of the
/// log's bound, they are made. (What changes let go of waits for those that changes make due.) Each of them
/// writes the nodes of all page tables that changed, so a large store that changes all the time should not
/// make one for each small removal.
const WAITING_LEN: u64 = 64 << 20;
const WAITING_SHARE: u64 = 8;

/// What the store's thread did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removed {
    /// Deleted heads that were removed.
    pub heads: u64,
    /// Bytes of page tables that were read for it.
    pub read_bytes: u64,
    /// There are more of them.
    pub is_more: bool,
}

impl Inner {
    /// Removes all deleted heads; how many that were. Costs what they changed since they were
    /// made, not what they map.
    pub fn remove_deleted(&self) -> Result<u64> {
        Ok(self.remove_some(usize::MAX)?.heads)
    }

    /// Removes some of the deleted heads. If much has died the store's space comes back only with
    /// checkpoints, which may not be due for long: so it makes them.
    pub fn remove_in_background(&self) -> Result<Removed> {
        let removed = {
            let _checkpoint = self.checkpoint.lock();
            self.writable()?;
            self.remove_some(HEADS_AT_ONCE)?
        };
        if self.auto_reclaim && !removed.is_more && self.much_waits() {
            self.force_checkpoint()?;
            self.force_checkpoint()?;
        }
        Ok(removed)
    }

    fn much_waits(&self) -> bool {
        let waiting = self.state.read().space().unlogged_count() * SLOT_LEN as u64;
        let bound = log_bound(self.commit.lock().used_len);
        waiting >= (bound / WAITING_SHARE).max(WAITING_LEN)
    }

    fn remove_some(&self, count: usize) -> Result<Removed> {
        let state = self.state.read();
        let deleted = state.deleted().map(|head| head.record.clone());
        let deleted: Vec<HeadRecord> = deleted.take(count).collect();
        let is_all = state.deleted().count() == deleted.len();
        drop(state);
        if deleted.is_empty() {
            return Ok(Removed::default());
        }
        // Others see a tombstone before it is durable. If a crash took it back then, its head would be there
        // again, without its key.
        self.flush()?;
        // Erasing another head destroys what could open it by way of tombstones, so none may go
        // before its key. If the KMS is away they wait for the next checkpoint.
        let keys: Vec<_> = deleted
            .iter()
            .map(|head| (head.head_key, head.resource_id))
            .collect();
        if self.kms.destroy_head_keys(self.store_id(), &keys).is_err() {
            return Ok(Removed::default());
        }
        let mut removed = Removed::default();
        for head in &deleted {
            match self.remove(head.head) {
                Ok(nodes) => {
                    removed.heads += 1;
                    removed.read_bytes += nodes * SLOT_LEN as u64;
                }
                // What of it cannot be read stays, as a tombstone; others go on.
                Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // One that stays must not be tried again and again.
        removed.is_more = !is_all && removed.heads > 0;
        Ok(removed)
    }

    /// Removes a head; how many nodes were looked at.
    fn remove(&self, id: HeadId) -> Result<u64> {
        self.fold(id)?;
        let Some(head) = self.state.read().any_head(id).cloned() else {
            return Ok(0);
        };
        let own = self.own_items(&head)?;
        let nodes = own.iter().map(|(_, items)| items.counts().nodes).sum();
        let _commit = self.commit.lock();
        self.usable()?;
        self.state.write().remove_head(id, &own);
        Ok(nodes)
    }

    /// What was born in the open epoch of a head, which nobody changes any more.
    fn own_items(&self, head: &Head) -> Result<Buckets> {
        let mut own = Buckets::default();
        let mut last = None;
        let mut is_own = |key_epoch| match last {
            Some((asked, answer)) if asked == key_epoch => answer,
            _ => {
                let birth = self.state.read().lineage().birth(key_epoch);
                let answer = birth == Some(head.record.lineage);
                last = Some((key_epoch, answer));
                answer
            }
        };
        let mut found = |found| {
            let (at, key_epoch, kind) = match found {
                Found::Page(page) => (page.at, page.key_epoch, ItemKind::Page),
                Found::Node(node) => (node.at, node.key_epoch, ItemKind::Node),
            };
            own.insert(Item {
                at,
                key_epoch,
                kind,
            });
        };
        head.tree.visit_own(&self.nodes, &mut is_own, &mut found)?;
        Ok(own)
    }
}

#[cfg(test)]
mod tests;

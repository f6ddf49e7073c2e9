//! Removing deleted heads: what only they reached dies.
//!
//! Nothing of this is in the log: a checkpoint has it, or it is done again after a crash. So
//! whoever does it holds the checkpoint lock.

use crate::btree::Found;
use crate::catalog::Head;
use crate::error::{Error, Result};
use crate::format::catalog::{HeadRecord, HeadState};
use crate::lineage::{Buckets, Item, ItemKind};
use crate::store::inner::Inner;
use crate::units::HeadId;

impl Inner {
    /// Removes all deleted heads; how many that were. Costs what they changed since they were
    /// made, not what they map.
    pub fn remove_deleted(&self) -> Result<u64> {
        let is_deleted = |head: &&Head| head.record.state == HeadState::Deleted;
        let state = self.state.read();
        let deleted: Vec<HeadRecord> = state
            .heads()
            .filter(is_deleted)
            .map(|head| head.record.clone())
            .collect();
        drop(state);
        if deleted.is_empty() {
            return Ok(0);
        }
        // Erasing another head destroys what could open it by way of tombstones, so none may go
        // before its key. If the KMS is away they wait for the next checkpoint.
        let keys: Vec<_> = deleted
            .iter()
            .map(|head| (head.head_key, head.resource_id))
            .collect();
        if self.kms.destroy_head_keys(self.store_id(), &keys).is_err() {
            return Ok(0);
        }
        let mut removed = 0;
        for head in &deleted {
            match self.remove(head.head) {
                Ok(()) => removed += 1,
                // What of it cannot be read stays, as a tombstone; others go on.
                Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    fn remove(&self, id: HeadId) -> Result<()> {
        self.fold(id)?;
        let Some(head) = self.state.read().any_head(id).cloned() else {
            return Ok(());
        };
        let own = self.own_items(&head)?;
        let _commit = self.commit.lock();
        self.usable()?;
        self.state.write().remove_head(id, &own);
        Ok(())
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

//! The rollback mark: how far the KMS has seen the store.
//!
//! The mark is a durable batch: raised once it is durable, when the store is opened and by each
//! checkpoint, compared after the log was rolled forward. So the newest superblock may be lost,
//! and what the log says counts.

use crate::catalog::{Head, HeadKeys, renew_epoch};
use crate::error::{Error, Result};
use crate::format::catalog::HeadKind;
use crate::format::superblock::Position;
use crate::kms::{KeyService, KmsError, Mark};
use crate::log::Scan;
use crate::store::inner::{Commit, Inner, Runtime, kms_error};
use crate::store::options::Options;
use crate::units::{KeyEpoch, Location, Seq, StoreId};

/// What the KMS says of a store that was rolled forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// No key epoch below this one seals any more.
    pub first_key_epoch: KeyEpoch,
    /// The store was set back, and the caller accepts that.
    pub is_rolled_back: bool,
}

/// Refuses a store that is older than the KMS has seen it, or went another way since.
pub(super) fn check(
    kms: &dyn KeyService,
    store: StoreId,
    options: &Options,
    start: &Position,
    scan: &Scan,
) -> Result<Checked> {
    let mark = match kms.mark(store) {
        Ok(mark) => mark,
        // Whoever accepts a store that was set back accepts one of which nothing is known.
        Err(KmsError::Failed(error))
            if options.accept_rollback && matches!(*error, Error::Corrupt { .. }) =>
        {
            return Ok(Checked {
                first_key_epoch: KeyEpoch(0),
                is_rolled_back: true,
            });
        }
        Err(error) => return Err(kms_error(error, &Default::default())),
    };
    let Some(mark) = mark else {
        return Ok(Checked {
            first_key_epoch: KeyEpoch(0),
            is_rolled_back: false,
        });
    };
    let is_older = mark.seq > scan.end.seq;
    let is_other = chain_at(mark.seq, start, scan).is_some_and(|chain| chain != mark.chain);
    if (is_older || is_other) && !options.accept_rollback {
        return Err(Error::RolledBack {
            found: scan.end.seq,
            mark: mark.seq,
        });
    }
    Ok(Checked {
        first_key_epoch: mark.first_key_epoch,
        is_rolled_back: is_older || is_other,
    })
}

/// The chain value of a batch, where it is known.
fn chain_at(seq: Seq, start: &Position, scan: &Scan) -> Option<[u8; 32]> {
    if seq == start.seq {
        return Some(start.chain);
    }
    let found = scan.batches.iter().find(|batch| batch.after.seq == seq);
    found.map(|batch| batch.after.chain)
}

impl Inner {
    /// Raises the mark to a durable point of the log.
    pub fn raise_mark(&self, durable: &Position) -> Result<()> {
        if durable.seq == Seq(0) {
            return Ok(());
        }
        let raised = self.kms.raise_mark(self.store_id(), &self.mark_at(durable));
        raised.map_err(|error| kms_error(error, &Default::default()))
    }

    /// Lets the KMS see the store where it is now, though it was further, and gives all volumes new
    /// key epochs: what was sealed in the history that is gone never fits into the new one.
    pub fn accept_rollback(&self, durable: &Position) -> Result<()> {
        let accepted = self
            .kms
            .accept_rollback(self.store_id(), &self.mark_at(durable));
        accepted.map_err(|error| kms_error(error, &Default::default()))?;
        for id in self.head_ids(HeadKind::Volume) {
            let head = self.head(id, HeadKind::Volume)?;
            match self.ensure_epoch(&self.runtime(&head)) {
                // Those get theirs before the next page is sealed.
                Ok(()) | Err(Error::KeyUnavailable { .. } | Error::AccessDenied { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.flush()
    }

    fn mark_at(&self, durable: &Position) -> Mark {
        Mark {
            seq: durable.seq,
            chain: durable.chain,
            first_key_epoch: self.first_key_epoch,
        }
    }

    /// Makes sure that a head seals under a key epoch that was begun after the last rollback.
    pub fn ensure_epoch(&self, runtime: &Runtime) -> Result<()> {
        let is_new = |key_epoch| key_epoch >= self.first_key_epoch;
        if is_new(self.head(runtime.head, runtime.kind)?.record.key_epoch) {
            return Ok(());
        }
        let keys = self.keys(runtime)?;
        let mut commit = self.commit.lock();
        let head = self.head(runtime.head, runtime.kind)?;
        if is_new(head.record.key_epoch) {
            return Ok(());
        }
        self.renew(&mut commit, &head, &keys)
    }

    /// Begins a key epoch in the lineage epoch that a head is in.
    pub fn renew(&self, commit: &mut Commit, head: &Head, keys: &HeadKeys) -> Result<()> {
        let state = self.state.read();
        let renewed = keys
            .open_epoch(&head.record, &state)
            .and_then(|_| renew_epoch(&state, head, keys, &*self.random));
        drop(state);
        let (records, key) = renewed.map_err(|damage| Error::Corrupt {
            location: Location::File(format!("keys of {}", head.record.name)),
            damage,
        })?;
        keys.add(key);
        self.commit_records(commit, &records)
    }
}

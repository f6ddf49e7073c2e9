//! How far each store was seen: a file of one sector for each.
//!
//! Invariant: a mark is lowered only by who accepts that a store was set back, which is audited.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::error::{Damage, Result};
use crate::file_kms::audit::Event;
use crate::file_kms::inner::Inner;
use crate::file_kms::records::{MarkRecord, Prefix, check_zero, put_crc};
use crate::io::{Access, Lock, publish};
use crate::kms::Mark;
use crate::units::{KeyEpoch, Seq, StoreId};

const MAGIC: [u8; 8] = *b"offsmark";

impl Inner {
    /// The mark of a store, if it has one.
    pub(super) fn mark(&self, store: StoreId) -> Result<Option<Mark>> {
        let _locked = self.lock(Lock::Shared)?;
        self.read_mark(store)
    }

    /// Raises the mark of a store, durably; a higher one stays. One that is as high is written again: who wrote it
    /// may not have been able to make it durable.
    pub(super) fn raise_mark(&self, store: StoreId, mark: &Mark) -> Result<()> {
        let _locked = self.lock(Lock::Exclusive)?;
        let before = self.read_mark(store)?;
        if before.is_some_and(|before| before.seq > mark.seq) {
            return Ok(());
        }
        let floor = before.map_or(KeyEpoch(0), |before| before.first_key_epoch);
        let mark = Mark {
            first_key_epoch: floor.max(mark.first_key_epoch),
            ..*mark
        };
        let (name, bytes) = (file_name(store), self.encode_mark(store, &mark));
        if before.is_none() {
            return self.files.publish(&name, &bytes);
        }
        // One sector: it is written whole or not at all.
        let file = self.files.open(&name, Access::ReadWrite)?;
        publish::write_durable(&*file, &bytes, 0)
            .map_err(|source| self.files.write_error(&name, bytes.len() as u64, source))
    }

    /// Puts the mark of a store where the store is now. A damaged one is replaced too.
    pub(super) fn reset_mark(&self, store: StoreId, mark: &Mark) -> Result<()> {
        let mut locked = self.lock(Lock::Exclusive)?;
        let event = Event {
            action: "accept-rollback",
            key: None,
            purpose: &format!("to change {}", mark.seq),
            store: Some(store),
            resource: None,
        };
        self.audit_change(&mut locked.pools, event)?;
        let bytes = self.encode_mark(store, mark);
        self.files.publish(&file_name(store), &bytes)
    }

    fn read_mark(&self, store: StoreId) -> Result<Option<Mark>> {
        let name = file_name(store);
        if !self.files.exists(&name)? {
            return Ok(None);
        }
        let bytes = self.files.read(&name, size_of::<MarkRecord>() as u64)?;
        let mark = self.decode_mark(store, &bytes);
        mark.map(Some)
            .map_err(|damage| self.files.damage(&name, damage))
    }

    fn encode_mark(&self, store: StoreId, mark: &Mark) -> Vec<u8> {
        let mut record = MarkRecord::new_zeroed();
        record.prefix = Prefix::new(MAGIC, self.kms);
        record.store = store.0;
        record.seq = U64::new(mark.seq.0);
        record.chain = mark.chain;
        record.first_key_epoch = U32::new(mark.first_key_epoch.0);
        put_crc(record.as_mut_bytes());
        record.as_bytes().to_vec()
    }

    fn decode_mark(&self, store: StoreId, bytes: &[u8]) -> Result<Mark, Damage> {
        let prefix = Prefix::check(bytes, MAGIC)?;
        let record = MarkRecord::ref_from_bytes(bytes).map_err(|_| Damage::Truncated)?;
        check_zero(&record.zero)?;
        if prefix.kms != self.kms || record.store != store.0 {
            return Err(Damage::WrongIdentity);
        }
        Ok(Mark {
            seq: Seq(record.seq.get()),
            chain: record.chain,
            first_key_epoch: KeyEpoch(record.first_key_epoch.get()),
        })
    }
}

fn file_name(store: StoreId) -> String {
    format!("mark-{store}")
}

//! Wrapping again what is wrapped under an older version, or under another key.
//!
//! A slot is replaced as a whole and the key in it stays the same: whichever form a crash leaves
//! opens.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use crate::crypto::wrap;
use crate::error::{Error, Result};
use crate::file_kms::inner::Inner;
use crate::file_kms::pool::head_aad;
use crate::file_kms::service::{WrappedDataKey, data_aad};
use crate::io::{Access, Lock};
use crate::kms::{Context, HeadKeyInfo};
use crate::units::{HeadKeyId, KeyId, KeyState, ResourceId, StoreId};

impl Inner {
    /// How a head key is wrapped now.
    pub(super) fn head_info(&self, id: &HeadKeyId, store: StoreId) -> Result<HeadKeyInfo> {
        let mut locked = self.lock(Lock::Shared)?;
        let (ring, _) = self.ring()?;
        let record = self.head_record(&mut locked.pools, id, store)?;
        let key = KeyId(record.key);
        let found = ring.key(&key).ok();
        let state = found.map(|key| key.status.state(self.clock.now_ms()));
        Ok(HeadKeyInfo {
            key,
            state: state.unwrap_or(KeyState::Missing),
            is_newest: found.is_some_and(|key| key.newest() == record.key_version.get()),
        })
    }

    /// Wraps head keys of a store again under the newest version of a key, durably.
    pub(super) fn rewrap_heads(
        &self,
        to: &KeyId,
        store: StoreId,
        heads: &[(HeadKeyId, ResourceId)],
    ) -> Result<()> {
        let mut locked = self.lock(Lock::Exclusive)?;
        let (ring, bytes) = self.live_ring(&mut locked.pools)?;
        let target = ring.usable(to, self.clock.now_ms())?;
        self.ensure_keys_are_durable(&mut locked.pools, &bytes)?;
        let (version, kek) = target.newest();
        let file = self.heads(Access::ReadWrite)?;
        let mut records = Vec::with_capacity(heads.len());
        for (id, resource) in heads {
            let (_, secret) = self.open_head(&mut locked, &ring, id, store)?;
            let pools = &mut *locked.pools;
            let Some((slot, mut record)) = pools.index.find(&file, id)? else {
                continue;
            };
            record.key = to.0;
            record.key_version = U32::new(version);
            record.wrapped = wrap(kek, &secret, &head_aad(store, *id), &*self.random);
            self.audit_head(pools, "rewrap-head-key", to, store, *resource)?;
            records.push((slot, record));
        }
        file.put(&mut records)
    }

    /// Whether a data key is wrapped under the newest version of its key.
    pub(super) fn is_newest(&self, id: &KeyId, wrapped: &[u8]) -> Result<bool> {
        let _locked = self.lock(Lock::Shared)?;
        let (ring, _) = self.ring()?;
        let wrapped = WrappedDataKey::ref_from_bytes(wrapped).map_err(|_| denied(id))?;
        Ok(wrapped.version.get() == ring.key(id)?.newest())
    }

    /// Wraps a data key again under the newest version of its key.
    pub(super) fn re_encrypt(
        &self,
        id: &KeyId,
        wrapped: &[u8],
        context: &Context,
    ) -> Result<Vec<u8>> {
        let secret = self.decrypt(id, wrapped, context)?;
        let mut locked = self.lock(Lock::Exclusive)?;
        let (ring, bytes) = self.live_ring(&mut locked.pools)?;
        let (version, kek) = ring.usable(id, self.clock.now_ms())?.newest();
        self.ensure_keys_are_durable(&mut locked.pools, &bytes)?;
        let aad = data_aad(id, version, context);
        let wrapped = WrappedDataKey {
            version: U32::new(version),
            wrapped: wrap(kek, &secret, &aad, &*self.random),
        };
        self.audit_data_key(&mut locked.pools, "re-encrypt", id, context)?;
        Ok(wrapped.as_bytes().to_vec())
    }
}

fn denied(id: &KeyId) -> Error {
    Error::AccessDenied {
        key: id.to_string(),
        action: "decrypt",
    }
}

//! The pool of head keys: made durable ahead of time, handed out once, claimed or destroyed.

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::FromZeros;
use zerocopy::little_endian::U32;

use crate::crypto::{Secret, unwrap, wrap};
use crate::error::{Damage, Error, Result};
use crate::file_kms::audit::{Event, Tail};
use crate::file_kms::heads::{Heads, Slot};
use crate::file_kms::index::Index;
use crate::file_kms::inner::{Inner, Locked};
use crate::file_kms::keys::{KeyRing, Usable};
use crate::file_kms::records::{HEAD_CLAIMED, HEAD_POOLED, HeadRecord};
use crate::io::{Access, Lock};
use crate::units::{HeadKeyId, KeyId, KeyState, ResourceId, StoreId};

/// How many head keys a full pool has.
const FULL: usize = 16;
/// With no more than this it is filled again: a sync for every eight branches, not for each.
const LOW: usize = FULL / 2;

/// What this process knows of the head keys.
#[derive(Debug, Default)]
pub(super) struct Pools {
    /// Where they lie.
    pub index: Index,
    /// The hash of the file `keys` that this process knows to be durable.
    pub durable_keys: Option<[u8; 32]>,
    /// Where the audit ends.
    pub audit: Option<Tail>,
    /// Ready to be handed out, by KMS key and store.
    ready: BTreeMap<(KeyId, StoreId), Vec<HeadKeyId>>,
    /// Made by this process and not claimed yet, handed out or not.
    ours: BTreeSet<HeadKeyId>,
}

impl Pools {
    /// Notes that head keys are gone.
    fn forget(&mut self, ids: &[HeadKeyId]) {
        for ready in self.ready.values_mut() {
            ready.retain(|id| !ids.contains(id));
        }
        self.ours.retain(|id| !ids.contains(id));
    }

    fn ready_count(&self, key: &KeyId, store: StoreId) -> usize {
        self.ready.get(&(*key, store)).map_or(0, Vec::len)
    }
}

impl Inner {
    pub(super) fn assign(
        &self,
        key: &KeyId,
        store: StoreId,
        resource: ResourceId,
    ) -> Result<(HeadKeyId, Secret)> {
        let mut locked = self.lock(Lock::Exclusive)?;
        let ring = match locked.pools.ready_count(key, store) {
            0 => self.fill(&mut locked, key, store, FULL)?,
            _ => self.live_ring(&mut locked.pools)?.0,
        };
        ring.usable(key, self.clock.now_ms())?;
        self.audit_head(&mut locked.pools, "assign-head-key", key, store, resource)?;
        // Gone from the pool even if what follows fails: never handed out twice.
        let ready = locked
            .pools
            .ready
            .get_mut(&(*key, store))
            .and_then(Vec::pop);
        let id = ready.expect("BUG: an empty pool after it was filled");
        let secret = self.open_head(&mut locked, &ring, &id, store)?.1;
        Ok((id, secret))
    }

    pub(super) fn use_head(
        &self,
        id: &HeadKeyId,
        store: StoreId,
        resource: ResourceId,
    ) -> Result<Secret> {
        let mut locked = self.lock(Lock::Exclusive)?;
        let (ring, _) = self.live_ring(&mut locked.pools)?;
        let (key, secret) = self.open_head(&mut locked, &ring, id, store)?;
        self.audit_head(&mut locked.pools, "unwrap-head-key", &key, store, resource)?;
        Ok(secret)
    }

    pub(super) fn refill_pool(&self, key: &KeyId, store: StoreId) -> Result<()> {
        let mut locked = self.lock(Lock::Exclusive)?;
        match locked.pools.ready_count(key, store) {
            ready if ready > LOW => Ok(()),
            ready => self.fill(&mut locked, key, store, FULL - ready).map(drop),
        }
    }

    /// Makes head keys: durable with one sync before they are in the pool.
    fn fill(
        &self,
        locked: &mut Locked<'_>,
        key: &KeyId,
        store: StoreId,
        count: usize,
    ) -> Result<KeyRing> {
        let pools = &mut *locked.pools;
        let (ring, bytes) = self.live_ring(pools)?;
        let kms_key = ring.usable(key, self.clock.now_ms())?;
        self.ensure_keys_are_durable(pools, &bytes)?;
        let mut heads = self.heads(Access::ReadWrite)?;
        let slots = pools.index.allocate(&mut heads, count)?;
        let make = |slot| (slot, self.make_head(kms_key, store));
        let mut records: Vec<_> = slots.into_iter().map(make).collect();
        heads.put(&mut records)?;
        let ready = pools.ready.entry((*key, store)).or_default();
        for (slot, record) in records {
            let id = HeadKeyId(record.id);
            pools.index.add(id, slot);
            pools.ours.insert(id);
            ready.push(id);
        }
        Ok(ring)
    }

    fn make_head(&self, key: Usable<'_>, store: StoreId) -> HeadRecord {
        let secret = Secret::random(&*self.random);
        let (version, kek) = key.newest();
        let mut record = HeadRecord::new_zeroed();
        self.random.fill(&mut record.id);
        record.state = HEAD_POOLED;
        record.key_version = U32::new(version);
        record.key = key.id().0;
        record.store = store.0;
        record.commitment = secret.commitment();
        let aad = head_aad(store, HeadKeyId(record.id));
        record.wrapped = wrap(kek, &secret, &aad, &*self.random);
        record
    }

    /// The record of a head key of a store. Foreign and missing ones look the same.
    ///
    /// It may be claimed or not: after a power loss it is not known yet that a record of the store names it,
    /// and whoever only looks at the store must not be told that the key is gone.
    pub(super) fn head_record(
        &self,
        pools: &mut Pools,
        id: &HeadKeyId,
        store: StoreId,
    ) -> Result<HeadRecord> {
        let found = pools.index.find(&self.heads(Access::Read)?, id)?;
        let found = found.filter(|(_, record)| record.store == store.0);
        let record = found.ok_or_else(|| Error::KeyUnavailable {
            key: id.to_string(),
            state: KeyState::Missing,
        })?;
        Ok(record.1)
    }

    /// Unwraps a head key.
    pub(super) fn open_head(
        &self,
        locked: &mut Locked<'_>,
        ring: &KeyRing,
        id: &HeadKeyId,
        store: StoreId,
    ) -> Result<(KeyId, Secret)> {
        let heads = self.heads(Access::Read)?;
        let record = self.head_record(&mut locked.pools, id, store)?;
        let key = ring.usable(&KeyId(record.key), self.clock.now_ms())?;
        let kek = key.version(record.key_version.get());
        let kek = kek.ok_or_else(|| heads.damage(Damage::OutOfRange("key version")))?;
        let opened = unwrap(kek, &record.wrapped, &head_aad(store, *id));
        let secret = opened.map_err(|damage| heads.damage(damage))?;
        if secret.commitment() != record.commitment {
            return Err(heads.damage(Damage::BadTag));
        }
        Ok((key.id(), secret))
    }

    pub(super) fn note(&self, store: StoreId, id: &HeadKeyId) -> Result<()> {
        let mut locked = self.lock(Lock::Exclusive)?;
        let heads = self.heads(Access::ReadWrite)?;
        let claimed = claimed_record(&mut locked.pools.index, &heads, store, id)?;
        claimed.map_or(Ok(()), |(slot, mut record)| heads.note(slot, &mut record))
    }

    pub(super) fn claim(&self, store: StoreId, claimed: &[HeadKeyId]) -> Result<()> {
        if claimed.is_empty() {
            return Ok(());
        }
        let mut locked = self.lock(Lock::Exclusive)?;
        let heads = self.heads(Access::ReadWrite)?;
        let mut records = Vec::with_capacity(claimed.len());
        for id in claimed {
            records.extend(claimed_record(&mut locked.pools.index, &heads, store, id)?);
        }
        // Also if there are none: those that were only noted get durable now.
        heads.put(&mut records)?;
        for id in claimed {
            locked.pools.ours.remove(id);
        }
        Ok(())
    }

    pub(super) fn destroy_pooled(&self, store: StoreId) -> Result<()> {
        let mut locked = self.lock(Lock::Exclusive)?;
        let pools = &mut *locked.pools;
        let heads = self.heads(Access::ReadWrite)?;
        let slots = unclaimed(&heads, store, &pools.ours)?;
        if slots.is_empty() {
            return Ok(());
        }
        let (action, purpose) = ("destroy-unclaimed", "head-key");
        let event = Event {
            action,
            key: None,
            purpose,
            store: Some(store),
            resource: None,
        };
        self.audit_change(pools, event)?;
        heads.destroy(&slots)?;
        pools.index.rescan(&heads)
    }

    pub(super) fn destroy_heads(
        &self,
        store: StoreId,
        heads: &[(HeadKeyId, ResourceId)],
    ) -> Result<()> {
        let mut locked = self.lock(Lock::Exclusive)?;
        let pools = &mut *locked.pools;
        let file = self.heads(Access::ReadWrite)?;
        let ids: Vec<_> = heads.iter().map(|(id, _)| *id).collect();
        let found = pools.index.find_all(&file, &ids)?;
        let is_ours = |record: &HeadRecord| record.store == store.0;
        let mut doomed = Vec::with_capacity(heads.len());
        for (&(id, resource), found) in heads.iter().zip(found) {
            if let Some((slot, record)) = found.filter(|(_, record)| is_ours(record)) {
                doomed.push((id, resource, slot, KeyId(record.key)));
            }
        }
        for (index, (_, resource, _, key)) in doomed.iter().enumerate() {
            let event = Event {
                action: "destroy-head-key",
                key: Some(key),
                purpose: "head-key",
                store: Some(store),
                resource: Some(*resource),
            };
            // One sync makes all of these lines durable.
            match index + 1 == doomed.len() {
                true => self.audit_change(pools, event)?,
                false => self.audit_use(pools, event)?,
            }
        }
        let mut slots: Vec<_> = doomed.iter().map(|(_, _, slot, _)| *slot).collect();
        if doomed.len() < heads.len() {
            // Who destroyed the others may have died before it was durable, or its sync have failed; then the zeroes may be in the
            // cache alone, and only what is written again is synced.
            slots.extend(file.not_zero_on_medium(pools.index.free()));
        }
        file.destroy(&slots)?;
        pools.forget(&ids);
        pools.index.rescan(&file)
    }

    pub(super) fn audit_head(
        &self,
        pools: &mut Pools,
        action: &str,
        key: &KeyId,
        store: StoreId,
        of: ResourceId,
    ) -> Result<()> {
        let (store, resource) = (Some(store), Some(of));
        let event = Event {
            action,
            key: Some(key),
            purpose: "head-key",
            store,
            resource,
        };
        self.audit_use(pools, event)
    }
}

/// The record of a head key as a claimed one; `None` if it is claimed already or is not there.
///
/// A head whose key is gone or damaged says so when it is read; it must not keep the others'
/// store from opening.
fn claimed_record(
    index: &mut Index,
    heads: &Heads<'_>,
    store: StoreId,
    id: &HeadKeyId,
) -> Result<Option<(u32, HeadRecord)>> {
    let found = match index.find(heads, id) {
        Ok(found) => found,
        Err(Error::Corrupt { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(found
        .filter(|(_, record)| record.store == store.0 && record.state != HEAD_CLAIMED)
        .map(|(slot, record)| {
            let state = HEAD_CLAIMED;
            (slot, HeadRecord { state, ..record })
        }))
}

fn unclaimed(heads: &Heads<'_>, store: StoreId, ours: &BTreeSet<HeadKeyId>) -> Result<Vec<u32>> {
    let mut slots = Vec::new();
    heads.scan(0, |slot, content| match content {
        Slot::Used(record)
            if record.state == HEAD_POOLED
                && record.store == store.0
                && !ours.contains(&HeadKeyId(record.id)) =>
        {
            slots.push(slot);
        }
        _ => {}
    })?;
    Ok(slots)
}

pub(super) fn head_aad(store: StoreId, id: HeadKeyId) -> Vec<u8> {
    [&b"offshoot v0 head key"[..], &store.0, &id.0].concat()
}

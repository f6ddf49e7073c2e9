//! Wrapping the keys of heads and of the store again: under newer versions, or another KMS key.
//!
//! No page is touched: what is wrapped again is one key for each head. So whoever has a copy of
//! the older wrapping can still use it.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::format::catalog::{HeadRecord, HeadState};
use crate::format::superblock::{STORE_KEY_LEN_MAX, Superblock, WrappedStoreKey};
use crate::kms::KmsError;
use crate::store::inner::{Inner, Runtime, kms_error};
use crate::store::open::store_key_context;
use crate::store::reserve::Purpose;
use crate::units::{HeadKeyId, KeyId, KeyState, ResourceId};

/// What [`Store::rewrap`](crate::Store::rewrap) does, or has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RewrapPlan {
    /// Volumes and snapshots whose keys are wrapped under an older version.
    pub outdated: u64,
    /// Volumes and snapshots whose keys are wrapped under the newest version already.
    pub current: u64,
    /// Volumes and snapshots whose KMS key is not available: they stay as they are.
    pub unavailable: u64,
    /// Whether the store's own key is wrapped under an older version.
    pub store_key: bool,
}

impl fmt::Display for RewrapPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            outdated,
            current,
            unavailable,
            store_key,
        } = self;
        write!(f, "{outdated} volumes and snapshots to wrap again")?;
        write!(
            f,
            ", {current} current, {unavailable} with a key that is not available"
        )?;
        f.write_str(match store_key {
            true => "; the store's key too",
            false => "; the store's key is current",
        })
    }
}

/// Heads to wrap again, by the KMS key that wraps them.
type Outdated = BTreeMap<KeyId, Vec<(HeadKeyId, ResourceId)>>;

impl Inner {
    /// What is wrapped under older versions.
    pub fn plan_rewrap(&self) -> Result<RewrapPlan> {
        Ok(self.outdated()?.0)
    }

    /// Wraps what is under older versions of KMS keys under their newest ones, durably.
    pub fn rewrap(&self) -> Result<RewrapPlan> {
        self.writable()?;
        let (plan, outdated) = self.outdated()?;
        for (key, heads) in outdated {
            let rewrapped = self.kms.rewrap_head_keys(&key, self.store_id(), &heads);
            rewrapped.map_err(|error| kms_error(error, &key))?;
        }
        if plan.store_key {
            self.rewrap_store_key()?;
        }
        Ok(plan)
    }

    /// Wraps a head's key under the newest version of a KMS key, which is the head's from now on.
    /// Durable on return.
    pub fn rewrap_head(&self, runtime: &Runtime, to: &KeyId) -> Result<()> {
        self.writable()?;
        let record = self.head_of(runtime)?.record;
        let head = [(record.head_key, record.resource_id)];
        // First the key, then its name in the record: what says who wraps it is the KMS.
        let rewrapped = self.kms.rewrap_head_keys(to, self.store_id(), &head);
        rewrapped.map_err(|error| kms_error(error, &record.kms_key))?;
        self.update(runtime, Purpose::Release, |record| {
            record.kms_key = *to;
            Ok(())
        })
    }

    fn live_heads(&self) -> Vec<HeadRecord> {
        let state = self.state.read();
        let records = state.heads().map(|head| &head.record);
        let live = records.filter(|record| record.state != HeadState::Deleted);
        live.cloned().collect()
    }

    fn outdated(&self) -> Result<(RewrapPlan, Outdated)> {
        self.open()?;
        let (mut plan, mut outdated) = (RewrapPlan::default(), Outdated::new());
        for head in self.live_heads() {
            match self.kms.head_key_info(&head.head_key, self.store_id()) {
                Ok(info) if info.state != KeyState::Enabled => plan.unavailable += 1,
                Ok(info) if info.is_newest => plan.current += 1,
                Ok(info) => {
                    let heads = outdated.entry(info.key).or_default();
                    heads.push((head.head_key, head.resource_id));
                    plan.outdated += 1;
                }
                Err(KmsError::Unavailable { .. }) => plan.unavailable += 1,
                Err(error) => return Err(kms_error(error, &head.kms_key)),
            }
        }
        let store_key = self.checkpoint.lock().superblock.store_key.clone();
        let newest = self.kms.is_newest(&store_key.kms_key, &store_key.wrapped);
        plan.store_key = !newest.map_err(|error| kms_error(error, &store_key.kms_key))?;
        Ok((plan, outdated))
    }

    /// Writes a superblock like the last one, with the store key wrapped again.
    fn rewrap_store_key(&self) -> Result<()> {
        let mut last = self.checkpoint.lock();
        self.writable()?;
        let old = &last.superblock.store_key;
        let context = store_key_context(self.store_id());
        let wrapped = self.kms.re_encrypt(&old.kms_key, &old.wrapped, &context);
        let wrapped = wrapped.map_err(|error| kms_error(error, &old.kms_key))?;
        if wrapped.len() > STORE_KEY_LEN_MAX {
            return Err(Error::LimitExceeded {
                limit: "bytes of a wrapped store key",
                max: STORE_KEY_LEN_MAX as u64,
            });
        }
        let superblock = Superblock {
            generation: last.superblock.generation + 1,
            store_key: WrappedStoreKey {
                wrapped,
                ..old.clone()
            },
            ..last.superblock.clone()
        };
        self.write_superblock(&superblock)?;
        last.superblock = superblock;
        Ok(())
    }
}

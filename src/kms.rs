//! What the store asks of a key service, and the context it binds to every key.
//!
//! A KMS key wraps the store key and head keys. Secrets leave the service only through these
//! calls, and each call names what it is for.

use std::fmt;

use crate::crypto::Secret;
use crate::units::{HeadKeyId, KeyEpoch, KeyId, KeyState, ResourceId, Seq, StoreId};

/// The alias of the key that wraps the store keys of a region. What it stands for is never
/// disabled or deleted, and it never stands for another key.
pub const STORE_KEY_ALIAS: &str = "alias/offshoot-store";

/// A key service.
///
/// Every call is logged by the service with the resource it was made for. Calls may block.
pub trait KeyService: Send + Sync + fmt::Debug {
    /// Finds a key by its id, its ARN, an alias (`alias/NAME`) or the alias's ARN.
    fn resolve(&self, reference: &str) -> Result<KeyId, KmsError>;

    /// Makes a new data key and its wrapped form. `context` must be given again to unwrap it.
    fn generate(&self, key: &KeyId, context: &Context) -> Result<(Vec<u8>, Secret), KmsError>;

    /// Unwraps a data key that `generate` wrapped.
    fn decrypt(&self, key: &KeyId, wrapped: &[u8], context: &Context) -> Result<Secret, KmsError>;

    /// Takes a durable head key that nobody had before out of the pool of `key`. Needs no sync
    /// as long as the pool has one.
    fn assign_head_key(
        &self,
        key: &KeyId,
        store: StoreId,
        resource: ResourceId,
    ) -> Result<(HeadKeyId, Secret), KmsError>;

    /// The head key of that id.
    fn head_key(
        &self,
        id: &HeadKeyId,
        store: StoreId,
        resource: ResourceId,
    ) -> Result<Secret, KmsError>;

    /// How a head key is wrapped now. That is no use of it: nothing is unwrapped or logged.
    fn head_key_info(&self, id: &HeadKeyId, store: StoreId) -> Result<HeadKeyInfo, KmsError>;

    /// Wraps head keys of a store again, under the newest version of the KMS key `to`; that one
    /// and those that wrap them now must be enabled. Durable on return. If it fails some may be
    /// wrapped again and some not: all open as before.
    fn rewrap_head_keys(
        &self,
        to: &KeyId,
        store: StoreId,
        heads: &[(HeadKeyId, ResourceId)],
    ) -> Result<(), KmsError>;

    /// Whether a data key that `generate` wrapped is wrapped under the newest version of `key`.
    fn is_newest(&self, key: &KeyId, wrapped: &[u8]) -> Result<bool, KmsError>;

    /// Wraps a data key that `generate` wrapped again, under the newest version of `key`.
    fn re_encrypt(
        &self,
        key: &KeyId,
        wrapped: &[u8],
        context: &Context,
    ) -> Result<Vec<u8>, KmsError>;

    /// Fills the pools of `key` for a store again if there is little left in them, off the path of
    /// those who take from it.
    fn refill(&self, key: &KeyId, store: StoreId) -> Result<(), KmsError>;

    /// How far the service has seen a store, if it has.
    fn mark(&self, store: StoreId) -> Result<Option<Mark>, KmsError>;

    /// Raises the mark of a store to a batch that is durable; a mark that is as high stays. Durable
    /// on return.
    fn raise_mark(&self, store: StoreId, mark: &Mark) -> Result<(), KmsError>;

    /// Sets the mark of a store that was set back. Logged before it happens; durable on return.
    fn accept_rollback(&self, store: StoreId, mark: &Mark) -> Result<(), KmsError>;

    /// Notes that a durable record of the store names a head key that this service assigned, so
    /// that nobody who opens a copy of the store destroys it. Needs no sync: it is durable with
    /// the next claim.
    fn note_head_key(&self, store: StoreId, id: &HeadKeyId) -> Result<(), KmsError>;

    /// Notes durably that head keys are named by durable records of the store. Keys that the service
    /// does not have (any more) are left out: their heads cannot be read, but others can.
    fn claim_head_keys(&self, store: StoreId, claimed: &[HeadKeyId]) -> Result<(), KmsError>;

    /// The line of its audit from which on somebody changed it, if that can be told.
    fn audit_changed_at(&self) -> Result<Option<u64>, KmsError> {
        Ok(None)
    }

    /// Its files that others than their owner may read or write.
    fn exposed_files(&self) -> Result<Vec<String>, KmsError> {
        Ok(Vec::new())
    }

    /// Destroys head keys of a store for good: what they wrap can be unwrapped by nobody any more, not in
    /// copies of the store either. Keys that are not there (any more) are left out. Logged before it
    /// happens; durable on return. The last one goes last.
    fn destroy_head_keys(
        &self,
        store: StoreId,
        heads: &[(HeadKeyId, ResourceId)],
    ) -> Result<(), KmsError>;

    /// Destroys all head keys of the store that were never claimed: after a crash somebody may
    /// have sealed under them what is now lost, so they are never given out.
    fn destroy_unclaimed(&self, store: StoreId) -> Result<(), KmsError>;
}

/// How far a store was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// A durable batch.
    pub seq: Seq,
    /// Its chain value.
    pub chain: [u8; 32],
    /// The first key epoch begun after the store was last set back; 0 if it never was.
    pub first_key_epoch: KeyEpoch,
}

/// How a head key is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadKeyInfo {
    /// The KMS key that wraps it.
    pub key: KeyId,
    /// That key's state.
    pub state: KeyState,
    /// Whether the key's newest version wraps it.
    pub is_newest: bool,
}

/// What a data key is for: bound to its wrapped form, and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The store.
    pub store: StoreId,
    /// The thing in the store.
    pub resource: ResourceId,
    /// What the key does, for example `store-key`.
    pub purpose: &'static str,
}

/// Why a key service refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// The key is not usable.
    #[error("key {key} is {state}")]
    Unavailable {
        /// The key.
        key: String,
        /// Its state.
        state: KeyState,
    },
    /// No key or alias has that name.
    #[error("there is no key {0}")]
    NotFound(String),
    /// The caller may not do that with the key, or the context is not the one of the wrapping.
    #[error("key {key} refuses to {action}")]
    Denied {
        /// The key.
        key: String,
        /// What was asked.
        action: &'static str,
    },
    /// The service failed in another way: its own files, its machine.
    #[error(transparent)]
    Failed(Box<crate::error::Error>),
}

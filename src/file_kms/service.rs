//! What the store asks of the key service.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::crypto::{Secret, WRAPPED_LEN, unwrap, wrap};
use crate::error::{Error, Result};
use crate::file_kms::FileKms;
use crate::file_kms::audit::Event;
use crate::file_kms::inner::Inner;
use crate::file_kms::pool::Pools;
use crate::io::Lock;
use crate::kms::{Context, HeadKeyInfo, KeyService, KmsError, Mark};
use crate::units::{HeadKeyId, KeyId, ResourceId, StoreId};

/// A data key wrapped under a KMS key.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct WrappedDataKey {
    /// The version of the KMS key, from 1.
    pub version: U32,
    /// Nonce (12), ciphertext (32), tag (16); AES-256-GCM. The associated data is that of
    /// [`data_aad`].
    pub wrapped: [u8; WRAPPED_LEN],
}

const _: () = assert!(size_of::<WrappedDataKey>() == 64);

impl KeyService for FileKms {
    fn resolve(&self, reference: &str) -> Result<KeyId, KmsError> {
        self.key(reference).map(|key| key.id).map_err(kms_error)
    }

    fn generate(&self, key: &KeyId, context: &Context) -> Result<(Vec<u8>, Secret), KmsError> {
        self.0.generate(key, context).map_err(kms_error)
    }

    fn decrypt(&self, key: &KeyId, wrapped: &[u8], context: &Context) -> Result<Secret, KmsError> {
        self.0.decrypt(key, wrapped, context).map_err(kms_error)
    }

    fn assign_head_key(
        &self,
        key: &KeyId,
        store: StoreId,
        resource: ResourceId,
    ) -> Result<(HeadKeyId, Secret), KmsError> {
        self.0.assign(key, store, resource).map_err(kms_error)
    }

    fn head_key(
        &self,
        id: &HeadKeyId,
        store: StoreId,
        resource: ResourceId,
    ) -> Result<Secret, KmsError> {
        self.0.use_head(id, store, resource).map_err(kms_error)
    }

    fn head_key_info(&self, id: &HeadKeyId, store: StoreId) -> Result<HeadKeyInfo, KmsError> {
        self.0.head_info(id, store).map_err(kms_error)
    }

    fn rewrap_head_keys(
        &self,
        to: &KeyId,
        store: StoreId,
        heads: &[(HeadKeyId, ResourceId)],
    ) -> Result<(), KmsError> {
        self.0.rewrap_heads(to, store, heads).map_err(kms_error)
    }

    fn is_newest(&self, key: &KeyId, wrapped: &[u8]) -> Result<bool, KmsError> {
        self.0.is_newest(key, wrapped).map_err(kms_error)
    }

    fn re_encrypt(
        &self,
        key: &KeyId,
        wrapped: &[u8],
        context: &Context,
    ) -> Result<Vec<u8>, KmsError> {
        self.0.re_encrypt(key, wrapped, context).map_err(kms_error)
    }

    fn refill(&self, key: &KeyId, store: StoreId) -> Result<(), KmsError> {
        self.0.refill_pool(key, store).map_err(kms_error)
    }

    fn mark(&self, store: StoreId) -> Result<Option<Mark>, KmsError> {
        self.0.mark(store).map_err(kms_error)
    }

    fn raise_mark(&self, store: StoreId, mark: &Mark) -> Result<(), KmsError> {
        self.0.raise_mark(store, mark).map_err(kms_error)
    }

    fn accept_rollback(&self, store: StoreId, mark: &Mark) -> Result<(), KmsError> {
        self.0.reset_mark(store, mark).map_err(kms_error)
    }

    fn note_head_key(&self, store: StoreId, id: &HeadKeyId) -> Result<(), KmsError> {
        self.0.note(store, id).map_err(kms_error)
    }

    fn claim_head_keys(&self, store: StoreId, claimed: &[HeadKeyId]) -> Result<(), KmsError> {
        self.0.claim(store, claimed).map_err(kms_error)
    }

    fn audit_changed_at(&self) -> Result<Option<u64>, KmsError> {
        let report = self.audit(|_| {}).map_err(kms_error)?;
        Ok(report.broken_at)
    }

    fn exposed_files(&self) -> Result<Vec<String>, KmsError> {
        self.0.files.exposed().map_err(kms_error)
    }

    fn destroy_head_keys(
        &self,
        store: StoreId,
        heads: &[(HeadKeyId, ResourceId)],
    ) -> Result<(), KmsError> {
        self.0.destroy_heads(store, heads).map_err(kms_error)
    }

    fn destroy_unclaimed(&self, store: StoreId) -> Result<(), KmsError> {
        self.0.destroy_pooled(store).map_err(kms_error)
    }
}

impl Inner {
    fn generate(&self, id: &KeyId, context: &Context) -> Result<(Vec<u8>, Secret)> {
        let mut locked = self.lock(Lock::Exclusive)?;
        let (ring, bytes) = self.live_ring(&mut locked.pools)?;
        let (version, kek) = ring.usable(id, self.clock.now_ms())?.newest();
        self.ensure_keys_are_durable(&mut locked.pools, &bytes)?;
        let secret = Secret::random(&*self.random);
        let aad = data_aad(id, version, context);
        let wrapped = wrap(kek, &secret, &aad, &*self.random);
        let wrapped = WrappedDataKey {
            version: U32::new(version),
            wrapped,
        };
        self.audit_data_key(&mut locked.pools, "generate", id, context)?;
        Ok((wrapped.as_bytes().to_vec(), secret))
    }

    pub(super) fn decrypt(&self, id: &KeyId, wrapped: &[u8], context: &Context) -> Result<Secret> {
        let mut locked = self.lock(Lock::Exclusive)?;
        let (ring, _) = self.live_ring(&mut locked.pools)?;
        let key = ring.usable(id, self.clock.now_ms())?;
        // Wrong bytes, version or context: the answer does not tell which.
        let denied = || Error::AccessDenied {
            key: id.to_string(),
            action: "decrypt",
        };
        let wrapped = WrappedDataKey::ref_from_bytes(wrapped).map_err(|_| denied())?;
        let version = wrapped.version.get();
        let kek = key.version(version).ok_or_else(denied)?;
        let aad = data_aad(id, version, context);
        let secret = unwrap(kek, &wrapped.wrapped, &aad).map_err(|_| denied())?;
        self.audit_data_key(&mut locked.pools, "decrypt", id, context)?;
        Ok(secret)
    }

    pub(super) fn audit_data_key(
        &self,
        pools: &mut Pools,
        action: &str,
        key: &KeyId,
        context: &Context,
    ) -> Result<()> {
        let (store, resource) = (Some(context.store), Some(context.resource));
        let event = Event {
            action,
            key: Some(key),
            purpose: context.purpose,
            store,
            resource,
        };
        self.audit_use(pools, event)
    }
}

/// What a wrapped data key is bound to: each field behind its length (u32, little-endian).
pub(super) fn data_aad(key: &KeyId, version: u32, context: &Context) -> Vec<u8> {
    let mut aad = Vec::new();
    let fields: [&[u8]; 6] = [
        b"offshoot v0 data key",
        &context.store.0,
        &context.resource.0,
        context.purpose.as_bytes(),
        &key.0,
        &version.to_le_bytes(),
    ];
    for field in fields {
        let len = u32::try_from(field.len()).expect("BUG: a purpose of gigabytes");
        aad.extend_from_slice(&len.to_le_bytes());
        aad.extend_from_slice(field);
    }
    aad
}

/// What an error means to who asked.
fn kms_error(error: Error) -> KmsError {
    match error {
        Error::KeyUnavailable { key, state } => KmsError::Unavailable { key, state },
        Error::NotFound { name, .. } => KmsError::NotFound(name),
        Error::AccessDenied { key, action } => KmsError::Denied { key, action },
        other => KmsError::Failed(Box::new(other)),
    }
}

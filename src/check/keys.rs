//! The keys that authenticate a store, by way of the KMS.

use crate::check::codes;
use crate::check::finding::Findings;
use crate::crypto::{Label, Secret};
use crate::error::{Error, Result};
use crate::format::superblock::Superblock;
use crate::kms::{Context, KeyService, KmsError};
use crate::units::ResourceId;

/// What the store key is for, as the KMS binds it.
const PURPOSE: &str = "store-key";

/// Keys derived from the store key.
#[derive(Debug)]
pub(super) struct Keys {
    pub log: Secret,
    pub superblock: Secret,
}

/// Opens the store key of the first superblock whose key can be opened.
///
/// A key that the KMS does not have or give is an error for the caller to act on; a wrapped key
/// that is not what the KMS made is a finding.
pub(super) fn open_keys(
    kms: &dyn KeyService,
    superblocks: &[&Superblock],
    findings: &mut Findings,
) -> Result<Option<Keys>> {
    let mut refused = None;
    let mut tried = Vec::new();
    for superblock in superblocks {
        let wrapped = (&superblock.store_key, superblock.store_id);
        if tried.contains(&wrapped) {
            continue;
        }
        tried.push(wrapped);
        let location = format!("superblock {}", superblock.generation);
        match unwrap_store_key(kms, superblock) {
            Ok(secret) if secret.commitment() == superblock.store_key.commitment => {
                return Ok(Some(Keys {
                    log: secret.derive(Label::Log),
                    superblock: secret.derive(Label::Superblock),
                }));
            }
            Ok(_) => {
                let message = "the commitment is another key's";
                findings.add(codes::STORE_KEY_NOT_OPENED, location, message);
            }
            Err(KmsError::Denied { .. }) => {
                let message = "the KMS refuses the wrapped store key";
                findings.add(codes::STORE_KEY_NOT_OPENED, location, message);
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match refused {
        Some(error) => Err(as_error(error)),
        None => Ok(None),
    }
}

fn unwrap_store_key(
    kms: &dyn KeyService,
    superblock: &Superblock,
) -> std::result::Result<Secret, KmsError> {
    let context = Context {
        store: superblock.store_id,
        resource: ResourceId(superblock.store_id.0),
        purpose: PURPOSE,
    };
    let key = &superblock.store_key;
    kms.decrypt(&key.kms_key, &key.wrapped, &context)
}

fn as_error(error: KmsError) -> Error {
    match error {
        KmsError::Unavailable { key, state } => Error::KeyUnavailable { key, state },
        KmsError::NotFound(key) => Error::WrongKms { key },
        KmsError::Denied { key, action } => Error::AccessDenied { key, action },
        KmsError::Failed(error) => *error,
    }
}

//! The keys that authenticate a store, by way of the KMS.

use crate::check::codes;
use crate::check::finding::Findings;
use crate::check::image::Image;
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
/// that is not what the KMS made is a finding, and so is one that only an older superblock makes up for.
pub(super) fn open_keys(
    kms: &dyn KeyService,
    superblocks: &[&Superblock],
    findings: &mut Findings,
) -> Result<Option<Keys>> {
    let (mut opened, mut refused) = (None, None);
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
                if let Some((location, error)) = refused.take() {
                    findings.add(codes::STORE_KEY_NOT_OPENED, location, error);
                }
                opened.get_or_insert(Keys {
                    log: secret.derive(Label::Log),
                    superblock: secret.derive(Label::Superblock),
                });
            }
            Ok(_) => {
                let message = "the commitment is another key's";
                findings.add(codes::STORE_KEY_NOT_OPENED, location, message);
            }
            Err(KmsError::Denied { .. }) => {
                let message = "the KMS refuses the wrapped store key";
                findings.add(codes::STORE_KEY_NOT_OPENED, location, message);
            }
            // What wrapped the store key of an older superblock may be gone since.
            Err(_) if opened.is_some() => {}
            Err(error) => refused = refused.or(Some((location, error))),
        }
    }
    match (opened, refused) {
        (None, Some((_, error))) => Err(as_error(error)),
        (opened, _) => Ok(opened),
    }
}

/// Compares the end of the log with what the KMS has seen of the store.
pub(super) fn check_mark(
    kms: &dyn KeyService,
    image: &Image<'_>,
    findings: &mut Findings,
) -> Result<()> {
    // Of a store whose key the KMS does not give it has seen nothing.
    if !image.authenticated {
        return Ok(());
    }
    let Some(mark) = kms.mark(image.superblock.store_id).map_err(as_error)? else {
        return Ok(());
    };
    let end = &image.end;
    let is_other = mark.seq == end.seq && mark.chain != end.chain;
    if mark.seq > end.seq || is_other {
        let message = format!("it ends with change {}, and was at {}", end.seq, mark.seq);
        findings.add(codes::ROLLED_BACK, end.end, message);
    }
    Ok(())
}

/// Whether the audit of the KMS is what the KMS wrote.
pub(super) fn check_audit(kms: &dyn KeyService, findings: &mut Findings) -> Result<()> {
    if let Some(line) = kms.audit_changed_at().map_err(as_error)? {
        let message = format!("its chain of hashes is broken at line {line}");
        findings.add(
            codes::KMS_AUDIT_CHANGED,
            "the audit of the KMS".to_owned(),
            message,
        );
    }
    Ok(())
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

pub(super) fn as_error(error: KmsError) -> Error {
    match error {
        KmsError::Unavailable { key, state } => Error::KeyUnavailable { key, state },
        KmsError::NotFound(key) => Error::WrongKms { key },
        KmsError::Denied { key, action } => Error::AccessDenied { key, action },
        KmsError::Failed(error) => *error,
    }
}

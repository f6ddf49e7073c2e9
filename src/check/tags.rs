//! The keys of pages, from the KMS down: which pages can be opened, and whether they open.
//!
//! Written apart from the engine's way through the same records, so that a mistake of one shows
//! in the other.

use std::collections::HashMap;

use crate::check::codes;
use crate::check::finding::Findings;
use crate::check::image::Image;
use crate::check::keys::as_error;
use crate::check::state::{Head, State};
use crate::crypto::{Label, Opener, Secret, unwrap};
use crate::error::{Damage, Result};
use crate::format::catalog::{KeyEpochRecord, KeyLink};
use crate::format::entry::{DataEntry, page_aad};
use crate::kms::{KeyService, KmsError};
use crate::units::{KeyEpoch, KeyState, PageNo};

/// The epoch keys that the heads of a store open.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pages: HashMap<KeyEpoch, PageKey>,
    /// Heads whose KMS key is not usable now.
    pub locked_heads: u64,
}

/// What opens pages of an epoch.
#[derive(Debug)]
struct PageKey {
    page: Secret,
    random_id: [u8; 16],
}

/// Opens pages, and keeps what it takes for pages like the last one.
#[derive(Debug)]
pub(super) struct PageOpener<'a> {
    keys: &'a Keys,
    last: Option<(KeyEpoch, [u8; 12], Opener)>,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    Whole,
    Forged,
    /// Nobody here has the key.
    Locked,
}

impl Keys {
    /// Opens all epoch keys that heads which are not deleted lead to.
    pub fn open(kms: &dyn KeyService, image: &Image<'_>, findings: &mut Findings) -> Result<Self> {
        let mut keys = Self::default();
        let mut heads = image.state.heads.values();
        heads.try_for_each(|head| match head.is_deleted() {
            true => Ok(()),
            false => keys.add_head(kms, image, head, findings),
        })?;
        Ok(keys)
    }

    fn add_head(
        &mut self,
        kms: &dyn KeyService,
        image: &Image<'_>,
        head: &Head,
        findings: &mut Findings,
    ) -> Result<()> {
        let record = &head.record;
        let (store, resource) = (image.superblock.store_id, record.resource_id);
        let secret = match kms.head_key(&record.head_key, store, resource) {
            Ok(secret) => secret,
            Err(KmsError::Unavailable {
                state: KeyState::Missing,
                ..
            }) => {
                let message = format!("the KMS has no head key {}", record.head_key);
                findings.add(codes::HEAD_KEY_MISSING, head.place(), message);
                return Ok(());
            }
            Err(KmsError::Unavailable { .. } | KmsError::Denied { .. }) => {
                self.locked_heads += 1;
                return Ok(());
            }
            Err(error) => return Err(as_error(error)),
        };
        let Some(epoch) = image.state.key_epochs.get(&record.key_epoch) else {
            // That was reported.
            return Ok(());
        };
        let aad = [
            b"offshoot head v0".as_slice(),
            &resource.0,
            &epoch.random_id,
        ];
        match unwrap(&secret, &record.wrapped_key, &aad.concat()) {
            Ok(key) if key.commitment() == epoch.commitment => {
                self.add_epochs(&image.state, epoch, key, findings);
            }
            _ => {
                let message = format!("it does not open the key of key epoch {}", epoch.key_epoch);
                findings.add(codes::HEAD_KEY_WRONG, head.place(), message);
            }
        }
        Ok(())
    }

    /// Adds an epoch and all that its key leads to. Epochs that are there led on before.
    fn add_epochs(
        &mut self,
        state: &State,
        epoch: &KeyEpochRecord,
        key: Secret,
        findings: &mut Findings,
    ) {
        let mut found = vec![(epoch.key_epoch, key)];
        while let Some((id, key)) = found.pop() {
            let Some(epoch) = state.key_epochs.get(&id) else {
                continue;
            };
            if self.pages.contains_key(&id) {
                continue;
            }
            let wrap = key.derive(Label::Wrap);
            for link in epoch.above.iter().chain(&epoch.far) {
                match follow(state, epoch, link, &wrap) {
                    Ok(Some(key)) => found.push((link.to, key)),
                    Ok(None) => {}
                    Err(damage) => {
                        let place = format!("key epoch {id}");
                        let message = format!("the key of key epoch {}: {damage}", link.to);
                        findings.add(codes::KEY_LINK_WRONG, place, message);
                    }
                }
            }
            let page = PageKey {
                page: key.derive(Label::Page),
                random_id: epoch.random_id,
            };
            self.pages.insert(id, page);
        }
    }

    /// Opens pages with these keys.
    pub fn opener(&self) -> PageOpener<'_> {
        PageOpener {
            keys: self,
            last: None,
        }
    }
}

/// The key that an epoch wraps; `None` if there is no such epoch, which was reported.
fn follow(
    state: &State,
    from: &KeyEpochRecord,
    link: &KeyLink,
    wrap: &Secret,
) -> Result<Option<Secret>, Damage> {
    let Some(to) = state.key_epochs.get(&link.to) else {
        return Ok(None);
    };
    let aad = [
        b"offshoot link v0".as_slice(),
        &from.random_id,
        &to.random_id,
    ];
    let key = unwrap(wrap, &link.wrapped, &aad.concat())?;
    match key.commitment() == to.commitment {
        true => Ok(Some(key)),
        false => Err(Damage::BadTag),
    }
}

impl PageOpener<'_> {
    /// Opens a page in place.
    pub fn open(
        &mut self,
        page: PageNo,
        entry: &DataEntry,
        salt: [u8; 12],
        bytes: &mut [u8],
    ) -> Opened {
        let Some(key) = self.keys.pages.get(&entry.key_epoch) else {
            return Opened::Locked;
        };
        let last = self.last.take();
        let last = last.filter(|(epoch, of, _)| (*epoch, *of) == (entry.key_epoch, salt));
        let (_, _, opener) = self
            .last
            .insert(last.unwrap_or_else(|| (entry.key_epoch, salt, Opener::new(&key.page, salt))));
        let aad = page_aad(&key.random_id, page);
        match opener.open(&entry.nonce, &aad, bytes, &entry.tag) {
            Ok(()) => Opened::Whole,
            Err(_) => Opened::Forged,
        }
    }
}

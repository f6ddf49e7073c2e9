//! The keys of one head: from its head key up the chain of key epochs.

use foldhash::{HashMap, HashMapExt};

use crate::catalog::state::Catalog;
use crate::crypto::{self, Sealer, Secret, WRAPPED_LEN};
use crate::error::Damage;
use crate::format::catalog::{HeadRecord, KeyEpochRecord};
use crate::segment::{EpochKey, PageOpener, Salt};
use crate::source::Random;
use crate::sync::{Arc, Mutex, RwLock};
use crate::units::{KeyEpoch, ResourceId};

#[cfg(test)]
mod tests;

/// What a subkey is derived from: an epoch and a salt.
type OpenerId = (KeyEpoch, Salt);

/// Most openers kept for a head: each takes about 1 KiB, and another is soon made.
const OPENERS_MAX: usize = 1024;

/// An unlocked head. Keys that other heads unlocked do not serve this one.
#[derive(Debug)]
pub struct HeadKeys {
    head_key: Secret,
    epochs: RwLock<HashMap<KeyEpoch, Arc<EpochKey>>>,
    openers: RwLock<HashMap<OpenerId, Arc<PageOpener>>>,
    sealer: Mutex<Sealing>,
}

/// Who seals for a head.
#[derive(Debug, Default)]
enum Sealing {
    #[default]
    Nobody,
    Under(KeyEpoch, Arc<Sealer>),
    /// These keys seal nothing any more.
    Retired,
}

impl HeadKeys {
    /// Unlocks a head with its head key.
    pub fn unlock(
        head: &HeadRecord,
        epoch: &KeyEpochRecord,
        head_key: Secret,
    ) -> Result<Self, Damage> {
        let aad = head_aad(&head.resource_id, epoch);
        let secret = crypto::unwrap(&head_key, &head.wrapped_key, &aad)?;
        let keys = Self::new(head_key);
        keys.add(Arc::new(committed(epoch, secret)?));
        Ok(keys)
    }

    /// The keys of a head that is being made.
    pub fn new(head_key: Secret) -> Self {
        Self {
            head_key,
            epochs: RwLock::new(HashMap::new()),
            openers: RwLock::new(HashMap::new()),
            sealer: Mutex::default(),
        }
    }

    /// Adds an epoch that this head opened.
    pub fn add(&self, key: Arc<EpochKey>) {
        self.epochs.write().insert(key.key_epoch, key);
    }

    /// The keys of an epoch that was opened before.
    pub fn cached(&self, id: KeyEpoch) -> Option<Arc<EpochKey>> {
        self.epochs.read().get(&id).cloned()
    }

    /// Wraps the key of an open epoch under the head key.
    pub fn wrap(
        &self,
        resource_id: &ResourceId,
        epoch: &KeyEpochRecord,
        key: &EpochKey,
        random: &dyn Random,
    ) -> [u8; WRAPPED_LEN] {
        crypto::wrap(
            &self.head_key,
            &key.secret,
            &head_aad(resource_id, epoch),
            random,
        )
    }

    /// Makes sure that the head's open epoch is opened, and names it. A branch may have made it since
    /// the head was unlocked.
    pub fn open_epoch(&self, head: &HeadRecord, catalog: &Catalog) -> Result<KeyEpoch, Damage> {
        if !self.epochs.read().contains_key(&head.key_epoch) {
            let missing = Damage::Inconsistent("a key epoch does not exist");
            let epoch = catalog.key_epoch(head.key_epoch).ok_or(missing)?;
            let aad = head_aad(&head.resource_id, epoch);
            let secret = crypto::unwrap(&self.head_key, &head.wrapped_key, &aad)?;
            self.add(Arc::new(committed(epoch, secret)?));
        }
        Ok(head.key_epoch)
    }

    /// The keys of an epoch at or above `open`, this head's open one.
    pub fn epoch(
        &self,
        open: KeyEpoch,
        target: KeyEpoch,
        catalog: &Catalog,
    ) -> Result<Arc<EpochKey>, Damage> {
        if let Some(key) = self.cached(target) {
            return Ok(key);
        }
        let missing = Damage::Inconsistent("a key epoch does not exist");
        let foreign = Damage::Inconsistent("a key epoch is not above its head's");
        let depth = catalog.key_epoch(target).ok_or(missing)?.depth;
        let mut key = self.cached(open).ok_or(missing)?;
        while key.key_epoch != target {
            let record = catalog.key_epoch(key.key_epoch).ok_or(missing)?;
            let is_on_the_way = |to: KeyEpoch| {
                catalog
                    .key_epoch(to)
                    .is_some_and(|far| far.depth >= depth && far.depth < record.depth)
            };
            let far = record.far.filter(|link| is_on_the_way(link.to));
            let above = record.above.filter(|link| is_on_the_way(link.to));
            let link = far.or(above).ok_or(foreign)?;
            key = match self.cached(link.to) {
                Some(key) => key,
                None => {
                    let next = catalog.key_epoch(link.to).ok_or(missing)?;
                    let aad = link_aad(record, next);
                    let secret = crypto::unwrap(&key.wrap, &link.wrapped, &aad)?;
                    let next = Arc::new(committed(next, secret)?);
                    self.add(next.clone());
                    next
                }
            };
        }
        Ok(key)
    }

    /// Opens pages of an epoch that were sealed under a salt. `unlock` gives the epoch's keys.
    pub fn opener<E>(
        &self,
        key_epoch: KeyEpoch,
        salt: Salt,
        unlock: impl FnOnce() -> Result<Arc<EpochKey>, E>,
    ) -> Result<Arc<PageOpener>, E> {
        let id = (key_epoch, salt);
        if let Some(opener) = self.openers.read().get(&id) {
            return Ok(opener.clone());
        }
        let opener = Arc::new(PageOpener::new(&*unlock()?, salt));
        let mut openers = self.openers.write();
        if openers.len() >= OPENERS_MAX {
            openers.clear();
        }
        openers.insert(id, opener.clone());
        Ok(opener)
    }

    /// Seals pages of the open epoch under the store's salt of now.
    ///
    /// `None` if a later epoch was sealed under: then `key` is not of the open one any more. Also if
    /// the keys are retired.
    /// `salt` is asked with the lock in hand. So neither epochs nor salts come back, and no pair
    /// of them ever gets a second sealer, whose counter would start again.
    pub fn sealer(&self, key: &EpochKey, salt: impl FnOnce() -> [u8; 12]) -> Option<Arc<Sealer>> {
        let mut sealer = self.sealer.lock();
        let salt = salt();
        match &*sealer {
            Sealing::Retired => None,
            Sealing::Under(epoch, _) if *epoch > key.key_epoch => None,
            Sealing::Under(epoch, sealer) if *epoch == key.key_epoch && sealer.salt() == salt => {
                Some(sealer.clone())
            }
            _ => {
                let new = Arc::new(Sealer::new(&key.page, salt));
                *sealer = Sealing::Under(key.key_epoch, new.clone());
                Some(new)
            }
        }
    }

    /// Ends sealing with these keys. Whoever unlocks the head again makes sealers of its own, and
    /// must do so under another salt.
    pub fn retire(&self) {
        *self.sealer.lock() = Sealing::Retired;
    }
}

fn committed(record: &KeyEpochRecord, secret: Secret) -> Result<EpochKey, Damage> {
    if secret.commitment() != record.commitment {
        return Err(Damage::BadTag);
    }
    Ok(EpochKey::new(record.key_epoch, record.random_id, secret))
}

fn head_aad(resource_id: &ResourceId, epoch: &KeyEpochRecord) -> Vec<u8> {
    [
        b"offshoot head v0".as_slice(),
        &resource_id.0,
        &epoch.random_id,
    ]
    .concat()
}

/// Associated data of the wrapped key of `to` in the record of `from`.
pub(super) fn link_aad(from: &KeyEpochRecord, to: &KeyEpochRecord) -> Vec<u8> {
    [
        b"offshoot link v0".as_slice(),
        &from.random_id,
        &to.random_id,
    ]
    .concat()
}

//! What clones of a [`FileKms`](crate::file_kms::FileKms) share, and the way to its files.

use zeroize::Zeroizing;

use crate::crypto::hash;
use crate::error::{Damage, Result};
use crate::file_kms::files::Files;
use crate::file_kms::heads::Heads;
use crate::file_kms::keys::{self, Aliases, KeyRing};
use crate::file_kms::pool::Pools;
use crate::io::{Access, Lock, LockGuard};
use crate::source::{Clock, Random};
use crate::sync::{Arc, Mutex, MutexGuard};

/// What clones of a `FileKms` share.
pub(super) struct Inner {
    pub(super) files: Files,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) region: String,
    pub(super) kms: [u8; 16],
    /// Also keeps this process from waiting for its own file lock.
    pub(super) pools: Mutex<Pools>,
}

/// The right to use the files.
pub(super) struct Locked<'a> {
    _file: Box<dyn LockGuard>,
    pub(super) pools: MutexGuard<'a, Pools>,
}

impl Inner {
    pub(super) fn lock(&self, lock: Lock) -> Result<Locked<'_>> {
        let pools = self.pools.lock();
        Ok(Locked {
            _file: self.files.lock(lock)?,
            pools,
        })
    }

    pub(super) fn heads(&self, access: Access) -> Result<Heads<'_>> {
        Heads::open(&self.files, self.kms, access)
    }

    /// The keys as they are now, and the bytes they were read from.
    pub(super) fn ring(&self) -> Result<(KeyRing, Zeroizing<Vec<u8>>)> {
        let (ring, bytes) = read_keys(&self.files)?;
        if ring.kms != self.kms || ring.region != self.region {
            return Err(self.files.damage("keys", Damage::WrongIdentity));
        }
        Ok((ring, bytes))
    }

    pub(super) fn aliases(&self) -> Result<Aliases> {
        read_aliases(&self.files, self.kms)
    }

    /// The keys for somebody who has the lock exclusively. Keys whose deletion date has come lose
    /// their secrets before anybody else is served.
    pub(super) fn live_ring(&self, pools: &mut Pools) -> Result<(KeyRing, Zeroizing<Vec<u8>>)> {
        let (mut ring, bytes) = self.ring()?;
        if !self.destroy_due(pools, &mut ring)? {
            return Ok((ring, bytes));
        }
        let bytes = ring.encode();
        self.publish_keys(pools, &bytes)?;
        Ok((ring, bytes))
    }

    /// Replaces `keys`. The secrets in the file before do not stay behind on the medium.
    pub(super) fn publish_keys(&self, pools: &mut Pools, bytes: &[u8]) -> Result<()> {
        self.files.replace_secret("keys", bytes)?;
        pools.durable_keys = Some(hash(bytes));
        Ok(())
    }

    /// Makes sure that keys which were read are durable before anything is wrapped under them:
    /// whoever wrote them may have died before they were.
    pub(super) fn ensure_keys_are_durable(&self, pools: &mut Pools, bytes: &[u8]) -> Result<()> {
        match pools.durable_keys == Some(hash(bytes)) {
            true => Ok(()),
            false => self.publish_keys(pools, bytes),
        }
    }
}

pub(super) fn read_keys(files: &Files) -> Result<(KeyRing, Zeroizing<Vec<u8>>)> {
    let bytes = files.read("keys", keys::LEN_MAX)?;
    let ring = KeyRing::decode(&bytes).map_err(|damage| files.damage("keys", damage))?;
    Ok((ring, bytes))
}

pub(super) fn read_aliases(files: &Files, kms: [u8; 16]) -> Result<Aliases> {
    let bytes = files.read("aliases", keys::LEN_MAX)?;
    keys::decode_aliases(&bytes, kms).map_err(|damage| files.damage("aliases", damage))
}

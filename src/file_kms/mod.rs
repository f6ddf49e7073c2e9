//! A key service simulated by files in a directory of its own.
//!
//! The directory stands for the hardware that guards keys: its file `keys` holds them in the
//! clear, so whoever reads it reads every store. `docs/kms-format.md` describes the files.
//!
//! Invariant: a head key is handed out at most once, and only by the process that made it.
//! Nothing is cached that another process may change: keys and aliases are read at each use,
//! all under the file `lock`. There are no threads here.

mod aliases;
mod audit;
mod chain;
mod files;
mod heads;
mod index;
mod inner;
mod keys;
mod marks;
mod pool;
mod records;
mod reference;
mod rewrap;
mod service;
mod setup;
mod states;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::file_kms::inner::Inner;
use crate::file_kms::keys::{Aliases, Key, KeyRing, Status};
use crate::file_kms::reference::ACCOUNT;
use crate::file_kms::states::check_room;
use crate::io::real::{RealDisk, SystemClock, SystemRandom};
use crate::io::{Access, Disk, Lock};
use crate::source::{Clock, Random};
use crate::sync::Arc;
use crate::units::{KeyId, KeyState, Location};

pub use crate::file_kms::aliases::AliasInfo;
pub use crate::file_kms::audit::{AuditLine, AuditReport};

/// A key service in a directory. Clones share one.
#[derive(Clone)]
pub struct FileKms(Arc<Inner>);

/// What there is to know about a KMS key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// Its ARN.
    pub arn: String,
    /// The aliases that stand for it, as `alias/NAME`, sorted.
    pub aliases: Vec<String>,
    /// Its state.
    pub state: KeyState,
    /// The region it belongs to.
    pub region: String,
    /// Its newest version, which wraps; older ones only unwrap.
    pub version: u32,
    /// When it was made: milliseconds since 1970-01-01 UTC.
    pub created_at_ms: u64,
    /// When it is to be deleted, or was: milliseconds since 1970-01-01 UTC.
    pub deletion_at_ms: Option<u64>,
}

impl FileKms {
    /// Makes a key service in a directory, which is made too. It has no keys yet.
    pub fn create(path: &Path, region: &str) -> Result<Self> {
        reference::check_region(region)?;
        let io_error = |source| Error::Io {
            op: "create",
            location: Location::Directory(path.display().to_string()),
            source,
        };
        let disk = RealDisk::create(path).map_err(io_error)?;
        Self::create_on(
            Arc::new(disk),
            region,
            Arc::new(SystemClock),
            Arc::new(SystemRandom),
        )
    }

    /// Opens the key service in a directory.
    pub fn open(path: &Path) -> Result<Self> {
        let location = || Location::Directory(path.display().to_string());
        let disk = RealDisk::open(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Error::NotAStore {
                kind: Kind::Kms,
                location: location(),
            },
            _ => Error::Io {
                op: "open",
                location: location(),
                source,
            },
        })?;
        Self::open_on(
            Arc::new(disk),
            Arc::new(SystemClock),
            Arc::new(SystemRandom),
        )
    }

    /// Makes a key service on any disk.
    pub fn create_on(
        disk: Arc<dyn Disk>,
        region: &str,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self> {
        let disk = setup::create(disk, region, &*clock, &*random)?;
        Self::open_on(disk, clock, random)
    }

    /// Opens the key service on any disk. Head keys that an earlier process pooled are not
    /// handed out any more.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self> {
        Ok(Self(Arc::new(setup::open(disk, clock, random)?)))
    }

    /// Makes a key, and an alias for it (`NAME` or `alias/NAME`) if one is given.
    pub fn create_key(&self, alias: Option<&str>) -> Result<KeyInfo> {
        let alias = alias
            .map(|alias| reference::alias_name(alias, &self.0.region))
            .transpose()?;
        let mut locked = self.0.lock(Lock::Exclusive)?;
        let mut aliases = self.0.aliases()?;
        let (mut ring, _) = self.0.live_ring(&mut locked.pools)?;
        if let Some(name) = alias.filter(|&name| aliases.contains_key(name)) {
            return Err(Error::AlreadyExists {
                kind: Kind::Key,
                name: format!("alias/{name}"),
            });
        }
        check_room(&ring)?;
        let id = new_key_id(&*self.0.random);
        let pools = &mut locked.pools;
        self.0
            .audit_state(pools, "create-key", Some(&id), alias.unwrap_or(""))?;
        ring.keys.push(Key {
            id,
            account: ACCOUNT.to_owned(),
            status: Status::Enabled,
            versions: vec![self.0.new_version()],
        });
        // The key before its alias: an alias never stands for a key that is not there yet.
        self.0.publish_keys(&mut locked.pools, &ring.encode())?;
        if let Some(name) = alias {
            aliases.insert(name.to_owned(), id);
            self.0.publish_aliases(&aliases)?;
        }
        Ok(info(&ring, ring.key(&id)?, &aliases, self.0.clock.now_ms()))
    }

    /// All keys, in the order in which they were made.
    pub fn keys(&self) -> Result<Vec<KeyInfo>> {
        let _locked = self.0.lock(Lock::Shared)?;
        let (aliases, (ring, _)) = (self.0.aliases()?, self.0.ring()?);
        let now_ms = self.0.clock.now_ms();
        let info = |key| info(&ring, key, &aliases, now_ms);
        Ok(ring.keys.iter().map(info).collect())
    }

    /// The key that an id, an ARN, `alias/NAME` or the ARN of an alias names.
    pub fn key(&self, reference: &str) -> Result<KeyInfo> {
        let target = reference::parse(reference, &self.0.region)?;
        let _locked = self.0.lock(Lock::Shared)?;
        let (aliases, (ring, _)) = (self.0.aliases()?, self.0.ring()?);
        let key = states::find(&ring, &aliases, target, reference)?;
        Ok(info(&ring, key, &aliases, self.0.clock.now_ms()))
    }

    /// Reads the audit: gives each line, and says whether the chain of hashes is whole. Lines
    /// that are appended meanwhile are left out.
    pub fn audit(&self, mut each: impl FnMut(AuditLine<'_>)) -> Result<AuditReport> {
        let file = {
            let _locked = self.0.lock(Lock::Shared)?;
            self.0.audit_file(Access::Read)?
        };
        self.0.read_audit(&file, &mut each)
    }

    /// The region the keys belong to.
    pub fn region(&self) -> String {
        self.0.region.clone()
    }
}

impl fmt::Debug for FileKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        f.debug_struct("FileKms")
            .field("disk", &inner.files.0.describe())
            .field("region", &inner.region)
            .finish_non_exhaustive()
    }
}

fn info(ring: &KeyRing, key: &Key, aliases: &Aliases, now_ms: u64) -> KeyInfo {
    let of_key = aliases.iter().filter(|(_, id)| **id == key.id);
    KeyInfo {
        id: key.id,
        arn: reference::key_arn(&ring.region, &key.account, key.id),
        aliases: of_key.map(|(name, _)| format!("alias/{name}")).collect(),
        state: key.status.state(now_ms),
        region: ring.region.clone(),
        version: key.newest(),
        created_at_ms: key
            .versions
            .first()
            .map_or(0, |version| version.created_at_ms),
        deletion_at_ms: key
            .status
            .deletion_at_s()
            .map(|at_s| u64::from(at_s) * 1000),
    }
}

/// A random UUID (version 4).
fn new_key_id(random: &dyn Random) -> KeyId {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    KeyId(bytes)
}

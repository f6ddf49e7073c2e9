//! What every command gets: the places, the output, and the store opened and closed around it.

use std::ops::Range;

use offshoot::{
    Error, Extent, FileKms, KeyId, Kind, Location, Options, ResourceId, Snapshot, Store, Volume,
};

use crate::cli::Global;
use crate::exit::{Failure, Result};
use crate::output::Output;
use crate::places::Places;
use crate::progress::Progress;
use crate::refs::{Bare, Reference};

/// What holds for the whole run.
pub struct Context {
    /// Where things are.
    pub places: Places,
    /// How to print.
    pub output: Output,
    progress: crate::cli::Progress,
    quiet: bool,
}

/// An open store with its KMS.
pub struct Session {
    /// The store.
    pub store: Store,
    /// Its KMS.
    pub kms: FileKms,
}

/// How a command uses the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The store is locked exclusively; recovery may write.
    Own,
    /// The store is locked shared, and nothing is written to it.
    Look,
}

impl Context {
    /// From the options of every command.
    pub fn new(global: &Global) -> Result<Self> {
        Ok(Self {
            places: Places::new(global)?,
            output: Output::new(global)?,
            progress: global.progress,
            quiet: global.quiet,
        })
    }

    /// Opens the KMS.
    pub fn kms(&self) -> Result<FileKms> {
        let kms = FileKms::open(self.places.kms()?)?;
        if self.places.region_named && kms.region() != self.places.region {
            let (is, named) = (kms.region(), &self.places.region);
            return Err(Failure::Invalid(format!(
                "this KMS is of region {is}, not {named}"
            )));
        }
        Ok(kms)
    }

    /// Opens the store, works, and closes it also if the work failed. What the work returns is
    /// printed afterwards: only a closed store has certainly done its part.
    pub fn with_store<T>(
        &self,
        access: Access,
        work: impl FnOnce(&Session) -> Result<T>,
    ) -> Result<T> {
        let session = self.open(access)?;
        let outcome = work(&session);
        let closed = session.store.close();
        let value = outcome?;
        closed?;
        Ok(value)
    }

    /// Shows how far long work is; `total` in bytes if it is known.
    pub fn progress(&self, operation: &'static str, total: Option<u64>) -> Progress {
        Progress::new(self.progress, self.quiet, operation, total)
    }

    fn open(&self, access: Access) -> Result<Session> {
        let directory = self.places.store();
        let kms = match self.kms() {
            // With neither there, the store is what the user misses.
            Err(Failure::Library(Error::NotAStore { .. })) if !directory.exists() => {
                let location = Location::Directory(directory.display().to_string());
                return Err(Error::NotAStore {
                    kind: Kind::Store,
                    location,
                }
                .into());
            }
            kms => kms?,
        };
        let options = Options::new().read_only(access == Access::Look);
        Ok(Session {
            store: options.open(directory, kms.clone())?,
            kms,
        })
    }
}

impl Session {
    /// The volume or snapshot of a reference.
    pub fn head(&self, reference: &str) -> Result<Head> {
        self.find(reference, Bare::Volume)
    }

    /// The volume of a reference, to write to.
    pub fn volume(&self, reference: &str) -> Result<Volume> {
        match self.find(reference, Bare::Volume)? {
            Head::Volume(volume) => Ok(volume),
            Head::Snapshot(snapshot) => {
                let name = snapshot.name()?;
                Err(Failure::ReadOnly(format!(
                    "{name} is a snapshot, which is read-only: make a volume of it with \
                     `offshoot clone create @{name} NAME`"
                )))
            }
        }
    }

    /// The snapshot of a reference.
    pub fn snapshot(&self, reference: &str) -> Result<Snapshot> {
        match self.find(reference, Bare::Snapshot)? {
            Head::Snapshot(snapshot) => Ok(snapshot),
            Head::Volume(volume) => {
                let name = volume.name()?;
                Err(Failure::Invalid(format!(
                    "{name} is a volume, and a snapshot is needed"
                )))
            }
        }
    }

    /// The name that a volume to be made is to have.
    pub fn new_volume_name(&self, reference: &str) -> Result<String> {
        match Reference::parse(reference, Bare::Volume, &self.kms.region())? {
            Reference::Volume(name) => Ok(name),
            Reference::Snapshot { .. } => Err(Failure::Invalid(format!(
                "{reference} names a snapshot, not a new volume"
            ))),
        }
    }

    /// The key of a reference; without one, of the alias that new volumes take.
    pub fn key(&self, reference: Option<&str>) -> Result<KeyId> {
        Ok(self.kms.key(reference.unwrap_or("alias/default"))?.id)
    }

    fn find(&self, reference: &str, bare: Bare) -> Result<Head> {
        match Reference::parse(reference, bare, &self.kms.region())? {
            Reference::Volume(name) => Ok(Head::Volume(self.store.volume(&name)?)),
            Reference::Snapshot { volume, name } => {
                let snapshot = self.store.snapshot(&name)?;
                if let Some(volume) = volume {
                    self.check_origin(&snapshot, &volume)?;
                }
                Ok(Head::Snapshot(snapshot))
            }
        }
    }

    fn check_origin(&self, snapshot: &Snapshot, volume: &str) -> Result {
        if self.store.volume(volume)?.info()?.id == snapshot.info()?.volume_id {
            return Ok(());
        }
        let name = snapshot.name()?;
        Err(Failure::NotFound(format!(
            "snapshot {name} is not of volume {volume}: write @{name}, or see `offshoot snapshot \
             list`"
        )))
    }
}

/// A volume or a snapshot: what both can do.
pub enum Head {
    /// A volume.
    Volume(Volume),
    /// A snapshot.
    Snapshot(Snapshot),
}

impl Head {
    /// Its name.
    pub fn name(&self) -> offshoot::Result<String> {
        match self {
            Self::Volume(volume) => volume.name(),
            Self::Snapshot(snapshot) => snapshot.name(),
        }
    }

    /// Its id.
    pub fn id(&self) -> offshoot::Result<ResourceId> {
        Ok(match self {
            Self::Volume(volume) => volume.info()?.id,
            Self::Snapshot(snapshot) => snapshot.info()?.id,
        })
    }

    /// Its length in bytes.
    pub fn len(&self) -> offshoot::Result<u64> {
        match self {
            Self::Volume(volume) => volume.len(),
            Self::Snapshot(snapshot) => snapshot.len(),
        }
    }

    /// The KMS key it is under.
    pub fn kms_key(&self) -> offshoot::Result<KeyId> {
        Ok(match self {
            Self::Volume(volume) => volume.info()?.kms_key,
            Self::Snapshot(snapshot) => snapshot.info()?.kms_key,
        })
    }

    /// Fills `bytes` from an offset.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> offshoot::Result<()> {
        match self {
            Self::Volume(volume) => volume.read_exact_at(bytes, offset),
            Self::Snapshot(snapshot) => snapshot.read_exact_at(bytes, offset),
        }
    }

    /// What is mapped in a range.
    pub fn extents(
        &self,
        range: Range<u64>,
    ) -> offshoot::Result<Box<dyn Iterator<Item = offshoot::Result<Extent>> + '_>> {
        Ok(match self {
            Self::Volume(volume) => Box::new(volume.extents(range)?),
            Self::Snapshot(snapshot) => Box::new(snapshot.extents(range)?),
        })
    }

    /// Makes a volume with the same contents.
    pub fn create_clone(&self, name: &str, key: &KeyId) -> offshoot::Result<Volume> {
        match self {
            Self::Volume(volume) => volume.create_clone(name, key),
            Self::Snapshot(snapshot) => snapshot.create_clone(name, key),
        }
    }

    /// Makes a snapshot with the same contents.
    pub fn create_snapshot(&self, name: &str) -> offshoot::Result<Snapshot> {
        match self {
            Self::Volume(volume) => volume.create_snapshot(name),
            Self::Snapshot(snapshot) => snapshot.create_snapshot(name),
        }
    }
}

/// Refuses a range that does not lie in `len` bytes, before anything is done with it.
pub fn check_range(offset: u64, length: u64, len: u64) -> Result<Range<u64>> {
    match offset.checked_add(length) {
        Some(end) if end <= len => Ok(offset..end),
        _ => Err(Error::OutOfBounds {
            offset,
            len: length,
            volume_len: len,
        }
        .into()),
    }
}

/// The range from an offset over a length, by default to the end.
pub fn range(offset: u64, length: Option<u64>, len: u64) -> Result<Range<u64>> {
    check_range(offset, length.unwrap_or(len.saturating_sub(offset)), len)
}

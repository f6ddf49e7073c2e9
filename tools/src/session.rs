//! An open store, and what references name in it.

use std::ops::Range;

use offshoot::{ErasePlan, Extent, FileKms, KeyId, Pin, ResourceId, Snapshot, Store, Volume};

use crate::exit::{Failure, Result};
use crate::refs::{Bare, Reference};

/// An open store with its KMS.
pub struct Session {
    /// The store.
    pub store: Store,
    /// Its KMS.
    pub kms: FileKms,
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

    /// The volume or snapshot of a reference, of which a name without `@` is one or the other.
    pub fn find(&self, reference: &str, bare: Bare) -> Result<Head> {
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

/// What is mapped, piece by piece.
pub type Extents<'a> = Box<dyn Iterator<Item = offshoot::Result<Extent>> + 'a>;

/// What can be read: a volume, a snapshot, or what a pin holds.
pub trait Readable {
    /// Its length in bytes.
    fn len(&self) -> offshoot::Result<u64>;

    /// Fills `bytes` from an offset.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> offshoot::Result<()>;

    /// What is mapped in a range.
    fn extents(&self, range: Range<u64>) -> offshoot::Result<Extents<'_>>;
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

    /// The KMS key it is under.
    pub fn kms_key(&self) -> offshoot::Result<KeyId> {
        Ok(match self {
            Self::Volume(volume) => volume.info()?.kms_key,
            Self::Snapshot(snapshot) => snapshot.info()?.kms_key,
        })
    }

    /// What erasing it would destroy.
    pub fn plan_erase(&self) -> offshoot::Result<ErasePlan> {
        match self {
            Self::Volume(volume) => volume.plan_erase(),
            Self::Snapshot(snapshot) => snapshot.plan_erase(),
        }
    }

    /// Deletes it and destroys its keys.
    pub fn erase(self) -> offshoot::Result<ErasePlan> {
        match self {
            Self::Volume(volume) => volume.erase(),
            Self::Snapshot(snapshot) => snapshot.erase(),
        }
    }

    /// Holds the state it has.
    pub fn pin(&self, name: &str) -> offshoot::Result<Pin> {
        match self {
            Self::Volume(volume) => volume.pin(name),
            Self::Snapshot(snapshot) => snapshot.pin(name),
        }
    }

    /// Makes a volume with the same contents.
    pub fn create_clone(&self, name: &str, key: &KeyId) -> offshoot::Result<Volume> {
        match self {
            Self::Volume(volume) => volume.create_clone(name, key),
            Self::Snapshot(snapshot) => snapshot.create_clone(name, key),
        }
    }

    /// Makes a manual snapshot with the same contents.
    pub fn create_snapshot(&self, name: &str) -> offshoot::Result<Snapshot> {
        match self {
            Self::Volume(volume) => volume.create_snapshot(name),
            Self::Snapshot(snapshot) => snapshot.create_snapshot(name),
        }
    }
}

impl Readable for Head {
    fn len(&self) -> offshoot::Result<u64> {
        match self {
            Self::Volume(volume) => volume.len(),
            Self::Snapshot(snapshot) => snapshot.len(),
        }
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> offshoot::Result<()> {
        match self {
            Self::Volume(volume) => volume.read_exact_at(bytes, offset),
            Self::Snapshot(snapshot) => snapshot.read_exact_at(bytes, offset),
        }
    }

    fn extents(&self, range: Range<u64>) -> offshoot::Result<Extents<'_>> {
        Ok(match self {
            Self::Volume(volume) => Box::new(volume.extents(range)?),
            Self::Snapshot(snapshot) => Box::new(snapshot.extents(range)?),
        })
    }
}

impl Readable for Pin {
    fn len(&self) -> offshoot::Result<u64> {
        Self::len(self)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> offshoot::Result<()> {
        Self::read_exact_at(self, bytes, offset)
    }

    fn extents(&self, range: Range<u64>) -> offshoot::Result<Extents<'_>> {
        Ok(Box::new(Self::extents(self, range)?))
    }
}

//! A store as it lies on disk, for commands that do not open it.

use std::path::Path;

use offshoot::check::inspect;
use offshoot::io::real::RealDisk;
use offshoot::{Error, FileKms, KeyService, Kind, Location};

use crate::context::Context;
use crate::exit::{Failure, Result};
use crate::refs::{Bare, Reference};

/// A store that is looked at, and its KMS if that is there.
pub struct Offline<'a> {
    context: &'a Context,
    /// The directory.
    pub disk: RealDisk,
    /// The KMS.
    pub kms: Option<FileKms>,
    /// Why there is none, if there should be.
    pub kms_problem: Option<String>,
}

impl<'a> Offline<'a> {
    /// The store that the command is about.
    pub fn open(context: &'a Context) -> Result<Self> {
        let kms = context.kms_if_there()?;
        let disk = open(context.places.store())?;
        Ok(Self {
            context,
            disk,
            kms,
            kms_problem: None,
        })
    }

    /// The same, without the KMS if that cannot be opened: for looking it is not needed.
    pub fn open_to_look(context: &'a Context) -> Result<Self> {
        let (kms, kms_problem) = match context.kms_if_there() {
            Err(failure @ Failure::Library(_)) => (None, Some(failure.message())),
            kms => (kms?, None),
        };
        let disk = open(context.places.store())?;
        Ok(Self {
            context,
            disk,
            kms,
            kms_problem,
        })
    }

    /// The KMS, if it is there.
    pub fn kms(&self) -> Option<&dyn KeyService> {
        self.kms.as_ref().map(|kms| kms as &dyn KeyService)
    }

    /// The kind and the name, as it is kept, of what a reference names.
    pub fn head(&self, reference: &str) -> Result<(Kind, String)> {
        let region = self.kms.as_ref().map(FileKms::region);
        let region = region.unwrap_or_else(|| self.context.places.region.clone());
        match Reference::parse(reference, Bare::Volume, &region)? {
            Reference::Volume(name) => Ok((Kind::Volume, name.to_ascii_lowercase())),
            Reference::Snapshot { volume: None, name } => {
                Ok((Kind::Snapshot, name.to_ascii_lowercase()))
            }
            Reference::Snapshot {
                volume: Some(volume),
                name,
            } => {
                let name = name.to_ascii_lowercase();
                self.check_origin(&volume.to_ascii_lowercase(), &name)?;
                Ok((Kind::Snapshot, name))
            }
        }
    }

    fn check_origin(&self, volume: &str, snapshot: &str) -> Result {
        let lineage = inspect::lineage(&self.disk, self.kms())?;
        let find = |kind, name: &str| {
            let mut heads = lineage.heads.iter();
            heads.find(|head| head.kind == kind && head.name == name && head.state != "deleted")
        };
        let not_found = |kind, name: &str| Error::NotFound {
            kind,
            name: name.to_owned(),
        };
        let origin = find(Kind::Volume, volume).ok_or_else(|| not_found(Kind::Volume, volume))?;
        let found = find(Kind::Snapshot, snapshot);
        let found = found.ok_or_else(|| not_found(Kind::Snapshot, snapshot))?;
        if found.origin_id == Some(origin.resource_id) {
            return Ok(());
        }
        let text = format!("snapshot {snapshot} is not of volume {volume}: write @{snapshot}");
        Err(Failure::NotFound(text))
    }
}

fn open(directory: &Path) -> Result<RealDisk> {
    RealDisk::open(directory).map_err(|source| {
        let location = Location::Directory(directory.display().to_string());
        match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::NotAStore {
                kind: Kind::Store,
                location,
            }
            .into(),
            _ => Error::Io {
                op: "open",
                location,
                source,
            }
            .into(),
        }
    })
}

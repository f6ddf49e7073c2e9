//! Filling a volume from outside, so that a crash leaves no half of it looking whole.

use crate::error::{Error, Result};
use crate::format::catalog::HeadState;
use crate::store::reserve::Purpose;
use crate::store::volume::Volume;

/// A volume that is being filled. Dropping it leaves the volume `importing` until the next open.
#[derive(Debug)]
pub struct Import {
    volume: Volume,
}

impl Import {
    pub(super) fn new(volume: Volume) -> Self {
        Self { volume }
    }

    pub(super) fn begin(volume: Volume) -> Result<Self> {
        volume
            .store
            .update(&volume.runtime, Purpose::Growth, |record| {
                match record.state {
                    HeadState::Available | HeadState::ImportFailed => {
                        record.state = HeadState::Importing;
                        Ok(())
                    }
                    state => Err(Error::InvalidState {
                        name: record.name.clone(),
                        state: state.as_str(),
                    }),
                }
            })?;
        Ok(Self { volume })
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Makes everything written durable, then the volume available.
    pub fn finish(self) -> Result<Volume> {
        self.volume
            .store
            .update(&self.volume.runtime, Purpose::Release, |record| {
                record.state = HeadState::Available;
                Ok(())
            })?;
        Ok(self.volume)
    }

    /// Gives up: deletes the volume if the import made it, else marks it `import_failed`.
    pub fn abort(self) -> Result<()> {
        let is_new = self.volume.info()?.state == HeadState::ImportingNew;
        if is_new {
            return self.volume.delete();
        }
        self.volume
            .store
            .update(&self.volume.runtime, Purpose::Release, |record| {
                record.state = HeadState::ImportFailed;
                Ok(())
            })
    }
}

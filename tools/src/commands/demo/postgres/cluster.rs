//! A cluster on a volume, with all that is between them.

use std::rc::Rc;

use offshoot::{FileKms, Store};
use tempfile::TempDir;

use super::mounted::Mounted;
use super::programs::Programs;
use super::served::Served;
use super::server::Server;
use crate::exit::Result;

/// The store, what serves it, and where file systems are mounted: short paths that everybody may
/// go through. What comes first is dropped first.
pub struct Opened {
    pub served: Served,
    pub store: Store,
    pub kms: FileKms,
    pub mounts: TempDir,
}

/// A cluster on a volume. What comes first is dropped first.
pub struct Cluster {
    pub server: Server,
    pub mounted: Mounted,
    pub name: &'static str,
}

impl Cluster {
    /// Mounts a volume, and makes a file system on it first if that is asked.
    pub fn mount(
        programs: &Rc<Programs>,
        opened: &Opened,
        name: &'static str,
        port: u16,
        format: bool,
    ) -> Result<Self> {
        let dir = opened.mounts.path().join(name);
        let uri = opened
            .served
            .add(&opened.store, opened.store.volume(name)?)?;
        let mut mounted = Mounted::attach(&uri, &dir)?;
        if format {
            mounted.format()?;
        }
        let server = Server::new(programs, mounted.mount()?, &dir, port)?;
        Ok(Self {
            server,
            mounted,
            name,
        })
    }
}

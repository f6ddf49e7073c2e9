//! A file with the process id.

use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::exit::{Failure, Result};

/// The file, removed when this is dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes it. Whoever finds it finds all of it.
    pub fn write(path: &Path) -> Result<Self> {
        let failed = |error| Failure::io("write", path.display(), error);
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let mut file =
            NamedTempFile::new_in(directory.unwrap_or(Path::new("."))).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // One that stays names a process that is gone, as after a kill.
        let _ = std::fs::remove_file(&self.0);
    }
}

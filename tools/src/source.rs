//! Where bytes to write come from: a file, a device, a pipe, standard input.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::exit::{Failure, Result};

/// An open source.
pub enum Source {
    /// Has a length and can be read anywhere.
    File {
        /// The file.
        file: File,
        /// Its length in bytes.
        len: u64,
        /// Its path, for messages.
        name: String,
    },
    /// Can be read once, to an end that is not known.
    Stream {
        /// The stream.
        file: File,
        /// Its path, for messages.
        name: String,
    },
}

impl Source {
    /// Opens a path; none or `-` is standard input.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let path = match path {
            Some(path) if path != Path::new("-") => path,
            _ => return Self::stdin(),
        };
        let name = path.display().to_string();
        let fail = |source| Failure::io("read", &name, source);
        let mut file = File::open(path).map_err(fail)?;
        let kind = file.metadata().map_err(fail)?;
        if kind.is_dir() {
            return Err(Failure::Invalid(format!(
                "{name} is a directory: name a file, or -"
            )));
        }
        if kind.is_file() {
            return Ok(Self::File {
                file,
                len: kind.len(),
                name,
            });
        }
        if kind.file_type().is_block_device() {
            let len = file.seek(SeekFrom::End(0)).map_err(fail)?;
            return Ok(Self::File { file, len, name });
        }
        Ok(Self::Stream { file, name })
    }

    /// Its length in bytes, if that is known.
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::File { len, .. } => Some(*len),
            Self::Stream { .. } => None,
        }
    }

    /// Its path, for messages.
    pub fn name(&self) -> &str {
        match self {
            Self::File { name, .. } | Self::Stream { name, .. } => name,
        }
    }

    fn stdin() -> Result<Self> {
        let name = "standard input".to_owned();
        let fail = |source| Failure::io("read", &name, source);
        let file = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(fail)?);
        if file.metadata().map_err(fail)?.is_dir() {
            return Err(Failure::Invalid(format!(
                "{name} is a directory: give it a file"
            )));
        }
        Ok(Self::Stream { file, name })
    }
}

/// Fills a buffer as far as the stream goes.
pub fn read_full(mut stream: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

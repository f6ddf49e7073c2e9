//! Where a server listens, as its command line says.

use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::commands::serve::nbd::Nbd;
use crate::exit::{Failure, Result};
use crate::nbd::listen::{Listener, PRIVATE};

/// The sockets of a server.
pub struct Sockets {
    pub listeners: Vec<Listener>,
    /// The path of the socket that only a command knows.
    pub private: Option<PathBuf>,
    /// Goes after the socket in it.
    _directory: Option<TempDir>,
}

impl Sockets {
    /// Opens what the arguments name, or takes what was passed.
    pub fn open(args: &Nbd, passed: Vec<OwnedFd>) -> Result<Self> {
        let mut sockets = Self {
            listeners: Vec::new(),
            private: None,
            _directory: None,
        };
        if let Some(path) = &args.socket {
            sockets
                .listeners
                .push(Listener::unix(path, args.socket_mode)?);
        } else if let Some(address) = &args.listen {
            sockets.listeners.push(Listener::tcp(address)?);
        } else if passed.is_empty() {
            let directory = tempfile::Builder::new()
                .prefix("offshoot-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir();
            let directory = directory.map_err(|error| Failure::io("make", "a directory", error))?;
            let path = directory.path().join("nbd.sock");
            sockets.listeners.push(Listener::unix(&path, PRIVATE)?);
            sockets.private = Some(path);
            sockets._directory = Some(directory);
        }
        for socket in passed {
            sockets.listeners.push(Listener::given(socket)?);
        }
        Ok(sockets)
    }

    /// The URIs of all exports.
    pub fn uris(&self, names: &[String]) -> Vec<String> {
        let of = |name: &String| {
            self.listeners
                .iter()
                .find_map(|listener| listener.uri(name))
        };
        names.iter().filter_map(of).collect()
    }

    /// The URI of the only export, or of none in particular.
    pub fn default_uri(&self, names: &[String]) -> String {
        let name = match names {
            [name] => name,
            _ => "",
        };
        self.uris(&[name.to_owned()]).pop().unwrap_or_default()
    }
}

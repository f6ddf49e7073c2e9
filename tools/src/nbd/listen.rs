//! Where clients come from: Unix sockets, loopback TCP, or sockets that whoever started us made.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{set_tcp_nodelay, socket_domain, socket_peercred};
use rustix::net::{AddressFamily, SocketFlags, accept_with, getsockname};
use rustix::process::geteuid;

use crate::exit::{Failure, Result};
use crate::nbd::socket::Socket;
use crate::nbd::unix::{SocketFile, listen_at};
use crate::nbd::uri;

/// The mode that lets in nobody but the user.
pub const PRIVATE: u32 = 0o600;

/// A socket that clients connect to.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    place: Place,
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Place {
    Unix {
        path: PathBuf,
        mode: u32,
    },
    Tcp(SocketAddr),
    /// Who made it knows who may connect.
    Given,
}

impl Listener {
    /// A Unix socket of a mode.
    pub fn unix(path: &Path, mode: u32) -> Result<Self> {
        let (socket, file) = listen_at(path, mode)?;
        let path = std::path::absolute(path);
        let path = path.map_err(|error| Failure::io("listen on", "the socket", error))?;
        Ok(Self {
            socket,
            place: Place::Unix { path, mode },
            _file: Some(file),
        })
    }

    /// A port of this machine that other machines do not reach.
    pub fn tcp(address: &str) -> Result<Self> {
        let failed = |error| Failure::io("listen on", address, error);
        let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(failed)?.collect();
        if let Some(far) = found.iter().find(|found| !found.ip().is_loopback()) {
            return Err(Failure::Invalid(format!(
                "{far} can be reached from other machines, and there is no TLS: listen on 127.0.0.1 or [::1]"
            )));
        }
        let listener = TcpListener::bind(found.as_slice()).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let place = Place::Tcp(listener.local_addr().map_err(failed)?);
        Ok(Self {
            socket: listener.into(),
            place,
            _file: None,
        })
    }

    /// A socket that was made by whoever started us.
    pub fn given(socket: OwnedFd) -> Result<Self> {
        // A client may be gone again before it is accepted: nobody is to wait for it.
        let usable = getsockname(&socket).and_then(|_| ioctl_fionbio(&socket, true));
        usable.map_err(|error| Failure::io("use", "a socket that was passed", error.into()))?;
        Ok(Self {
            socket,
            place: Place::Given,
            _file: None,
        })
    }

    /// The URI of an export here, if that is known.
    pub fn uri(&self, export: &str) -> Option<String> {
        match &self.place {
            Place::Unix { path, .. } => Some(uri::unix(export, path)),
            Place::Tcp(address) => Some(uri::tcp(export, *address)),
            Place::Given => None,
        }
    }

    /// The next client; `None` if it may not come in or is gone again.
    pub fn accept(&self) -> io::Result<Option<Socket>> {
        let socket = match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match &self.place {
            Place::Unix { mode, .. } if *mode == PRIVATE => {
                // The file's mode says so already, unless somebody changed it.
                let peer = socket_peercred(&socket)?.uid;
                if peer != geteuid() && !peer.is_root() {
                    return Ok(None);
                }
            }
            Place::Unix { .. } => {}
            Place::Tcp(_) | Place::Given => {
                if socket_domain(&socket)? != AddressFamily::UNIX {
                    set_tcp_nodelay(&socket, true)?;
                }
            }
        }
        let socket = Socket::new(socket);
        socket.grow_send_buffer();
        Ok(Some(socket))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

//! Unix sockets: who may connect, and what becomes of the file.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::exit::{Failure, Result};

/// Longest path of a socket.
const PATH_LEN_MAX: usize = 107;
/// Clients that wait to be accepted.
pub const BACKLOG: i32 = 128;

/// The file of a socket, removed when it is dropped, if it is still that one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.inode) {
            // What cannot be removed is found dead by the next server.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a path. Nobody but those of `mode` can connect at any moment.
pub fn listen_at(path: &Path, mode: u32) -> Result<(OwnedFd, SocketFile)> {
    if path.as_os_str().as_bytes().len() > PATH_LEN_MAX {
        return Err(Failure::Invalid(format!(
            "{} is too long for a socket: at most {PATH_LEN_MAX} bytes",
            path.display()
        )));
    }
    make_directory(path)?;
    remove_dead(path)?;
    let failed = |error: rustix::io::Errno| Failure::io("listen on", path.display(), error.into());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    // The file gets this mode when it appears, less what the umask takes away.
    fchmod(&socket, Mode::from_raw_mode(mode)).map_err(failed)?;
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    bind(&socket, &address).map_err(failed)?;
    let file =
        own_file(path, mode).map_err(|error| Failure::io("listen on", path.display(), error))?;
    listen(&socket, BACKLOG).map_err(failed)?;
    Ok((socket, file))
}

fn own_file(path: &Path, mode: u32) -> io::Result<SocketFile> {
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: (made.dev(), made.ino()),
    };
    if made.permissions().mode() & 0o777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(file)
}

/// A directory that the server makes is the user's alone.
fn make_directory(path: &Path) -> Result {
    let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    else {
        return Ok(());
    };
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|error| Failure::io("make", directory.display(), error))
}

/// Removes a socket that nobody listens on. Anything else is in the way.
fn remove_dead(path: &Path) -> Result {
    let failed = |error| Failure::io("replace", path.display(), error);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(there) if !there.file_type().is_socket() => {
            let path = path.display();
            return Err(Failure::AlreadyExists(format!(
                "{path} exists and is no socket"
            )));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
        Ok(_) => {
            let path = path.display();
            Err(Failure::AlreadyExists(format!(
                "a server listens on {path} already"
            )))
        }
    }
}

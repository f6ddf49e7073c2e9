//! Serving the store's volumes over NBD from this process, so that it can go on making clones.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use offshoot::{Store, Volume};

use crate::exit::{Failure, Result};
use crate::nbd::exports::{Export, Exports};
use crate::nbd::listen::{Listener, PRIVATE};
use crate::nbd::server::{Server, Settings};
use crate::nbd::uri;
use crate::session::Head;

/// Each volume has one client, and asks for more than one connection at times.
const CONNECTIONS_MAX: usize = 100;

/// A server that runs until this is dropped.
pub struct Served {
    socket: PathBuf,
    exports: Arc<Exports>,
    ended: Arc<AtomicBool>,
    waker: UnixStream,
    thread: Option<JoinHandle<Result>>,
}

impl Served {
    /// Serves nothing yet, on a socket of that path.
    pub fn start(socket: &Path) -> Result<Self> {
        let exports = Arc::new(Exports::new(false));
        let settings = Settings {
            connections_max: CONNECTIONS_MAX,
            exit_with_last_client: false,
            recorder: None,
        };
        let server = Server::new(exports.clone(), settings)?;
        let waker = server.waker()?;
        let listener = Listener::unix(socket, PRIVATE)?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let named = thread::Builder::new().name("nbd-server".to_owned());
        let thread = named.spawn(move || {
            let served = server.run(&[listener], &mut || Ok(end.load(Ordering::Relaxed)));
            server.stop();
            served
        });
        let thread = thread.map_err(|error| Failure::io("start", "the server", error))?;
        Ok(Self {
            socket: socket.to_owned(),
            exports,
            ended,
            waker,
            thread: Some(thread),
        })
    }

    /// Serves a volume from now on, and says where.
    pub fn add(&self, store: &Store, volume: Volume) -> Result<String> {
        let name = volume.name()?;
        let export = Export::new(Head::Volume(volume), &name, false, store)?;
        self.exports.add(export)?;
        Ok(uri::unix(&name, &self.socket))
    }

    /// Ends: what clients have asked for is done.
    pub fn end(mut self) -> Result {
        self.join()
    }

    fn join(&mut self) -> Result {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.ended.store(true, Ordering::Relaxed);
        rustix::io::write(&self.waker, &[0])
            .map_err(|error| Failure::io("end", "the server", error.into()))?;
        let lost = || Failure::io("end", "the server", io::Error::other("it has panicked"));
        thread.join().map_err(|_| lost())?
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Something else failed before, and that is what is reported.
        let _ = self.join();
    }
}

//! Accepting clients, and ending: no more clients, the requests that are here, a flush.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};

use crate::exit::{Failure, Result};
use crate::nbd::budget::Sharers;
use crate::nbd::buffers::Buffers;
use crate::nbd::connection::{self, Common};
use crate::nbd::exports::Exports;
use crate::nbd::listen::Listener;
use crate::nbd::pool::Pool;
use crate::nbd::record::Recorder;
use crate::nbd::socket::Socket;

/// How long requests that are here, and clients that take their replies, have at the end.
const LEAVE: Duration = Duration::from_secs(10);
/// What is found unread after this is refused.
const LAST_REQUESTS: Duration = Duration::from_secs(1);
/// How long to wait when there are no descriptors for a client.
const CROWDED: Duration = Duration::from_millis(100);

/// What a server does beside serving.
pub struct Settings {
    pub connections_max: usize,
    /// It ends when it has no client any more.
    pub exit_with_last_client: bool,
    pub recorder: Option<Recorder>,
}

/// A server that runs.
pub struct Server {
    settings: Settings,
    common: Common,
    clients: Arc<Clients>,
    pool: Pool,
    waker: Waker,
    woken: OwnedFd,
}

/// Wakes a server up, from a signal too.
pub struct Waker(UnixStream);

/// The clients that are connected, by number.
#[derive(Default)]
struct Clients(Mutex<HashMap<u64, Client>>);

/// A client, and the thread that serves it.
type Client = (Arc<Socket>, Option<JoinHandle<()>>);

impl Waker {
    /// Another one for the same server.
    pub fn again(&self) -> io::Result<UnixStream> {
        self.0.try_clone()
    }

    fn wake(&self) {
        // If it is full, the server has enough to wake up from.
        let _ = write(&self.0, &[0]);
    }
}

impl Server {
    /// A server of these exports, which may change while it runs.
    pub fn new(exports: Arc<Exports>, mut settings: Settings) -> Result<Self> {
        let failed = |error| Failure::io("start", "the server", error);
        let pool = Pool::new().map_err(failed)?;
        let (waker, woken) = UnixStream::pair().map_err(failed)?;
        for end in [&waker, &woken] {
            end.set_nonblocking(true).map_err(failed)?;
        }
        let common = Common {
            exports,
            jobs: pool.jobs(),
            buffers: Arc::new(Buffers::default()),
            sharers: Sharers::default(),
            recorder: settings.recorder.take().map(Arc::new),
            stopping: Arc::new(AtomicBool::new(false)),
        };
        Ok(Self {
            settings,
            common,
            clients: Arc::default(),
            pool,
            waker: Waker(waker),
            woken: woken.into(),
        })
    }

    /// Something that wakes it up, to look whether it is to end.
    pub fn waker(&self) -> Result<UnixStream> {
        let again = self.waker.again();
        again.map_err(|error| Failure::io("start", "the server", error))
    }

    /// Serves until `ended` says so, whenever it is woken up, or the last client is gone if that was
    /// asked for.
    pub fn run(&self, listeners: &[Listener], ended: &mut dyn FnMut() -> Result<bool>) -> Result {
        let mut number = 0;
        while !ended()? && !self.is_deserted(number) {
            for listener in self.wait(listeners)? {
                match listener.accept() {
                    Ok(Some(socket)) => {
                        number += 1;
                        self.welcome(number, socket);
                    }
                    Ok(None) => {}
                    // There are no descriptors or threads for it just now: it waits in the queue.
                    Err(_) => thread::sleep(CROWDED),
                }
            }
        }
        Ok(())
    }

    /// Ends: requests that are here are done and answered.
    pub fn stop(self) {
        let begun = Instant::now();
        let sockets: Vec<Arc<Socket>> = {
            let clients = self.clients.lock();
            clients.values().map(|(socket, _)| socket.clone()).collect()
        };
        for socket in &sockets {
            socket.end_receiving();
        }
        while !self.clients.lock().is_empty() && begun.elapsed() < LEAVE {
            thread::sleep(Duration::from_millis(1));
            self.clients.join_ended();
            if begun.elapsed() > LAST_REQUESTS {
                self.common.stopping.store(true, Ordering::Relaxed);
            }
        }
        // Who takes no replies loses them.
        for socket in &sockets {
            socket.end();
        }
        let left: Vec<_> = self.clients.lock().drain().collect();
        for (_, (_, thread)) in left {
            thread.map(JoinHandle::join);
        }
        drop(self.pool);
    }

    /// Whether the last client has left.
    fn is_deserted(&self, number: u64) -> bool {
        self.clients.join_ended();
        self.settings.exit_with_last_client && number > 0 && self.clients.lock().is_empty()
    }

    /// Waits for clients, and returns the listeners that have some.
    fn wait<'a>(&self, listeners: &'a [Listener]) -> Result<Vec<&'a Listener>> {
        let mut polled = vec![PollFd::new(&self.woken, PollFlags::IN)];
        polled.extend(
            listeners
                .iter()
                .map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)),
        );
        match poll(&mut polled, None::<&Timespec>) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::io("wait for", "clients", error.into())),
        }
        let has_some = |polled: &PollFd<'_>| !polled.revents().is_empty();
        if polled.first().is_some_and(has_some) {
            while matches!(read(&self.woken, &mut [0; 64]), Ok(1..)) {}
        }
        let ready = listeners.iter().zip(polled.iter().skip(1));
        Ok(ready
            .filter(|(_, polled)| has_some(polled))
            .map(|(listener, _)| listener)
            .collect())
    }

    /// Serves a client in a thread of its own, or sends it away.
    fn welcome(&self, number: u64, socket: Socket) {
        let mut clients = self.clients.lock();
        if clients.len() >= self.settings.connections_max {
            return;
        }
        let socket = Arc::new(socket);
        clients.insert(number, (socket.clone(), None));
        let (common, all) = (self.common.clone(), self.clients.clone());
        let Ok(waker) = self.waker.again() else {
            clients.remove(&number);
            return;
        };
        let named = thread::Builder::new().name(format!("nbd-client-{number}"));
        let thread = named.spawn(move || {
            connection::serve(&common, &socket);
            drop(socket);
            all.lock().remove(&number);
            Waker(waker).wake();
        });
        match (thread, clients.get_mut(&number)) {
            (Ok(thread), Some(client)) => client.1 = Some(thread),
            _ => drop(clients.remove(&number)),
        }
    }
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets threads that have panicked: others forget themselves.
    fn join_ended(&self) {
        self.lock().retain(|_, (_, thread)| match thread {
            Some(thread) => !thread.is_finished(),
            None => true,
        });
    }
}

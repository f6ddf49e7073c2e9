//! The end that has the store: it runs commands for those who may connect.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Parser;
use offshoot::StoreId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::write;

use crate::cli::Cli;
use crate::commands;
use crate::context::Context;
use crate::control::client::Client;
use crate::control::place;
use crate::control::wire::{self, Failed, Message, Request};
use crate::exit::{Failure, Result};
use crate::nbd::listen::{Listener, PRIVATE};
use crate::nbd::socket::Socket;
use crate::places::Places;
use crate::session::Session;

/// How long a client may take to say what it wants.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most clients at once; more are sent away.
const CLIENTS_MAX: usize = 128;
/// How long commands under way, and clients that take what they print, have at the end.
const LEAVE: Duration = Duration::from_secs(5);
/// How long to wait when there are no descriptors for a client.
const CROWDED: Duration = Duration::from_millis(100);

/// Answers on the store's socket as long as it lives. Dropping it ends the commands under way: those
/// that can be interrupted are, the others are done.
pub struct Owner {
    shared: Arc<Shared>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// What all clients have in common.
struct Shared {
    session: Session,
    store: StoreId,
    places: Places,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    by_number: HashMap<u64, Arc<Socket>>,
    threads: Vec<JoinHandle<()>>,
}

impl Owner {
    /// Listens for those who find the store locked.
    pub fn start(context: &Context, session: &Session) -> Result<Self> {
        let failed = |error| Failure::io("answer", "other commands", error);
        let store = session.store.info()?.id;
        let listener = listen(store, &place::directory())?;
        let (waker, woken) = UnixStream::pair().map_err(failed)?;
        let shared = Arc::new(Shared {
            session: session.clone(),
            store,
            places: context.places.absolute().map_err(failed)?,
            clients: Mutex::default(),
        });
        let of_thread = shared.clone();
        let thread = named("control").spawn(move || of_thread.accept(&listener, &woken.into()));
        Ok(Self {
            shared,
            waker,
            thread: Some(thread.map_err(failed)?),
        })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = write(&self.waker, &[0]);
        self.thread.take().map(JoinHandle::join);
        let sockets: Vec<_> = self.shared.lock().by_number.values().cloned().collect();
        // To its command a client that says no more has left.
        sockets.iter().for_each(|socket| socket.end_receiving());
        let begun = Instant::now();
        while !self.shared.lock().by_number.is_empty() && begun.elapsed() < LEAVE {
            thread::sleep(Duration::from_millis(1));
        }
        sockets.iter().for_each(|socket| socket.end());
        let threads = std::mem::take(&mut self.shared.lock().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// A socket of this process's for this store, in place of those that nobody listens on.
fn listen(store: StoreId, directory: &Path) -> Result<Listener> {
    for socket in place::sockets_of(store, directory) {
        let found = UnixStream::connect(&socket);
        if found.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            // One that stays is in nobody's way.
            let _ = fs::remove_file(socket);
        }
    }
    let path = directory.join(place::name(store, std::process::id()));
    let listener = Listener::unix(&path, PRIVATE)?;
    match place::is_private(directory) {
        true => Ok(listener),
        false => Err(Failure::Invalid(format!(
            "{} is not a directory of this user's alone (0700)",
            directory.display()
        ))),
    }
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts clients until somebody says otherwise.
    fn accept(self: Arc<Self>, listener: &Listener, woken: &OwnedFd) {
        for number in 0.. {
            let mut polled = [
                PollFd::new(woken, PollFlags::IN),
                PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            ];
            let waited = poll(&mut polled, None::<&Timespec>);
            let [end, client] = polled.map(|polled| !polled.revents().is_empty());
            match (waited, end, client) {
                (Ok(_), true, _) => return,
                (Ok(_), _, true) => match listener.accept() {
                    Ok(Some(socket)) => self.welcome(number, socket),
                    Ok(None) => {}
                    Err(_) => thread::sleep(CROWDED),
                },
                _ => {}
            }
        }
    }

    /// Serves a client in a thread of its own, or sends it away.
    fn welcome(self: &Arc<Self>, number: u64, socket: Socket) {
        let mut clients = self.lock();
        clients.threads.retain(|thread| !thread.is_finished());
        if clients.by_number.len() >= CLIENTS_MAX {
            return;
        }
        let socket = Arc::new(socket);
        clients.by_number.insert(number, socket.clone());
        let visit = Visit {
            shared: self.clone(),
            number,
        };
        // If there is no thread for it, it is forgotten with the closure that never ran.
        drop(clients);
        let thread = named("control-client").spawn(move || visit.serve(socket));
        self.lock().threads.extend(thread);
    }

    /// Runs a command as its own process would.
    fn run(&self, request: Request, client: &Arc<Client>) -> Result<u8> {
        let cli = Cli::try_parse_from(&request.args).map_err(|error| {
            let text = error.to_string();
            let text = text.trim_start_matches("error: ").lines().next();
            Failure::Invalid(text.unwrap_or_default().to_owned())
        })?;
        if let Some(reason) = cli.command.needs_own_process() {
            return Err(Failure::Invalid(reason.to_owned()));
        }
        let (session, places) = (self.session.clone(), self.places.clone());
        let context = Context::for_client(&cli.global, places, session, client.clone())?;
        commands::run(&context, cli.command)
    }
}

/// A client that is here; forgotten when this is dropped, also by a panic.
struct Visit {
    shared: Arc<Shared>,
    number: u64,
}

impl Visit {
    fn serve(self, socket: Arc<Socket>) {
        let deadline = Instant::now() + DEADLINE;
        // A client that leaves in the middle, takes too long or makes no sense is no matter to anybody else.
        if wire::greet(&socket, self.shared.store, deadline).is_err() {
            return;
        }
        let Ok(Some(Message::Request(request))) = wire::receive(&socket, Some(deadline)) else {
            return;
        };
        if socket.wait_for_ever().is_err() {
            return;
        }
        let (client, ear) = Client::new(socket.clone(), request.can_ask);
        let client = Arc::new(client);
        let Ok(ear) = named("control-ear").spawn(move || ear.listen()) else {
            return;
        };
        let last = match self.shared.run(request, &client) {
            Ok(code) => Message::Done(code),
            Err(Failure::StdoutClosed) => Message::Done(0),
            Err(failure) => {
                let (kind, code) = failure.class();
                Message::Failed(Failed {
                    kind: kind.to_owned(),
                    message: failure.message(),
                    code,
                })
            }
        };
        // If it has left, it knows that it does not know.
        let _ = client.send(&last);
        socket.end();
        let _ = ear.join();
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let socket = self.shared.lock().by_number.remove(&self.number);
        // Under whoever still listens to it.
        if let Some(socket) = socket {
            socket.end();
        }
    }
}

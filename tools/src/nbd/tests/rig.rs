//! A store on a simulated machine, and clients of its volumes.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};

use offshoot::io::Disk;
use offshoot::io::sim::{SimClock, SimMachine, SimRandom};
use offshoot::{FileKms, Machine, Options, Store};

use super::client::{Client, PATIENCE};
use crate::nbd::budget::Sharers;
use crate::nbd::buffers::Buffers;
use crate::nbd::connection::{self, Common};
use crate::nbd::exports::{Export, Exports};
use crate::nbd::pool::Pool;
use crate::nbd::socket::Socket;
use crate::session::Head;

/// A server without listeners: clients come over pairs of sockets.
pub struct Rig {
    pub store: Store,
    pub common: Common,
    threads: Vec<JoinHandle<()>>,
    _pool: Pool,
}

fn random(seed: u64) -> Arc<SimRandom> {
    Arc::new(SimRandom::new(seed))
}

fn clock() -> Arc<SimClock> {
    Arc::new(SimClock::new(1_000_000))
}

fn machine_of(machine: &SimMachine, seed: u64) -> Machine {
    let disk: Arc<dyn Disk> = Arc::new(machine.dir("store"));
    Machine {
        disk,
        clock: clock(),
        random: random(seed),
    }
}

fn options() -> Options {
    Options::new().segment_len(1 << 20).workers(0)
}

/// A new machine with a store and an empty volume `pg` of 1 MiB.
pub fn new_machine() -> SimMachine {
    let machine = SimMachine::new();
    let disk = Arc::new(machine.dir("kms"));
    let kms = FileKms::create_on(disk, "local", clock(), random(1)).expect("a KMS");
    kms.create_key(Some("alias/offshoot-store")).expect("a key");
    let key = kms.create_key(Some("alias/default")).expect("a key").id;
    let store = options()
        .create_on(machine_of(&machine, 2), Arc::new(kms))
        .expect("a store");
    store.create_volume("pg", 1 << 20, &key).expect("a volume");
    store.close().expect("a clean store");
    machine
}

/// Opens the store of a machine.
pub fn open(machine: &SimMachine, seed: u64) -> Store {
    let disk = Arc::new(machine.dir("kms"));
    let kms = FileKms::open_on(disk, clock(), random(seed)).expect("a KMS");
    options()
        .open_on(machine_of(machine, seed + 1), Arc::new(kms))
        .expect("a store")
}

impl Rig {
    /// Serves `pg` of a machine.
    pub fn serve(machine: &SimMachine) -> Self {
        let store = open(machine, 10);
        let exports = Exports::new(false);
        let head = Head::Volume(store.volume("pg").expect("the volume"));
        let export = Export::new(head, "pg", false, &store).expect("an export");
        exports.add(export).expect("a name");
        let pool = Pool::new().expect("threads");
        let common = Common {
            exports: Arc::new(exports),
            jobs: pool.jobs(),
            buffers: Arc::new(Buffers::default()),
            sharers: Sharers::default(),
            recorder: None,
            stopping: Arc::new(AtomicBool::new(false)),
        };
        Self {
            store,
            common,
            threads: Vec::new(),
            _pool: pool,
        }
    }

    /// A client of the volume.
    pub fn client(&mut self) -> Client {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        ours.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let socket = Arc::new(Socket::new(OwnedFd::from(theirs)));
        let common = self.common.clone();
        let serve = move || connection::serve(&common, &socket);
        self.threads.push(thread::spawn(serve));
        Client::structured(ours, "pg")
    }

    /// Waits until all clients are gone.
    pub fn end(self) -> Store {
        for thread in self.threads {
            thread.join().expect("a thread that did not panic");
        }
        self.store
    }
}

//! Runs a sequence of operations and captures the machine before each sync, when most is pending. Calls to its disks
//! may fail.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use offshoot::Error;
use offshoot::io::fault::{FaultDisk, Faults};
use offshoot::io::sim::{Lie, SimMachine};

use crate::model::{Action, Model, Tracker};
use crate::nonces::{Nonces, Slot};
use crate::ops::{Op, Start};
use crate::rig::{Host, Process, Watch};
use crate::syncs::Journal;

/// A machine as it was right before a sync or after the last operation, and what may be on it
/// after a crash then.
#[derive(Clone, Debug)]
pub struct Capture {
    pub machine: SimMachine,
    pub possible: Arc<[Model]>,
    pub acknowledged: Arc<BTreeSet<Slot>>,
}

/// What is wrong with a rig on purpose, to see whether the oracle notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    #[default]
    Nothing,
    /// These syncs do nothing; they are counted from the start of the run.
    DroppedSyncs(Lie),
    /// Writes are called durable when they return.
    EarlyAcknowledgement,
}

/// A run of operations in a process after another.
#[derive(Debug)]
pub struct Run {
    pub machine: SimMachine,
    host: Host,
    process: Option<Process>,
    shared: Arc<Mutex<Shared>>,
    watch: Watch,
    planted: Planted,
    faults: [Faults; 2],
}

/// Which disk a fault is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Store,
    Kms,
}

#[derive(Debug)]
struct Shared {
    tracker: Tracker,
    watch: Watch,
    recording: bool,
    captures: Vec<Capture>,
}

impl Shared {
    fn capture(&mut self, machine: &SimMachine) {
        if self.recording {
            self.captures.push(Capture {
                machine: machine.clone(),
                possible: self.tracker.possible().into(),
                acknowledged: Arc::new(self.watch.acknowledged()),
            });
        }
    }
}

impl Run {
    /// Opens a fork of a start.
    pub fn new(start: &Start, seed: u64, nonces: &Arc<Nonces>, planted: Planted) -> Self {
        Self::with_journal(start, seed, nonces, planted, &Journal::default())
    }

    /// The same, and notes what is synced.
    pub fn with_journal(
        start: &Start,
        seed: u64,
        nonces: &Arc<Nonces>,
        planted: Planted,
        journal: &Journal,
    ) -> Self {
        let machine = start.machine.kill();
        let watch = Watch::on(&machine, start.acknowledged.clone(), nonces);
        let shared = Arc::new(Mutex::new(Shared {
            tracker: Tracker::new(start.model.clone()),
            watch: watch.clone(),
            recording: false,
            captures: Vec::new(),
        }));
        let hook = shared.clone();
        machine.on_barrier(move |copy| hook.lock().unwrap().capture(copy));
        if let Planted::DroppedSyncs(lie) = planted {
            machine.drop_syncs(lie);
        }
        let mut host = Host::new(&machine, seed);
        host.store = journal.wrap(&machine, "store", host.store);
        host.kms = journal.wrap(&machine, "kms", host.kms);
        let (store, kms) = (FaultDisk::new(host.store), FaultDisk::new(host.kms));
        let faults = [store.faults(), kms.faults()];
        (host.store, host.kms) = (Arc::new(store), Arc::new(kms));
        let process = Some(host.open().expect("a start opens"));
        Self {
            machine,
            host,
            process,
            shared,
            watch,
            planted,
            faults,
        }
    }

    /// What makes calls to a disk fail.
    pub fn faults(&self, on: Where) -> &Faults {
        &self.faults[on as usize]
    }

    /// Whether a store is open: after a failed reopening none is.
    pub fn is_open(&self) -> bool {
        self.process.is_some()
    }

    /// From now on captures are kept.
    pub fn record(&self) {
        self.shared.lock().unwrap().recording = true;
    }

    /// The open store.
    pub fn process(&self) -> &Process {
        self.process
            .as_ref()
            .expect("it is open between operations")
    }

    /// Does the `step`-th operation. Forks of one history give each a seed of its own.
    pub fn op(&mut self, op: Op, step: u32, seed: u64) -> offshoot::Result<()> {
        self.host.random.reseed(seed);
        let action = op.action(step, self.shared.lock().unwrap().tracker.newest());
        self.act(&action)
    }

    /// Does a call.
    pub fn act(&mut self, action: &Action) -> offshoot::Result<()> {
        let before = {
            let mut shared = self.shared.lock().unwrap();
            let before = shared.tracker.clone();
            shared.tracker.start(action);
            before
        };
        let done = match action {
            Action::Reopen => self.reopen(),
            action => self.process().act(action),
        };
        let mut shared = self.shared.lock().unwrap();
        match &done {
            Ok(()) => {
                shared.tracker.succeed(action);
                if action.is_durable() {
                    self.watch.acknowledge();
                } else if self.planted == Planted::EarlyAcknowledgement {
                    shared.tracker.acknowledge();
                }
            }
            Err(error) if happened_not(error) => shared.tracker = before,
            Err(_) => shared.tracker.fail(action),
        }
        done
    }

    fn reopen(&mut self) -> offshoot::Result<()> {
        let process = self.process.take().expect("it is open between operations");
        process.store.close()?;
        self.acknowledge();
        self.process = Some(self.host.open()?);
        Ok(())
    }

    fn acknowledge(&self) {
        self.shared.lock().unwrap().tracker.acknowledge();
        self.watch.acknowledge();
    }

    /// What the store should hold now.
    pub fn model(&self) -> Model {
        self.shared.lock().unwrap().tracker.newest().clone()
    }

    /// Ends the process and gives all captures, the end among them.
    pub fn end(mut self) -> Result<Vec<Capture>, String> {
        self.machine.clear_hooks();
        self.process.take();
        self.watch.check()?;
        let mut shared = self.shared.lock().unwrap();
        shared.capture(&self.machine.kill());
        Ok(std::mem::take(&mut shared.captures))
    }
}

/// The call says that nothing was changed.
pub fn happened_not(error: &Error) -> bool {
    matches!(
        error,
        Error::Poisoned | Error::NoSpace { .. } | Error::NotFound { .. }
    )
}

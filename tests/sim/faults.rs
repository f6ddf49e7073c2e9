//! Every call to the disk fails, one after another, once and for good.

use std::io::ErrorKind;
use std::sync::Arc;

use offshoot::Error;
use offshoot::io::fault::{Class, Failure, FaultDisk, Faults, Times};
use offshoot::io::sim::{Crash, SimMachine};

use offshoot_torture::model::{Action, Kind, Model, PAGE_SECTORS, Tracker};
use offshoot_torture::nonces::Nonces;
use offshoot_torture::oracle::{Case, check};
use offshoot_torture::rig::{Host, Process};
use offshoot_torture::run::{Where, happened_not};

/// An error of the operating system: EIO.
const EIO: Failure = Failure::Os(5);

pub fn volume(name: &str) -> (Kind, String) {
    (Kind::Volume, name.to_owned())
}

pub fn write(name: &str, first: u64, count: u64, number: u32) -> Action {
    let sectors = first * PAGE_SECTORS..(first + count) * PAGE_SECTORS;
    Action::Write {
        name: name.to_owned(),
        sectors,
        number,
    }
}

/// Everything that a store does.
pub fn script() -> Vec<Action> {
    let snapshot = (Kind::Snapshot, "s1".to_owned());
    let branch = |from: &(Kind, String), to: &(Kind, String), other_key| Action::Branch {
        from: from.clone(),
        to: to.clone(),
        other_key,
    };
    vec![
        Action::Create {
            name: "v0".to_owned(),
        },
        write("v0", 0, 3, 1),
        branch(&volume("v0"), &volume("c1"), true),
        branch(&volume("v0"), &snapshot, false),
        write("v0", 1, 2, 2),
        write("c1", 2, 1, 3),
        Action::Flush,
        Action::Checkpoint,
        Action::Discard {
            name: "v0".to_owned(),
            sectors: 3..20,
        },
        Action::Reopen,
        write("c1", 8, 2, 4),
        Action::Rename {
            name: "c1".to_owned(),
            to: "r1".to_owned(),
        },
        branch(&snapshot, &volume("c2"), false),
        Action::Delete {
            kind: Kind::Volume,
            name: "v0".to_owned(),
        },
        Action::Zero {
            name: "r1".to_owned(),
            sectors: 16..24,
        },
        Action::Reopen,
        write("c2", 5, 1, 5),
        Action::Flush,
    ]
}

/// A script under way on disks that may fail.
pub struct Trial {
    pub machine: SimMachine,
    pub host: Host,
    faults: [Faults; 2],
    pub process: Option<Process>,
    pub tracker: Tracker,
    pub errors: Vec<Error>,
}

impl Trial {
    pub fn new(seed: u64) -> Self {
        let trial = Self::on(SimMachine::new(), Model::default(), seed);
        trial.host.create_kms().unwrap();
        trial
    }

    /// On a machine with a store that holds this.
    pub fn on(machine: SimMachine, model: Model, seed: u64) -> Self {
        let mut host = Host::new(&machine, seed);
        let (store, kms) = (FaultDisk::new(host.store), FaultDisk::new(host.kms));
        let faults = [store.faults(), kms.faults()];
        (host.store, host.kms) = (Arc::new(store), Arc::new(kms));
        let (process, tracker) = (None, Tracker::new(model));
        Self {
            machine,
            host,
            faults,
            process,
            tracker,
            errors: Vec::new(),
        }
    }

    pub fn faults(&self, on: Where) -> &Faults {
        &self.faults[on as usize]
    }

    /// Makes the store and runs the script, on after failures as long as that is possible.
    pub fn run(&mut self) {
        match self.host.create_store() {
            Ok(process) => self.process = Some(process),
            Err(error) => self.errors.push(error),
        }
        for action in script() {
            self.act(&action);
        }
    }

    pub fn act(&mut self, action: &Action) {
        if self.process.is_none() {
            match self.host.open() {
                Ok(process) => self.process = Some(process),
                Err(error) => {
                    self.errors.push(error);
                    return;
                }
            }
            // A process that opens has made durable what it accepted, so this is what is there.
            if let Ok(model) = self
                .process
                .as_ref()
                .map_or(Err(String::new()), Process::read)
            {
                assert!(self.tracker.possible().contains(&model), "{model:?}");
                self.tracker = Tracker::new(model);
            }
        }
        let before = self.tracker.clone();
        self.tracker.start(action);
        match self.call(action) {
            Ok(()) => self.tracker.succeed(action),
            Err(error) if happened_not(&error) => {
                self.tracker = before;
                self.errors.push(error);
            }
            Err(error) => {
                self.tracker.fail(action);
                self.errors.push(error);
            }
        }
    }

    fn call(&mut self, action: &Action) -> offshoot::Result<()> {
        if *action != Action::Reopen {
            return self.process.as_ref().unwrap().act(action);
        }
        let process = self.process.take().unwrap();
        process.store.close()?;
        self.tracker.acknowledge();
        self.process = Some(self.host.open()?);
        Ok(())
    }

    /// All errors are of a kind that says what happened, and none blames the bytes on disk.
    pub fn check_errors(&self) -> Result<(), String> {
        for error in &self.errors {
            let is_typed = match error {
                Error::Io { .. } | Error::NoSpace { .. } | Error::Poisoned => true,
                Error::EraseUnfinished { .. } => true,
                // What a call that failed did not make is not there.
                Error::NotFound { .. } | Error::NotAStore { .. } => true,
                _ => false,
            };
            if !is_typed {
                return Err(format!("an unexpected error: {error:?}"));
            }
        }
        Ok(())
    }

    pub fn check(&self, machine: &SimMachine, seed: u64) -> Result<(), String> {
        let case = Case {
            possible: self.tracker.possible(),
            acknowledged: &Default::default(),
            nonces: &Arc::new(Nonces::default()),
            seed,
        };
        check(machine, &case).map(drop)
    }
}

/// Calls that the whole script makes.
fn call_count(on: Where, class: Option<Class>) -> u64 {
    let mut trial = Trial::new(1);
    if let Some(class) = class {
        trial.faults(on).count_only(class);
    }
    let before = trial.faults(on).calls();
    trial.run();
    assert!(trial.errors.is_empty(), "{:?}", trial.errors);
    trial.faults(on).calls() - before
}

/// The script with the `n`-th call failing, then everything that can come after.
fn fail_at(
    on: Where,
    class: Option<Class>,
    n: u64,
    failure: Failure,
    times: Times,
) -> Result<(), String> {
    let mut trial = Trial::new(1);
    if let Some(class) = class {
        trial.faults(on).count_only(class);
    }
    trial.faults(on).fail_nth(n, failure, times);
    trial.run();
    assert!(
        trial.faults(on).failed() > 0,
        "call {n} of {on:?} was never made"
    );
    trial.faults(on).heal();
    trial.check_errors()?;
    let crashed = [
        ("a kill", trial.machine.kill()),
        ("a power loss", trial.machine.power_loss(&Crash::NONE_KEPT)),
    ];
    trial.process = None;
    if !has_store(&trial.machine) {
        let created = trial.host.create_store().map(drop);
        return created.map_err(|error| format!("no store can be made afterwards: {error}"));
    }
    trial
        .check(&trial.machine, 1 << 20)
        .map_err(|why| format!("when healed: {why}"))?;
    for (seed, (what, machine)) in (2u64..).zip(crashed) {
        if has_store(&machine) {
            trial
                .check(&machine, seed << 20)
                .map_err(|why| format!("after {what}: {why}"))?;
        }
    }
    Ok(())
}

fn has_store(machine: &SimMachine) -> bool {
    let names = offshoot::io::Disk::list(&machine.dir("store")).unwrap();
    names
        .iter()
        .any(|name| name.starts_with("superblock") && !name.ends_with(".tmp"))
}

/// All calls of one disk, in two threads.
pub fn fail_all(on: Where, class: Option<Class>, failure: Failure, times: Times) {
    let count = call_count(on, class);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for first in 1..=2 {
            let failures = &failures;
            scope.spawn(move || {
                for n in (first..=count).step_by(2) {
                    if let Err(why) = fail_at(on, class, n, failure, times) {
                        failures.lock().unwrap().push(format!("call {n}: {why}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!(
        "{on:?} {class:?} {times:?}: {count} calls, {} failures",
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{:#?}",
        &failures[..failures.len().min(5)]
    );
}

/// Keys are destroyed before the tombstone is written: whichever call fails, what is then said to be as it was
/// can be read.
#[test]
fn an_erasure_that_may_have_destroyed_keys_says_so_whichever_call_fails() {
    let erase = Action::Erase {
        kind: Kind::Volume,
        name: "v0".to_owned(),
    };
    let mut unfinished = 0;
    for on in [Where::Store, Where::Kms] {
        for n in 1.. {
            let mut trial = Trial::new(1);
            trial.process = Some(trial.host.create_store().unwrap());
            script()[..9].iter().for_each(|action| trial.act(action));
            let before = trial.process.as_ref().unwrap().read().unwrap();
            trial
                .faults(on)
                .fail_nth(n, ErrorKind::StorageFull, Times::ForGood);
            trial.act(&erase);
            if trial.faults(on).failed() == 0 {
                break;
            }
            trial.faults(on).heal();
            trial.process = None;
            let process = trial.host.open().unwrap();
            match trial.errors.pop() {
                Some(Error::EraseUnfinished { name, .. }) => {
                    unfinished += 1;
                    assert_eq!(name, "v0");
                    let again = process.act(&erase);
                    assert!(
                        matches!(again, Ok(()) | Err(Error::NotFound { .. })),
                        "{again:?}"
                    );
                }
                Some(error) => {
                    assert_eq!(process.read(), Ok(before), "call {n} of {on:?}: {error}")
                }
                // What can be left for later failed.
                None => {}
            }
        }
    }
    assert!(unfinished > 5, "{unfinished}");
}

#[test]
fn any_call_to_the_stores_disk_may_fail_once() {
    fail_all(Where::Store, None, EIO, Times::Once);
}

#[test]
fn any_call_to_the_stores_disk_may_fail_for_good() {
    fail_all(Where::Store, None, EIO, Times::ForGood);
}

#[test]
fn any_call_to_the_key_services_disk_may_fail_once() {
    fail_all(Where::Kms, None, EIO, Times::Once);
}

#[test]
fn any_call_to_the_key_services_disk_may_fail_for_good() {
    fail_all(Where::Kms, None, EIO, Times::ForGood);
}

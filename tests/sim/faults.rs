//! Every call to the disk fails, one after another, once and for good.

use std::io::ErrorKind;
use std::sync::Arc;

use offshoot::Error;
use offshoot::io::fault::{Class, Failure, FaultDisk, Faults, Times};
use offshoot::io::sim::{Crash, SimMachine};

use crate::model::{Action, Kind, Model, PAGE_SECTORS, Tracker};
use crate::nonces::Nonces;
use crate::oracle::{Case, check};
use crate::rig::{Host, Process};

/// An error of the operating system: EIO.
const EIO: Failure = Failure::Os(5);

/// Which disk the fault is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Store,
    Kms,
}

fn volume(name: &str) -> (Kind, String) {
    (Kind::Volume, name.to_owned())
}

fn write(name: &str, first: u64, count: u64, number: u32) -> Action {
    let sectors = first * PAGE_SECTORS..(first + count) * PAGE_SECTORS;
    Action::Write {
        name: name.to_owned(),
        sectors,
        number,
    }
}

/// Everything that a store does.
fn script() -> Vec<Action> {
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
struct Trial {
    machine: SimMachine,
    host: Host,
    faults: [Faults; 2],
    process: Option<Process>,
    tracker: Tracker,
    errors: Vec<Error>,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let machine = SimMachine::new();
        let mut host = Host::new(&machine, seed);
        let (store, kms) = (FaultDisk::new(host.store), FaultDisk::new(host.kms));
        let faults = [store.faults(), kms.faults()];
        (host.store, host.kms) = (Arc::new(store), Arc::new(kms));
        host.create_kms().unwrap();
        let (process, tracker) = (None, Tracker::new(Model::default()));
        Self {
            machine,
            host,
            faults,
            process,
            tracker,
            errors: Vec::new(),
        }
    }

    fn faults(&self, on: Where) -> &Faults {
        &self.faults[on as usize]
    }

    /// Makes the store and runs the script, on after failures as long as that is possible.
    fn run(&mut self) {
        match self.host.create_store() {
            Ok(process) => self.process = Some(process),
            Err(error) => self.errors.push(error),
        }
        for action in script() {
            self.act(&action);
        }
    }

    fn act(&mut self, action: &Action) {
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
    fn check_errors(&self) -> Result<(), String> {
        for error in &self.errors {
            let is_typed = match error {
                Error::Io { .. } | Error::NoSpace { .. } | Error::Poisoned => true,
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

    fn check(&self, machine: &SimMachine, seed: u64) -> Result<(), String> {
        let case = Case {
            possible: self.tracker.possible(),
            acknowledged: &Default::default(),
            nonces: &Arc::new(Nonces::default()),
            seed,
        };
        check(machine, &case).map(drop)
    }
}

/// The call says that nothing was changed.
fn happened_not(error: &Error) -> bool {
    matches!(
        error,
        Error::Poisoned | Error::NoSpace { .. } | Error::NotFound { .. }
    )
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
fn fail_all(on: Where, class: Option<Class>, failure: Failure, times: Times) {
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

#[test]
fn any_file_may_find_the_disk_full() {
    let full = Failure::Kind(ErrorKind::StorageFull);
    for times in [Times::Once, Times::ForGood] {
        fail_all(Where::Store, Some(Class::Create), full, times);
        fail_all(Where::Kms, Some(Class::Create), full, times);
    }
}

/// Where writing in place can need space, too. What says that nothing was changed must mean it.
#[test]
fn any_write_or_sync_may_find_the_disk_full() {
    let full = Failure::Kind(ErrorKind::StorageFull);
    for class in [Class::Write, Class::Sync] {
        for times in [Times::Once, Times::ForGood] {
            fail_all(Where::Store, Some(class), full, times);
            fail_all(Where::Kms, Some(class), full, times);
        }
    }
}

#[test]
fn a_sync_that_finds_the_disk_full_poisons_the_store() {
    for failure in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        let mut trial = Trial::new(1);
        trial.process = Some(trial.host.create_store().unwrap());
        for action in &script()[..2] {
            trial.act(action);
        }
        trial.faults(Where::Store).count_only(Class::Sync);
        trial.faults(Where::Store).fail_nth(1, failure, Times::Once);
        trial.act(&Action::Flush);
        let found = trial.errors.last();
        assert!(
            matches!(found, Some(Error::Io { op: "sync", .. })),
            "{found:?}"
        );
        for action in [write("v0", 1, 1, 9), Action::Flush, Action::Checkpoint] {
            trial.act(&action);
            assert!(
                matches!(trial.errors.last(), Some(Error::Poisoned)),
                "{:?}",
                trial.errors
            );
        }
        assert_eq!(trial.errors.len(), 4);
        let process = trial.process.take().unwrap();
        assert_eq!(
            &process.read().unwrap(),
            trial.tracker.newest(),
            "reads go on"
        );
        drop(process);
        trial.check(&trial.machine, 1 << 20).unwrap();
    }
}

#[test]
fn a_full_disk_poisons_nothing_and_a_delete_still_fits() {
    let start = &crate::ops::starts()[1];
    let machine = start.machine.kill();
    let process = Host::new(&machine, 1).open().unwrap();
    // The key service notes on its disk who unlocks what, so keys are unlocked before.
    assert_eq!(process.read().unwrap(), start.model);
    machine.set_free_len(0);
    // A slot is left in the segment: a page with its header needs two.
    let refused = process.act(&write("v0", 0, 1, 9));
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    assert_eq!(process.read().unwrap(), start.model);
    let delete = Action::Delete {
        kind: Kind::Volume,
        name: "v0".to_owned(),
    };
    process.act(&delete).unwrap();
    let refused = process.act(&Action::Create {
        name: "v1".to_owned(),
    });
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    machine.set_free_len(1 << 20);
    let create = Action::Create {
        name: "v1".to_owned(),
    };
    process.act(&create).unwrap();
    process.act(&write("v1", 0, 1, 9)).unwrap();
    process.store.flush().unwrap();
    let model = start
        .model
        .after(&delete)
        .after(&create)
        .after(&write("v1", 0, 1, 9));
    drop(process);
    let machine = machine.power_loss(&Crash::NONE_KEPT);
    assert_eq!(
        Host::new(&machine, 2).open().unwrap().read().unwrap(),
        model
    );
}

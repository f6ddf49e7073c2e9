//! What must be true of a machine after a crash.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;

use offshoot::check::{CheckOptions, Class, Report};
use offshoot::io::Disk;
use offshoot::io::sim::{Crash, SimMachine};
use offshoot::{Error, KeyState};

use crate::model::{Action, Kind, Model, PAGE_SECTORS, gone};
use crate::nonces::{Nonces, Slot};
use crate::ops::ROOM_LEN;
use crate::rig::{Host, Process, Watch};
use crate::run::Capture;

/// What is known of a machine that has crashed.
#[derive(Debug)]
pub struct Case<'a> {
    /// What the store may hold.
    pub possible: &'a [Model],
    pub acknowledged: &'a BTreeSet<Slot>,
    pub nonces: &'a Arc<Nonces>,
    /// No other fork has this seed or one of the seven after it.
    pub seed: u64,
}

/// Checks a machine after a kill or a power loss: that the store opens unaided; that it holds a
/// prefix of what was done, with all that was acknowledged and no part of a call; that it is the
/// same when it is opened again, and when the power goes right after the first flush; that
/// writing works and lasts; that no acknowledged slot is written and no nonce used twice.
///
/// Gives machines that crashed while they recovered, to be checked with the same case.
pub fn check(machine: &SimMachine, case: &Case<'_>) -> Result<Vec<SimMachine>, String> {
    keep_room(machine);
    let is_kill = machine.pending_write_count() + machine.pending_name_count() > 0;
    fsck(machine, case.seed + 4, "right after the crash")?;
    let watch = Watch::on(machine, case.acknowledged.clone(), case.nonces);
    let barriers = Arc::new(Mutex::new(Vec::new()));
    let hook = barriers.clone();
    machine.on_barrier(move |copy| hook.lock().unwrap().push(copy.clone()));
    let first = open(machine, case.seed, "first")?;
    machine.on_barrier(|_| ());
    let model = first.read()?;
    if !case.possible.contains(&model) {
        return Err(format!(
            "it holds {model:?}, but may hold only {:?}",
            case.possible
        ));
    }
    for (kind, name) in gone(case.possible, &model) {
        let found = match kind {
            Kind::Volume => first.store.volume(&name).is_ok(),
            Kind::Snapshot => first.store.snapshot(&name).is_ok(),
            Kind::Pin => first.store.pin(&name).is_ok(),
        };
        if found {
            return Err(format!("{name} is found by its name, but not listed"));
        }
    }
    first
        .store
        .flush()
        .map_err(|error| format!("the first flush fails: {error}"))?;
    let dark = machine.power_loss(&Crash::NONE_KEPT);
    drop(first);
    // What lost its power already has nothing that this could lose.
    if is_kill {
        expect(
            &dark,
            case.seed + 1,
            "after a kill, an open, a flush and a power loss",
            &model,
            case,
        )?;
    }
    // On a full disk somebody makes room: or nothing more could be written.
    machine.set_free_len(1 << 50);
    let second = open(machine, case.seed + 2, "second")?;
    equal(&second.read()?, &model, "when it is opened again")?;
    let action = probe(&model);
    let then = model.after(&action);
    match second.act(&action) {
        Ok(()) => {}
        // Nothing is left to read that would show that an erasure had begun.
        Err(error) if is_erased(&error, &action, case) => {
            watch.check()?;
            machine.clear_hooks();
            return Ok(std::mem::take(&mut *barriers.lock().unwrap()));
        }
        Err(error) => return Err(format!("{action:?} fails: {error}")),
    }
    second
        .store
        .flush()
        .map_err(|error| format!("a flush fails: {error}"))?;
    equal(&second.read()?, &then, "after another write")?;
    let dark = machine.power_loss(&Crash::NONE_KEPT);
    drop(second);
    expect(
        &dark,
        case.seed + 3,
        "after another write, a flush and a power loss",
        &then,
        case,
    )?;
    fsck(
        &dark,
        case.seed + 5,
        "after another write, a flush and a power loss",
    )?;
    watch.check()?;
    machine.clear_hooks();
    let barriers = std::mem::take(&mut *barriers.lock().unwrap());
    Ok(barriers)
}

/// On a full disk, room for lines of the key service, which the guarantees ask to be kept elsewhere: no file of a store
/// fits in.
fn keep_room(machine: &SimMachine) {
    let free = machine.dir("store").free_len().unwrap_or(0);
    machine.set_free_len(free.max(ROOM_LEN));
}

/// The check of a whole store from outside, with keys and all pages. A crash while a superblock
/// was written may leave it in one copy; nothing else may be wrong.
pub fn fsck(machine: &SimMachine, seed: u64, when: &str) -> Result<(), String> {
    let read_data = |options: CheckOptions| options.read_data(true);
    let report = report(machine, seed, read_data).map_err(|error| format!("{when} {error}"))?;
    let is_allowed = |class: Class| class == Class::RedundancyLost;
    match report
        .findings
        .iter()
        .find(|finding| !is_allowed(finding.class))
    {
        Some(finding) => Err(format!("{when} the check finds {finding}")),
        None if !report.stats.authenticated => Err(format!("{when} nothing is authentic")),
        None => Ok(()),
    }
}

/// What the check finds, or why it cannot be made.
pub fn report(
    machine: &SimMachine,
    seed: u64,
    depth: impl Fn(CheckOptions) -> CheckOptions,
) -> Result<Report, String> {
    let host = Host::new(machine, seed);
    host.enable_keys()
        .map_err(|error| format!("the key cannot be enabled: {error}"))?;
    let kms = host
        .open_kms()
        .map_err(|error| format!("no key service: {error}"))?;
    let options = depth(CheckOptions::new().kms(Arc::new(kms)));
    let report = offshoot::check::check(&*host.store, &options);
    report.map_err(|error| format!("the check fails: {error}"))
}

fn open(machine: &SimMachine, seed: u64, which: &str) -> Result<Process, String> {
    let host = Host::new(machine, seed);
    // A killed process may have enabled it only in the page cache.
    let opened = host.enable_keys().and_then(|()| host.open());
    opened.map_err(|error| format!("the {which} open fails: {error}"))
}

/// A power loss may bring a key back whose destruction a sync could not make durable, until it is destroyed again: so says
/// `docs/guarantees.md`. Nothing else may have changed.
fn expect(
    machine: &SimMachine,
    seed: u64,
    when: &str,
    model: &Model,
    case: &Case<'_>,
) -> Result<(), String> {
    let found = open(machine, seed, when)?.read()?;
    let mut expected = model.clone();
    for (head, contents) in &mut expected.heads {
        let lit = found.heads.get(head).filter(|_| model.is_dark(head));
        let may_be = |lit: &&Vec<u32>| {
            let mut possible = case.possible.iter();
            possible.any(|model| model.heads.get(head) == Some(lit))
        };
        if let Some(lit) = lit.filter(may_be) {
            contents.clone_from(lit);
        }
    }
    equal(&found, &expected, when)
}

fn equal(found: &Model, expected: &Model, when: &str) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{when} it holds {found:?} instead of {expected:?}")),
    }
}

/// Whether a write fails since the keys of its volume may be gone.
fn is_erased(error: &Error, action: &Action, case: &Case<'_>) -> bool {
    let is_missing = matches!(
        error,
        Error::KeyUnavailable {
            state: KeyState::Missing,
            ..
        }
    );
    let Action::Write { name, .. } = action else {
        return false;
    };
    let head = (Kind::Volume, name.clone());
    is_missing && case.possible.iter().any(|model| model.is_dark(&head))
}

/// A write that can be told from all others; where there is no volume, a new one.
fn probe(model: &Model) -> Action {
    match model.names(Kind::Volume).first() {
        Some(name) => Action::Write {
            name: (*name).to_owned(),
            sectors: 2 * PAGE_SECTORS - 3..3 * PAGE_SECTORS,
            number: 77_777,
        },
        None => Action::Create {
            name: "probe0".to_owned(),
        },
    }
}

/// The case of a captured machine.
pub fn case_of<'a>(capture: &'a Capture, nonces: &'a Arc<Nonces>, seed: u64) -> Case<'a> {
    let (possible, acknowledged) = (&*capture.possible, &*capture.acknowledged);
    Case {
        possible,
        acknowledged,
        nonces,
        seed,
    }
}

/// A machine after a crash. `None` is a kill.
pub fn crashed(machine: &SimMachine, crash: Option<&Crash>) -> SimMachine {
    match crash {
        None => machine.kill(),
        Some(crash) => machine.power_loss(crash),
    }
}

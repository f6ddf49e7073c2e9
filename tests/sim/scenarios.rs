//! Each call of a user, alone, with each call to a disk failing in it: once and for good.

use std::sync::{Mutex, OnceLock};

use offshoot::io::fault::{Failure, Times};
use offshoot::io::sim::{Crash, SimMachine};

use crate::faults::{Trial, volume, write};
use offshoot_torture::model::{Action, Kind, Model};
use offshoot_torture::rig::Host;
use offshoot_torture::run::Where;

/// An error of the operating system: EIO.
const EIO: Failure = Failure::Os(5);

/// What is there before: volumes with pages, a clone, snapshots, a pin, changes that no checkpoint knows of.
fn before() -> Vec<Action> {
    let snapshot = |name: &str| (Kind::Snapshot, name.to_owned());
    let branch = |from: (Kind, String), to: (Kind, String)| Action::Branch {
        from,
        to,
        other_key: false,
    };
    let create = Action::Create {
        name: "v0".to_owned(),
    };
    vec![
        create,
        write("v0", 0, 4, 1),
        branch(volume("v0"), snapshot("s1")),
        write("v0", 1, 2, 2),
        branch(volume("v0"), volume("c2")),
        write("c2", 3, 2, 3),
        branch(volume("c2"), (Kind::Pin, "p3".to_owned())),
        Action::Checkpoint,
        write("v0", 6, 2, 4),
        branch(volume("v0"), snapshot("s4")),
        Action::Checkpoint,
        write("c2", 8, 1, 5),
        Action::Flush,
    ]
}

/// The calls.
fn scenarios() -> Vec<(&'static str, Vec<Action>)> {
    let name = |name: &str| name.to_owned();
    let snapshot = |name: &str| (Kind::Snapshot, name.to_owned());
    let branch = |from: (Kind, String), to: (Kind, String), other_key| Action::Branch {
        from,
        to,
        other_key,
    };
    let delete = |kind, name: &str| Action::Delete {
        kind,
        name: name.to_owned(),
    };
    let erase = |kind, name: &str| Action::Erase {
        kind,
        name: name.to_owned(),
    };
    let sectors = |first: u64, end: u64| first..end;
    vec![
        ("create", vec![Action::Create { name: name("n9") }]),
        ("write a page", vec![write("v0", 2, 1, 91)]),
        (
            "write two pages and flush",
            vec![write("c2", 2, 2, 92), Action::Flush],
        ),
        (
            "write until the segment is full",
            (0..4)
                .map(|n| write("v0", n * 2, 2, 93 + n as u32))
                .collect(),
        ),
        ("flush", vec![Action::Flush]),
        (
            "discard",
            vec![Action::Discard {
                name: name("v0"),
                sectors: sectors(3, 40),
            }],
        ),
        (
            "zero",
            vec![Action::Zero {
                name: name("c2"),
                sectors: sectors(8, 40),
            }],
        ),
        (
            "snapshot",
            vec![branch(volume("v0"), snapshot("s9"), false)],
        ),
        ("clone", vec![branch(volume("v0"), volume("c9"), false)]),
        (
            "clone under another key",
            vec![branch(volume("c2"), volume("c9"), true)],
        ),
        (
            "clone a snapshot",
            vec![branch(snapshot("s1"), volume("c9"), false)],
        ),
        (
            "snapshot a snapshot",
            vec![branch(snapshot("s1"), snapshot("s9"), false)],
        ),
        (
            "pin",
            vec![branch(volume("v0"), (Kind::Pin, name("p9")), false)],
        ),
        ("unpin", vec![delete(Kind::Pin, "p3")]),
        ("delete a source", vec![delete(Kind::Volume, "v0")]),
        ("delete a clone", vec![delete(Kind::Volume, "c2")]),
        (
            "delete a snapshot and let it be removed",
            vec![delete(Kind::Snapshot, "s1"), Action::Checkpoint],
        ),
        (
            "delete many",
            vec![Action::DeleteAll {
                heads: vec![volume("v0"), snapshot("s1"), snapshot("s4")],
            }],
        ),
        ("erase a volume", vec![erase(Kind::Volume, "v0")]),
        ("erase a snapshot", vec![erase(Kind::Snapshot, "s1")]),
        ("rekey", vec![Action::Rekey { name: name("v0") }]),
        (
            "rename",
            vec![Action::Rename {
                name: name("v0"),
                to: name("r0"),
            }],
        ),
        (
            "checkpoint",
            vec![write("v0", 0, 1, 97), Action::Checkpoint],
        ),
        (
            "compact",
            vec![
                delete(Kind::Volume, "c2"),
                Action::Checkpoint,
                Action::Checkpoint,
                Action::Compact,
            ],
        ),
        ("reopen", vec![Action::Reopen]),
        (
            "rotate",
            vec![Action::Rotate, write("v0", 0, 1, 98), Action::Flush],
        ),
        (
            "rewrap",
            vec![
                Action::Rotate,
                Action::Rewrap {
                    name: name("v0"),
                    other_key: true,
                },
            ],
        ),
    ]
}

/// A machine with all that is there before, and what that is.
fn prepared() -> &'static (SimMachine, Model) {
    static PREPARED: OnceLock<(SimMachine, Model)> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let machine = SimMachine::new();
        let process = Host::new(&machine, 71).create().unwrap();
        let mut model = Model::default();
        for action in before() {
            process.act(&action).unwrap();
            model = model.after(&action);
        }
        process.store.close().unwrap();
        (machine.kill(), model)
    })
}

fn open() -> Trial {
    let (machine, model) = prepared();
    let mut trial = Trial::on(machine.kill(), model.clone(), 72);
    trial.process = Some(trial.host.open().unwrap());
    trial
}

/// Calls to a disk that a scenario makes.
fn count(actions: &[Action], on: Where) -> u64 {
    let mut trial = open();
    let before = trial.faults(on).calls();
    actions.iter().for_each(|action| trial.act(action));
    assert!(trial.errors.is_empty(), "{:?}", trial.errors);
    trial.faults(on).calls() - before
}

fn fail_at(actions: &[Action], on: Where, n: u64, times: Times) -> Result<(), String> {
    let mut trial = open();
    trial.faults(on).fail_nth(n, EIO, times);
    actions.iter().for_each(|action| trial.act(action));
    if trial.faults(on).failed() == 0 {
        return Err("it was never made".to_owned());
    }
    trial.faults(on).heal();
    trial.check_errors()?;
    let ends = [
        ("healed", trial.machine.kill()),
        ("a power loss", trial.machine.power_loss(&Crash::NONE_KEPT)),
        (
            "a torn power loss",
            trial.machine.power_loss(&trial.machine.sampled_crash(n)),
        ),
    ];
    trial.process = None;
    for (seed, (what, machine)) in (1_u64..).zip(ends) {
        let checked = trial.check(&machine, seed << 20 | n << 4);
        checked.map_err(|why| format!("after {what}: {why}"))?;
    }
    Ok(())
}

#[test]
fn in_each_call_of_a_user_any_call_to_a_disk_may_fail_once_or_for_good() {
    let scenarios = scenarios();
    assert!(scenarios.len() >= 20);
    let mut jobs = Vec::new();
    for (index, (_, actions)) in scenarios.iter().enumerate() {
        for on in [Where::Store, Where::Kms] {
            for n in 1..=count(actions, on) {
                jobs.extend([Times::Once, Times::ForGood].map(|times| (index, on, n, times)));
            }
        }
    }
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for first in 0..2 {
            let (jobs, scenarios, failures) = (&jobs, &scenarios, &failures);
            scope.spawn(move || {
                for &(index, on, n, times) in jobs.iter().skip(first).step_by(2) {
                    let (name, actions) = &scenarios[index];
                    if let Err(why) = fail_at(actions, on, n, times) {
                        let what = format!("{name}: call {n} of {on:?}, {times:?}: {why}");
                        failures.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!(
        "{} scenarios, {} faults, {} failures",
        scenarios.len(),
        jobs.len(),
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{:#?}",
        &failures[..failures.len().min(10)]
    );
}

//! A disk without space: what asks for more is refused and changes nothing; the rest goes on.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use offshoot::Error;
use offshoot::io::fault::{Class, Failure, Times};
use offshoot::io::sim::{Crash, SimMachine};

use crate::faults::{Trial, fail_all, script, volume, write};
use offshoot_torture::model::{Action, Kind, Model};
use offshoot_torture::nonces::Nonces;
use offshoot_torture::oracle::{Case, check, crashed};
use offshoot_torture::rig::{Host, Process};
use offshoot_torture::run::Where;

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

/// A failed write or sync leaves nobody knowing what is on disk: nothing more is written or
/// acknowledged, whatever the reason, and reads go on.
#[test]
fn a_failed_write_or_sync_poisons_the_store() {
    let kinds = [
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
        ErrorKind::Other,
    ];
    for (class, failure) in [Class::Write, Class::Sync]
        .into_iter()
        .flat_map(|class| kinds.map(|kind| (class, kind)))
    {
        let mut trial = Trial::new(1);
        trial.process = Some(trial.host.create_store().unwrap());
        for action in &script()[..2] {
            trial.act(action);
        }
        trial.faults(Where::Store).count_only(class);
        trial.faults(Where::Store).fail_nth(1, failure, Times::Once);
        trial.act(&if class == Class::Write {
            write("v0", 4, 1, 8)
        } else {
            Action::Flush
        });
        let found = trial.errors.last();
        assert!(matches!(found, Some(Error::Io { .. })), "{found:?}");
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
        let shown = process.read().unwrap();
        assert!(trial.tracker.possible().contains(&shown), "reads go on");
        drop(process);
        trial.check(&trial.machine, 1 << 20).unwrap();
    }
}

/// Bytes that a full disk has left: the key service's lines fit in, no file of the store does.
const LEFT: u64 = 8000;

/// A store on a full disk, and what it holds.
struct FullDisk {
    machine: SimMachine,
    model: Model,
}

/// A process on a full disk, on which whatever is given back is taken by others.
struct Packed {
    machine: SimMachine,
    host: Host,
    process: Option<Process>,
    model: Model,
}

impl FullDisk {
    /// Volumes, a snapshot and a clone, and then pages until nothing fits in any more.
    fn new() -> Self {
        let machine = SimMachine::new();
        let process = Host::new(&machine, 1).create().unwrap();
        let mut model = Model::default();
        let snapshot = (Kind::Snapshot, "s0".to_owned());
        let create = |name: &str| Action::Create {
            name: name.to_owned(),
        };
        let branch = |from: (Kind, String), to: (Kind, String)| Action::Branch {
            from,
            to,
            other_key: false,
        };
        let actions = [
            create("v0"),
            write("v0", 0, 6, 1),
            branch(volume("v0"), snapshot.clone()),
            write("v0", 2, 6, 2),
            branch(snapshot, volume("c0")),
            write("c0", 0, 3, 3),
            create("v1"),
            Action::Checkpoint,
        ];
        for action in actions {
            process.act(&action).unwrap();
            model = model.after(&action);
        }
        machine.set_free_len(30 * 8 * 4096);
        let refused = (0..1000).find_map(|number| {
            let action = write("v1", u64::from(number) % 12, 1, 100 + number);
            match process.act(&action) {
                Ok(()) => {
                    model = model.after(&action);
                    None
                }
                Err(error) => Some(error),
            }
        });
        // Overwriting one volume again and again: what is dead is given back, and writes go on.
        assert!(refused.is_none(), "{refused:?}");
        for number in 0.. {
            let name = format!("f{number}");
            let actions = [create(&name), write(&name, 0, 12, 200 + number)];
            let mut done = actions.iter().map(|action| {
                let done = process.act(action);
                if done.is_ok() {
                    model = model.after(action);
                }
                done
            });
            match done.find_map(Result::err) {
                None => {}
                Some(Error::NoSpace { .. }) => break,
                Some(error) => panic!("{error}"),
            }
        }
        process.store.flush().unwrap();
        // A write of many pages is done from the front.
        let model = process.read().unwrap();
        drop(process);
        machine.set_free_len(LEFT);
        Self { machine, model }
    }

    fn start(&self, seed: u64) -> Packed {
        let machine = self.machine.kill();
        let host = Host::new(&machine, seed);
        let process = Some(host.open().unwrap());
        Packed {
            machine,
            host,
            process,
            model: self.model.clone(),
        }
    }
}

impl Packed {
    fn act(&mut self, action: &Action) -> offshoot::Result<()> {
        self.machine.set_free_len(LEFT);
        let process = self.process.take().unwrap();
        let done = match action {
            Action::Reopen => process.store.close(),
            action => {
                let done = process.act(action);
                self.process = Some(process);
                done
            }
        };
        if done.is_ok() {
            self.model = self.model.after(action);
        }
        if self.process.is_none() {
            self.process = Some(self.host.open()?);
        }
        done
    }

    fn reclaim(&mut self) -> offshoot::Result<()> {
        self.machine.set_free_len(LEFT);
        let store = &self.process.as_ref().unwrap().store;
        store.compact(|_| true).map(drop)
    }

    fn kill(&mut self) {
        self.machine.set_free_len(LEFT);
        self.process = None;
        self.machine = self.machine.kill();
        self.host = Host::new(&self.machine, 77);
        self.process = Some(self.host.open().unwrap());
    }

    fn assert_reads(&self, when: &str) {
        let found = self.process.as_ref().unwrap().read().unwrap();
        assert_eq!(found, self.model, "{when}");
    }
}

/// What must go on when the disk is full.
fn released() -> Vec<Action> {
    let delete = |kind, name: &str| Action::Delete {
        kind,
        name: name.to_owned(),
    };
    let discard = |name: &str, sectors| Action::Discard {
        name: name.to_owned(),
        sectors,
    };
    vec![
        delete(Kind::Volume, "v0"),
        delete(Kind::Snapshot, "s0"),
        discard("c0", 0..64),
        discard("v1", 3..69),
        Action::Checkpoint,
        Action::Reopen,
        delete(Kind::Volume, "f0"),
    ]
}

#[test]
fn delete_works_when_full() {
    let full = FullDisk::new();
    let actions = released();
    let nonces = Arc::new(Nonces::default());
    for (first, second) in (0..actions.len()).flat_map(|a| (0..actions.len()).map(move |b| (a, b)))
    {
        if first == second {
            continue;
        }
        let when = format!("{:?}, {:?}", actions[first], actions[second]);
        let mut packed = full.start(1000 + (first * 10 + second) as u64);
        for action in [&actions[first], &actions[second]] {
            packed
                .act(action)
                .unwrap_or_else(|error| panic!("{when}: {error}"));
        }
        packed.assert_reads(&when);
        packed
            .reclaim()
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        packed.assert_reads(&when);
        packed.kill();
        packed.assert_reads(&when);
        packed
            .act(&Action::Reopen)
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        // With space again writes go on, in the same process.
        packed.machine.set_free_len(1 << 22);
        let process = packed.process.as_ref().unwrap();
        let more = write("c0", 1, 2, 999);
        process
            .act(&more)
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        process.store.flush().unwrap();
        packed.model = packed.model.after(&more);
        packed.assert_reads(&when);
        let possible = [packed.model.clone()];
        let case = Case {
            possible: &possible,
            acknowledged: &Default::default(),
            nonces: &nonces,
            seed: 1 << 57 | ((first * 10 + second) as u64) << 12,
        };
        drop(packed.process.take());
        check(&packed.machine.power_loss(&Crash::NONE_KEPT), &case)
            .unwrap_or_else(|why| panic!("{when}: {why}"));
    }
}

/// The process dies before each sync of what goes on: so in each step in which a dead segment
/// becomes a spare, a spare a segment or a pack.
#[test]
fn what_goes_on_when_full_survives_every_crash() {
    let full = FullDisk::new();
    let nonces = Arc::new(Nonces::default());
    let mut states = 0;
    for action in released() {
        let mut packed = full.start(5000);
        let before = packed.model.clone();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        packed
            .machine
            .on_barrier(move |copy| sink.lock().unwrap().push(copy.clone()));
        packed.act(&action).unwrap();
        packed.reclaim().unwrap();
        packed.machine.clear_hooks();
        let possible = [before, packed.model.clone()];
        drop(packed);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        for (index, machine) in seen.iter().enumerate() {
            let points = machine.crash_points();
            let some = points.iter().step_by(points.len().div_ceil(3)).map(Some);
            for crash in some.chain([None]) {
                states += 1;
                let after = crashed(machine, crash);
                // What the check writes has to fit in.
                after.set_free_len(1 << 22);
                let case = Case {
                    possible: &possible,
                    acknowledged: &Default::default(),
                    nonces: &nonces,
                    seed: 1 << 56 | states << 8,
                };
                check(&after, &case)
                    .unwrap_or_else(|why| panic!("{action:?}, barrier {index}, {crash:?}: {why}"));
                // And on a disk that is still full it opens and shrinks.
                let after = crashed(machine, crash);
                after.set_free_len(LEFT);
                let process = Host::new(&after, 1 << 55 | states).open().unwrap();
                let delete = Action::Delete {
                    kind: Kind::Volume,
                    name: "f1".to_owned(),
                };
                process.act(&delete).unwrap();
                after.set_free_len(LEFT);
                process.store.close().unwrap();
            }
        }
    }
    assert!(states > 200, "{states} states");
}

#[test]
fn what_makes_the_store_grow_is_refused_on_a_full_disk_and_changes_nothing() {
    let full = FullDisk::new();
    let mut packed = full.start(9000);
    let branch = |to| Action::Branch {
        from: volume("v0"),
        to,
        other_key: false,
    };
    let growth = |round: u32| {
        [
            write("v0", 0, 12, 9),
            Action::Create {
                name: format!("n{round}"),
            },
            branch(volume(&format!("m{round}"))),
            branch((Kind::Snapshot, format!("s{}", round + 1))),
        ]
    };
    // Until the last slots of the log's last segment are used.
    let mut refused = 0;
    for round in 0..20 {
        for action in &growth(round) {
            match packed.act(action) {
                Err(Error::NoSpace { .. }) => refused += 1,
                Ok(()) if round < 4 => {}
                other => panic!("{action:?}: {other:?}"),
            }
        }
        // A long write is cut into pieces, and some of them may have been written.
        packed.model = packed.process.as_ref().unwrap().read().unwrap();
    }
    assert!(refused >= 40, "{refused}");
    let delete = Action::Delete {
        kind: Kind::Volume,
        name: "f0".to_owned(),
    };
    packed.act(&delete).unwrap();
    packed.reclaim().unwrap();
    packed.assert_reads("after a delete");
    packed.act(&Action::Reopen).unwrap();
    packed.kill();
    packed.assert_reads("after a kill");
}

/// Each process dies, and the next one finds the disk as full as before.
#[test]
fn crash_upon_crash_does_not_use_the_reserve_up() {
    let full = FullDisk::new();
    let mut packed = full.start(9100);
    for round in 0..12_u64 {
        let from = round * 8;
        let discard = Action::Discard {
            name: "v0".to_owned(),
            sectors: from..from + 8,
        };
        packed
            .act(&discard)
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        packed.act(&Action::Flush).unwrap();
        packed.kill();
        packed.assert_reads("after a kill");
        packed
            .act(&Action::Reopen)
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

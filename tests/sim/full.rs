//! A disk without space: what asks for more is refused and changes nothing; the rest goes on.

use std::io::ErrorKind;

use offshoot::Error;
use offshoot::io::fault::{Class, Failure, Times};
use offshoot::io::sim::Crash;

use crate::faults::{Trial, Where, fail_all, script, write};
use crate::model::{Action, Kind};
use crate::rig::Host;

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

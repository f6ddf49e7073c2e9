use std::collections::BTreeSet;

use super::*;
use crate::io::fault::{FaultDisk, Times};
use crate::io::sim::{Crash, SimDisk, SimMachine};
use crate::sync::Mutex;

const OLD: &[u8] = &[1; 700];
const NEW: &[u8] = &[2; 1500];

fn machine() -> (SimMachine, SimDisk) {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    (machine, disk)
}

fn contents(disk: &dyn Disk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(name, Access::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

#[test]
fn a_published_file_has_its_contents_then_zeroes_and_survives_every_crash() {
    let (machine, disk) = machine();
    publish(&disk, "f", 4096, b"hello").unwrap();
    for crash in machine.crash_points() {
        let after = contents(&machine.power_loss(&crash).dir("d"), "f").unwrap();
        assert_eq!(&after[..5], b"hello");
        assert_eq!(&after[5..], &[0; 4091]);
    }
    publish(&disk, "g", 0, b"longer").unwrap();
    assert_eq!(contents(&disk, "g").unwrap(), b"longer");
    assert_eq!(disk.list().unwrap(), ["f", "g"]);
}

#[test]
fn a_crash_while_publishing_leaves_the_old_or_the_new_contents() {
    let (machine, disk) = machine();
    publish(&disk, "f", 0, OLD).unwrap();
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let sink = Arc::clone(&seen);
    machine.on_barrier(move |machine| {
        for crash in machine.crash_points() {
            let after = machine.power_loss(&crash).dir("d");
            sink.lock().insert(contents(&after, "f").unwrap());
            // What a crash leaves never stands in the way.
            publish(&after, "f", 0, NEW).unwrap();
            assert_eq!(after.list().unwrap(), ["f"]);
        }
    });
    publish(&disk, "f", 0, NEW).unwrap();
    assert_eq!(*seen.lock(), BTreeSet::from([OLD.to_vec(), NEW.to_vec()]));
}

/// What a failed sync lost is durable in the new file, and a crash leaves one of the two.
#[test]
fn a_renewed_file_has_what_only_the_cache_had() {
    let (machine, disk) = machine();
    let bytes: Vec<u8> = (0..COPY_LEN as usize + 5000)
        .map(|at| (at / 9) as u8)
        .collect();
    let file = publish(&disk, "f", 0, OLD).unwrap();
    // By single writes, of which half are lost.
    for (index, part) in (0..).zip(bytes.chunks(1000)) {
        file.write_all_at(part, index * 1000).unwrap();
    }
    file.lose_unsynced();
    file.sync().unwrap();
    let left = contents(&machine.power_loss(&Crash::NONE_KEPT).dir("d"), "f");
    assert_ne!(left.as_deref(), Some(&*bytes));
    assert_eq!(contents(&disk, "f").as_deref(), Some(&*bytes));
    let seen = Arc::new(Mutex::new(0));
    let count = Arc::clone(&seen);
    let (before, after) = (left.unwrap(), bytes.clone());
    machine.on_barrier(move |machine| {
        let found = contents(&machine.power_loss(&Crash::NONE_KEPT).dir("d"), "f").unwrap();
        assert!(found == before || found == after);
        *count.lock() += 1;
    });
    let renewed = renew(&disk, "f").unwrap();
    assert!(*seen.lock() > 1);
    assert_eq!(renewed.len().unwrap(), bytes.len() as u64);
    let dark = machine.power_loss(&Crash::NONE_KEPT).dir("d");
    assert_eq!(contents(&dark, "f").as_deref(), Some(&*bytes));
    assert_eq!(dark.list().unwrap(), ["f"]);
}

#[test]
fn publish_fails_cleanly_at_every_call() {
    for n in 1.. {
        let (_, disk) = machine();
        publish(&disk, "f", 0, OLD).unwrap();
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        faulty
            .faults()
            .fail_nth(n, io::ErrorKind::Other, Times::Once);
        let result = publish(&faulty, "f", 0, NEW);
        if faulty.faults().failed() == 0 {
            result.unwrap();
            // Remove, create, write, sync, rename, sync of names.
            assert_eq!(n, 7);
            break;
        }
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::Other);
        let expected = if n < 6 { OLD } else { NEW };
        assert_eq!(contents(&disk, "f").unwrap(), expected, "call {n}");
        assert_eq!(disk.list().unwrap(), ["f"]);
    }
}

#[test]
fn publish_without_space_changes_nothing() {
    let (machine, disk) = machine();
    publish(&disk, "f", 0, OLD).unwrap();
    machine.set_free_len(1000);
    let error = publish(&disk, "f", 0, NEW).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.list().unwrap(), ["f"]);
    assert_eq!(contents(&disk, "f").unwrap(), OLD);
}

#[test]
fn a_durable_write_survives_every_crash() {
    let (machine, disk) = machine();
    let file = publish(&disk, "f", 4096, b"").unwrap();
    write_durable(&*file, NEW, 100).unwrap();
    assert_eq!(machine.crash_points().len(), 1);
    let after = machine.power_loss(&machine.crash_points()[0]).dir("d");
    assert_eq!(&contents(&after, "f").unwrap()[100..1600], NEW);
}

#[test]
fn a_destroyed_file_is_zeroes_before_its_name_goes() {
    let (machine, disk) = machine();
    let secret = vec![7; 200_000];
    publish(&disk, "f", 0, &secret).unwrap();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&steps);
    machine.on_barrier(move |machine| sink.lock().push(contents(&machine.dir("d"), "f")));
    destroy(&disk, "f").unwrap();
    assert_eq!(*steps.lock(), [Some(vec![0; 200_000]), None]);
    for crash in machine.crash_points() {
        assert_eq!(contents(&machine.power_loss(&crash).dir("d"), "f"), None);
    }
    assert_eq!(
        destroy(&disk, "f").unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

//! Stores that were set back, and what the KMS's mark says of them.

use std::sync::{Arc, Mutex};

use offshoot::check::{CheckOptions, Class, check};
use offshoot::io::fault::{Class as Calls, FaultDisk, Times};
use offshoot::io::sim::{SimClock, SimMachine, SimRandom};
use offshoot::io::{Access, Disk};
use offshoot::{Error, FileKms, KeyEpoch, Result, Seq, Store};

use crate::fixture::{PAGE, Sim, page, page_byte};

/// A store with two volumes under two keys, closed. `v` has 1 in its first page.
fn closed() -> Sim {
    let sim = Sim::new(11);
    let other = sim.kms.create_key(Some("alias/other")).unwrap().id;
    let store = sim.create();
    let volume = store.create_volume("v", 4 * PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(1), 0).unwrap();
    let other = store.create_volume("w", 4 * PAGE, &other).unwrap();
    other.write_all_at(&page(7), 0).unwrap();
    drop((volume, other));
    store.close().unwrap();
    sim
}

fn write(sim: &Sim, byte: u8) {
    let store = sim.open();
    store
        .volume("v")
        .unwrap()
        .write_all_at(&page(byte), 0)
        .unwrap();
    store.close().unwrap();
}

/// The store as it was once, with the KMS of now.
fn set_back(sim: &Sim, disks: &SimMachine) -> Sim {
    sim.on(disks.kill(), sim.vault.clone())
}

fn accepting(sim: &Sim) -> Result<Store> {
    let options = sim.options.clone().accept_rollback(true);
    options.open_on(sim.machine(), Arc::new(sim.open_kms()))
}

fn refused(result: Result<Store>) -> (Seq, Seq) {
    match result.map(drop) {
        Err(Error::RolledBack { found, mark }) => (found, mark),
        other => panic!("{other:?}"),
    }
}

fn classes(sim: &Sim) -> Vec<Class> {
    let options = CheckOptions::new().kms(Arc::new(sim.kms.clone()));
    let report = check(&sim.disks.dir("store"), &options).unwrap();
    report
        .findings
        .iter()
        .map(|finding| finding.class)
        .collect()
}

fn audit(sim: &Sim, action: &str) -> usize {
    let mut count = 0;
    let action = format!("\"action\":\"{action}\"");
    let report = sim
        .kms
        .audit(|line| count += usize::from(line.text.contains(&action)));
    assert_eq!(report.unwrap().broken_at, None);
    count
}

#[test]
fn a_store_that_was_set_back_is_refused_and_left_as_it_is() {
    let sim = closed();
    let old = sim.disks.kill();
    write(&sim, 2);
    let sim = set_back(&sim, &old);
    let before = sim.disks.kill();
    let (found, mark) = refused(sim.try_open());
    assert!(found < mark);
    let read_only = sim.options.clone().read_only(true);
    refused(read_only.open_on(sim.machine(), Arc::new(sim.open_kms())));
    assert_eq!(classes(&sim), [Class::Rollback]);
    for name in sim.disks.dir("store").list().unwrap() {
        let bytes = |machine: &SimMachine| {
            let file = machine.dir("store").open(&name, Access::Read).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(
            name == "lock" || bytes(&sim.disks) == bytes(&before),
            "{name}"
        );
    }
    // Whoever accepts it may look without writing; that lowers nothing.
    let store = read_only.accept_rollback(true);
    let store = store
        .open_on(sim.machine(), Arc::new(sim.open_kms()))
        .unwrap();
    assert_eq!(page_byte(&store.volume("v").unwrap(), 0), 1);
    store.close().unwrap();
    refused(sim.try_open());
    assert_eq!(audit(&sim, "accept-rollback"), 0);
}

#[test]
fn an_accepted_rollback_is_audited_and_seals_under_new_key_epochs() {
    let sim = closed();
    let old = sim.disks.kill();
    write(&sim, 2);
    let sim = set_back(&sim, &old);
    sim.kms.disable_key("alias/other").unwrap();
    let log = sim.watch();
    let store = accepting(&sim).unwrap();
    assert_eq!(audit(&sim, "accept-rollback"), 1);
    let (volume, other) = (store.volume("v").unwrap(), store.volume("w").unwrap());
    assert_eq!(page_byte(&volume, 0), 1);
    volume.write_all_at(&page(3), PAGE).unwrap();
    let first = epochs(&log)[0];
    assert!(other.write_all_at(&page(3), 0).is_err());
    drop((volume, other));
    store.close().unwrap();
    // From now on it is the store that the KMS knows, after a crash and in the next process too.
    let sim = sim.on(sim.disks.kill(), sim.vault.kill());
    let log = sim.watch();
    let store = sim.open();
    store
        .volume("v")
        .unwrap()
        .write_all_at(&page(4), 2 * PAGE)
        .unwrap();
    assert_eq!(epochs(&log), [first], "one new epoch is enough");
    // The volume whose key was not there then gets its epoch before it seals.
    sim.kms.enable_key("alias/other").unwrap();
    let other = store.volume("w").unwrap();
    assert_eq!(page_byte(&other, 0), 7);
    other.write_all_at(&page(8), PAGE).unwrap();
    other.write_all_at(&page(9), PAGE).unwrap();
    let later = epochs(&log);
    assert!(later[0] > first && later[1] == later[0], "{later:?}");
    // Clones, too, and all of it is one store that fsck finds clean.
    let clone = store
        .volume("v")
        .unwrap()
        .create_clone("c", &sim.key)
        .unwrap();
    clone.write_all_at(&page(5), 0).unwrap();
    assert_eq!((page_byte(&clone, 1), page_byte(&other, 1)), (3, 9));
    drop((clone, other));
    store.close().unwrap();
    assert!(classes(&sim).is_empty());
    sim.open().close().unwrap();
}

/// The key epochs of the pages written since.
fn epochs(log: &crate::fixture::Log) -> Vec<KeyEpoch> {
    let pages = log.take_pages().into_iter();
    pages.map(|(_, delta)| delta.entry.key_epoch).collect()
}

/// After a power loss anywhere the rollback is accepted or not, and then it can be again.
#[test]
fn an_acceptance_that_is_cut_off_is_harmless() {
    let sim = closed();
    let old = sim.disks.kill();
    write(&sim, 2);
    let sim = set_back(&sim, &old).joined();
    let states = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&states);
    sim.disks.on_barrier(move |killed| {
        let lost = killed.crash_points().into_iter();
        let mut kept = kept.lock().unwrap();
        kept.extend(lost.map(|crash| killed.power_loss(&crash)));
        kept.push(killed.kill());
    });
    let store = accepting(&sim).unwrap();
    store
        .volume("v")
        .unwrap()
        .write_all_at(&page(5), 0)
        .unwrap();
    store.close().unwrap();
    sim.disks.clear_hooks();
    let states = std::mem::take(&mut *states.lock().unwrap());
    let (mut again, mut done) = (0, 0);
    for machine in states {
        let sim = sim.on(machine.clone(), machine);
        let store = match sim.try_open() {
            Ok(store) => {
                done += 1;
                store
            }
            Err(Error::RolledBack { .. }) => {
                again += 1;
                accepting(&sim).unwrap()
            }
            Err(error) => panic!("{error}"),
        };
        let (volume, other) = (store.volume("v").unwrap(), store.volume("w").unwrap());
        assert!([1, 5].contains(&page_byte(&volume, 0)));
        let log = sim.watch();
        other.write_all_at(&page(6), PAGE).unwrap();
        // Never under an epoch from before the rollback: each volume had one.
        assert!(epochs(&log)[0] > KeyEpoch(2), "an old epoch seals");
        assert_eq!((page_byte(&other, 0), page_byte(&other, 1)), (7, 6));
        drop((volume, other));
        store.close().unwrap();
        sim.open().close().unwrap();
    }
    assert!(again > 3 && done > 3, "{again} {done}");
}

#[test]
fn an_idle_volume_gets_an_epoch_that_its_clones_do_not_reach() {
    let sim = closed();
    let store = sim.open();
    let volume = store.volume("v").unwrap();
    // Nothing is written after the branch: the next one shares its parent.
    volume.create_clone("a", &sim.key).unwrap();
    drop(volume);
    store.close().unwrap();
    let old = sim.disks.kill();
    write(&sim, 2);
    let sim = set_back(&sim, &old);
    let store = accepting(&sim).unwrap();
    let volume = store.volume("v").unwrap();
    let clone = volume.create_clone("b", &sim.key).unwrap();
    for (volume, byte) in [(&volume, 5), (&clone, 6)] {
        volume.write_all_at(&page(byte), PAGE).unwrap();
        assert_eq!((page_byte(volume, 0), page_byte(volume, 1)), (1, byte));
    }
    drop((volume, clone));
    store.close().unwrap();
    assert!(classes(&sim).is_empty());
}

#[test]
fn two_histories_of_one_length_are_told_apart() {
    let sim = closed();
    let fork = sim.on(sim.disks.kill(), sim.vault.kill());
    write(&sim, 2);
    // Alone, with its own KMS, the other one is a store like any.
    write(&fork, 3);
    fork.open().close().unwrap();
    let crossed = sim.on(fork.disks.kill(), sim.vault.clone());
    let (found, mark) = refused(crossed.try_open());
    assert_eq!(found, mark);
    assert_eq!(classes(&crossed), [Class::Rollback]);
}

#[test]
fn mark_allows_older_superblock() {
    let sim = closed();
    write(&sim, 2);
    write(&sim, 3);
    let newest = newest_slot(&sim);
    for mirror in ["superblock-a", "superblock-b"] {
        let file = sim
            .disks
            .dir("store")
            .open(mirror, Access::ReadWrite)
            .unwrap();
        file.write_all_at(&page(0xEE), newest * PAGE).unwrap();
    }
    let store = sim.open();
    assert_eq!(page_byte(&store.volume("v").unwrap(), 0), 3);
}

/// The slot of the greater generation, which is at byte 32.
fn newest_slot(sim: &Sim) -> u64 {
    let file = sim
        .disks
        .dir("store")
        .open("superblock-a", Access::Read)
        .unwrap();
    let generation = |slot: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, slot * PAGE + 32).unwrap();
        u64::from_le_bytes(bytes)
    };
    u64::from(generation(1) > generation(0))
}

#[test]
fn a_kms_that_is_older_than_the_store_learns_how_far_it_is() {
    let sim = closed();
    let old_vault = sim.vault.kill();
    write(&sim, 2);
    let aged = sim.on(sim.disks.kill(), old_vault);
    assert!(classes(&aged).is_empty());
    let now = aged.disks.kill();
    aged.open().close().unwrap();
    // It has learned: what it had seen before is not enough any more.
    write(&aged, 3);
    refused(set_back(&aged, &now).try_open());
    // Without any mark it begins anew, too.
    let vault = aged.vault.dir("kms");
    let names = vault.list().unwrap();
    let mark = names.iter().find(|name| name.starts_with("mark-")).unwrap();
    vault.remove(mark).unwrap();
    set_back(&aged, &now).open().close().unwrap();
}

#[test]
fn a_head_that_an_older_kms_does_not_know_is_lost_alone() {
    let sim = closed();
    let old_vault = sim.vault.kill();
    let later = sim.kms.create_key(None).unwrap().id;
    let store = sim.open();
    let new = store.create_volume("new", PAGE, &later).unwrap();
    new.write_all_at(&page(4), 0).unwrap();
    drop(new);
    store.close().unwrap();
    let aged = sim.on(sim.disks.kill(), old_vault);
    let store = aged.open();
    let result = store.volume("new").unwrap().read_exact_at(&mut page(0), 0);
    assert!(
        matches!(result, Err(Error::KeyUnavailable { .. })),
        "{result:?}"
    );
    assert_eq!(page_byte(&store.volume("v").unwrap(), 0), 1);
    store.close().unwrap();
    assert!(classes(&aged).is_empty());
}

#[test]
fn no_flipped_bit_of_a_mark_is_accepted() {
    let sim = closed();
    let vault = sim.vault.dir("kms");
    let names = vault.list().unwrap();
    let name = names.iter().find(|name| name.starts_with("mark-")).unwrap();
    let file = vault.open(name, Access::ReadWrite).unwrap();
    let mut whole = [0; 512];
    file.read_exact_at(&mut whole, 0).unwrap();
    assert_eq!(file.len().unwrap(), 512);
    for bit in 0..512 * 8 {
        let mut bad = whole;
        bad[bit / 8] ^= 1 << (bit % 8);
        file.write_all_at(&bad, 0).unwrap();
        match sim.try_open().map(drop) {
            Err(Error::Corrupt { location, .. } | Error::UnsupportedVersion { location, .. }) => {
                assert!(
                    location.to_string().contains("mark-"),
                    "bit {bit}: {location}"
                );
            }
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    // Whoever accepts that nothing is known goes on.
    let mut bad = whole;
    bad[60] ^= 1;
    file.write_all_at(&bad, 0).unwrap();
    accepting(&sim).unwrap().close().unwrap();
    sim.open().close().unwrap();
    assert_eq!(audit(&sim, "accept-rollback"), 1);
}

#[test]
fn flushes_do_not_wait_for_the_kms() {
    let sim = closed();
    let store = sim.open();
    let volume = store.volume("v").unwrap();
    volume.write_all_at(&page(2), 0).unwrap();
    let syncs = sim.vault.sync_count();
    for byte in 0..50 {
        volume.write_all_at(&page(byte), 0).unwrap();
        volume.flush().unwrap();
    }
    assert_eq!(sim.vault.sync_count(), syncs);
    store.checkpoint().unwrap();
    assert!(sim.vault.sync_count() > syncs);
}

/// A KMS in a directory that nobody can write to, or whose files were cut short.
#[test]
fn a_kms_that_cannot_be_written_or_read_is_an_error_that_names_it() {
    let sim = closed();
    let faulty = FaultDisk::new(Arc::new(sim.vault.dir("kms")));
    let (clock, random) = (Arc::new(SimClock::new(0)), Arc::new(SimRandom::new(5)));
    let kms = FileKms::open_on(Arc::new(faulty.clone()), clock, random).unwrap();
    faulty.faults().count_only(Calls::Write);
    let kind = std::io::ErrorKind::ReadOnlyFilesystem;
    faulty.faults().fail_nth(1, kind, Times::ForGood);
    let opened = sim.options.open_on(sim.machine(), Arc::new(kms.clone()));
    assert!(matches!(opened.map(drop), Err(Error::Io { .. })));
    assert!(matches!(
        kms.disable_key("alias/other"),
        Err(Error::Io { .. })
    ));
    faulty.faults().heal();
    let store = sim.options.open_on(sim.machine(), Arc::new(kms)).unwrap();
    // The volume was not unlocked yet when the file is cut short.
    let vault = sim.vault.dir("kms");
    vault.rename("heads", "away").unwrap();
    vault.create("heads", 700).unwrap();
    let result = store.volume("v").unwrap().read_exact_at(&mut page(0), 0);
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
    vault.rename("away", "heads").unwrap();
    assert_eq!(page_byte(&store.volume("v").unwrap(), 0), 1);
}

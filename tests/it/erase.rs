//! Erasing: what dies, what stays readable through whom, and what happens when it is cut off.

use std::sync::{Arc, Mutex};

use offshoot::check::{CheckOptions, check};
use offshoot::{DeletionProtection, ErasePlan, Error, KeyState, Store, Volume};

use crate::fixture::{PAGE, Sim, page, page_byte, page_bytes};

#[track_caller]
fn assert_clean(sim: &Sim) {
    let options = CheckOptions::new().kms(Arc::new(sim.kms.clone()));
    let report = check(&sim.disks.dir("store"), &options.read_data(true)).unwrap();
    assert!(report.is_clean(), "{report}");
}

fn names(store: &Store) -> Vec<String> {
    store.volumes().into_iter().map(|it| it.name).collect()
}

fn parts(plan: &ErasePlan) -> Vec<(u64, Vec<&str>)> {
    let parts = plan.readable.iter();
    parts
        .map(|part| {
            let through = part.through.iter().map(String::as_str).collect();
            (part.bytes / PAGE, through)
        })
        .collect()
}

/// `base`, of which `old` and the snapshot `middle` were taken at different times.
fn generations(sim: &Sim, store: &Store) -> Volume {
    let base = store.create_volume("base", 8 * PAGE, &sim.key).unwrap();
    base.write_all_at(&page(1).repeat(4), 0).unwrap();
    base.create_clone("old", &sim.key).unwrap();
    base.write_all_at(&page(2).repeat(2), 0).unwrap();
    base.create_snapshot("middle").unwrap();
    base.write_all_at(&page(3), 0).unwrap();
    base
}

#[test]
fn a_plan_names_what_dies_and_through_whom_the_rest_stays() {
    let sim = Sim::new(60);
    let store = sim.create();
    let base = generations(&sim, &store);
    let plan = base.plan_erase().unwrap();
    assert_eq!((plan.erased_bytes, plan.readable_bytes), (PAGE, 3 * PAGE));
    assert_eq!(parts(&plan), [(1, vec!["@middle"]), (2, vec!["old"])]);
    assert_eq!(plan.readers().collect::<Vec<_>>(), ["@middle", "old"]);
    assert!(plan.deleted.is_empty());
    let text = plan.to_string();
    assert!(
        text.contains("4096 bytes die") && text.contains("@middle, old"),
        "{text}"
    );
    // With the snapshot gone more of it is the volume's own; its key must go too.
    store.snapshot("middle").unwrap().delete().unwrap();
    let plan = base.plan_erase().unwrap();
    assert_eq!(
        (plan.erased_bytes, plan.readable_bytes),
        (2 * PAGE, 2 * PAGE)
    );
    assert_eq!(plan.deleted, ["@middle"]);
    assert_eq!(base.erase().unwrap(), plan);
    assert_eq!(names(&store), ["old"]);
    assert_eq!(page_bytes(&store.volume("old").unwrap(), 4), [1, 1, 1, 1]);
    store.close().unwrap();
    assert_clean(&sim);
    let store = sim.open();
    assert_eq!(page_bytes(&store.volume("old").unwrap(), 4), [1, 1, 1, 1]);
}

#[test]
fn a_snapshot_and_each_volume_of_a_family_are_erased_in_any_order() {
    for order in 0..6 {
        let sim = Sim::new(61 + order);
        let store = sim.create();
        let base = generations(&sim, &store);
        let expected = |name: &str| match name {
            "base" => vec![3, 2, 1, 1],
            "old" => vec![1, 1, 1, 1],
            _ => vec![2, 2, 1, 1],
        };
        drop(base);
        let mut left = vec!["base", "old", "middle"];
        let mut step = order as usize;
        while !left.is_empty() {
            let name = left.remove(step % left.len());
            step /= 2;
            match name {
                "middle" => drop(store.snapshot(name).unwrap().erase().unwrap()),
                _ => drop(store.volume(name).unwrap().erase().unwrap()),
            }
            for &name in left.iter().filter(|name| **name != "middle") {
                assert_eq!(page_bytes(&store.volume(name).unwrap(), 4), expected(name));
            }
            if left.contains(&"middle") {
                let copy = store.snapshot("middle").unwrap();
                let copy = copy.create_clone("copy", &sim.key).unwrap();
                assert_eq!(page_bytes(&copy, 4), expected("middle"));
                copy.erase().unwrap();
            }
        }
        store.close().unwrap();
        assert_clean(&sim);
        assert!(names(&sim.open()).is_empty());
    }
}

#[test]
fn with_the_kms_away_nothing_is_erased_and_nothing_is_deleted() {
    let sim = Sim::new(70);
    let store = sim.create();
    let base = generations(&sim, &store);
    let vault = sim.vault.clone();
    let guard = {
        use offshoot::io::{Disk, Lock};
        vault.dir("kms").lock("lock", Lock::Exclusive).unwrap()
    };
    match base.clone().erase() {
        Err(Error::Locked { location, .. }) => assert!(location.to_string().contains("kms")),
        other => panic!("{other:?}"),
    }
    drop(guard);
    assert_eq!(names(&store), ["base", "old"]);
    assert_eq!(page_bytes(&base, 4), [3, 2, 1, 1]);
    let full = "a KMS without room for its log";
    sim.vault.set_free_len(0);
    match base.clone().erase() {
        // What it has to write fits where something was written before.
        Ok(_) => {}
        Err(Error::EraseUnfinished { source, .. }) => {
            assert!(matches!(*source, Error::NoSpace { .. }), "{full}: {source}");
            assert_eq!(page_bytes(&base, 4), [3, 2, 1, 1], "{full}");
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_protected_volume_is_not_erased_and_one_under_a_disabled_key_is() {
    let sim = Sim::new(71);
    let store = sim.create();
    let key = sim.kms.create_key(Some("alias/tenant")).unwrap().id;
    let volume = store.create_volume("db", 8 * PAGE, &key).unwrap();
    volume.write_all_at(&page(1), 0).unwrap();
    volume
        .set_deletion_protection(DeletionProtection::On)
        .unwrap();
    let refused = volume.clone().erase();
    assert!(
        matches!(refused, Err(Error::Protected { .. })),
        "{refused:?}"
    );
    assert_eq!(page_byte(&volume, 0), 1);
    volume
        .set_deletion_protection(DeletionProtection::Off)
        .unwrap();
    sim.kms.disable_key("alias/tenant").unwrap();
    volume.clone().erase().unwrap();
    let gone = volume.erase();
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    assert!(names(&store).is_empty());
}

/// Whatever step a power loss comes after: what others share is there, and erasing again ends it.
#[test]
fn an_erase_that_is_cut_off_is_ended_by_doing_it_again() {
    let sim = Sim::new(72).joined();
    let machine = sim.disks.clone();
    let store = sim.create();
    let base = generations(&sim, &store);
    store.snapshot("middle").unwrap().delete().unwrap();
    store.checkpoint().unwrap();
    let states = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&states);
    machine.on_barrier(move |killed| {
        let lost = killed.crash_points().into_iter();
        let mut kept = kept.lock().unwrap();
        kept.extend(lost.map(|crash| killed.power_loss(&crash)));
        kept.push(killed.kill());
    });
    base.erase().unwrap();
    store.flush().unwrap();
    machine.clear_hooks();
    drop(store);
    let mut states = std::mem::take(&mut *states.lock().unwrap());
    states.push(machine.kill());
    assert!(states.len() > 10, "{}", states.len());
    let (mut whole, mut lost, mut gone) = (0, 0, 0);
    for machine in states {
        let sim = sim.on(machine.clone(), machine);
        let store = sim.open();
        assert_eq!(page_bytes(&store.volume("old").unwrap(), 4), [1, 1, 1, 1]);
        match store.volume("base") {
            Err(_) => gone += 1,
            Ok(base) => {
                match base.read_exact_at(&mut page(0), 0) {
                    Ok(()) => whole += 1,
                    Err(Error::KeyUnavailable { state, .. }) => {
                        assert_eq!(state, KeyState::Missing);
                        lost += 1;
                    }
                    other => panic!("{other:?}"),
                }
                let plan = base.erase().unwrap();
                assert_eq!(
                    (plan.erased_bytes, plan.readable_bytes),
                    (2 * PAGE, 2 * PAGE)
                );
            }
        }
        assert_eq!(names(&store), ["old"]);
        store.close().unwrap();
        assert_clean(&sim);
        let store = sim.open();
        assert_eq!(page_bytes(&store.volume("old").unwrap(), 4), [1, 1, 1, 1]);
    }
    assert!(whole > 0 && lost > 0 && gone > 0, "{whole}, {lost}, {gone}");
}

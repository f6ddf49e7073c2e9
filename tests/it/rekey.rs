//! Sealing old pages again under the newest key epoch, while the volume is in use.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use offshoot::check::{CheckOptions, check};
use offshoot::io::sim::SimRandom;
use offshoot::{
    Error, KeyEpoch, KeyState, Machine, Options, PageNo, Quota, RekeyStart, Result, Store, Volume,
};

use crate::fixture::{AtSealing, Log, PAGE, Rng, Sim, page, page_byte, page_bytes};

/// Key epochs and pages that were written since the last look.
fn sealed(log: &Log) -> Vec<(KeyEpoch, PageNo)> {
    let pages = log.take_pages().into_iter();
    pages
        .map(|(_, delta)| (delta.entry.key_epoch, delta.page))
        .collect()
}

fn epochs(sealed: &[(KeyEpoch, PageNo)]) -> BTreeSet<KeyEpoch> {
    sealed.iter().map(|(key_epoch, _)| *key_epoch).collect()
}

fn run(volume: &Volume, start: RekeyStart) -> Result<u64> {
    let steps: Result<Vec<_>> = volume.rekey(start)?.collect();
    Ok(steps?.iter().map(|step| step.bytes).sum())
}

#[track_caller]
fn assert_clean(sim: &Sim) {
    let options = CheckOptions::new().kms(Arc::new(sim.kms.clone()));
    let report = check(&sim.disks.dir("store"), &options.read_data(true)).unwrap();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn every_page_is_sealed_again_and_says_what_it_said() {
    let sim = Sim::new(50);
    let store = sim.create();
    let log = sim.watch();
    let volume = store.create_volume("db", 1024 * PAGE, &sim.key).unwrap();
    let bytes: Vec<u8> = (0..600).flat_map(|number| page(number as u8)).collect();
    volume.write_all_at(&bytes, 0).unwrap();
    volume.write_zeroes(700 * PAGE..800 * PAGE).unwrap();
    let snapshot = volume.create_snapshot("s").unwrap();
    volume.write_all_at(&page(99), 1000 * PAGE).unwrap();
    let before = epochs(&sealed(&log));
    let plan = volume.plan_rekey(RekeyStart::NewEpoch).unwrap();
    assert_eq!((plan.bytes, plan.shared_bytes), (601 * PAGE, 600 * PAGE));
    assert_eq!(plan.current_bytes, 0);
    assert!(log.take().is_empty(), "a plan writes nothing");
    let steps: Vec<_> = volume.rekey(RekeyStart::NewEpoch).unwrap().collect();
    let steps: Vec<_> = steps.into_iter().map(Result::unwrap).collect();
    assert!(steps.len() > 2 && steps.is_sorted_by_key(|step| step.done_through));
    assert_eq!(steps[steps.len() - 1].done_through, 1024 * PAGE);
    let again = sealed(&log);
    assert_eq!(again.len(), 601);
    let after = epochs(&again);
    assert_eq!(after.len(), 1);
    assert!(after.first() > before.last(), "{after:?} after {before:?}");
    let plan = volume.plan_rekey(RekeyStart::Resume).unwrap();
    assert_eq!((plan.bytes, plan.current_bytes), (0, 601 * PAGE));
    let usage = volume.usage().unwrap();
    assert_eq!(usage.exclusive_bytes, usage.referenced_bytes);
    drop((volume, snapshot, store));
    let sim = sim.kill();
    assert_clean(&sim);
    let store = sim.open();
    let volume = store.volume("db").unwrap();
    let snapshot = store.snapshot("s").unwrap();
    let mut read = vec![0; bytes.len()];
    volume.read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes);
    snapshot.read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes);
    assert_eq!(page_byte(&volume, 1000), 99);
    snapshot.delete().unwrap();
    assert_eq!(page_bytes(&volume, 3), [0, 1, 2]);
    store.close().unwrap();
    assert_clean(&sim);
}

/// A volume whose next sealing does something in between.
fn at_sealing(seed: u64) -> (Sim, Store, Volume, Arc<AtSealing>) {
    let sim = Sim::new(seed);
    let (random, then) = (SimRandom::new(seed + 700), Mutex::new(None));
    let random = Arc::new(AtSealing { random, then });
    let machine = Machine {
        random: random.clone(),
        ..sim.machine()
    };
    let kms = Arc::new(sim.kms.clone());
    let store = sim.options.create_on(machine, kms).unwrap();
    let volume = store.create_volume("db", 8 * PAGE, &sim.key).unwrap();
    let bytes: Vec<u8> = (1..9).flat_map(page).collect();
    volume.write_all_at(&bytes, 0).unwrap();
    (sim, store, volume, random)
}

#[test]
fn rekey_loses_to_write() {
    let (sim, store, volume, random) = at_sealing(51);
    let log = sim.watch();
    let of = volume.clone();
    *random.then.lock().unwrap() = Some(Box::new(move || {
        of.write_all_at(&page(20), PAGE).unwrap();
        of.write_all_at(&[21; 7], 2 * PAGE).unwrap();
        of.discard(3 * PAGE..4 * PAGE).unwrap();
        of.write_zeroes(4 * PAGE..5 * PAGE).unwrap();
        of.resize(7 * PAGE).unwrap();
    }));
    assert_eq!(run(&volume, RekeyStart::NewEpoch).unwrap(), 8 * PAGE);
    let pages: Vec<_> = sealed(&log).iter().map(|(_, page)| page.0).collect();
    assert_eq!(pages, [1, 2, 0, 5, 6], "two writes, then what they left");
    let expect = |volume: &Volume| {
        assert_eq!(volume.len().unwrap(), 7 * PAGE);
        let mut part = page(0);
        volume.read_exact_at(&mut part, 2 * PAGE).unwrap();
        assert!(part[..7] == [21; 7] && part[7..].iter().all(|&byte| byte == 3));
        let bytes = [0, 1, 3, 4, 5, 6].map(|number| page_byte(volume, number));
        assert_eq!(bytes, [1, 20, 0, 0, 6, 7]);
    };
    expect(&volume);
    assert_eq!(volume.plan_rekey(RekeyStart::Resume).unwrap().bytes, 0);
    drop((volume, store));
    let sim = sim.kill();
    let store = sim.open();
    expect(&store.volume("db").unwrap());
    drop(store);
    assert_clean(&sim);
}

#[test]
fn a_branch_in_the_middle_of_a_rekey_keeps_both_sides_apart() {
    let (sim, store, volume, random) = at_sealing(52);
    let log = sim.watch();
    let (of, key) = (volume.clone(), sim.key);
    *random.then.lock().unwrap() = Some(Box::new(move || {
        of.create_clone("clone", &key).unwrap();
    }));
    run(&volume, RekeyStart::NewEpoch).unwrap();
    let pages = sealed(&log);
    assert_eq!((pages.len(), epochs(&pages).len()), (8, 1));
    let clone = store.volume("clone").unwrap();
    clone.write_all_at(&page(50), 0).unwrap();
    assert_eq!(page_bytes(&volume, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(page_bytes(&clone, 8), [50, 2, 3, 4, 5, 6, 7, 8]);
    let plan = clone.plan_rekey(RekeyStart::NewEpoch).unwrap();
    assert_eq!((plan.bytes, plan.shared_bytes), (8 * PAGE, 7 * PAGE));
    drop((volume, clone, store));
    assert_clean(&sim);
}

#[test]
fn a_rekey_that_is_cut_off_goes_on_where_it_was() {
    let sim = Sim::new(53);
    let store = sim.create();
    let volume = store.create_volume("db", 1024 * PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(7).repeat(1024), 0).unwrap();
    let mut rekey = volume.rekey(RekeyStart::NewEpoch).unwrap();
    let first = rekey.next().unwrap().unwrap();
    rekey.next().unwrap().unwrap();
    store.flush().unwrap();
    drop((rekey, volume, store));
    let sim = sim.kill();
    let store = sim.open();
    let volume = store.volume("db").unwrap();
    let left = 1024 * PAGE - 2 * first.bytes;
    let plan = volume.plan_rekey(RekeyStart::Resume).unwrap();
    assert_eq!((plan.bytes, plan.current_bytes), (left, 2 * first.bytes));
    assert_eq!(run(&volume, RekeyStart::Resume).unwrap(), left);
    assert_eq!(run(&volume, RekeyStart::Resume).unwrap(), 0, "all is done");
    assert_eq!(run(&volume, RekeyStart::NewEpoch).unwrap(), 1024 * PAGE);
    assert_eq!(page_byte(&volume, 1023), 7);
    store.close().unwrap();
    assert_clean(&sim);
}

/// A power loss at any write or sync of the store leaves what was there, part of it sealed again.
#[test]
fn a_rekey_survives_power_losses() {
    let options = Options::new().segment_len(16 * PAGE).workers(0);
    let mut rng = Rng(54);
    for seed in 0..40 {
        let sim = Sim::with(1000 + seed, options.clone()).joined();
        let store = sim.create();
        let volume = store.create_volume("db", 40 * PAGE, &sim.key).unwrap();
        let bytes: Vec<u8> = (0..40).flat_map(page).collect();
        volume.write_all_at(&bytes, 0).unwrap();
        store.flush().unwrap();
        let steps = rng.below(8);
        let mut rekey = volume.rekey(RekeyStart::NewEpoch).unwrap();
        for _ in 0..steps {
            rekey.next().map(Result::unwrap);
        }
        drop((rekey, volume, store));
        let machine = sim.disks.power_loss(&sim.disks.sampled_crash(seed));
        let sim = sim.on(machine.clone(), machine);
        let store = sim.open();
        let volume = store.volume("db").unwrap();
        let mut read = vec![0; bytes.len()];
        volume.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes, "seed {seed}");
        run(&volume, RekeyStart::Resume).unwrap();
        volume.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes, "seed {seed}");
        store.close().unwrap();
        assert_clean(&sim);
    }
}

#[test]
fn a_rekey_is_refused_without_its_key_at_the_quota_and_in_half_an_import() {
    let sim = Sim::new(55);
    let store = sim.create();
    let key = sim.kms.create_key(Some("alias/tenant")).unwrap().id;
    let volume = store.create_volume("db", 8 * PAGE, &key).unwrap();
    volume.write_all_at(&page(1).repeat(8), 0).unwrap();
    let quota = Quota {
        bytes: Some(1),
        ..Quota::default()
    };
    store.set_quota(quota).unwrap();
    let refused = run(&volume, RekeyStart::NewEpoch);
    assert!(
        matches!(refused, Err(Error::QuotaExceeded { .. })),
        "{refused:?}"
    );
    store.set_quota(Quota::default()).unwrap();
    drop(volume);
    store.close().unwrap();
    sim.kms.disable_key("alias/tenant").unwrap();
    let store = sim.open();
    let volume = store.volume("db").unwrap();
    for start in [RekeyStart::NewEpoch, RekeyStart::Resume] {
        match run(&volume, start) {
            Err(Error::KeyUnavailable { state, .. }) => assert_eq!(state, KeyState::Disabled),
            other => panic!("{other:?}"),
        }
    }
    // What there would be to do can be said without it.
    assert_eq!(
        volume.plan_rekey(RekeyStart::NewEpoch).unwrap().bytes,
        8 * PAGE
    );
    sim.kms.enable_key("alias/tenant").unwrap();
    volume.create_clone("c", &sim.key).unwrap();
    assert_eq!(run(&volume, RekeyStart::Resume).unwrap(), 8 * PAGE);
    volume.begin_import().unwrap();
    drop((volume, store));
    let sim = sim.kill();
    let store = sim.open();
    let refused = run(&store.volume("db").unwrap(), RekeyStart::NewEpoch);
    assert!(
        matches!(refused, Err(Error::InvalidState { .. })),
        "{refused:?}"
    );
}

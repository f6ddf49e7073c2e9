//! A tombstone that others see while its delete still waits for the sync: no key goes before it is durable.

use crate::format::catalog::{HeadKind, HeadRecord, HeadState};
use crate::format::record::Record;
use crate::io::sim::{Crash, SimMachine};
use crate::store::{Store, Volume};
use crate::sync::{Arc, Mutex};

use super::{World, kms, machine, options};

/// What another thread's delete has done when it waits for its flush.
fn begin_delete(store: &Store, name: &str) {
    let mut commit = store.0.commit.lock();
    let head = store.0.find(HeadKind::Volume, name).unwrap();
    let tombstone = HeadRecord {
        state: HeadState::Deleted,
        ..head.record
    };
    let records = [Record::Head(Box::new(tombstone))];
    store.0.commit_records(&mut commit, &records).unwrap();
}

fn write(world: &World, volume: &Volume, byte: u8) {
    let bytes = vec![byte; world.page_len as usize];
    volume.write_all_at(&bytes, 0).unwrap();
    world.store.flush().unwrap();
}

/// After a crash a volume is gone, or it can be read; whether it is gone.
fn is_gone_or_whole(world: &World, after: &SimMachine, name: &str, seed: u64) -> bool {
    let kms = Arc::new(kms(after, seed));
    let store = options(world.page_len).open_on(machine(after, seed + 1), kms);
    let Ok(volume) = store.unwrap().volume(name) else {
        return true;
    };
    let mut bytes = vec![0; world.page_len as usize];
    volume.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 7));
    false
}

#[test]
fn a_removal_destroys_no_key_of_a_head_that_a_crash_brings_back() {
    let world = World::new(3);
    let len = 4 * u64::from(world.page_len);
    let volume = world.store.create_volume("v", len, &world.key).unwrap();
    write(&world, &volume, 7);
    begin_delete(&world.store, "v");
    world.store.0.remove_deleted().unwrap();
    let after = world.machine.power_loss(&Crash::NONE_KEPT);
    assert!(is_gone_or_whole(&world, &after, "v", 901));
}

#[test]
fn an_erase_destroys_no_key_of_another_head_that_a_crash_brings_back() {
    let world = World::new(4);
    let len = 4 * u64::from(world.page_len);
    let volume = world.store.create_volume("v", len, &world.key).unwrap();
    write(&world, &volume, 7);
    volume.create_clone("w", &world.key).unwrap();
    begin_delete(&world.store, "w");
    let states = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&states);
    world.machine.on_barrier(move |now| {
        kept.lock().push(now.power_loss(&Crash::NONE_KEPT));
    });
    let plan = volume.erase().unwrap();
    assert_eq!(plan.deleted, ["w"], "its key went, too");
    world.machine.clear_hooks();
    let states = std::mem::take(&mut *states.lock());
    let mut there = 0;
    for (number, after) in states.iter().enumerate() {
        let seed = 1000 + 2 * number as u64;
        there += usize::from(!is_gone_or_whole(&world, after, "w", seed));
    }
    assert!(
        there > 0 && there < states.len(),
        "{there} of {}",
        states.len()
    );
}

use std::collections::BTreeSet;

use super::*;
use crate::error::Error;
use crate::io::Lock;
use crate::kms::KeyService;
use crate::units::{HeadKeyId, KeyId};

fn with_key(machine: &SimMachine) -> (FileKms, KeyId) {
    let kms = create(machine);
    let key = kms.create_key(None).unwrap().id;
    (kms, key)
}

fn assign(kms: &FileKms, key: &KeyId) -> HeadKeyId {
    kms.assign_head_key(key, STORE, RESOURCE).unwrap().0
}

fn used_slots(machine: &SimMachine) -> usize {
    let bytes = read(&*disk(machine), "heads");
    bytes
        .chunks(512)
        .skip(1)
        .filter(|slot| slot.iter().any(|&byte| byte != 0))
        .count()
}

#[test]
fn an_assigned_head_key_opens_and_no_other_gets_it() {
    let (kms, key) = with_key(&SimMachine::new());
    let (mut ids, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..100 {
        let (id, secret) = kms.assign_head_key(&key, STORE, RESOURCE).unwrap();
        assert_eq!(
            kms.head_key(&id, STORE, RESOURCE).unwrap().expose(),
            secret.expose()
        );
        assert!(is_missing(&kms.head_key(&id, StoreId([9; 16]), RESOURCE)));
        ids.insert(id);
        secrets.insert(*secret.expose());
    }
    assert_eq!((ids.len(), secrets.len()), (100, 100));
    assert!(is_missing(&kms.head_key(
        &HeadKeyId([0; 16]),
        STORE,
        RESOURCE
    )));
}

#[test]
fn only_an_empty_pool_costs_a_sync() {
    let machine = SimMachine::new();
    let (kms, key) = with_key(&machine);
    let mut syncs = machine.sync_count();
    let mut cost = |work: &dyn Fn()| {
        work();
        let cost = machine.sync_count() - syncs;
        syncs += cost;
        cost
    };
    assert_eq!(
        cost(&|| assert_ne!(assign(&kms, &key), HeadKeyId([0; 16]))),
        1
    );
    let assign_free = |cost: &mut dyn FnMut(&dyn Fn()) -> u64, count| {
        for _ in 0..count {
            let none = cost(&|| assert_ne!(assign(&kms, &key), HeadKeyId([0; 16])));
            assert_eq!(none, 0);
        }
    };
    assign_free(&mut cost, 15);
    assert_eq!(cost(&|| kms.refill(&key, STORE).unwrap()), 1);
    assert_eq!(cost(&|| kms.refill(&key, STORE).unwrap()), 0);
    assign_free(&mut cost, 16);
    assert_eq!(
        cost(&|| assert_ne!(assign(&kms, &key), HeadKeyId([0; 16]))),
        1
    );
}

#[test]
fn a_refill_after_each_use_syncs_once_in_eight() {
    let machine = SimMachine::new();
    let (kms, key) = with_key(&machine);
    let before = machine.sync_count();
    for _ in 0..1000 {
        let syncs = machine.sync_count();
        let id = assign(&kms, &key);
        // Only the first finds the pool empty.
        assert!(machine.sync_count() == syncs || syncs == before);
        kms.note_head_key(STORE, &id).unwrap();
        kms.refill(&key, STORE).unwrap();
    }
    let syncs = machine.sync_count() - before;
    // 125 fills, and now and then room for more.
    assert!((1..=140).contains(&syncs), "{syncs}");
}

#[test]
fn a_pool_is_of_one_store_and_one_key() {
    let (kms, key) = with_key(&SimMachine::new());
    let other = kms.create_key(None).unwrap().id;
    let first = assign(&kms, &key);
    let (second, _) = kms
        .assign_head_key(&key, StoreId([9; 16]), RESOURCE)
        .unwrap();
    let third = assign(&kms, &other);
    assert!(kms.head_key(&second, StoreId([9; 16]), RESOURCE).is_ok());
    assert!(is_missing(&kms.head_key(&second, STORE, RESOURCE)));
    assert_eq!(BTreeSet::from([first, second, third]).len(), 3);
}

#[test]
fn nothing_pooled_is_handed_out_after_a_reopen() {
    let machine = SimMachine::new();
    let (kms, key) = with_key(&machine);
    let before: BTreeSet<_> = (0..3).map(|_| assign(&kms, &key)).collect();
    let pooled: BTreeSet<_> = {
        let bytes = read(&*disk(&machine), "heads");
        let id = |slot: &[u8]| HeadKeyId(slot[16..32].try_into().unwrap());
        bytes.chunks(512).skip(1).map(id).collect()
    };
    assert!(before.is_subset(&pooled));
    let machine = machine.kill();
    let kms = open(&machine, 2);
    for _ in 0..20 {
        assert!(!pooled.contains(&assign(&kms, &key)));
    }
    // But who has the name of one in a record of the store may use it, until they are destroyed.
    for id in &before {
        assert!(kms.head_key(id, STORE, RESOURCE).is_ok());
        assert!(is_missing(&kms.head_key(id, StoreId([9; 16]), RESOURCE)));
    }
    kms.destroy_unclaimed(STORE).unwrap();
    for id in &before {
        assert!(is_missing(&kms.head_key(id, STORE, RESOURCE)));
    }
}

#[test]
fn what_was_never_claimed_is_destroyed_and_a_claim_survives() {
    let machine = SimMachine::new();
    let (kms, key) = with_key(&machine);
    let (claimed, secret) = kms.assign_head_key(&key, STORE, RESOURCE).unwrap();
    let lost = assign(&kms, &key);
    let (foreign, _) = kms
        .assign_head_key(&key, StoreId([9; 16]), RESOURCE)
        .unwrap();
    kms.claim_head_keys(STORE, &[claimed]).unwrap();
    kms.claim_head_keys(STORE, &[claimed]).unwrap();
    let machine = machine.kill();
    let kms = open(&machine, 2);
    let ours = assign(&kms, &key);
    assert_eq!(used_slots(&machine), 48);
    kms.destroy_unclaimed(STORE).unwrap();
    // Left: the claimed one, a batch of this process, a batch of another store.
    assert_eq!(used_slots(&machine), 33);
    assert_eq!(
        kms.head_key(&claimed, STORE, RESOURCE).unwrap().expose(),
        secret.expose()
    );
    assert!(kms.head_key(&ours, STORE, RESOURCE).is_ok());
    assert!(is_missing(&kms.head_key(&lost, STORE, RESOURCE)));
    kms.claim_head_keys(STORE, &[lost]).unwrap();
    assert!(is_missing(&kms.head_key(&lost, STORE, RESOURCE)));
    kms.claim_head_keys(StoreId([9; 16]), &[foreign]).unwrap();
    assert_eq!(machine.pending_write_count(), 2, "only lines of the audit");
    // What is free is used again, for new keys.
    for _ in 0..31 {
        assert_ne!(assign(&kms, &key), lost);
    }
    assert_eq!(used_slots(&machine), 33 + 16);
}

#[test]
fn a_claim_leaves_out_keys_that_are_not_there() {
    let machine = SimMachine::new();
    let (kms, key) = with_key(&machine);
    let head = assign(&kms, &key);
    let before = read(&*disk(&machine), "heads");
    kms.claim_head_keys(StoreId([9; 16]), &[head]).unwrap();
    kms.claim_head_keys(STORE, &[]).unwrap();
    assert_eq!(read(&*disk(&machine), "heads"), before);
    kms.claim_head_keys(STORE, &[HeadKeyId([7; 16]), head])
        .unwrap();
    let machine = machine.kill();
    let kms = open(&machine, 2);
    assert!(kms.head_key(&head, STORE, RESOURCE).is_ok());
}

#[test]
fn the_file_grows_and_two_processes_take_different_slots() {
    let machine = SimMachine::new();
    let (one, key) = with_key(&machine);
    let two = open(&machine, 2);
    let mut ids = BTreeSet::new();
    for _ in 0..100 {
        for kms in [&one, &two] {
            let id = assign(kms, &key);
            kms.claim_head_keys(STORE, &[id]).unwrap();
            ids.insert(id);
        }
    }
    assert_eq!(ids.len(), 200);
    for kms in [&one, &two, &open(&machine, 3)] {
        for id in &ids {
            assert!(kms.head_key(id, STORE, RESOURCE).is_ok());
        }
    }
}

#[test]
fn threads_get_different_keys() {
    let (kms, key) = with_key(&SimMachine::new());
    let work = || (0..50).map(|_| assign(&kms, &key)).collect::<Vec<_>>();
    let ids: BTreeSet<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(ids.len(), 200);
}

#[test]
fn a_lock_that_stays_taken_is_an_error() {
    let machine = SimMachine::new();
    let (kms, key) = with_key(&machine);
    let guard = disk(&machine).lock("lock", Lock::Exclusive).unwrap();
    let error = kms.create_key(None).unwrap_err();
    assert!(
        matches!(error, Error::Locked { pid: Some(_), .. }),
        "{error}"
    );
    drop(guard);
    assign(&kms, &key);
}

use std::time::{Duration, Instant};

use super::HeadKeys;
use crate::catalog::tests::Family;
use crate::crypto::WRAPPED_LEN;
use crate::error::Damage;
use crate::format::catalog::{HeadKind, KeyEpochRecord};
use crate::format::record::Record;
use crate::segment::EpochKey;
use crate::units::KeyEpoch;

/// The key epochs above one, itself included, nearest first.
fn line(family: &Family, open: KeyEpoch) -> Vec<KeyEpoch> {
    let mut line = vec![open];
    while let Some(link) = family
        .catalog
        .key_epoch(line[line.len() - 1])
        .unwrap()
        .above
    {
        line.push(link.to);
    }
    line
}

fn opened(keys: &HeadKeys) -> usize {
    keys.epochs.read().len()
}

/// Each branch goes on from the clone or from the source, as the numbers come.
fn chain(depth: u32) -> (Family, Vec<usize>) {
    let mut family = Family::new();
    let mut at = family.create();
    let mut ends = vec![at];
    for step in 0..depth {
        family.touch(at);
        let clone = family.branch(at, HeadKind::Volume);
        if step % 3 != 1 {
            at = clone;
        }
        ends.push(at);
    }
    (family, ends)
}

#[test]
fn every_ancestor_opens_through_few_links_at_any_depth() {
    let (family, _) = chain(200);
    for head in 0..family.heads.len() {
        let open = family.record(head).key_epoch;
        let line = line(&family, open);
        let depth = line.len() as u32 - 1;
        assert_eq!(family.catalog.key_epoch(open).unwrap().depth, depth);
        for &target in line.iter().step_by(if head % 20 == 0 { 1 } else { 17 }) {
            let keys = family.unlock(head);
            assert_eq!(opened(&keys), 1);
            let key = keys.epoch(open, target, &family.catalog).unwrap();
            assert_eq!(key.key_epoch, target);
            let record = family.catalog.key_epoch(target).unwrap();
            assert_eq!(key.secret.commitment(), record.commitment);
            let (links, bound) = (opened(&keys) - 1, 3 * (depth + 2).ilog2() as usize);
            assert!(links <= bound, "{links} links at depth {depth}");
            // Asked again it takes none.
            keys.epoch(open, target, &family.catalog).unwrap();
            assert_eq!(opened(&keys) - 1, links);
        }
    }
    assert!(family.heads.len() == 201);
}

/// What a first read costs: unlocking the head, and opening the epoch of the page.
fn first_read(family: &Family, head: usize, target: KeyEpoch) -> (usize, Duration) {
    let open = family.record(head).key_epoch;
    let began = Instant::now();
    let keys = family.unlock(head);
    keys.epoch(open, target, &family.catalog).unwrap();
    (opened(&keys), began.elapsed())
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures, with --nocapture")]
fn a_first_read_at_depth_10_000_unwraps_few_keys() {
    const DEPTH: u32 = 10_000;
    let (family, ends) = chain(DEPTH);
    let (first, last) = (ends[1], ends[DEPTH as usize]);
    let line = line(&family, family.record(last).key_epoch);
    assert_eq!(line.len() as u32, DEPTH + 1);
    let root = line[line.len() - 1];
    // Most unwraps, and the median of the times.
    let figures = |reads: Vec<(usize, Duration)>| {
        let most = reads.iter().map(|read| read.0).max().unwrap();
        let mut times: Vec<_> = reads.into_iter().map(|read| read.1).collect();
        times.sort_unstable();
        (most, times[times.len() / 2])
    };
    let shallow = figures((0..100).map(|_| first_read(&family, first, root)).collect());
    assert_eq!(shallow.0, 2, "the open epoch and the one above");
    let targets = line.iter().step_by(97).chain([&root]);
    let deep = figures(
        targets
            .map(|&target| first_read(&family, last, target))
            .collect(),
    );
    let bound = 1 + 3 * (DEPTH + 2).ilog2() as usize;
    assert!(deep.0 <= bound, "{} unwraps", deep.0);
    println!("unwraps and time at depth 1: {shallow:?}; at {DEPTH}: {deep:?}");
}

#[test]
fn a_head_opens_what_is_above_it_and_nothing_else() {
    let (mut family, ends) = chain(30);
    // Another family, and branches at the sides.
    let stranger = family.create();
    family.touch(stranger);
    for &end in ends.iter().step_by(7) {
        family.touch(end);
        family.branch(end, HeadKind::Snapshot);
    }
    let all = family.catalog.next().key_epoch.0;
    for head in 0..family.heads.len() {
        let open = family.record(head).key_epoch;
        let (line, keys) = (line(&family, open), family.unlock(head));
        for id in (1..all).map(KeyEpoch) {
            match keys.epoch(open, id, &family.catalog) {
                Ok(key) => assert!(line.contains(&id) && key.key_epoch == id),
                Err(damage) => {
                    assert!(!line.contains(&id), "{head} cannot open {id}");
                    let foreign = Damage::Inconsistent("a key epoch is not above its head's");
                    assert_eq!(damage, foreign);
                }
            }
        }
        assert_eq!(opened(&keys), line.len(), "nothing else came by on the way");
        assert!(
            keys.epoch(open, KeyEpoch(all + 5), &family.catalog)
                .is_err()
        );
    }
}

#[test]
fn an_idle_source_keeps_its_epoch_and_the_clone_cannot_open_it() {
    let mut family = Family::new();
    let source = family.create();
    family.touch(source);
    family.branch(source, HeadKind::Volume);
    let open = family.record(source).key_epoch;
    let second = family.branch(source, HeadKind::Volume);
    assert_eq!(
        family.record(source).key_epoch,
        open,
        "nothing was sealed under it"
    );
    // What the source seals under it now is after the branch.
    let keys = family.unlock(second);
    let of_second = family.record(second).key_epoch;
    assert!(keys.epoch(of_second, open, &family.catalog).is_err());
    assert_eq!(line(&family, of_second).len(), 2);
}

#[test]
fn the_keys_that_made_a_head_and_the_unlocked_ones_are_the_same() {
    let (family, _) = chain(20);
    for (head, member) in family.heads.iter().enumerate() {
        let open = family.record(head).key_epoch;
        for id in line(&family, open) {
            let (made, unlocked) = (&member.keys, family.unlock(head));
            let made = made.epoch(open, id, &family.catalog).unwrap();
            let unlocked = unlocked.epoch(open, id, &family.catalog).unwrap();
            assert_eq!(made.secret.expose(), unlocked.secret.expose());
            assert_eq!(made.random_id, unlocked.random_id);
        }
    }
}

#[test]
fn a_changed_link_commitment_or_wrapped_key_opens_nothing() {
    let (mut family, ends) = chain(5);
    let head = ends[5];
    let record = family.record(head);
    let epoch = family.catalog.key_epoch(record.key_epoch).unwrap().clone();
    let above = epoch.above.unwrap().to;
    let secret = family.heads[head].secret.duplicate();
    for byte in 0..WRAPPED_LEN {
        let mut record = record.clone();
        record.wrapped_key[byte] ^= 1;
        let unlocked = HeadKeys::unlock(&record, &epoch, secret.duplicate());
        assert_eq!(unlocked.err(), Some(Damage::BadTag), "byte {byte}");
    }
    let other = family.heads[ends[0]].secret.duplicate();
    assert_eq!(
        HeadKeys::unlock(&record, &epoch, other).err(),
        Some(Damage::BadTag)
    );
    let mut of_another = record.clone();
    of_another.resource_id.0[0] ^= 1;
    let unlocked = HeadKeys::unlock(&of_another, &epoch, secret);
    assert_eq!(unlocked.err(), Some(Damage::BadTag), "bound to its head");
    let broken = |change: &dyn Fn(&mut KeyEpochRecord)| {
        let mut epoch = epoch.clone();
        change(&mut epoch);
        Record::KeyEpoch(Box::new(epoch))
    };
    for bad in [
        broken(&|epoch| epoch.above.as_mut().unwrap().wrapped[20] ^= 1),
        broken(&|epoch| epoch.random_id[0] ^= 1),
    ] {
        let keys = family.unlock(head);
        apply(&mut family, &bad);
        let opened = keys.epoch(record.key_epoch, above, &family.catalog);
        assert_eq!(opened.err(), Some(Damage::BadTag));
        apply(&mut family, &Record::KeyEpoch(Box::new(epoch.clone())));
    }
    let mut parent = family.catalog.key_epoch(above).unwrap().clone();
    parent.commitment[0] ^= 1;
    let keys = family.unlock(head);
    apply(&mut family, &Record::KeyEpoch(Box::new(parent)));
    let opened = keys.epoch(record.key_epoch, above, &family.catalog);
    assert_eq!(opened.err(), Some(Damage::BadTag));
}

fn apply(family: &mut Family, record: &Record) {
    family
        .catalog
        .apply(record, crate::catalog::tests::context())
        .unwrap();
}

#[test]
fn a_sealer_is_one_for_each_epoch_and_salt() {
    let (family, ends) = chain(1);
    let keys = family.unlock(ends[1]);
    let open = family.record(ends[1]).key_epoch;
    let key = keys.epoch(open, open, &family.catalog).unwrap();
    let sealer = |key: &EpochKey, salt| keys.sealer(key, || salt);
    let first = sealer(&key, [1; 12]).unwrap();
    assert!(std::ptr::eq(&*first, &*sealer(&key, [1; 12]).unwrap()));
    let second = sealer(&key, [2; 12]).unwrap();
    assert_eq!((first.salt(), second.salt()), ([1; 12], [2; 12]));
    assert!(std::ptr::eq(&*second, &*sealer(&key, [2; 12]).unwrap()));
    // Once a later epoch was sealed under, the one before never seals again.
    let later = KeyEpoch(key.key_epoch.0 + 1);
    let later = EpochKey::new(later, [9; 16], key.secret.duplicate());
    assert!(sealer(&later, [2; 12]).is_some());
    assert!(sealer(&key, [2; 12]).is_none());
}

#[test]
fn keys_that_are_retired_seal_nothing() {
    let mut family = Family::new();
    let head = family.create();
    let keys = family.unlock(head);
    let open = family.record(head).key_epoch;
    let key = keys.epoch(open, open, &family.catalog).unwrap();
    assert!(keys.sealer(&key, || [1; 12]).is_some());
    keys.retire();
    for salt in [[1; 12], [2; 12]] {
        assert!(keys.sealer(&key, || salt).is_none());
    }
    // What was sealed can still be opened by who is at it.
    let opener = keys.opener(open, [1; 12], || Ok::<_, Damage>(key.clone()));
    assert!(opener.is_ok());
}

#[test]
fn an_epoch_that_a_branch_made_meanwhile_is_opened_when_it_is_needed() {
    let mut family = Family::new();
    let head = family.create();
    let keys = family.unlock(head);
    family.touch(head);
    family.branch(head, HeadKind::Volume);
    let record = family.record(head).clone();
    let open = record.key_epoch;
    assert!(keys.epoch(open, open, &family.catalog).is_err());
    assert_eq!(keys.open_epoch(&record, &family.catalog), Ok(open));
    let key = keys.epoch(open, open, &family.catalog).unwrap();
    assert_eq!(key.key_epoch, open);
    assert_eq!(opened(&keys), 2);
    let other = family.create();
    let foreign = family.record(other).clone();
    assert_eq!(
        keys.open_epoch(&foreign, &family.catalog),
        Err(Damage::BadTag)
    );
}

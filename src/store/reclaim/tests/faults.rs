//! Calls of the disk that fail, and a disk without space.

use std::io::ErrorKind;

use super::*;
use crate::io::fault::{FaultDisk, Times};
use crate::units::SlotAddr;

#[test]
fn a_failed_call_costs_no_page() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for times in [Times::Once, Times::ForGood] {
            let mut n = 1;
            while failed_call(n, kind, times) {
                // All of the first calls, then ever fewer.
                n += 1 + n / 40;
            }
            assert!(n > 60, "{n}");
        }
    }
}

/// Reclaims with the n-th call failing. Whether there was an n-th call.
fn failed_call(n: u64, kind: ErrorKind, times: Times) -> bool {
    let region = Region::new();
    let disk = FaultDisk::new(Arc::new(region.machine.dir("store")));
    let faults = disk.faults();
    let store = region.open_on(Arc::new(disk)).unwrap();
    let contents = churned(&store);
    let needed = live(&store.0);
    let protected = store.0.first_protected().unwrap();
    faults.fail_nth(n, kind, times);
    for _ in 0..200 {
        match store.0.reclaim_step(&needed, protected, Goal::Compact) {
            Ok(progress) if progress.is_done => break,
            Ok(_) => {}
            Err(_) if times == Times::Once => {}
            Err(_) => break,
        }
    }
    let has_failed = faults.failed() > 0;
    faults.heal();
    let when = format!("call {n} {kind:?} {times:?}");
    assert_reads(&store, &contents, &when);
    drop(store);
    assert_sound(&region.fsck(), &when);
    let store = region.open();
    assert_reads(&store, &contents, &when);
    reclaim(&store, Goal::Compact);
    assert_reads(&store, &contents, &when);
    store.close().unwrap();
    let report = region.fsck();
    assert!(report.is_clean(), "{when}: {report}");
    has_failed
}

#[test]
fn on_a_full_disk_files_are_dropped_holes_punched_and_spares_become_packs() {
    let region = Region::new();
    let store = region.open();
    let mut contents = churned(&store);
    let volume = store.volume("v").unwrap();
    volume.discard(20 * PAGE..50 * PAGE).unwrap();
    contents.extend((20..50).map(|page| (page, 0)));
    settle(&store, &mut contents);
    region.machine.set_free_len(0);
    let (mut dropped, mut freed, mut packs) = (0, 0, 0);
    for _ in 0..100 {
        let progress = step(&store, Goal::Compact).unwrap();
        dropped += progress.dropped_files;
        packs += progress.packs;
        freed += region.machine.dir("store").free_len().unwrap();
        // Others take what it gives back.
        region.machine.set_free_len(0);
        if progress.is_done {
            break;
        }
    }
    assert!(dropped > 0 && freed > 0 && packs > 0);
    assert_eq!(region.files("pack-").len() as u64, packs);
    assert_reads(&store, &contents, "on a full disk");
    region.machine.set_free_len(1 << 30);
    reclaim(&store, Goal::Compact);
    assert_reads(&store, &contents, "with space again");
    drop((volume, store));
    let report = region.fsck();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_file_of_which_a_slot_cannot_be_read_is_left_alone() {
    let region = Region::new();
    let store = region.open();
    churned(&store);
    let inner = &*store.0;
    assert!(reclaim(&store, Goal::Compact).packs > 0);
    let protected = inner.first_protected().unwrap();
    let mut needed = live(inner);
    // Half of the packs dies, and a slot is said to be live that no pack has.
    let segment = needed.segments().find(|&id| inner.segments.is_packed(id));
    let segment = segment.unwrap();
    let missing = (1..40).find(|&slot| !needed.contains(SlotAddr { segment, slot }));
    for at in needed.clone().iter().step_by(2) {
        if inner.segments.is_packed(at.segment) {
            needed.remove(at);
        }
    }
    let slot = missing.unwrap();
    needed.insert(SlotAddr { segment, slot });
    let steps = (0..6).map(|_| inner.reclaim_step(&needed, protected, Goal::Compact));
    let results: Vec<_> = steps.collect();
    let errors = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(errors, 1, "it is tried once: {results:?}");
    assert!(results.iter().flatten().last().unwrap().is_done);
}

//! Power losses at every sync, and at the end, of steps that drop, punch and pack.

use std::collections::HashSet;

use super::*;
use crate::io::sim::{Crash, WriteChoice};
use crate::sync::Mutex;

/// Runs reclaim to its end, with a copy of the machine at every sync.
fn stages(region: &Region, store: &Store) -> Vec<SimMachine> {
    stages_of(region, || {
        reclaim(store, Goal::Compact);
    })
}

/// A copy of the machine at every sync of something, and at its end.
fn stages_of(region: &Region, act: impl FnOnce()) -> Vec<SimMachine> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = seen.clone();
    region
        .machine
        .on_barrier(move |machine| hook.lock().push(machine.clone()));
    act();
    region.machine.clear_hooks();
    let mut stages = std::mem::take(&mut *seen.lock());
    stages.push(region.machine.kill());
    stages
}

fn assert_survives(region: &Region, machine: SimMachine, contents: &Contents, when: &str) {
    let after = region.with(machine);
    assert_sound(&after.fsck(), when);
    let store = after.open();
    assert_reads(&store, contents, when);
    let mut contents = contents.clone();
    write(&store, &mut contents, 5, 3, 77);
    settle(&store, &mut contents);
    reclaim(&store, Goal::Compact);
    assert_reads(&store, &contents, when);
    store.close().unwrap();
    let report = after.fsck();
    assert!(report.is_clean(), "{when}: {report}");
    assert_eq!(report.stats.leftover_files, 0, "{when}");
}

#[test]
fn every_crash_in_reclaim_leaves_every_page() {
    let region = Region::new();
    let store = region.open();
    let contents = churned(&store);
    let stages = stages(&region, &store);
    assert!(stages.len() > 8);
    assert_survive(&region, &stages, &contents);
}

/// What the thread of a store does: it makes no checkpoints, so those that there are name what the log has replaced.
#[test]
fn every_crash_in_reclaim_between_checkpoints_leaves_every_page() {
    let region = Region::new();
    let store = region.open();
    let mut contents = churned(&store);
    for (page, byte) in (0..PAGES).zip(30..).filter(|(page, _)| page % 9 != 4) {
        write(&store, &mut contents, page, 1, byte);
    }
    store.flush().unwrap();
    let made = store.stats().unwrap().checkpoints;
    let mut packs = 0;
    let stages = stages_of(&region, || {
        let mut is_done = false;
        while !is_done {
            let done = store.0.reclaim_some(Goal::Compact).unwrap();
            (is_done, packs) = (done.is_done, packs + done.packs);
        }
    });
    assert!(packs > 0);
    assert_eq!(store.stats().unwrap().checkpoints, made);
    assert_survive(&region, &stages, &contents);
}

fn assert_survive(region: &Region, stages: &[SimMachine], contents: &Contents) {
    let mut states = HashSet::new();
    let mut checked = 0;
    for (number, stage) in stages.iter().enumerate() {
        for (index, crash) in stage.crash_points().iter().enumerate() {
            let machine = stage.power_loss(crash);
            // Of the many ways to tear one write a part.
            let is_torn = matches!(crash.writes, WriteChoice::Torn { .. });
            if (!is_torn || index % 16 == 0) && states.insert(machine.fingerprint()) {
                let when = format!("stage {number} {crash:?}");
                assert_survives(region, machine, contents, &when);
                checked += 1;
            }
        }
        let when = format!("stage {number}, killed");
        assert_survives(region, stage.kill(), contents, &when);
    }
    assert!(checked > 100, "{checked}");
}

/// Nothing that was written and not synced is left, and so many changes of names.
fn lost_writes(names: usize) -> Crash {
    Crash {
        writes: WriteChoice::Prefix(0),
        names,
    }
}

#[test]
fn compaction_record_comes_first() {
    let region = Region::new();
    let store = region.open();
    let contents = churned(&store);
    let old = region.files("segment-");
    for (number, stage) in stages(&region, &store).into_iter().enumerate() {
        // A file that is gone now was not needed any more, whatever else is lost.
        let after = region.with(stage.power_loss(&lost_writes(usize::MAX)));
        assert_reads(&after.open(), &contents, &format!("stage {number}"));
        // The other way round, the old files come back, and the next open takes them away.
        let crash = Crash {
            writes: WriteChoice::Prefix(usize::MAX),
            names: 0,
        };
        let after = region.with(stage.power_loss(&crash));
        assert_reads(
            &after.open(),
            &contents,
            &format!("stage {number}, old names"),
        );
    }
    assert!(region.files("segment-").len() < old.len());
}

#[test]
fn an_open_after_a_kill_removes_nothing_that_a_power_loss_then_needs() {
    let region = Region::new();
    let store = region.open();
    let contents = churned(&store);
    for stage in stages(&region, &store) {
        let killed = region.with(stage.kill());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let hook = seen.clone();
        let barrier = move |machine: &SimMachine| hook.lock().push(machine.clone());
        killed.machine.on_barrier(barrier);
        let again = killed.open();
        killed.machine.clear_hooks();
        seen.lock().push(killed.machine.kill());
        for machine in std::mem::take(&mut *seen.lock()) {
            let dark = machine.power_loss(&lost_writes(usize::MAX));
            assert_reads(&region.with(dark).open(), &contents, "after the power loss");
        }
        drop(again);
    }
}

use std::thread;
use std::time::Instant;

use super::*;
use crate::format::superblock::Geometry;
use crate::io::sim::SimMachine;
use crate::sync::Arc;
use crate::units::StoreId;

fn segments() -> Segments {
    let geometry = Geometry {
        page_len: 4096,
        segment_slots: 8,
    };
    let disk = Arc::new(SimMachine::new().dir("d"));
    Segments::new(disk, StoreId([1; 16]), geometry, 4)
}

#[test]
fn work_waits_for_a_sync_but_not_for_ever() {
    let segments = segments();
    let syncing = segments.syncing();
    let began = Instant::now();
    // A condition variable may wake for nothing once, not each time.
    for _ in 0..3 {
        segments.step_aside();
    }
    assert!(began.elapsed() >= ASIDE_MAX);
    drop(syncing);
    assert_eq!(*segments.syncs.under_way.lock(), 0);
}

#[test]
fn the_end_of_a_sync_wakes_who_waits() {
    let segments = segments();
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..500 {
            let syncing = segments.syncing();
            let waits = scope.spawn(|| segments.step_aside());
            drop(syncing);
            waits.join().expect("a thread");
        }
    });
    // If nobody woke them, those that began to wait would be 20 ms late each.
    assert!(began.elapsed() < ASIDE_MAX * 250);
}

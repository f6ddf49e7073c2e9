use std::io::ErrorKind;

use super::*;
use crate::format::superblock::Geometry;
use crate::io::fault::{Class, FaultDisk, Faults, Times};
use crate::io::sim::SimMachine;
use crate::io::{AlignedBuf, BLOCK_LEN};
use crate::units::{SlotAddr, StoreId};

const ID: SegmentId = SegmentId(1);
const LARGE: u32 = BULK_SLOTS_MIN;

/// One segment on a disk that can fail.
fn segment() -> (Faults, Segments, Arc<Segment>) {
    let disk = FaultDisk::new(Arc::new(SimMachine::new().dir("store")));
    let faults = disk.faults();
    let geometry = Geometry {
        page_len: 4096,
        segment_slots: 4 * LARGE,
    };
    let segments = Segments::new(Arc::new(disk), StoreId([1; 16]), geometry, 4);
    let segment = segments.create(ID).unwrap();
    (faults, segments, segment)
}

fn slots(count: u32, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(count as usize * SLOT_LEN);
    buf.fill(byte);
    buf
}

/// Whether so many slots hold a byte, through the file and through the map.
fn holds(segments: &Segments, slot: u32, count: u32, byte: u8) -> bool {
    let at = SlotAddr { segment: ID, slot };
    segments.note_salt(at, [0; 12]);
    let mut read = vec![0; count as usize * SLOT_LEN];
    let mut mapped = read.clone();
    segments.read_slots(at, &mut read).unwrap();
    segments.copy_pages(at, &mut mapped).unwrap();
    let is_it = |bytes: &[u8]| bytes.iter().all(|&found| found == byte);
    is_it(&read) && is_it(&mapped)
}

#[test]
fn only_large_batches_take_another_handle_and_all_show_in_the_map() {
    let (faults, segments, segment) = segment();
    faults.count_only(Class::Names);
    let before = faults.calls();
    let opens = || faults.calls() - before;
    let mut bulk = BulkWriter::default();
    bulk.prepare(&segments, ID, LARGE - 1);
    assert_eq!(opens(), 0);
    bulk.write(&segment, 1, &slots(LARGE - 1, 1)).unwrap();
    for (round, byte) in [(1, 2), (2, 3)] {
        bulk.prepare(&segments, ID, LARGE);
        bulk.write(&segment, round * LARGE, &slots(LARGE, byte))
            .unwrap();
    }
    assert_eq!(opens(), 1, "opened once for a segment");
    assert!(holds(&segments, 1, LARGE - 1, 1));
    assert!(holds(&segments, LARGE, LARGE, 2));
    assert!(holds(&segments, 2 * LARGE, LARGE, 3));
    bulk.prepare(&segments, SegmentId(2), 1);
    assert!(bulk.tail.is_none(), "the old tail is let go of");
}

#[test]
fn memory_at_any_place_is_written_too() {
    let (_, segments, segment) = segment();
    let mut bulk = BulkWriter::default();
    bulk.prepare(&segments, ID, LARGE);
    let buf = slots(LARGE + 1, 5);
    let off = &buf[1..][..LARGE as usize * BLOCK_LEN];
    bulk.write(&segment, 7, off).unwrap();
    assert!(holds(&segments, 7, LARGE, 5));
}

#[test]
fn without_the_other_handle_the_segments_own_is_used() {
    let (faults, segments, segment) = segment();
    faults.count_only(Class::Names);
    faults.fail_nth(1, ErrorKind::PermissionDenied, Times::Once);
    let mut bulk = BulkWriter::default();
    bulk.prepare(&segments, ID, LARGE);
    assert_eq!(faults.failed(), 1);
    bulk.write(&segment, 3, &slots(LARGE, 9)).unwrap();
    assert!(holds(&segments, 3, LARGE, 9));
}

#[test]
fn a_disk_with_larger_blocks_is_written_by_way_of_the_cache() {
    let (faults, segments, segment) = segment();
    let mut bulk = BulkWriter::default();
    bulk.prepare(&segments, ID, LARGE);
    faults.count_only(Class::Write);
    let before = faults.calls();
    faults.fail_nth(1, ErrorKind::InvalidInput, Times::Once);
    bulk.write(&segment, 3, &slots(LARGE, 9)).unwrap();
    assert_eq!(faults.calls() - before, 2);
    assert!(holds(&segments, 3, LARGE, 9));
}

#[test]
fn any_other_failure_is_told_and_nothing_is_tried_again() {
    let (faults, segments, segment) = segment();
    let mut bulk = BulkWriter::default();
    bulk.prepare(&segments, ID, LARGE);
    faults.count_only(Class::Write);
    let before = faults.calls();
    faults.fail_nth(1, ErrorKind::StorageFull, Times::Once);
    let failed = bulk.write(&segment, 3, &slots(LARGE, 9)).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::StorageFull);
    assert_eq!(faults.calls() - before, 1);
    assert!(holds(&segments, 3, LARGE, 0));
}

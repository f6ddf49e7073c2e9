#![expect(
    clippy::single_range_in_vec_init,
    reason = "a part of one run is an array of one range"
)]

use crate::error::{Damage, Error, Result};
use crate::format::pack::PackPart;
use crate::format::superblock::Geometry;
use crate::io::Disk;
use crate::io::sim::SimMachine;
use crate::segment::{FileId, Segments};
use crate::sync::Arc;
use crate::units::{PackId, SLOT_LEN, SegmentId, SlotAddr, StoreId};

const SLOTS: u32 = 12;

/// Segments 1 to 4; each slot holds its segment and number.
fn segments(open_max: usize) -> (SimMachine, Segments) {
    let machine = SimMachine::new();
    let geometry = Geometry {
        page_len: 4096,
        segment_slots: SLOTS,
    };
    let disk = Arc::new(machine.dir("store"));
    let segments = Segments::new(disk, StoreId([1; 16]), geometry, open_max);
    for id in (1..5).map(SegmentId) {
        let segment = segments.create(id).unwrap();
        for slot in 1..SLOTS {
            segment
                .write_slots(slot, &[(id.0 * 16 + slot) as u8; SLOT_LEN])
                .unwrap();
        }
        segments.note_salt(at(id.0, 1), [id.0 as u8; 12]);
    }
    (machine, segments)
}

fn at(segment: u32, slot: u32) -> SlotAddr {
    SlotAddr {
        segment: SegmentId(segment),
        slot,
    }
}

fn part(segment: u32, runs: &[std::ops::Range<u32>]) -> PackPart {
    PackPart {
        segment: SegmentId(segment),
        runs: runs.to_vec(),
    }
}

/// The first bytes of slots, read through file and map.
fn read(segments: &Segments, at: SlotAddr, count: usize) -> Result<Vec<u8>> {
    let (mut bytes, mut mapped) = (vec![0; count * SLOT_LEN], vec![0; count * SLOT_LEN]);
    segments.read_slots(at, &mut bytes)?;
    segments.copy_pages(at, &mut mapped)?;
    assert!(bytes == mapped);
    Ok(bytes.chunks(SLOT_LEN).map(|slot| slot[0]).collect())
}

fn is_missing(result: Result<Vec<u8>>) -> bool {
    let missing = Damage::Missing;
    matches!(result, Err(Error::Corrupt { damage, .. }) if damage == missing)
}

#[test]
fn an_address_names_the_same_slot_in_a_pack_as_before() {
    for open_max in [1, 2, 9] {
        let (_, segments) = segments(open_max);
        let first = segments
            .write_pack(PackId(1), vec![part(1, &[2..4, 9..10]), part(3, &[5..8])])
            .unwrap();
        assert_eq!(read(&segments, at(1, 4), 1).unwrap(), [20], "not noted yet");
        segments.note_pack(first.clone());
        assert_eq!(read(&segments, at(1, 2), 2).unwrap(), [18, 19]);
        assert_eq!(read(&segments, at(1, 9), 1).unwrap(), [25]);
        assert_eq!(read(&segments, at(3, 5), 3).unwrap(), [53, 54, 55]);
        assert_eq!(read(&segments, at(2, 5), 1).unwrap(), [37]);
        for gone in [at(1, 1), at(1, 4), at(3, 8), at(1, 11)] {
            assert!(is_missing(read(&segments, gone, 1)), "{gone}");
        }
        assert!(is_missing(read(&segments, at(1, 3), 2)));
        segments.remove(FileId::Segment(SegmentId(1))).unwrap();
        segments.remove(FileId::Segment(SegmentId(3))).unwrap();
        assert_eq!(read(&segments, at(1, 9), 1).unwrap(), [25]);
        // A pack is packed again; what it does not take along is no more.
        let second = segments
            .write_pack(PackId(2), vec![part(2, &[1..2]), part(3, &[6..7])])
            .unwrap();
        segments.note_pack(second);
        assert_eq!(
            segments.segments_in(FileId::Pack(PackId(1))),
            [SegmentId(1)]
        );
        segments.remove(FileId::Pack(PackId(1))).unwrap();
        segments.remove(FileId::Segment(SegmentId(2))).unwrap();
        assert_eq!(read(&segments, at(3, 6), 1).unwrap(), [54]);
        assert_eq!(read(&segments, at(2, 1), 1).unwrap(), [33]);
        assert!(is_missing(read(&segments, at(3, 5), 1)));
        assert_eq!(segments.known(), [2, 3, 4].map(SegmentId));
        let salts = segments.salts().into_iter().map(|(at, _)| at.segment.0);
        assert_eq!(salts.collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(segments.packs().len(), 1);
        assert!(segments.open_count() <= open_max);
    }
}

#[test]
fn a_reader_that_holds_a_file_finishes_on_it() {
    let (_, segments) = segments(3);
    let held = segments.get(SegmentId(1)).unwrap();
    let record = segments
        .write_pack(PackId(1), vec![part(1, &[2..4])])
        .unwrap();
    segments.note_pack(record);
    segments.remove(FileId::Segment(SegmentId(1))).unwrap();
    let mut slot = [0; SLOT_LEN];
    held.file()
        .read_exact_at(&mut slot, 5 * SLOT_LEN as u64)
        .unwrap();
    assert_eq!(slot[0], 21);
    // Whoever comes later has the pack, and the old file is not kept open for it.
    let again = segments.get(SegmentId(1));
    assert!(again.is_err(), "its file is gone");
    assert_eq!(read(&segments, at(1, 2), 1).unwrap(), [18]);
}

#[test]
fn a_hole_is_where_its_slots_were() {
    let (machine, segments) = segments(3);
    let disk = machine.dir("store");
    let free = || crate::io::Disk::free_len(&disk).unwrap();
    let before = free();
    segments.punch(FileId::Segment(SegmentId(2)), 3..6).unwrap();
    assert_eq!(free() - before, 3 * SLOT_LEN as u64);
    assert_eq!(read(&segments, at(2, 2), 5).unwrap(), [34, 0, 0, 0, 38]);
    let record = segments
        .write_pack(PackId(1), vec![part(1, &[2..8])])
        .unwrap();
    segments.note_pack(record);
    let runs = segments
        .runs_in(FileId::Pack(PackId(1)), SegmentId(1))
        .unwrap();
    assert_eq!(runs, [(2..8, 1)]);
    segments.punch(FileId::Pack(PackId(1)), 2..4).unwrap();
    assert_eq!(
        read(&segments, at(1, 2), 6).unwrap(),
        [18, 0, 0, 21, 22, 23]
    );
    let len = segments.allocated_len(FileId::Pack(PackId(1))).unwrap();
    assert_eq!(len, Some(5 * SLOT_LEN as u64));
    assert_eq!(
        segments.allocated_len(FileId::Pack(PackId(9))).unwrap(),
        None
    );
}

#[test]
fn a_pack_with_a_number_used_before_takes_its_place() {
    let (_, segments) = segments(3);
    let first = segments
        .write_pack(PackId(1), vec![part(1, &[2..8])])
        .unwrap();
    segments.note_pack(first);
    read(&segments, at(1, 2), 1).unwrap();
    let second = segments
        .write_pack(PackId(1), vec![part(2, &[5..6])])
        .unwrap();
    segments.note_pack(second);
    assert_eq!(read(&segments, at(2, 5), 1).unwrap(), [37]);
    assert_eq!(
        segments.segments_in(FileId::Pack(PackId(1))),
        [SegmentId(2)]
    );
}

/// Batches, pages and nodes are told apart by themselves, so no read of a store shows this.
#[test]
fn a_file_that_says_that_it_is_another_segment_or_another_stores_is_refused() {
    let (machine, segments) = segments(4);
    let disk = machine.dir("store");
    let name = |id| crate::format::segment::segment_file_name(SegmentId(id));
    let geometry = segments.geometry();
    drop(segments);
    disk.rename(&name(1), "aside").unwrap();
    disk.rename(&name(2), &name(1)).unwrap();
    disk.rename("aside", &name(2)).unwrap();
    let opened = |store, id| {
        let segments = Segments::new(Arc::new(machine.dir("store")), store, geometry, 4);
        match segments.get(SegmentId(id)) {
            Ok(_) => None,
            Err(Error::Corrupt { damage, .. }) => Some(damage),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(opened(StoreId([1; 16]), 1), Some(Damage::WrongIdentity));
    assert_eq!(opened(StoreId([1; 16]), 2), Some(Damage::WrongIdentity));
    assert_eq!(opened(StoreId([1; 16]), 3), None);
    assert_eq!(opened(StoreId([2; 16]), 3), Some(Damage::WrongIdentity));
}

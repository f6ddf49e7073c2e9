use super::*;
use crate::error::Error;
use crate::format::pack::PackPart;
use crate::format::superblock::Geometry;
use crate::io::Disk;
use crate::io::sim::{SimDisk, SimMachine};
use crate::units::{PackId, SLOT_LEN, SegmentId, SlotAddr, StoreId};

const SLOTS: u32 = 12;

/// Segments 1 to 3; each slot holds its segment and number.
fn segments() -> (SimMachine, SimDisk, Segments) {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let geometry = Geometry {
        page_len: SLOT_LEN as u32,
        segment_slots: SLOTS,
    };
    let segments = Segments::new(Arc::new(disk.clone()), StoreId([7; 16]), geometry, 16);
    for id in 1..4 {
        let segment = segments.create(SegmentId(id)).unwrap();
        for slot in 1..SLOTS {
            let bytes = [(id * 16 + slot) as u8; SLOT_LEN];
            segment.write_slots(slot, &bytes).unwrap();
        }
    }
    (machine, disk, segments)
}

fn file(segment: u32) -> FileId {
    FileId::Segment(SegmentId(segment))
}

/// Packs so many slots of segment 3.
fn pack(segments: &Segments, id: u64, slots: u32) -> Result<FileId> {
    let part = PackPart {
        segment: SegmentId(3),
        runs: std::iter::once(1..1 + slots).collect(),
    };
    segments.note_pack(segments.write_pack(PackId(id), vec![part])?);
    Ok(FileId::Pack(PackId(id)))
}

fn assert_packed(segments: &Segments, slots: u32) {
    for slot in 1..=slots {
        let (segment, mut bytes) = (SegmentId(3), [0; SLOT_LEN]);
        let at = SlotAddr { segment, slot };
        segments.read_slots(at, &mut bytes).unwrap();
        assert_eq!(bytes, [(48 + slot) as u8; SLOT_LEN]);
    }
}

#[test]
fn the_next_pack_is_written_into_a_file_that_was_kept_and_so_on() {
    let (machine, disk, segments) = segments();
    assert!(segments.keep(file(1)).unwrap());
    assert_eq!(segments.kept_len(), u64::from(SLOTS) * SLOT_LEN as u64);
    assert!(!segments.keep(file(2)).unwrap(), "one is enough");
    assert_eq!(
        disk.list().unwrap(),
        ["next-pack.tmp", "segment-00000002", "segment-00000003"]
    );
    // No new file could be made.
    machine.set_free_len(0);
    let first = pack(&segments, 20, 6).unwrap();
    assert_packed(&segments, 6);
    assert_eq!(segments.kept_len(), 0);
    // What it does not need is given back, and its index takes one.
    let len = segments.allocated_len(first).unwrap();
    assert_eq!(len, Some(7 * SLOT_LEN as u64));
    // A pack is kept like a segment.
    machine.set_free_len(1 << 30);
    let second = pack(&segments, 21, 5).unwrap();
    assert!(segments.keep(first).unwrap());
    let third = pack(&segments, 22, 5).unwrap();
    assert_packed(&segments, 5);
    segments.remove(second).unwrap();
    assert_packed(&segments, 5);
    assert_eq!(
        disk.list().unwrap(),
        [
            "pack-0000000000000016",
            "segment-00000002",
            "segment-00000003"
        ]
    );
    assert_eq!(third, FileId::Pack(PackId(22)));
}

#[test]
fn a_file_that_is_held_or_has_little_left_is_not_kept() {
    let (_, disk, segments) = segments();
    let held = segments.get(SegmentId(1)).unwrap();
    assert!(!segments.keep(file(1)).unwrap());
    drop(held);
    segments.punch(file(1), 1..8).unwrap();
    assert!(!segments.keep(file(1)).unwrap());
    let packed = pack(&segments, 20, 7).unwrap();
    segments.remove(file(3)).unwrap();
    let held = segments.holder(SegmentId(3), segments.table.place(SegmentId(3)));
    assert!(!segments.keep(packed).unwrap());
    drop(held);
    assert!(segments.keep(packed).unwrap());
    segments.remove_kept().unwrap();
    segments.remove_kept().unwrap();
    assert_eq!(
        disk.list().unwrap(),
        ["segment-00000001", "segment-00000002"]
    );
}

#[test]
fn without_space_for_what_a_pack_takes_more_the_file_goes_and_a_new_one_is_tried() {
    let (machine, disk, segments) = segments();
    segments.punch(file(1), 7..SLOTS).unwrap();
    assert!(segments.keep(file(1)).unwrap());
    machine.set_free_len(0);
    // The file has 7 slots, and the pack takes 11.
    let refused = pack(&segments, 20, 10);
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    assert_eq!(segments.kept_len(), 0);
    assert_eq!(
        disk.list().unwrap(),
        ["segment-00000002", "segment-00000003"]
    );
    machine.set_free_len(1 << 30);
    pack(&segments, 20, 10).unwrap();
    assert_packed(&segments, 10);
}

use super::*;
use crate::format::pack::PackPart;
use crate::format::superblock::Geometry;
use crate::io::Disk;
use crate::io::fault::{Class, FaultDisk, Times};
use crate::io::sim::{Crash, SimDisk, SimMachine};
use crate::units::{PackId, SlotAddr, StoreId};

const SLOTS: u32 = 8;
const LEN: u64 = SLOTS as u64 * SLOT_LEN as u64;

fn on(disk: &SimDisk) -> Segments {
    on_any(Arc::new(disk.clone()))
}

fn on_any(disk: Arc<dyn Disk>) -> Segments {
    let geometry = Geometry {
        page_len: SLOT_LEN as u32,
        segment_slots: SLOTS,
    };
    let segments = Segments::new(disk, StoreId([7; 16]), geometry, 16);
    segments.find_spares(Access::ReadWrite).unwrap();
    segments
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list().unwrap()
}

#[test]
fn a_spare_becomes_a_segment_only_when_the_disk_is_full_or_it_is_not_of_the_reserve() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let segments = on(&disk);
    segments.set_reserve(1);
    segments.make_spare().unwrap();
    segments.create(SegmentId(1)).unwrap();
    assert_eq!(names(&disk), ["segment-00000001", "spare-00000001"]);
    machine.set_free_len(0);
    let refused = segments.create(SegmentId(2));
    assert!(matches!(
        refused,
        Err(Error::NoSpace { need: LEN, free: 0 })
    ));
    let refused = segments.make_spare();
    assert!(matches!(
        refused,
        Err(Error::NoSpace { need: LEN, free: 0 })
    ));
    assert_eq!(names(&disk), ["segment-00000001", "spare-00000001"]);
    let taken = segments.create_from_reserve(SegmentId(2)).unwrap();
    assert!(taken.is_written());
    assert_eq!(names(&disk), ["segment-00000001", "segment-00000002"]);
    let refused = segments.create_from_reserve(SegmentId(3));
    assert!(matches!(refused, Err(Error::NoSpace { .. })));
    // It opens as what it is now.
    on(&disk).get(SegmentId(2)).unwrap();
}

#[test]
fn a_segment_that_is_dead_is_written_again_and_a_reader_that_holds_it_keeps_it() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let segments = on(&disk);
    let held = segments.create(SegmentId(1)).unwrap();
    held.write_slots(3, &[5; SLOT_LEN]).unwrap();
    assert!(!segments.recycle(FileId::Segment(SegmentId(1)), 1).unwrap());
    drop(held);
    assert!(segments.recycle(FileId::Segment(SegmentId(1)), 1).unwrap());
    assert_eq!(names(&disk), ["spare-00000001"]);
    // There may be one.
    segments.create_new(SegmentId(2)).unwrap();
    assert!(!segments.recycle(FileId::Segment(SegmentId(2)), 1).unwrap());
    machine.set_free_len(0);
    let again = segments.create(SegmentId(3)).unwrap();
    let mut slot = vec![0; SLOT_LEN];
    again
        .file()
        .read_exact_at(&mut slot, 3 * SLOT_LEN as u64)
        .unwrap();
    assert_eq!(
        slot, [5; SLOT_LEN],
        "what was there stays until it is written over"
    );
}

#[test]
fn spares_beyond_what_there_may_be_are_removed_but_for_the_reserve() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let segments = on(&disk);
    for _ in 0..4 {
        segments.make_spare().unwrap();
    }
    segments.set_reserve(2);
    segments.remove_spares(3).unwrap();
    assert_eq!(segments.spare_count(), 3);
    segments.remove_spares(0).unwrap();
    assert_eq!(names(&disk), ["spare-00000001", "spare-00000002"]);
}

#[test]
fn a_file_with_a_hole_is_no_spare() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let segments = on(&disk);
    segments.create(SegmentId(1)).unwrap();
    segments.make_spare().unwrap();
    let spare = disk.open("spare-00000001", Access::ReadWrite).unwrap();
    spare.punch(0, SLOT_LEN as u64).unwrap();
    assert_eq!(on(&disk).spare_count(), 0);
    assert_eq!(
        names(&disk),
        ["segment-00000001"],
        "the next open removes it"
    );
    // One that somebody cuts while the store is open is passed over.
    segments.make_spare().unwrap();
    let spare = disk.open("spare-00000002", Access::ReadWrite).unwrap();
    spare.punch(0, SLOT_LEN as u64).unwrap();
    segments.create_from_reserve(SegmentId(2)).unwrap();
    assert!(names(&disk).contains(&"segment-00000002".to_owned()));
}

#[test]
fn a_dead_file_with_holes_is_filled_up_for_the_next_segment_but_not_for_the_reserve() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let segments = on(&disk);
    segments.set_reserve(1);
    for id in [1, 2, 3].map(SegmentId) {
        segments.create_new(id).unwrap();
        segments.punch(FileId::Segment(id), 2..4).unwrap();
    }
    let first = FileId::Segment(SegmentId(1));
    assert!(!segments.recycle(first, 2).unwrap(), "the reserve is short");
    segments.make_spare().unwrap();
    assert!(!segments.recycle(first, 1).unwrap(), "there may be one");
    machine.set_free_len(0);
    assert!(!segments.recycle(first, 2).unwrap(), "no space to fill it");
    machine.set_free_len(2 * SLOT_LEN as u64);
    assert!(segments.recycle(first, 2).unwrap());
    assert_eq!(
        names(&disk),
        [
            "segment-00000002",
            "segment-00000003",
            "spare-00000001",
            "spare-00000002"
        ]
    );
    // It is used before the reserve is.
    segments.create(SegmentId(4)).unwrap();
    assert!(names(&disk).contains(&"spare-00000001".to_owned()));
    assert_eq!(disk.allocated_len("segment-00000004").unwrap(), LEN);
}

#[test]
fn a_dead_pack_becomes_a_spare_of_full_length() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let segments = on(&disk);
    segments.create(SegmentId(1)).unwrap();
    let part = PackPart {
        segment: SegmentId(1),
        runs: std::iter::once(2..4).collect(),
    };
    let pack = segments.write_pack(PackId(1), vec![part]).unwrap();
    segments.note_pack(pack);
    segments.remove(FileId::Segment(SegmentId(1))).unwrap();
    assert!(segments.recycle(FileId::Pack(PackId(1)), 1).unwrap());
    assert_eq!(names(&disk), ["spare-00000001"]);
    assert_eq!(disk.allocated_len("spare-00000001").unwrap(), LEN);
    assert!(segments.packs().is_empty(), "nothing is in it");
    segments.create(SegmentId(2)).unwrap();
    assert_eq!(names(&disk), ["segment-00000002"]);
}

/// What a failed sync left of a spare, one that was only allocated, is not durable when it is written again (`docs/decisions/0015`).
#[test]
fn a_spare_that_could_not_be_filled_is_never_filled_again() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let faulty = FaultDisk::new(Arc::new(disk.clone()));
    let segments = on_any(Arc::new(faulty.clone()));
    segments.create_new(SegmentId(1)).unwrap();
    segments.punch(FileId::Segment(SegmentId(1)), 0..7).unwrap();
    assert!(segments.recycle(FileId::Segment(SegmentId(1)), 1).unwrap());
    let before = machine.kill();
    faulty.faults().count_only(Class::Sync);
    faulty
        .faults()
        .fail_nth(1, io::ErrorKind::Other, Times::Once);
    segments.create(SegmentId(2)).unwrap_err();
    assert_eq!(names(&disk), [""; 0]);
    // Who dies before it is removed leaves it to the next process.
    let disk = before.dir("d");
    let spare = disk.open("spare-00000001", Access::ReadWrite).unwrap();
    (0..8).for_each(|slot| {
        spare
            .write_all_at(&[1; SLOT_LEN], slot * SLOT_LEN as u64)
            .unwrap();
    });
    spare.lose_unsynced();
    let segment = on(&disk).create(SegmentId(3)).unwrap();
    segment.write_slots(1, &[2; 7 * SLOT_LEN]).unwrap();
    segment.file().sync().unwrap();
    let dark = before.power_loss(&Crash::NONE_KEPT).dir("d");
    let segment = on(&dark).get(SegmentId(3)).unwrap();
    let mut slots = vec![0; 7 * SLOT_LEN];
    segment
        .file()
        .read_exact_at(&mut slots, SLOT_LEN as u64)
        .unwrap();
    assert!(slots.iter().all(|&byte| byte == 2));
}

/// Whatever a crash leaves, a name says what is in the file: a segment is that segment, and the
/// others are spares of full length.
#[test]
fn a_crash_at_any_moment_leaves_segments_and_spares_whole() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let checked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&checked);
    machine.on_barrier(move |machine| {
        for crash in machine.crash_points().iter().chain([&Crash::NONE_KEPT]) {
            check(&machine.power_loss(crash).dir("d"));
            *count.lock() += 1;
        }
        check(&machine.kill().dir("d"));
    });
    let segments = on(&disk);
    segments.make_spare().unwrap();
    segments.create(SegmentId(1)).unwrap();
    segments.create_new(SegmentId(2)).unwrap();
    assert!(segments.recycle(FileId::Segment(SegmentId(1)), 1).unwrap());
    segments.create(SegmentId(3)).unwrap();
    segments.punch(FileId::Segment(SegmentId(2)), 3..5).unwrap();
    assert!(segments.recycle(FileId::Segment(SegmentId(2)), 1).unwrap());
    segments.create(SegmentId(4)).unwrap();
    assert!(*checked.lock() > 100);
    check(&machine.power_loss(&Crash::NONE_KEPT).dir("d"));
}

fn check(disk: &SimDisk) {
    for name in names(disk).iter().filter(|name| name.ends_with(".tmp")) {
        disk.remove(name).unwrap();
    }
    let segments = on(disk);
    for id in segments.list().unwrap() {
        segments.get(id).unwrap();
        segments
            .read_slots(
                SlotAddr {
                    segment: id,
                    slot: 7,
                },
                &mut [0; SLOT_LEN],
            )
            .unwrap();
    }
    let spares = names(disk);
    let spares = spares.iter().filter(|name| name.starts_with("spare-"));
    assert_eq!(spares.count(), segments.spare_count());
    let next = segments.list().unwrap().last().map_or(1, |last| last.0 + 1);
    for id in next..next + 2 {
        segments.create_from_reserve(SegmentId(id)).unwrap();
    }
}

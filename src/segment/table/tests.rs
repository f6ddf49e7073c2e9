use super::Salt;
use crate::error::Result;
use crate::format::superblock::Geometry;
use crate::io::sim::SimMachine;
use crate::segment::Segments;
use crate::sync::Arc;
use crate::units::{SLOT_LEN, SegmentId, SlotAddr, StoreId};

const OPEN_MAX: usize = 3;

/// Segments 1 to 8, of which none is open.
fn segments() -> Segments {
    let machine = SimMachine::new();
    let geometry = Geometry {
        page_len: 4096,
        segment_slots: 8,
    };
    let of = |machine: &SimMachine| {
        let disk = Arc::new(machine.dir("store"));
        Segments::new(disk, StoreId([1; 16]), geometry, OPEN_MAX)
    };
    let made = of(&machine);
    for id in ids() {
        let segment = made.create(id).unwrap();
        segment.write_slots(1, &[id.0 as u8; SLOT_LEN]).unwrap();
    }
    of(&machine)
}

fn ids() -> impl Iterator<Item = SegmentId> {
    (1..=8).map(SegmentId)
}

fn at(segment: u32, slot: u32) -> SlotAddr {
    SlotAddr {
        segment: SegmentId(segment),
        slot,
    }
}

/// The first byte of the page in slot 1 of a segment.
fn read(segments: &Segments, segment: u32) -> Result<Option<(Salt, u8)>> {
    let mut page = [0; SLOT_LEN];
    let salt = segments.copy_pages(at(segment, 1), &mut page)?;
    Ok(salt.map(|salt| (salt, page[0])))
}

#[test]
fn as_many_segments_stay_open_as_allowed_and_all_can_be_read() {
    let segments = segments();
    for id in ids() {
        segments.note_salt(at(id.0, 1), [id.0 as u8; 12]);
    }
    for _ in 0..3 {
        for id in ids() {
            let number = id.0 as u8;
            let found = read(&segments, id.0).unwrap();
            assert_eq!(found, Some(([number; 12], number)));
            assert!(segments.open_count() <= OPEN_MAX);
        }
    }
}

#[test]
fn a_segment_that_somebody_holds_is_not_closed() {
    let segments = segments();
    let held: Vec<_> = ids().take(5).map(|id| segments.get(id).unwrap()).collect();
    for id in ids() {
        segments.get(id).unwrap();
    }
    assert_eq!(segments.open_count(), 6, "the held ones and the last");
    for (id, held) in ids().zip(&held) {
        let again = segments.get(id).unwrap();
        assert!(Arc::ptr_eq(&again, held), "opened a second time");
    }
    drop(held);
    segments.get(SegmentId(7)).unwrap();
    assert!(segments.open_count() <= OPEN_MAX);
}

#[test]
fn a_segment_in_use_outlives_those_used_once() {
    let segments = segments();
    let often = Arc::downgrade(&segments.get(SegmentId(1)).unwrap());
    for id in ids().skip(1) {
        segments.get(id).unwrap();
        segments.get(SegmentId(1)).unwrap();
    }
    assert!(often.upgrade().is_some(), "it was closed and opened again");
}

#[test]
fn a_salt_counts_from_its_slot_to_the_next_one_of_the_segment() {
    let segments = segments();
    segments.note_salt(at(2, 4), [4; 12]);
    segments.note_salt(at(2, 1), [1; 12]);
    segments.note_salt(at(2, 6), [4; 12]);
    segments.note_salt(at(3, 5), [5; 12]);
    let salts = [(2, 1, 1), (2, 4, 4), (3, 5, 5)];
    let expected = salts.map(|(segment, slot, salt)| (at(segment, slot), [salt; 12]));
    assert_eq!(segments.salts(), expected, "the salt of 6 says nothing new");
    let mut page = [7; SLOT_LEN];
    let mut salt = |segment, slot| segments.copy_pages(at(segment, slot), &mut page).unwrap();
    assert_eq!(salt(2, 3), Some([1; 12]));
    assert_eq!(salt(2, 7), Some([4; 12]));
    assert_eq!(salt(3, 4), None);
    assert_eq!(salt(4, 1), None);
}

//! The index of a packed file, and its record.

#![expect(
    clippy::indexing_slicing,
    clippy::single_range_in_vec_init,
    reason = "a test that is out of bounds should fail; a part of one run is an array of one range"
)]

use proptest::prelude::{prop, proptest};

use crate::error::Damage;
use crate::format::pack::{
    PARTS_MAX, PackIndex, PackPart, PackRecord, pack_file_name, pack_of_file,
};
use crate::format::record::{Record, Records, pack_of};
use crate::units::{PackId, SLOT_LEN, SegmentId, StoreId};

fn part(segment: u32, runs: &[std::ops::Range<u32>]) -> PackPart {
    PackPart {
        segment: SegmentId(segment),
        runs: runs.to_vec(),
    }
}

fn index(parts: Vec<PackPart>) -> PackIndex {
    PackIndex {
        pack: PackId(7),
        store_id: StoreId([4; 16]),
        segment_slots: 256,
        parts,
    }
}

/// Changes bytes and makes the checksum right again.
fn resealed(slots: &[u8], offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut slots = slots.to_vec();
    slots[offset..offset + bytes.len()].copy_from_slice(bytes);
    let crc = crc32fast::hash(&slots[12..]).to_le_bytes();
    slots[8..12].copy_from_slice(&crc);
    slots
}

#[test]
fn a_name_says_the_number() {
    assert_eq!(pack_file_name(PackId(0xab)), "pack-00000000000000ab");
    assert_eq!(pack_of_file("pack-00000000000000ab"), Some(PackId(0xab)));
    for other in [
        "pack-0",
        "pack-00000000000000AB",
        "pack-0000000000000000",
        "pack-",
    ] {
        assert_eq!(pack_of_file(other), None, "{other}");
    }
}

#[test]
fn a_set_is_runs_or_a_bitmap_whichever_is_shorter() {
    let few = index(vec![part(3, &[1..200])]);
    let many: Vec<_> = (0..100).map(|slot| 2 * slot + 1..2 * slot + 2).collect();
    let many = index(vec![part(3, &many)]);
    for (index, run_count, slots) in [(few, 1_u32, 199), (many, 0, 100)] {
        let bytes = index.encode();
        assert_eq!(bytes.len(), SLOT_LEN);
        assert_eq!(bytes[72..76], run_count.to_le_bytes());
        assert_eq!(PackIndex::decode(&bytes), Ok(index.clone()));
        assert_eq!(index.slot_count(), 1 + slots);
        assert_eq!(PackIndex::peek(&bytes, 1), Ok(1));
    }
}

proptest! {
    #[test]
    fn an_index_reads_back_and_no_flipped_bit_is_accepted(
        sets in prop::collection::vec(prop::collection::vec(prop::bool::ANY, 1..255), 1..40),
        flip in 0_usize..SLOT_LEN * 8,
    ) {
        let parts = (1..).zip(&sets).map(|(segment, set)| {
            let mut runs: Vec<std::ops::Range<u32>> = Vec::new();
            for (slot, _) in (1..).zip(set).filter(|(_, is_in)| **is_in) {
                match runs.last_mut() {
                    Some(run) if run.end == slot => run.end += 1,
                    _ => runs.push(slot..slot + 1),
                }
            }
            part(segment, &runs)
        });
        let parts: Vec<_> = parts.filter(|part| !part.runs.is_empty()).collect();
        if parts.is_empty() {
            return Ok(());
        }
        let index = index(parts);
        let bytes = index.encode();
        assert_eq!(bytes.len(), index.index_slots() as usize * SLOT_LEN);
        assert_eq!(PackIndex::decode(&bytes), Ok(index.clone()));
        let mut flipped = bytes.clone();
        flipped[flip / 8] ^= 1 << (flip % 8);
        assert!(PackIndex::decode(&flipped).is_err());
        for len in [0, 63, 80, bytes.len() - 1] {
            assert!(PackIndex::decode(&bytes[..len]).is_err());
        }
        let record = index.record();
        assert!(record.matches(&bytes, &index));
        let mut records = Vec::new();
        Record::Pack(Box::new(record.clone())).encode(&mut records);
        assert_eq!(pack_of(&records), Some(Ok(record.clone())));
        let read: Vec<_> = Records::new(&records).collect();
        assert_eq!(read, [Ok(Record::Pack(Box::new(record)))]);
    }
}

#[test]
fn an_index_whose_checksum_is_right_is_still_checked() {
    let bytes = index(vec![part(3, &[1..4, 9..10]), part(5, &[8..9])]).encode();
    let refused = |offset: usize, value: u32| {
        let changed = resealed(&bytes, offset, &value.to_le_bytes());
        PackIndex::decode(&changed).unwrap_err()
    };
    assert_eq!(refused(12, 1), Damage::BadVersion(1));
    // Pack, root, slots, index slots, segment slots, parts, reserved.
    for (offset, value) in [(16, 0), (40, 1), (44, 7), (48, 2), (52, 9), (56, 1)] {
        refused(offset, value);
    }
    for value in [0, 3, PARTS_MAX as u32 + 1] {
        refused(56, value);
    }
    refused(52, u32::MAX);
    refused(60, 1);
    // Segment, slots, runs; then first and count of each run.
    for (offset, value) in [(64, 0), (64, 6), (68, 5), (72, 3), (72, 0)] {
        refused(offset, value);
    }
    for (offset, value) in [
        (76, 0),
        (80, 0),
        (80, 9),
        (84, 4),
        (84, 2),
        (88, 0),
        (88, 248),
    ] {
        refused(offset, value);
    }
    refused(80, u32::MAX);
    refused(4092, 1);
    assert!(PackIndex::peek(&bytes, 0).is_err());
    assert_eq!(PackIndex::peek(&bytes[..9], 1), Err(Damage::Truncated));
    assert_eq!(PackIndex::peek(&[0; 64], 1), Err(Damage::BadMagic));
}

#[test]
fn a_record_that_cannot_be_is_refused() {
    let record = index(vec![part(3, &[1..4]), part(5, &[8..9])]).record();
    let refused = |change: &dyn Fn(&mut PackRecord)| {
        let mut other = record.clone();
        change(&mut other);
        let mut records = Vec::new();
        Record::Pack(Box::new(other)).encode(&mut records);
        let read = Records::new(&records).next().unwrap();
        assert_eq!(pack_of(&records), Some(Err(read.clone().unwrap_err())));
        read.unwrap_err()
    };
    refused(&|record| record.pack = PackId(0));
    refused(&|record| record.index_slots = 0);
    refused(&|record| record.index_slots = record.slot_count);
    refused(&|record| record.segments.clear());
    refused(&|record| record.segments[0] = SegmentId(0));
    refused(&|record| record.segments[0] = SegmentId(5));
    refused(&|record| record.segments.extend((6..2000).map(SegmentId)));
    let mut records = Vec::new();
    Record::Pack(Box::new(record)).encode(&mut records);
    for (offset, value) in [(8 + 48, 3), (8 + 48, 1), (8 + 52, 1)] {
        let mut changed = records.clone();
        changed[offset] = value;
        assert!(pack_of(&changed).unwrap().is_err(), "{offset}");
    }
    assert_eq!(pack_of(&[]), None);
}

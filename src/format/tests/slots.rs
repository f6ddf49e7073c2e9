//! Superblocks, segment headers and batches: each reads back, and no flipped bit is accepted.

use crate::crypto::Secret;
use crate::error::Damage;
use crate::format::batch::{BATCH_HEADER_LEN, BatchHead, BatchHeader, header_slots};
use crate::format::record::Records;
use crate::format::segment::{SegmentHeader, segment_file_name, segment_of_file};
use crate::format::superblock::{
    Geometry, NextIds, Position, STORE_KEY_LEN_MAX, Superblock, TableRef, WrappedStoreKey,
};
use crate::format::tests::records;
use crate::units::{
    HeadId, KeyEpoch, KeyId, LineageEpoch, SLOT_LEN, SegmentId, Seq, SlotAddr, StoreId,
};

const AT: SlotAddr = SlotAddr {
    segment: SegmentId(3),
    slot: 5,
};

fn key(byte: u8) -> Secret {
    Secret::from_bytes([byte; 32])
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes
        .get_mut(bit / 8)
        .into_iter()
        .for_each(|byte| *byte ^= 1 << (bit % 8));
}

/// Sets the CRC-32 that is at the end of a slot.
fn put_last_crc(slot: &mut [u8]) {
    let (before, crc) = slot.split_at_mut(SLOT_LEN - 4);
    crc.copy_from_slice(&crc32fast::hash(before).to_le_bytes());
}

fn superblock(wrapped_len: usize) -> Superblock {
    Superblock {
        store_id: StoreId([0xA1; 16]),
        generation: u64::MAX - 1,
        created_at_ms: 0x1122_3344_5566,
        geometry: Geometry {
            page_len: 65536,
            segment_slots: 1 << 18,
        },
        clean: true,
        next: NextIds {
            head: HeadId(11),
            lineage: LineageEpoch(12),
            key_epoch: KeyEpoch(u32::MAX),
        },
        position: Position {
            seq: Seq(1 << 40),
            chain: [0xC1; 32],
            end: AT,
        },
        durable_through: Seq((1 << 40) + 7),
        tables: Some(TableRef {
            at: SlotAddr { slot: 9, ..AT },
            hash: [0xD1; 32],
        }),
        store_key: WrappedStoreKey {
            kms_key: KeyId([0xE1; 16]),
            commitment: [0xF1; 32],
            wrapped: vec![0x5A; wrapped_len],
        },
    }
}

#[test]
fn a_superblock_reads_back_and_is_its_writers() {
    let empty = Superblock {
        clean: false,
        tables: None,
        position: Position::default(),
        durable_through: Seq(0),
        geometry: Geometry {
            page_len: 4096,
            segment_slots: 3,
        },
        ..superblock(0)
    };
    for superblock in [superblock(64), superblock(STORE_KEY_LEN_MAX), empty] {
        for mirror in [0, 1] {
            let slot = superblock.encode(mirror, &key(1));
            assert_eq!(slot.len(), SLOT_LEN);
            assert_eq!(Superblock::decode(&slot, mirror).as_ref(), Ok(&superblock));
            assert_eq!(
                Superblock::decode(&slot, 1 - mirror),
                Err(Damage::WrongIdentity)
            );
            assert!(Superblock::is_authentic(&slot, &key(1)));
            assert!(!Superblock::is_authentic(&slot, &key(2)));
        }
    }
}

#[test]
fn no_flipped_bit_of_a_superblock_is_accepted() {
    let mut slot = superblock(64).encode(0, &key(1));
    for bit in 0..SLOT_LEN * 8 {
        flip(&mut slot, bit);
        assert!(Superblock::decode(&slot, 0).is_err(), "bit {bit}");
        flip(&mut slot, bit);
    }
    // Nor by who can only compute checksums: it is not the store's then.
    for bit in (0..(SLOT_LEN - 4) * 8).step_by(7) {
        let mut slot = slot.clone();
        flip(&mut slot, bit);
        put_last_crc(&mut slot);
        let authentic = Superblock::is_authentic(&slot, &key(1));
        assert!(
            Superblock::decode(&slot, 0).is_err() || !authentic,
            "bit {bit}"
        );
    }
    assert!(Superblock::decode(&slot, 0).is_ok());
}

#[test]
fn a_superblock_whose_checksum_is_right_is_still_checked() {
    let refused = |offset: usize, bytes: &[u8]| {
        let mut slot = superblock(64).encode(0, &key(1));
        let range = offset..offset + bytes.len();
        slot.get_mut(range)
            .expect("in the slot")
            .copy_from_slice(bytes);
        put_last_crc(&mut slot);
        Superblock::decode(&slot, 0).err()
    };
    assert_eq!(refused(0, b"X"), Some(Damage::BadMagic));
    assert_eq!(refused(8, &[7]), Some(Damage::BadVersion(7)));
    let geometry = Some(Damage::OutOfRange("page_len or segment_slots"));
    for page_len in [0_u32, 1, 2048, 4097, 12288, 131_072, u32::MAX] {
        assert_eq!(refused(48, &page_len.to_le_bytes()), geometry, "{page_len}");
    }
    for segment_slots in [0_u32, 2, 17, (1 << 18) + 1, u32::MAX] {
        assert_eq!(
            refused(52, &segment_slots.to_le_bytes()),
            geometry,
            "{segment_slots}"
        );
    }
    assert_eq!(refused(56, &[2]), Some(Damage::OutOfRange("flags")));
    assert_eq!(
        refused(216, &[129]),
        Some(Damage::OutOfRange("store_key_len"))
    );
    assert_eq!(refused(4000, &[1]), Some(Damage::NotZero));
    for len in [0, 1, 4095] {
        let slot = superblock(64).encode(0, &key(1));
        let short = slot.get(..len).expect("a slot is longer");
        assert_eq!(Superblock::decode(short, 0), Err(Damage::Truncated));
    }
}

#[test]
fn a_segment_header_reads_back_and_no_flipped_bit_is_accepted() {
    let header = SegmentHeader {
        segment: SegmentId(u32::MAX),
        store_id: StoreId([9; 16]),
        slot_count: 256,
    };
    let mut slot = header.encode();
    assert_eq!(SegmentHeader::decode(&slot), Ok(header));
    for bit in 0..SLOT_LEN * 8 {
        flip(&mut slot, bit);
        assert!(SegmentHeader::decode(&slot).is_err(), "bit {bit}");
        flip(&mut slot, bit);
    }
    let refused = |offset: usize, bytes: &[u8]| {
        let mut slot = header.encode();
        let range = offset..offset + bytes.len();
        slot.get_mut(range)
            .expect("in the slot")
            .copy_from_slice(bytes);
        put_last_crc(&mut slot);
        SegmentHeader::decode(&slot).err()
    };
    assert_eq!(refused(7, b"X"), Some(Damage::BadMagic));
    assert_eq!(refused(8, &[1]), Some(Damage::BadVersion(1)));
    assert_eq!(refused(12, &[0; 4]), Some(Damage::OutOfRange("segment")));
    assert_eq!(refused(32, &[1]), Some(Damage::OutOfRange("root_id")));
    assert_eq!(refused(40, &[1]), Some(Damage::NotZero));
    assert_eq!(SegmentHeader::decode(&[]), Err(Damage::Truncated));
}

#[test]
fn a_segment_has_one_file_name() {
    for id in [1, 0xff, 0x8000_0000, u32::MAX].map(SegmentId) {
        assert_eq!(segment_of_file(&segment_file_name(id)), Some(id));
    }
    for name in [
        "segment-00000000",
        "segment-1",
        "segment-000000001",
        "segment-0000000A",
        "segment-",
        "segment-0000000g",
        "segment-+0000001",
        "xsegment-00000001",
        "segment-00000001.tmp",
        "",
    ] {
        assert_eq!(segment_of_file(name), None, "{name}");
    }
    assert_eq!(segment_file_name(SegmentId(255)), "segment-000000ff");
}

/// A batch with those records, and its chain value.
fn batch(records: &[u8], body_slots: u32) -> (BatchHeader, Vec<u8>, [u8; 32]) {
    let header = BatchHeader {
        seq: Seq(77),
        durable_through: Seq(70),
        at: AT,
        previous_end: SlotAddr {
            segment: SegmentId(2),
            slot: 64,
        },
        previous_chain: [0xB1; 32],
        salt: [0x5A; 12],
        body_slots,
    };
    let mut slots = vec![0; header_slots(records.len()) as usize * SLOT_LEN];
    let chain = header.encode(records, &mut slots, &key(1));
    (header, slots, chain)
}

#[test]
fn a_batch_with_every_record_reads_back_and_is_its_writers() {
    let mut encoded = Vec::new();
    let all = records::samples();
    all.iter().for_each(|record| record.encode(&mut encoded));
    let (header, slots, chain) = batch(&encoded, 6);
    let head = BatchHead::decode(&slots, AT, 50).expect("it was just encoded");
    assert_eq!(
        (head.header, head.chain, &head.records),
        (header, chain, &encoded)
    );
    let read: Result<Vec<_>, _> = Records::new(&head.records).collect();
    assert_eq!(read, Ok(all));
    assert!(head.is_authentic(&key(1)) && !head.is_authentic(&key(2)));
    assert_eq!(head.hash(), crate::crypto::hash(&slots));
    let header_slots = (slots.len() / SLOT_LEN) as u32;
    assert_eq!(
        head.body(),
        SlotAddr {
            slot: AT.slot + header_slots,
            ..AT
        }
    );
    assert_eq!(
        head.end(),
        SlotAddr {
            slot: AT.slot + header_slots + 6,
            ..AT
        }
    );
}

#[test]
fn header_slots_grow_at_the_edge_of_a_slot() {
    let room = SLOT_LEN - BATCH_HEADER_LEN;
    for (len, count) in [(0, 1), (room, 1), (room + 1, 2), (room + SLOT_LEN, 2)] {
        assert_eq!(header_slots(len), count);
        let records = vec![0x77; len];
        let (_, slots, _) = batch(&records, 0);
        let head = BatchHead::decode(&slots, AT, count).expect("it was just encoded");
        assert_eq!(head.records, records);
        assert_eq!(BatchHead::peek(&slots, AT, count), Ok(count));
    }
}

#[test]
fn no_flipped_bit_of_a_batch_is_accepted() {
    let mut encoded = Vec::new();
    records::samples()
        .iter()
        .for_each(|record| record.encode(&mut encoded));
    encoded.truncate(SLOT_LEN - BATCH_HEADER_LEN - 100);
    let (_, mut slots, _) = batch(&encoded, 6);
    assert_eq!(slots.len(), SLOT_LEN);
    for bit in 0..slots.len() * 8 {
        flip(&mut slots, bit);
        assert!(BatchHead::decode(&slots, AT, 50).is_err(), "bit {bit}");
        flip(&mut slots, bit);
    }
    // With the right checksum it decodes, but whoever has no log key made it.
    let mut authentic = 0;
    for bit in (96..slots.len() * 8).step_by(5) {
        let mut slots = slots.clone();
        flip(&mut slots, bit);
        let crc = slots.get(12..).map_or(0, crc32fast::hash).to_le_bytes();
        slots
            .get_mut(8..12)
            .expect("a slot is longer")
            .copy_from_slice(&crc);
        if let Ok(head) = BatchHead::decode(&slots, AT, 50) {
            authentic += u32::from(head.is_authentic(&key(1)));
        }
    }
    assert_eq!(authentic, 0);
}

#[test]
fn a_batch_of_another_place_or_too_long_for_it_is_refused() {
    let (_, slots, _) = batch(&[1; 5000], 6);
    let at = |segment, slot| SlotAddr {
        segment: SegmentId(segment),
        slot,
    };
    assert!(BatchHead::decode(&slots, AT, 8).is_ok());
    assert_eq!(
        BatchHead::peek(&slots, AT, 7),
        Err(Damage::OutOfRange("header_slots or body_slots"))
    );
    for other in [at(3, 6), at(2, 5)] {
        assert_eq!(
            BatchHead::peek(&slots, other, 50),
            Err(Damage::WrongIdentity)
        );
    }
    let part = |len: usize| slots.get(..len).expect("it has two slots");
    assert_eq!(
        BatchHead::decode(part(SLOT_LEN), AT, 50).err(),
        Some(Damage::Truncated)
    );
    assert_eq!(BatchHead::peek(part(100), AT, 50), Err(Damage::Truncated));
    assert_eq!(
        BatchHead::peek(&vec![0; SLOT_LEN], AT, 50),
        Err(Damage::BadMagic)
    );
}

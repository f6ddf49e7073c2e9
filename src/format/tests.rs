mod packs;
mod records;
mod scrub;
mod slots;

use zerocopy::IntoBytes;

use crate::crypto::hash;
use crate::error::Damage;
use crate::format::entry::{DataEntry, Entry};
use crate::format::node::{DiskNode, Items, LEVEL_MAX, NODE_ITEMS_MAX, NodeRef};
use crate::units::{KeyEpoch, PageNo, SLOT_LEN, SegmentId, SlotAddr};

fn data(number: u32) -> DataEntry {
    DataEntry {
        at: SlotAddr {
            segment: SegmentId(0x8000_0001),
            slot: 0xff_ffff - number,
        },
        key_epoch: KeyEpoch(u32::MAX - number),
        crc: 0xdead_0000 + number,
        nonce: [number as u8; 12],
        tag: [!(number as u8); 16],
    }
}

fn zero(key_epoch: u32) -> Entry {
    let key_epoch = KeyEpoch(key_epoch);
    Entry::Zero { key_epoch }
}

fn leaf(count: usize) -> DiskNode {
    let entry = |number| match number % 4 {
        0 => zero(number + 1),
        1 => Entry::Lost {
            key_epoch: KeyEpoch(number + 1),
        },
        _ => Entry::Data(data(number)),
    };
    let pages = (0..count as u32).map(|number| (PageNo(u64::from(number) << 40), entry(number)));
    DiskNode {
        key_epoch: KeyEpoch(5),
        items: Items::Leaf(pages.collect()),
    }
}

fn inner(level: u8, count: usize) -> DiskNode {
    let child = |number| NodeRef {
        at: data(number).at,
        level: level - 1,
        key_epoch: KeyEpoch(number + 1),
        hash: [number as u8; 32],
    };
    let children = (0..count as u32).map(|number| (PageNo(number.into()), child(number)));
    DiskNode {
        key_epoch: KeyEpoch(6),
        items: Items::Inner {
            level,
            children: children.collect(),
        },
    }
}

fn reference(node: &DiskNode, slot: &[u8]) -> NodeRef {
    NodeRef {
        at: data(1).at,
        level: node.level(),
        key_epoch: node.key_epoch,
        hash: hash(slot),
    }
}

#[test]
fn an_entry_reads_back() {
    for entry in [
        Entry::Data(data(0)),
        Entry::Data(data(9)),
        zero(1),
        zero(u32::MAX),
    ] {
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }
}

#[test]
fn an_entry_that_cannot_be_is_refused() {
    let refused = |change: fn(&mut DataEntry)| {
        let mut data = data(3);
        change(&mut data);
        Entry::decode(&Entry::Data(data).encode())
    };
    let slot = Err(Damage::OutOfRange("slot"));
    assert_eq!(refused(|data| data.at.slot = 0), slot);
    assert_eq!(refused(|data| data.at.segment.0 = 0), slot);
    let key_epoch = Err(Damage::OutOfRange("key_epoch"));
    assert_eq!(refused(|data| data.key_epoch.0 = 0), key_epoch);
    assert_eq!(Entry::decode(&zero(0).encode()), key_epoch);
    for flags in (0..=255).filter(|flags| !matches!(flags, 1 | 2 | 4)) {
        let mut disk = Entry::Data(data(3)).encode();
        disk.slot_flags = ((disk.slot_flags.get() & 0xff_ffff) | flags << 24).into();
        assert_eq!(Entry::decode(&disk), Err(Damage::OutOfRange("flags")));
    }
}

#[test]
fn an_explicit_zero_or_lost_page_has_nothing_but_its_key_epoch() {
    let lost = |key_epoch| Entry::Lost {
        key_epoch: KeyEpoch(key_epoch),
    };
    for entry in [zero as fn(u32) -> Entry, lost] {
        for index in 0..44_usize {
            let mut disk = entry(1).encode();
            if let Some(byte) = disk.as_mut_bytes().get_mut(index) {
                *byte ^= 0x10;
            }
            let read = Entry::decode(&disk);
            match index {
                7 => assert_eq!(read, Err(Damage::OutOfRange("flags"))),
                8..12 => assert_eq!(read, Ok(entry(1 ^ 0x10 << (8 * (index - 8))))),
                _ => assert_eq!(read, Err(Damage::NotZero), "byte {index}"),
            }
        }
    }
}

#[test]
fn a_node_reads_back() {
    for node in [
        leaf(1),
        leaf(NODE_ITEMS_MAX),
        inner(1, 1),
        inner(LEVEL_MAX, NODE_ITEMS_MAX),
    ] {
        let slot = node.encode();
        assert_eq!(slot.len(), SLOT_LEN);
        assert_eq!(
            DiskNode::decode(&slot, &reference(&node, &slot)),
            Ok(node.clone())
        );
        assert_eq!(DiskNode::decode_any(&slot), Ok(node));
    }
}

#[test]
fn no_flipped_bit_of_a_node_is_accepted() {
    for node in [leaf(40), inner(2, NODE_ITEMS_MAX)] {
        let mut slot = node.encode();
        let expect = reference(&node, &slot);
        for bit in 0..SLOT_LEN * 8 {
            let mask = 1 << (bit % 8);
            slot.get_mut(bit / 8)
                .into_iter()
                .for_each(|byte| *byte ^= mask);
            assert!(DiskNode::decode_any(&slot).is_err(), "bit {bit}");
            assert_eq!(
                DiskNode::decode(&slot, &expect),
                Err(Damage::BadHash),
                "bit {bit}"
            );
            slot.get_mut(bit / 8)
                .into_iter()
                .for_each(|byte| *byte ^= mask);
        }
        assert_eq!(DiskNode::decode(&slot, &expect), Ok(node));
    }
}

#[test]
fn a_sound_node_that_is_not_the_one_named_is_refused() {
    let node = inner(2, 3);
    let slot = node.encode();
    let named = reference(&node, &slot);
    let level = NodeRef { level: 3, ..named };
    let key_epoch = KeyEpoch(7);
    let later = NodeRef { key_epoch, ..named };
    assert_eq!(DiskNode::decode(&slot, &level), Err(Damage::WrongIdentity));
    assert_eq!(DiskNode::decode(&slot, &later), Err(Damage::WrongIdentity));
    let short = slot.get(..SLOT_LEN - 1).expect("a slot is longer");
    assert_eq!(DiskNode::decode_any(short), Err(Damage::Truncated));
    assert_eq!(DiskNode::decode_any(&[]), Err(Damage::Truncated));
}

#[test]
fn a_node_whose_checksum_is_right_is_still_checked() {
    let refused = |offset: usize, byte: u8| {
        let mut slot = inner(2, 3).encode();
        slot.get_mut(offset).into_iter().for_each(|at| *at = byte);
        let crc = slot.get(8..).map_or(0, crc32fast::hash).to_le_bytes();
        slot.get_mut(4..8)
            .expect("a slot is longer")
            .copy_from_slice(&crc);
        DiskNode::decode_any(&slot).err()
    };
    assert_eq!(refused(8, 1), Some(Damage::BadVersion(1)));
    assert_eq!(
        refused(10, LEVEL_MAX + 1),
        Some(Damage::OutOfRange("level"))
    );
    // Its children have level 1.
    assert_eq!(refused(10, 3), Some(Damage::OutOfRange("level")));
    assert_eq!(refused(11, 1), Some(Damage::NotZero));
    assert_eq!(refused(12, 0), Some(Damage::OutOfRange("item_count")));
    assert_eq!(refused(12, 79), Some(Damage::OutOfRange("item_count")));
    assert_eq!(refused(12, 2), Some(Damage::NotZero));
    assert_eq!(refused(14, 1), Some(Damage::NotZero));
    assert_eq!(refused(16, 0), Some(Damage::OutOfRange("key_epoch")));
    assert_eq!(refused(31, 1), Some(Damage::NotZero));
    assert_eq!(refused(32 + 3 * 52, 1), Some(Damage::NotZero));
    assert_eq!(refused(SLOT_LEN - 1, 1), Some(Damage::NotZero));
    let order = Some(Damage::Inconsistent("items are out of order"));
    assert_eq!(refused(32 + 52, 0), order);
    assert_eq!(refused(32, 2), order);
}

#[test]
fn bytes_are_zero_if_each_is() {
    for len in 0..200 {
        assert!(super::is_zero(&vec![0; len]), "{len}");
        assert!(len == 0 || !super::is_zero(&vec![7; len]));
        for other in 0..len {
            let bytes: Vec<u8> = (0..len).map(|at| u8::from(at == other)).collect();
            assert!(!super::is_zero(&bytes), "{len}, {other}");
        }
    }
}

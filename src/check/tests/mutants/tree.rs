//! Mutants of nodes and entries.

use crate::format::entry::Entry;
use crate::format::node::Items;
use crate::format::record::Record;
use crate::format::slots::{Bucket, SlotsPurpose, SlotsRecord};
use crate::units::{KeyEpoch, LineageEpoch, PageNo, SegmentId, SlotAddr};

use super::super::builder::Piece;
use super::{expect, expect_only, leaf, node, reference, tables};

/// Changes the bytes of a node and its own checksum.
fn bytes(at: &str, change: impl Fn(&mut [u8])) -> impl Fn(Piece<'_>) {
    move |piece| match piece {
        Piece::NodeBytes(name, slot) if name == at => {
            change(slot);
            let crc = crc32fast::hash(&slot[8..]);
            slot[4..8].copy_from_slice(&crc.to_le_bytes());
        }
        _ => {}
    }
}

fn data(entry: &mut Entry) -> &mut crate::format::entry::DataEntry {
    match entry {
        Entry::Data(data) => data,
        Entry::Zero { .. } | Entry::Lost { .. } => unreachable!(),
    }
}

fn slot(segment: u32, slot: u32) -> SlotAddr {
    SlotAddr {
        segment: SegmentId(segment),
        slot,
    }
}

#[test]
fn nodes_are_what_their_parents_name() {
    expect_only("OF-0501", reference("a", |r| r.hash[0] ^= 1));
    expect_only("OF-0501", reference("top", |r| r.hash[0] ^= 1));
    expect_only("OF-0502", reference("a", |r| r.key_epoch = KeyEpoch(1)));
    expect_only("OF-0502", reference("top", |r| r.level = 2));
    expect("OF-0502", reference("a", |r| r.level = 1));
}

#[test]
fn nodes_keep_the_rules_of_nodes() {
    expect_only("OF-0502", bytes("a", |slot| slot[0] = 0));
    expect_only("OF-0502", bytes("a", |slot| slot[8] = 1));
    expect_only("OF-0502", bytes("a", |slot| slot[12] = 0));
    expect_only("OF-0502", bytes("a", |slot| slot[12] = 79));
    expect_only("OF-0502", bytes("a", |slot| slot[12] = 2));
    expect_only("OF-0502", bytes("a", |slot| slot[4095] = 1));
    expect_only("OF-0502", leaf("a", |pages| pages.swap(0, 1)));
    expect_only("OF-0502", leaf("a", |pages| pages[1].0 = PageNo(0)));
    // Levels fall by one.
    expect_only(
        "OF-0502",
        node("top", |node| {
            if let Items::Inner { level, .. } = &mut node.items {
                *level = 3;
            }
        }),
    );
}

#[test]
fn ranges_of_nodes_nest() {
    let child = |index: usize, first: u64| {
        node("top", move |node| {
            if let Items::Inner { children, .. } = &mut node.items {
                children[index].0 = PageNo(first);
            }
        })
    };
    expect("OF-0503", child(1, 101));
    expect("OF-0503", child(1, 2));
    expect("OF-0503", child(0, 1));
    expect("OF-0503", leaf("a", |pages| pages[2].0 = PageNo(100)));
    // One child twice.
    expect(
        "OF-0503",
        node("top", |node| {
            if let Items::Inner { children, .. } = &mut node.items {
                children[1].1 = children[0].1;
            }
        }),
    );
}

#[test]
fn nodes_are_born_on_the_lineage_of_their_heads() {
    expect_only("OF-0504", node("top", |node| node.key_epoch = KeyEpoch(99)));
    // The root of the clone is of the other branch, or of the snapshot's future.
    expect("OF-0505", node("old", |node| node.key_epoch = KeyEpoch(2)));
    expect("OF-0505", node("top", |node| node.key_epoch = KeyEpoch(4)));
    expect("OF-0505", node("b", |node| node.key_epoch = KeyEpoch(6)));
    expect(
        "OF-0510",
        tables(|records| {
            super::head(records, 2).lineage = LineageEpoch(2);
            super::head(records, 1).lineage = LineageEpoch(3);
        }),
    );
}

#[test]
fn nothing_is_younger_than_the_node_above() {
    expect_only("OF-0506", node("a", |node| node.key_epoch = KeyEpoch(1)));
    expect_only("OF-0506", node("top", |node| node.key_epoch = KeyEpoch(1)));
    expect(
        "OF-0506",
        leaf("a", |pages| data(&mut pages[0].1).key_epoch = KeyEpoch(4)),
    );
}

#[test]
fn pages_lie_before_the_end() {
    expect("OF-0507", leaf("b", |pages| pages[0].0 = PageNo(3200)));
    expect("OF-0507", leaf("b", |pages| pages[0].0 = PageNo(u64::MAX)));
}

#[test]
fn entries_name_written_slots() {
    // Behind the end of the log in its segment, or of the segment, or in none.
    for at in [
        slot(1, 21),
        slot(1, 23),
        slot(1, 24),
        slot(1, (1 << 24) - 1),
    ] {
        expect_only(
            "OF-0508",
            leaf("a", move |pages| data(&mut pages[0].1).at = at),
        );
    }
    for at in [slot(2, 11), slot(3, 1), slot(u32::MAX, 1)] {
        expect_only(
            "OF-0508",
            leaf("a", move |pages| data(&mut pages[0].1).at = at),
        );
    }
    for at in [slot(1, 21), slot(2, 23), slot(9, 1)] {
        expect_only("OF-0515", reference("a", move |r| r.at = at));
    }
}

#[test]
fn entries_are_born_on_the_lineage_of_their_node() {
    expect(
        "OF-0509",
        leaf("a", |pages| data(&mut pages[0].1).key_epoch = KeyEpoch(99)),
    );
    expect(
        "OF-0510",
        leaf("a", |pages| data(&mut pages[1].1).key_epoch = KeyEpoch(3)),
    );
    expect(
        "OF-0510",
        leaf("a", |pages| {
            pages[2].1 = Entry::Zero {
                key_epoch: KeyEpoch(6),
            }
        }),
    );
}

#[test]
fn a_slot_is_one_thing() {
    // Two page numbers for one slot, and one slot under another tag.
    expect("OF-0511", leaf("a", |pages| pages[2].1 = pages[0].1));
    expect(
        "OF-0511",
        leaf("a", |pages| data(&mut pages[0].1).tag[0] ^= 1),
    );
    expect(
        "OF-0511",
        leaf("a", |pages| data(&mut pages[0].1).nonce[0] ^= 1),
    );
    // A table batch, a batch of the log, and nodes.
    for at in [
        slot(1, 18),
        slot(1, 20),
        slot(2, 4),
        slot(1, 16),
        slot(1, 7),
    ] {
        expect(
            "OF-0512",
            leaf("a", move |pages| data(&mut pages[0].1).at = at),
        );
    }
}

#[test]
fn pages_match_their_checksums() {
    expect("OF-0514", leaf("b", |pages| data(&mut pages[0].1).crc ^= 1));
}

#[test]
fn what_is_named_is_live() {
    let records = |t: &mut Vec<Record>, change: &dyn Fn(&mut SlotsRecord)| {
        for record in t {
            if let Record::Slots(slots) = record {
                change(slots);
            }
        }
    };
    expect(
        "OF-0516",
        tables(move |t| records(t, &|slots| slots.runs[0].1 = 1)),
    );
    expect(
        "OF-0516",
        tables(|t| t.retain(|r| !matches!(r, Record::Slots(_)))),
    );
}

#[test]
fn what_is_counted_is_there() {
    expect_only("OF-0419", tables(|t| super::head(t, 2).page_count += 1));
    expect_only(
        "OF-0519",
        tables(|t| super::key_epoch(t, 1).live_nodes -= 1),
    );
    expect_only("OF-0421", tables(|t| super::lineage(t, 2).changed = false));
}

#[test]
fn deadlists_have_live_items_born_above_them() {
    let dead = |lineage, key_epoch, segment, first| {
        Record::Slots(SlotsRecord {
            purpose: SlotsPurpose::DeadPages(Bucket {
                lineage: LineageEpoch(lineage),
                key_epoch: KeyEpoch(key_epoch),
            }),
            segment: SegmentId(segment),
            runs: vec![(first, 1)],
        })
    };
    super::expect_clean(tables(move |t| t.push(dead(2, 1, 1, 4))));
    expect_only("OF-0422", tables(move |t| t.push(dead(2, 1, 2, 4))));
    for (lineage, key_epoch, segment, first) in [
        (2, 1, 1, 7),
        (1, 1, 1, 4),
        (1, 2, 1, 4),
        (9, 1, 1, 4),
        (2, 9, 1, 4),
    ] {
        let record = move |t: &mut Vec<Record>| t.push(dead(lineage, key_epoch, segment, first));
        expect_only("OF-0418", tables(record));
    }
}

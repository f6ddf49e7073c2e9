//! Damage to the files of a store.

use crate::format::segment::segment_file_name;
use crate::io::sim::SimDisk;
use crate::io::{Access, Disk};
use crate::units::{SLOT_LEN, SegmentId};

use super::builder::Piece;
use super::{check, codes, report, store, store_with, thorough};
use crate::error::Error;
use crate::format::superblock::Geometry;

pub fn read_file(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

pub fn write_at(disk: &SimDisk, name: &str, offset: usize, bytes: &[u8]) {
    let file = disk.open(name, Access::ReadWrite).unwrap();
    file.write_all_at(bytes, offset as u64).unwrap();
}

/// Flips a bit of each byte of a slot of a segment.
pub fn ruin(disk: &SimDisk, segment: u32, slot: usize) {
    let name = segment_file_name(SegmentId(segment));
    let range = slot * SLOT_LEN..(slot + 1) * SLOT_LEN;
    let bytes: Vec<u8> = read_file(disk, &name)[range.clone()]
        .iter()
        .map(|b| b ^ 1)
        .collect();
    write_at(disk, &name, range.start, &bytes);
}

fn after(damage: impl FnOnce(&SimDisk)) -> Vec<&'static str> {
    let disk = store();
    damage(&disk);
    codes(&report(&disk))
}

#[test]
fn a_lost_copy_of_a_superblock_is_lost_redundancy() {
    let zeroes = [0; SLOT_LEN];
    // The newest, generation 1, is in slot 1.
    let newest = after(|disk| write_at(disk, "superblock-b", SLOT_LEN, &zeroes));
    assert_eq!(newest, ["OF-0102"]);
    let older = after(|disk| write_at(disk, "superblock-a", 0, &[1; SLOT_LEN]));
    assert_eq!(older, ["OF-0103"]);
    let file = after(|disk| disk.remove("superblock-a").unwrap());
    assert_eq!(file, ["OF-0102", "OF-0103"]);
}

#[test]
fn without_the_newest_superblock_the_older_one_and_the_log_give_the_same() {
    let disk = store();
    for name in ["superblock-a", "superblock-b"] {
        write_at(&disk, name, SLOT_LEN, &[1; SLOT_LEN]);
    }
    let old = report(&disk);
    assert_eq!(codes(&old), ["OF-0103"]);
    assert_eq!(old.stats.last_seq, report(&store()).stats.last_seq);
    assert_eq!(old.stats.volumes, 2);
}

#[test]
fn no_superblock_at_all_is_one_finding() {
    let none = after(|disk| {
        write_at(disk, "superblock-a", 0, &[1; 2 * SLOT_LEN]);
        write_at(disk, "superblock-b", 0, &[0; 2 * SLOT_LEN]);
    });
    assert_eq!(none, ["OF-0101"]);
}

#[test]
fn superblock_files_have_two_slots_each_of_one_parity() {
    let longer = after(|disk| write_at(disk, "superblock-a", 2 * SLOT_LEN, b"x"));
    assert_eq!(longer, ["OF-0108"]);
    let moved = after(|disk| {
        let slot = read_file(disk, "superblock-a")[SLOT_LEN..].to_vec();
        write_at(disk, "superblock-a", 0, &slot);
    });
    assert_eq!(moved, ["OF-0103", "OF-0105"]);
}

#[test]
fn a_newer_format_is_an_error_however_old_the_rest() {
    let disk = store();
    let mut slot = read_file(&disk, "superblock-b")[..SLOT_LEN].to_vec();
    slot[8] = 1;
    let crc = crc32fast::hash(&slot[..SLOT_LEN - 4]);
    slot[SLOT_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    write_at(&disk, "superblock-b", 0, &slot);
    let error = check(&disk, &thorough()).unwrap_err();
    assert!(matches!(error, Error::UnsupportedVersion { found: 1, .. }));
}

#[test]
fn files_that_do_not_belong_are_told_from_those_of_a_crash() {
    let foreign = after(|disk| drop(disk.create("notes", 5).unwrap()));
    assert_eq!(foreign, ["OF-0201"]);
    let disk = store();
    disk.create("segment-00000003.tmp", 5).unwrap();
    let report = report(&disk);
    assert!(report.is_clean());
    assert_eq!(report.stats.leftover_files, 1);
}

#[test]
fn segment_files_are_whole_and_have_their_header() {
    let longer = after(|disk| write_at(disk, "segment-00000002", 24 * SLOT_LEN, b"x"));
    assert_eq!(longer, ["OF-0203"]);
    let shorter = after(|disk| {
        let bytes = read_file(disk, "segment-00000002");
        disk.remove("segment-00000002").unwrap();
        disk.create("segment-00000002", 23 * SLOT_LEN as u64)
            .unwrap();
        write_at(disk, "segment-00000002", 0, &bytes[..23 * SLOT_LEN]);
    });
    assert_eq!(shorter, ["OF-0203"]);
    assert_eq!(after(|disk| ruin(disk, 2, 0)), ["OF-0204"]);
}

#[test]
fn a_segment_file_that_nothing_names_is_only_counted() {
    let disk = store();
    let mut bytes = read_file(&disk, "segment-00000002");
    bytes[SLOT_LEN..].fill(0);
    disk.create("segment-00000003", bytes.len() as u64).unwrap();
    write_at(&disk, "segment-00000003", 0, &bytes);
    // It still has the header of segment 2.
    let report = report(&disk);
    assert_eq!(codes(&report), ["OF-0205"]);
    assert_eq!(report.stats.unused_segments, 1);
}

#[test]
fn damage_to_a_durable_batch_is_not_a_torn_tail() {
    for (segment, slot, code) in [
        (1, 20, "OF-0301"), // batch 11
        (2, 1, "OF-0301"),  // batch 12
        (2, 7, "OF-0301"),  // batch 15
        (2, 2, "OF-0302"),  // a page of batch 12
        (2, 6, "OF-0303"),  // the node of batch 14
    ] {
        let found = after(|disk| ruin(disk, segment, slot));
        assert!(found.contains(&code), "{found:?} for slot {slot}");
    }
    assert_eq!(after(|disk| ruin(disk, 2, 2)), ["OF-0302"]);
}

#[test]
fn damage_behind_the_last_durable_batch_is_a_torn_tail() {
    for (slot, last) in [(8, 15), (9, 16), (10, 16)] {
        let disk = store();
        ruin(&disk, 2, slot);
        let report = report(&disk);
        // Batch 16 itself says that 15 was durable: without it that is not known.
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.stats.last_seq.0, last);
        assert_eq!(report.stats.torn_tail, slot != 9);
    }
}

#[test]
fn damage_to_what_the_older_superblock_needs_is_lost_redundancy() {
    for slot in [8, 9, 10, 11, 14] {
        assert_eq!(
            after(|disk| ruin(disk, 1, slot)),
            ["OF-0111"],
            "slot {slot}"
        );
    }
}

#[test]
fn damage_to_the_newest_tables_leaves_the_older_ones() {
    for slot in [18, 19] {
        let disk = store();
        ruin(&disk, 1, slot);
        let report = report(&disk);
        assert!(codes(&report).contains(&"OF-0401"), "{report}");
        assert!(report.stats.complete);
    }
}

#[test]
fn damage_to_nodes_and_pages_is_found() {
    for slot in [7, 15, 16, 17] {
        assert_eq!(
            after(|disk| ruin(disk, 1, slot)),
            ["OF-0501"],
            "slot {slot}"
        );
    }
    // Pages 0 and 2 of "db" as it was, and pages 1 and 100.
    for slot in [3, 5, 12, 13] {
        assert_eq!(
            after(|disk| ruin(disk, 1, slot)),
            ["OF-0514"],
            "slot {slot}"
        );
    }
    // Page 1 as it was: the clone has zeroes there by the log.
    assert!(after(|disk| ruin(disk, 1, 4)).is_empty());
}

/// A store whose tail has a header of a batch in each slot, as long as it is told for what is left. None of them decodes.
fn store_with_tail(segment_slots: u32, header_slots: impl Fn(u32) -> u32) -> SimDisk {
    let geometry = Geometry {
        page_len: 4096,
        segment_slots,
    };
    let disk = store_with(geometry, &|piece| {
        if let Piece::Segment(_) = piece {}
    });
    let name = "segment-00000002";
    let mut header = read_file(&disk, name)[9 * SLOT_LEN..9 * SLOT_LEN + 136].to_vec();
    for slot in 20..segment_slots {
        header[100..104].copy_from_slice(&slot.to_le_bytes());
        header[112..116].copy_from_slice(&header_slots(segment_slots - slot).to_le_bytes());
        header[116..120].fill(0);
        write_at(&disk, name, slot as usize * SLOT_LEN, &header);
    }
    disk
}

#[test]
fn a_tail_full_of_what_looks_like_batches_is_given_up_in_time() {
    let disk = store_with_tail(400, |left| left);
    assert_eq!(codes(&report(&disk)), ["OF-0310"]);
}

#[test]
fn a_tail_full_of_short_batches_is_looked_at_to_its_end() {
    let disk = store_with_tail(3000, |_| 1);
    assert!(report(&disk).is_clean(), "{}", report(&disk));
}

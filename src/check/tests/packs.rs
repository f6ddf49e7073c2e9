//! Packed files, and what can be wrong with them. The segments in them are of no page table: what
//! is read from packs is tested where they are made, with the store.

use crate::check::{CheckOptions, inspect};
use crate::format::pack::{PackIndex, PackPart, PackRecord, pack_file_name};
use crate::format::record::Record;
use crate::io::Disk;
use crate::io::sim::SimDisk;
use crate::units::{PackId, SLOT_LEN, SegmentId, StoreId};

use super::builder::{Piece, STORE};
use super::{SMALL, check, codes, report, store_with};

fn index() -> PackIndex {
    let part = |segment, run| PackPart {
        segment: SegmentId(segment),
        runs: vec![run],
    };
    PackIndex {
        pack: PackId(5),
        store_id: STORE,
        segment_slots: SMALL.segment_slots,
        parts: vec![part(8, 1..3), part(9, 20..24)],
    }
}

/// A store whose tables name a pack.
fn store(record: &PackRecord, in_log: bool) -> SimDisk {
    let record = Record::Pack(Box::new(record.clone()));
    store_with(SMALL, &move |piece| match piece {
        Piece::Tables(records) if !in_log => records.push(record.clone()),
        Piece::Batch {
            seq: 13, records, ..
        } if in_log => records.insert(0, record.clone()),
        _ => {}
    })
}

fn put(disk: &SimDisk, index: &PackIndex, slots: u32) {
    let len = u64::from(slots) * SLOT_LEN as u64;
    let file = disk.create(&pack_file_name(index.pack), len).unwrap();
    file.write_all_at(&index.encode(), 0).unwrap();
}

fn codes_of(record: &PackRecord, index: &PackIndex, slots: u32) -> Vec<&'static str> {
    let disk = store(record, false);
    put(&disk, index, slots);
    codes(&report(&disk))
}

#[test]
fn a_pack_that_tables_or_log_name_is_clean() {
    for in_log in [false, true] {
        let (index, record) = (index(), index().record());
        let disk = store(&record, in_log);
        put(&disk, &index, record.slot_count);
        let report = report(&disk);
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.stats.packs, report.stats.leftover_files), (1, 0));
        // Nothing in it is in use, so it may be gone, too.
        disk.remove(&pack_file_name(index.pack)).unwrap();
        let report = check(&disk, &CheckOptions::new()).unwrap();
        assert!(report.is_clean(), "{report}");
    }
}

#[test]
fn a_pack_that_nothing_names_is_what_a_crash_left() {
    let disk = super::store();
    put(&disk, &index(), 7);
    let report = report(&disk);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.stats.leftover_files, 1);
}

#[test]
fn each_thing_that_is_wrong_with_a_pack_has_its_code() {
    let (good, record) = (index(), index().record());
    assert_eq!(codes_of(&record, &good, 7), [""; 0]);
    // The rest of a file made from one of a segment's length means nothing.
    assert_eq!(codes_of(&record, &good, SMALL.segment_slots), [""; 0]);
    assert_eq!(codes_of(&record, &good, 6), ["OF-0209"]);
    let longer = SMALL.segment_slots + 1;
    assert_eq!(codes_of(&record, &good, longer), ["OF-0209"]);
    let mut other = index();
    other.parts[0].runs[0] = 2..4;
    assert_eq!(codes_of(&record, &other, 7), ["OF-0208"]);
    other = index();
    other.store_id = StoreId([9; 16]);
    assert_eq!(codes_of(&other.record(), &other, 7), ["OF-0211"]);
    other = index();
    other.segment_slots += 1;
    assert_eq!(codes_of(&other.record(), &other, 7), ["OF-0211"]);
    let mut wrong = record.clone();
    wrong.slot_count = SMALL.segment_slots + 1;
    let disk = store(&wrong, false);
    assert_eq!(codes(&report(&disk)), ["OF-0210"]);
    let disk = store(&record, false);
    put(&disk, &good, 7);
    for offset in [0, 9, 45, 70, 4000] {
        let disk = disk.machine().kill().dir("store");
        let name = pack_file_name(good.pack);
        super::damage::write_at(&disk, &name, offset, &[0x77]);
        assert_eq!(codes(&report(&disk)), ["OF-0208"], "byte {offset}");
    }
}

#[test]
fn the_record_of_a_pack_is_the_first_of_its_batch() {
    let record = Record::Pack(Box::new(index().record()));
    let disk = store_with(SMALL, &move |piece| {
        if let Piece::Batch {
            seq: 13, records, ..
        } = piece
        {
            records.push(record.clone());
        }
    });
    put(&disk, &index(), 7);
    assert_eq!(codes(&report(&disk)), ["OF-0308"]);
    let twice = store_with(SMALL, &|piece| {
        if let Piece::Tables(records) = piece {
            let record = Record::Pack(Box::new(index().record()));
            records.extend([record.clone(), record]);
        }
    });
    put(&twice, &index(), 7);
    assert_eq!(codes(&report(&twice)), ["OF-0404"]);
}

#[test]
fn a_pack_is_shown_for_its_number_and_for_its_segments() {
    let disk = store(&index().record(), false);
    put(&disk, &index(), 7);
    let view = inspect::packs(&disk).unwrap();
    let [pack] = &view[..] else {
        panic!("{view:?}");
    };
    assert_eq!((pack.pack, pack.store_id), (PackId(5), STORE));
    assert_eq!((pack.slot_count, pack.index_slots), (7, 1));
    let parts = pack.parts.iter().map(|part| (part.segment.0, part.slots));
    assert_eq!(parts.collect::<Vec<_>>(), [(8, 2), (9, 4)]);
    assert_eq!(pack.problem, None);
}

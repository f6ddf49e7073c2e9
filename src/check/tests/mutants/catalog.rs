//! Mutants of tables and of what they say.

use crate::format::catalog::{RootSource, SaltRecord, SegmentRecord};
use crate::format::record::Record;
use crate::units::{HeadId, KeyEpoch, LineageEpoch, SegmentId};

use super::super::builder::{Piece, range};
use super::super::{report, store_with};
use super::{
    SMALL, batch, codes, expect, expect_clean, expect_only, head, key_epoch, lineage, tables,
};

#[test]
fn parts_of_tables_are_in_order() {
    let link = |wanted: u32, change: u32| {
        move |piece: Piece<'_>| match piece {
            Piece::Link(part, _) if *part == wanted => *part = change,
            _ => {}
        }
    };
    expect("OF-0402", link(1, 2));
    expect("OF-0402", link(1, 0));
    expect("OF-0402", link(0, 1));
    expect("OF-0402", link(0, u32::MAX));
    expect("OF-0402", |piece| {
        if let Piece::Link(1, previous) = piece {
            *previous = None;
        }
    });
    expect("OF-0402", batch(10, |records| drop(records.remove(0))));
    expect("OF-0401", |piece| {
        if let Piece::Link(1, previous) = piece {
            previous.as_mut().unwrap().hash[0] ^= 1;
        }
    });
}

#[test]
fn tables_hold_only_what_they_can() {
    expect("OF-0403", tables(|t| head(t, 1).root = RootSource::Keep));
    expect(
        "OF-0403",
        tables(|t| head(t, 2).root = RootSource::CopyOf(HeadId(1))),
    );
    expect(
        "OF-0403",
        tables(|t| t.push(Record::Discard(range(1, 1, 0, 1)))),
    );
    expect("OF-0403", tables(|t| t.push(Record::Nodes(vec![]))));
    // A parent must have a lesser number, so there are no cycles.
    expect(
        "OF-0403",
        tables(|t| lineage(t, 2).parent = Some(LineageEpoch(3))),
    );
    expect(
        "OF-0403",
        tables(|t| lineage(t, 3).parent = Some(LineageEpoch(3))),
    );
    expect(
        "OF-0403",
        tables(|t| key_epoch(t, 2).above.as_mut().unwrap().to = KeyEpoch(2)),
    );
    expect("OF-0403", |piece| {
        if let Piece::Batch {
            seq: 10, header, ..
        } = piece
        {
            header.body_slots = 1;
        }
    });
}

#[test]
fn ids_are_there_once() {
    let count = 9;
    for index in 0..count {
        let twice = move |records: &mut Vec<Record>| {
            // Beside the first, or the tables would name another one last.
            let again = records[index].clone();
            records.insert(index, again);
        };
        let report = report(&store_with(SMALL, &tables(twice)));
        let codes = codes(&report);
        // What is counted twice is counted.
        let more = codes.iter().filter(|code| **code != "OF-0519");
        assert!(more.eq(&["OF-0404"]), "record {index}: {report}");
    }
}

#[test]
fn names_and_resource_ids_are_unique() {
    expect_only(
        "OF-0405",
        tables(|t| head(t, 2).resource_id = head(t, 1).resource_id),
    );
    expect(
        "OF-0405",
        batch(16, |t| {
            // Even of one that is deleted.
            head(t, 4).resource_id = crate::units::ResourceId([1; 16]);
        }),
    );
    expect_only("OF-0406", tables(|t| head(t, 2).name = "db".to_owned()));
    // A snapshot may have a volume's name, and a deleted volume's name is free.
    super::expect_clean(batch(11, |t| head(t, 3).name = "db".to_owned()));
    super::expect_clean(batch(16, |t| head(t, 4).name = "db".to_owned()));
}

#[test]
fn epochs_of_heads_exist_and_belong_to_them() {
    expect("OF-0407", tables(|t| head(t, 2).lineage = LineageEpoch(99)));
    expect("OF-0408", tables(|t| head(t, 2).key_epoch = KeyEpoch(99)));
    expect("OF-0409", tables(|t| head(t, 2).key_epoch = KeyEpoch(2)));
    expect(
        "OF-0505",
        batch(11, |t| {
            head(t, 1).lineage = LineageEpoch(3);
            head(t, 1).key_epoch = KeyEpoch(3);
        }),
    );
}

#[test]
fn heads_have_numbers_and_whole_pages() {
    expect_only("OF-0410", tables(|t| head(t, 2).len += 1));
    expect("OF-0410", tables(|t| head(t, 2).head = HeadId(0)));
    expect_only("OF-0507", tables(|t| head(t, 2).len = 2 << 12));
}

#[test]
fn lineage_epochs_have_their_parents() {
    expect(
        "OF-0411",
        tables(|t| {
            t.retain(|r| !matches!(r, Record::Lineage(l) if l.lineage == LineageEpoch(1)));
        }),
    );
    // Then also the key epoch that maps to it is wrong.
    expect(
        "OF-0415",
        tables(|t| {
            t.retain(|r| !matches!(r, Record::Lineage(l) if l.lineage == LineageEpoch(1)));
        }),
    );
}

#[test]
fn key_epochs_have_what_they_link() {
    expect(
        "OF-0412",
        tables(|t| {
            t.retain(|r| !matches!(r, Record::KeyEpoch(k) if k.key_epoch == KeyEpoch(1)));
        }),
    );
    expect("OF-0413", tables(|t| key_epoch(t, 3).depth = 0));
    // Those between may have been dropped.
    expect_clean(tables(|t| key_epoch(t, 3).depth = u32::MAX));
    expect(
        "OF-0415",
        tables(|t| key_epoch(t, 3).lineage = LineageEpoch(99)),
    );
    expect_only(
        "OF-0416",
        tables(|t| {
            let epoch = key_epoch(t, 3);
            epoch.above.as_mut().unwrap().to = KeyEpoch(2);
            epoch.depth = 2;
        }),
    );
}

#[test]
fn segments_and_salts_are_recorded_as_they_are() {
    let segment = |segment: u32, slot_count| {
        Record::Segment(SegmentRecord {
            segment: SegmentId(segment),
            slot_count,
        })
    };
    expect_only("OF-0202", tables(|t| t.push(segment(9, 24))));
    expect_only("OF-0206", tables(|t| t[0] = segment(1, 23)));
    expect("OF-0206", tables(|t| t.push(segment(0, 24))));
    let salt = |segment: u32, first_slot| {
        Record::Salt(SaltRecord {
            segment: SegmentId(segment),
            first_slot,
            salt: [1; 12],
        })
    };
    expect_only("OF-0417", tables(|t| t.push(salt(9, 1))));
    expect_only("OF-0417", tables(|t| t.push(salt(1, 0))));
    expect_only("OF-0417", tables(|t| t.push(salt(1, 24))));
    // Without its record pages have no salt; those of the log have that of their batch.
    expect_only("OF-0513", tables(|t| drop(t.remove(1))));
    expect_only("OF-0513", tables(|t| t[1] = salt(1, 4)));
}

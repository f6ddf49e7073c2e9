//! Mutants of log batches.

use crate::crypto::Secret;
use crate::format::batch::BatchHeader;
use crate::format::catalog::{KeyLink, RootSource, SaltRecord};
use crate::format::node::NodeRef;
use crate::format::record::{PageDelta, PageRun, Record};
use crate::format::summary::{Summary, SummaryBatch};
use crate::format::superblock::Position;
use crate::units::{HeadId, KeyEpoch, PageNo, SegmentId, Seq, SlotAddr};

use super::super::builder::Piece;
use super::super::builder::range;
use super::{batch, expect, expect_clean, expect_only, head, key_epoch};

fn header(at: u64, change: impl Fn(&mut BatchHeader)) -> impl Fn(Piece<'_>) {
    move |piece| match piece {
        Piece::Batch { seq, header, .. } if seq == at => change(header),
        _ => {}
    }
}

fn delta(at: u64, change: impl Fn(&mut PageDelta)) -> impl Fn(Piece<'_>) {
    batch(at, move |records| {
        for record in records {
            if let Record::Pages { deltas, .. } = record {
                change(deltas.first_mut().unwrap());
            }
        }
    })
}

#[test]
fn batches_fit_the_one_before() {
    for at in [11, 12, 15] {
        expect("OF-0301", header(at, |h| h.previous_chain[5] ^= 1));
        expect("OF-0301", header(at, |h| h.previous_end.slot -= 1));
        expect("OF-0301", header(at, |h| h.seq.0 += 1));
        expect("OF-0301", header(at, |h| h.seq.0 -= 1));
    }
    for at in [6, 7, 10] {
        expect("OF-0111", header(at, |h| h.previous_chain[5] ^= 1));
        expect("OF-0111", header(at, |h| h.seq.0 += 1));
    }
}

#[test]
fn a_batch_that_says_durable_witnesses_those_before() {
    // The last but one is witness for 15 no more, so all of the log is just shorter.
    expect_clean(header(17, |h| h.seq.0 += 1));
    expect("OF-0301", |piece| match piece {
        Piece::Batch {
            seq: 16, header, ..
        } => header.previous_chain = [1; 32],
        Piece::Batch {
            seq: 17, header, ..
        } => header.durable_through = Seq(16),
        _ => {}
    });
}

#[test]
fn batches_are_written_under_the_store_key() {
    for at in [11, 14, 17] {
        expect("OF-0304", move |piece| match piece {
            Piece::Batch { seq, key, .. } if seq == at => *key = Secret::from_bytes([1; 32]),
            _ => {}
        });
    }
}

#[test]
fn records_account_for_the_body() {
    expect("OF-0305", delta(12, |delta| delta.entry.at.slot += 1));
    expect("OF-0305", delta(12, |delta| delta.entry.at.segment.0 += 1));
    expect("OF-0305", batch(12, |records| records.truncate(1)));
    expect("OF-0305", header(14, |h| h.body_slots = 0));
    expect("OF-0305", |piece| {
        if let Piece::RecordBytes(13, bytes) = piece {
            bytes[0] = 11;
        }
    });
    // Pages and nodes in one body.
    expect(
        "OF-0305",
        batch(12, |records| {
            if let Record::Pages { deltas, .. } = &mut records[1] {
                let last = deltas.pop().unwrap();
                records.push(Record::Nodes(vec![last.entry.crc]));
            }
        }),
    );
}

#[test]
fn summaries_say_what_the_batches_say() {
    let summary = |chain| {
        batch(15, move |records| {
            let item = SummaryBatch {
                slot: 1,
                header_slots: 1,
                body_slots: 0,
                salt: [0; 12],
                chain,
                records: Vec::new(),
            };
            let summary = Summary {
                segment: SegmentId(1),
                before: Position::default(),
                batches: vec![item],
            };
            records.insert(0, Record::Summary(Box::new(summary)));
        })
    };
    expect_only("OF-0311", summary([1; 32]));
}

#[test]
fn checksums_in_the_log_are_those_of_the_body() {
    expect("OF-0302", delta(12, |delta| delta.entry.crc ^= 1));
    expect_only(
        "OF-0303",
        batch(14, |records| {
            records[0] = Record::Nodes(vec![0]);
        }),
    );
}

#[test]
fn no_batch_was_durable_before_it_was_there() {
    expect_only("OF-0306", header(13, |h| h.durable_through = Seq(13)));
    expect_only("OF-0306", header(13, |h| h.durable_through = Seq(u64::MAX)));
}

#[test]
fn records_change_heads_that_exist() {
    expect(
        "OF-0307",
        batch(12, |records| {
            if let Record::Pages { head, .. } = &mut records[1] {
                *head = HeadId(77);
            }
        }),
    );
    let replaced = |record: fn() -> Record| batch(13, move |records| records[0] = record());
    expect("OF-0307", replaced(|| Record::Zeroes(range(77, 3, 0, 2))));
    expect("OF-0307", replaced(|| Record::Discard(range(77, 3, 0, 2))));
    expect(
        "OF-0307",
        batch(16, |records| head(records, 4).head = HeadId(5)),
    );
    expect(
        "OF-0307",
        batch(11, |records| {
            head(records, 3).root = RootSource::CopyOf(HeadId(9));
        }),
    );
}

#[test]
fn records_of_tables_are_not_in_the_log() {
    expect_only(
        "OF-0308",
        batch(13, |records| {
            records.push(Record::Salt(SaltRecord {
                segment: SegmentId(1),
                first_slot: 1,
                salt: [1; 12],
            }));
        }),
    );
    expect_only(
        "OF-0308",
        batch(13, |records| {
            records.push(Record::Table {
                part: 0,
                previous: None,
            });
        }),
    );
    expect(
        "OF-0308",
        batch(15, |records| {
            head(records, 4).root = RootSource::Node(NodeRef {
                at: SlotAddr {
                    segment: SegmentId(1),
                    slot: 7,
                },
                level: 0,
                key_epoch: KeyEpoch(1),
                hash: [0; 32],
            });
        }),
    );
}

#[test]
fn deltas_say_what_was_there() {
    expect_only("OF-0309", delta(12, |delta| delta.old_at = None));
    expect_only(
        "OF-0309",
        delta(12, |d| d.old_at.as_mut().unwrap().slot += 1),
    );
    expect_only(
        "OF-0309",
        delta(12, |d| d.old_key_epoch = Some(KeyEpoch(2))),
    );
    expect_only("OF-0309", delta(12, |d| d.old_key_epoch = None));
    expect_only(
        "OF-0309",
        delta(17, |d| d.old_key_epoch = Some(KeyEpoch(2))),
    );
}

#[test]
fn the_log_knows_its_segments() {
    expect_clean(batch(12, |records| drop(records.remove(0))));
    expect(
        "OF-0206",
        batch(12, |records| {
            if let Record::Segment(segment) = &mut records[0] {
                segment.slot_count = 7;
            }
        }),
    );
}

#[test]
fn pages_of_the_log_lie_in_their_head_and_its_lineage() {
    expect_only("OF-0507", delta(17, |delta| delta.page = PageNo(3200)));
    expect(
        "OF-0509",
        delta(12, |delta| delta.entry.key_epoch = KeyEpoch(99)),
    );
    expect(
        "OF-0510",
        delta(12, |delta| delta.entry.key_epoch = KeyEpoch(5)),
    );
    expect(
        "OF-0510",
        delta(12, |delta| delta.entry.key_epoch = KeyEpoch(3)),
    );
    // Two branches in one overlay.
    expect(
        "OF-0510",
        batch(12, |records| {
            if let Record::Pages { deltas, .. } = &mut records[1] {
                deltas[0].entry.key_epoch = KeyEpoch(6);
            }
        }),
    );
    expect(
        "OF-0507",
        batch(13, |records| {
            records[0] = Record::Zeroes(range(2, 3, 3199, 2));
        }),
    );
    expect(
        "OF-0509",
        batch(13, |records| {
            records[0] = Record::Zeroes(range(2, 98, 0, 2));
        }),
    );
    expect_clean(batch(13, |records| {
        records[0] = Record::Zeroes(range(2, 3, 3199, 1));
    }));
}

#[test]
fn a_head_that_became_shorter_has_let_go_of_the_rest() {
    let shorter = |discard: bool| {
        batch(13, move |records| {
            let mut db = super::super::builder::head(
                1,
                crate::format::catalog::HeadKind::Volume,
                "db",
                RootSource::Keep,
                4,
            );
            db.len = 50 << 12;
            records[1] = Record::Head(Box::new(db));
            if discard {
                let mut rest = range(1, 4, 50, 1 << 40);
                rest.gone.push(PageRun {
                    at: SlotAddr {
                        segment: SegmentId(1),
                        slot: 13,
                    },
                    count: 1,
                    key_epoch: KeyEpoch(2),
                });
                records.push(Record::Discard(rest));
            }
        })
    };
    expect_clean(shorter(true));
    expect_only("OF-0507", shorter(false));
}

#[test]
fn key_epochs_of_the_log_fit_the_catalog() {
    expect_only(
        "OF-0414",
        batch(11, |records| {
            key_epoch(records, 5).far.as_mut().unwrap().to = KeyEpoch(3);
        }),
    );
    expect(
        "OF-0412",
        batch(15, |records| {
            let wrapped = [2; crate::crypto::WRAPPED_LEN];
            let epoch = key_epoch(records, 6);
            epoch.key_epoch = KeyEpoch(8);
            epoch.far = Some(KeyLink {
                to: KeyEpoch(7),
                wrapped,
            });
        }),
    );
    // The snapshot would open what the clone writes after the branch.
    expect(
        "OF-0416",
        batch(11, |records| {
            key_epoch(records, 5).above.as_mut().unwrap().to = KeyEpoch(3);
        }),
    );
}

#[test]
fn heads_of_the_log_stay_what_they_are_and_branch_off_what_they_copy() {
    expect(
        "OF-0312",
        batch(11, |records| {
            head(records, 3).root = RootSource::CopyOf(HeadId(2));
        }),
    );
    expect(
        "OF-0312",
        batch(11, |records| head(records, 3).root = RootSource::Empty),
    );
    expect_only(
        "OF-0313",
        batch(11, |records| head(records, 1).created_at_ms += 1),
    );
    expect_only("OF-0306", header(17, |h| h.durable_through = Seq(9)));
}

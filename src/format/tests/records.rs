//! Records: each kind reads back, and what cannot be is refused whatever surrounds it.

use crate::crypto::WRAPPED_LEN;
use crate::error::Damage;
use crate::format::catalog::{
    HeadKind, HeadRecord, HeadState, KeyEpochRecord, KeyLink, LineageRecord, NAME_LEN_MAX,
    RootSource, SaltRecord, SegmentRecord,
};
use crate::format::entry::DataEntry;
use crate::format::node::{LEVEL_MAX, NodeRef};
use crate::format::quota::Quota;
use crate::format::record::{PageDelta, PageRange, PageRun, Record, Records};
use crate::format::slots::{Bucket, SlotsPurpose, SlotsRecord};
use crate::format::summary::{Summary, SummaryBatch};
use crate::format::superblock::{Position, TableRef};
use crate::format::tests::data;
use crate::units::{
    HeadId, HeadKeyId, KeyEpoch, KeyId, LineageEpoch, PageNo, ResourceId, SegmentId, Seq, SlotAddr,
};

const HEADER_LEN: usize = 8;

fn head(root: RootSource, name: &str) -> HeadRecord {
    HeadRecord {
        head: HeadId(5),
        kind: HeadKind::Volume,
        automated: false,
        protected: false,
        state: HeadState::Available,
        root,
        lineage: LineageEpoch(6),
        key_epoch: KeyEpoch(7),
        resource_id: ResourceId([1; 16]),
        origin_id: Some(ResourceId([2; 16])),
        group_id: None,
        owner: 123_456_789_012,
        created_at_ms: u64::MAX,
        len: 1 << 62,
        kms_key: KeyId([3; 16]),
        head_key: HeadKeyId([4; 16]),
        wrapped_key: [5; WRAPPED_LEN],
        page_count: 1 << 40,
        name: name.to_owned(),
    }
}

fn key_epoch(above: Option<u32>, far: Option<u32>) -> KeyEpochRecord {
    let link = |to| KeyLink {
        to: KeyEpoch(to),
        wrapped: [to as u8; WRAPPED_LEN],
    };
    KeyEpochRecord {
        key_epoch: KeyEpoch(100),
        lineage: LineageEpoch(50),
        depth: 9,
        random_id: [6; 16],
        commitment: [7; 32],
        above: above.map(link),
        far: far.map(link),
        live_pages: 1 << 33,
        live_nodes: 1 << 34,
    }
}

fn delta(page: u64, old_at: Option<SlotAddr>, old_key_epoch: Option<u32>) -> PageDelta {
    let old_key_epoch = old_key_epoch.map(KeyEpoch);
    PageDelta {
        page: PageNo(page),
        entry: data((page % 100) as u32),
        old_at,
        old_key_epoch,
    }
}

fn lineage(lineage: u32, parent: u32, changed: bool) -> Record {
    let parent = (parent != 0).then_some(LineageEpoch(parent));
    Record::Lineage(LineageRecord {
        lineage: LineageEpoch(lineage),
        parent,
        changed,
        beside: None,
    })
}

fn beside(lineage: u32, sibling: u32) -> Record {
    Record::Lineage(LineageRecord {
        lineage: LineageEpoch(lineage),
        parent: None,
        changed: false,
        beside: Some(LineageEpoch(sibling)),
    })
}

fn slots(purpose: SlotsPurpose, runs: &[(u32, u32)]) -> Record {
    Record::Slots(SlotsRecord {
        purpose,
        segment: SegmentId(77),
        runs: runs.to_vec(),
    })
}

fn summary(count: u32) -> Record {
    let batches = (1..=count).map(|number| SummaryBatch {
        slot: number * 10,
        header_slots: number,
        body_slots: 10 - number,
        salt: [number as u8; 12],
        chain: [number as u8; 32],
        records: vec![7; number as usize - 1],
    });
    let before = Position {
        seq: Seq(1 << 40),
        chain: [4; 32],
        end: data(1).at,
    };
    Record::Summary(Box::new(Summary {
        segment: SegmentId(8),
        before,
        batches: batches.collect(),
    }))
}

#[test]
fn a_summary_that_cannot_be_is_refused() {
    let record = summary(2);
    // Count, reserved, the first item's slot, its header slots, its reserved bytes.
    assert_eq!(refused(&record, 4, 3), Some(Damage::OutOfRange("count")));
    assert_eq!(refused(&record, 56, 1), Some(Damage::NotZero));
    let overlap = Some(Damage::Inconsistent(
        "the batches of a summary do not follow each other",
    ));
    for (offset, byte) in [(64, 0), (64, 18), (68, 0), (72, 20)] {
        assert_eq!(refused(&record, offset, byte), overlap, "{offset}");
    }
    assert_eq!(refused(&record, 64 + 28, 1), Some(Damage::NotZero));
    assert_eq!(
        refused(&record, 76, 2),
        Some(Damage::OutOfRange("records_len"))
    );
    assert_eq!(
        refused(&record, 128 + 12, 0),
        Some(Damage::NotZero),
        "bytes left over"
    );
}

/// Records of every kind, and of every form that a kind has.
pub(super) fn samples() -> Vec<Record> {
    let at = data(1).at;
    let range = PageRange {
        head: HeadId(u32::MAX),
        key_epoch: KeyEpoch(1),
        first: PageNo(1 << 50),
        count: u64::MAX >> 13,
        gone: Vec::new(),
    };
    let run = PageRun {
        at: SlotAddr { slot: 9, ..at },
        count: 3,
        key_epoch: KeyEpoch(u32::MAX),
    };
    let bucket = Bucket {
        lineage: LineageEpoch(9),
        key_epoch: KeyEpoch(8),
    };
    let every_other: Vec<_> = (50..400).map(|number| (number * 2, 1)).collect();
    let node = NodeRef {
        at,
        level: LEVEL_MAX,
        key_epoch: KeyEpoch(3),
        hash: [8; 32],
    };
    let deltas = vec![
        delta(1, None, None),
        delta(2, Some(at), Some(4)),
        delta(u64::MAX, None, Some(u32::MAX)),
    ];
    let mut samples = vec![
        Record::Pages {
            head: HeadId(1),
            deltas,
        },
        Record::Pages {
            head: HeadId(1),
            deltas: Vec::new(),
        },
        Record::Zeroes(range.clone()),
        Record::Discard(PageRange {
            gone: vec![run, run],
            ..range.clone()
        }),
        Record::Lost(PageRange {
            gone: vec![run],
            ..range.clone()
        }),
        Record::Discard(range),
        slots(SlotsPurpose::Live, &[(1, 16_000)]),
        slots(SlotsPurpose::DeadPages(bucket), &every_other),
        slots(
            SlotsPurpose::DeadNodes(bucket),
            &[(1, 1), (3, (1 << 24) - 3)],
        ),
        beside(5, 4),
        Record::Nodes(vec![0, 1, u32::MAX]),
        Record::Nodes(Vec::new()),
        lineage(1, 0, false),
        lineage(u32::MAX, u32::MAX - 1, true),
        Record::KeyEpoch(Box::new(key_epoch(None, None))),
        Record::KeyEpoch(Box::new(key_epoch(Some(99), None))),
        Record::KeyEpoch(Box::new(key_epoch(Some(99), Some(1)))),
        Record::Segment(SegmentRecord {
            segment: SegmentId(1),
            slot_count: 256,
        }),
        Record::Salt(SaltRecord {
            segment: SegmentId(2),
            first_slot: 3,
            salt: [9; 12],
        }),
        Record::Table {
            part: 0,
            previous: None,
        },
        Record::Table {
            part: 7,
            previous: Some(TableRef { at, hash: [10; 32] }),
        },
        summary(0),
        summary(3),
    ];
    let long = "n".repeat(NAME_LEN_MAX);
    for (root, name) in [
        (RootSource::Keep, "a"),
        (RootSource::CopyOf(HeadId(4)), "b-c"),
        (RootSource::Empty, &long),
        (RootSource::Node(node), "d"),
    ] {
        samples.push(Record::Head(Box::new(head(root, name))));
    }
    for state in [
        HeadState::Deleted,
        HeadState::ImportingNew,
        HeadState::Importing,
        HeadState::ImportFailed,
    ] {
        let kind = HeadKind::Snapshot;
        let group_id = Some(ResourceId([11; 16]));
        let record = HeadRecord {
            kind,
            automated: state == HeadState::Deleted,
            state,
            group_id,
            ..head(RootSource::Keep, "s")
        };
        samples.push(Record::Head(Box::new(record)));
    }
    samples.push(Record::Quota(Quota::default()));
    samples.push(Record::Quota(Quota {
        bytes: Some(1 << 40),
        heads: Some(7),
        keep_free: Some(9),
    }));
    samples.push(Record::Head(Box::new(HeadRecord {
        kind: HeadKind::Pin,
        ..head(RootSource::CopyOf(HeadId(1)), "held")
    })));
    samples.push(Record::Head(Box::new(HeadRecord {
        protected: true,
        ..head(RootSource::Keep, "p")
    })));
    samples
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Vec<Record>, Damage> {
    Records::new(bytes).collect()
}

#[test]
fn every_record_reads_back_alone_and_behind_others() {
    for record in samples() {
        let bytes = encoded(&record);
        assert_eq!(decoded(&bytes), Ok(vec![record.clone()]));
        let twice = [bytes.clone(), bytes].concat();
        assert_eq!(decoded(&twice), Ok(vec![record.clone(), record]));
    }
    assert_eq!(decoded(&[]), Ok(Vec::new()));
}

#[test]
fn the_lengths_that_are_reserved_are_the_lengths_that_are_written() {
    for count in [0, 1, 5, 100] {
        let deltas = (0..count).map(|page| delta(page, None, None)).collect();
        let record = Record::Pages {
            head: HeadId(1),
            deltas,
        };
        assert_eq!(encoded(&record).len(), Record::pages_len(count as usize));
    }
}

#[test]
fn a_record_that_is_cut_or_too_long_is_refused_and_ends_the_batch() {
    for record in samples() {
        let bytes = encoded(&record);
        for len in 1..bytes.len() {
            let cut = bytes.get(..len).expect("it is longer");
            assert!(decoded(cut).is_err(), "{record:?} cut to {len}");
        }
        // The length in the header says more or less than there is in the body.
        for change in [-1, 1] {
            let mut bytes = [bytes.clone(), vec![0; 4]].concat();
            let len = (bytes.len() - HEADER_LEN - 4) as i64 + change;
            let field = bytes.get_mut(4..8).expect("a header is longer");
            field.copy_from_slice(&(len as u32).to_le_bytes());
            let mut records = Records::new(&bytes);
            let first = records.next();
            if !matches!(first, Some(Err(_))) {
                // A name may be of any length, but what is left is no record then.
                assert!(matches!(record, Record::Head(_)), "{record:?} {change}");
            }
            assert!(
                records.all(|record| record.is_err()),
                "nothing sound follows"
            );
        }
    }
}

#[test]
fn an_unknown_kind_and_a_reserved_field_are_refused() {
    let salt = SaltRecord {
        segment: SegmentId(2),
        first_slot: 3,
        salt: [9; 12],
    };
    let bytes = encoded(&Record::Salt(salt));
    for kind in [0, 16, 255] {
        let mut bytes = bytes.clone();
        bytes.first_mut().into_iter().for_each(|byte| *byte = kind);
        assert_eq!(decoded(&bytes), Err(Damage::OutOfRange("record kind")));
    }
    for offset in [2, 3] {
        let mut bytes = bytes.clone();
        bytes.get_mut(offset).into_iter().for_each(|byte| *byte = 1);
        assert_eq!(decoded(&bytes), Err(Damage::NotZero));
    }
}

/// Changes a byte of a record's body.
fn refused(record: &Record, offset: usize, byte: u8) -> Option<Damage> {
    let mut bytes = encoded(record);
    *bytes
        .get_mut(HEADER_LEN + offset)
        .expect("it is in the body") = byte;
    decoded(&bytes).err()
}

#[test]
fn a_head_that_cannot_be_is_refused() {
    let record = Record::Head(Box::new(head(RootSource::Keep, "name")));
    let out_of_range = |field| Some(Damage::OutOfRange(field));
    for kind in [0, 4, 255] {
        assert_eq!(refused(&record, 4, kind), out_of_range("kind"));
    }
    for state in [0, 6, 255] {
        assert_eq!(refused(&record, 5, state), out_of_range("state"));
    }
    for flags in [1, 3, 4, 255] {
        assert_eq!(refused(&record, 7, flags), out_of_range("flags"));
    }
    for root_kind in [0, 5, 255] {
        assert_eq!(refused(&record, 6, root_kind), out_of_range("root_kind"));
    }
    assert_eq!(refused(&record, 20, 3), out_of_range("name_len"));
    assert_eq!(refused(&record, 22, 1), Some(Damage::NotZero), "tags");
    assert_eq!(refused(&record, 279, 1), Some(Damage::NotZero));
    assert_eq!(
        refused(&record, 281, 0xff),
        out_of_range("name"),
        "no UTF-8"
    );
    for name in ["", &"n".repeat(NAME_LEN_MAX + 1)] {
        let record = Record::Head(Box::new(head(RootSource::Keep, name)));
        assert_eq!(
            decoded(&encoded(&record)),
            Err(Damage::OutOfRange("name_len"))
        );
    }
}

#[test]
fn epochs_that_cannot_be_are_refused() {
    assert_eq!(
        decoded(&encoded(&lineage(5, 5, false))),
        Err(Damage::OutOfRange("parent or beside"))
    );
    assert_eq!(
        decoded(&encoded(&lineage(5, 6, false))),
        Err(Damage::OutOfRange("parent or beside"))
    );
    assert_eq!(refused(&lineage(5, 1, true), 8, 2), Some(Damage::NotZero));
    let record = |above, far| Record::KeyEpoch(Box::new(key_epoch(above, far)));
    let later = Err(Damage::OutOfRange("above or far"));
    for bad in [
        record(Some(100), None),
        record(Some(99), Some(100)),
        record(Some(u32::MAX), None),
    ] {
        assert_eq!(decoded(&encoded(&bad)), later, "a link only goes up");
    }
    assert_eq!(refused(&record(None, None), 20, 1), Some(Damage::NotZero));
    assert_eq!(
        refused(&record(None, None), 72, 1),
        Some(Damage::NotZero),
        "a key for nobody"
    );
    let zero = Some(Damage::OutOfRange("key_epoch or lineage"));
    assert_eq!(refused(&record(None, None), 0, 0), zero);
    assert_eq!(refused(&record(None, None), 4, 0), zero);
}

#[test]
fn ranges_and_pages_that_cannot_be_are_refused() {
    let range = |key_epoch, first, count| {
        let (head, key_epoch) = (HeadId(1), KeyEpoch(key_epoch));
        Record::Discard(PageRange {
            head,
            key_epoch,
            first: PageNo(first),
            count,
            gone: Vec::new(),
        })
    };
    let bad = Err(Damage::OutOfRange("key_epoch or page_count"));
    assert_eq!(decoded(&encoded(&range(0, 1, 1))), bad);
    assert_eq!(decoded(&encoded(&range(1, u64::MAX, 1))), bad);
    assert!(decoded(&encoded(&range(1, u64::MAX, 0))).is_ok());
    let pages = |numbers: &[u64]| Record::Pages {
        head: HeadId(1),
        deltas: numbers
            .iter()
            .map(|&page| delta(page, None, None))
            .collect(),
    };
    let order = Err(Damage::Inconsistent("pages are out of order"));
    assert_eq!(decoded(&encoded(&pages(&[1, 1]))), order);
    assert_eq!(decoded(&encoded(&pages(&[2, 1]))), order);
    assert_eq!(
        refused(&pages(&[1, 2]), 4, 3),
        Some(Damage::OutOfRange("count"))
    );
    // An explicit zero is no page.
    assert!(refused(&pages(&[1]), 8 + 8 + 7, 2).is_some());
    let segment = Record::Segment(SegmentRecord {
        segment: SegmentId(1),
        slot_count: 8,
    });
    assert_eq!(refused(&segment, 4, 1), Some(Damage::NotZero));
    assert_eq!(refused(&segment, 12, 1), Some(Damage::NotZero));
}

#[test]
fn a_delta_replaces_what_it_says_and_nothing_else() {
    use crate::format::entry::Entry;
    let (at, epoch) = (data(4).at, data(4).key_epoch);
    let (none, page) = (None, Some(Entry::Data(data(4))));
    let zero = Some(Entry::Zero { key_epoch: epoch });
    let over_nothing = delta(1, None, None);
    let over_page = delta(1, Some(at), Some(epoch.0));
    let over_zero = delta(1, None, Some(epoch.0));
    for (delta, fits) in [
        (over_nothing, &none),
        (over_page, &page),
        (over_zero, &zero),
    ] {
        for old in [&none, &page, &zero] {
            assert_eq!(delta.replaces(old.as_ref()), old == fits);
        }
    }
}

#[test]
fn a_lineage_epoch_is_below_one_or_beside_one() {
    // Its number is in the first four bytes, its parent in the next, its sibling in the last.
    let bad = Some(Damage::OutOfRange("parent or beside"));
    assert_eq!(refused(&beside(5, 4), 4, 1), bad);
    assert_eq!(refused(&beside(5, 4), 12, 5), bad);
}

#[test]
fn slots_that_cannot_be_are_refused() {
    let runs = slots(SlotsPurpose::Live, &[(5, 200), (300, 100)]);
    let out_of_range = |what| Some(Damage::OutOfRange(what));
    assert_eq!(
        refused(&runs, 4, 9),
        out_of_range("purpose, lineage or key_epoch")
    );
    assert_eq!(
        refused(&runs, 8, 1),
        out_of_range("purpose, lineage or key_epoch")
    );
    assert_eq!(refused(&runs, 5, 3), out_of_range("form"));
    assert_eq!(refused(&runs, 6, 1), Some(Damage::NotZero));
    assert_eq!(refused(&runs, 16, 64), out_of_range("form"));
    assert_eq!(refused(&runs, 20, 1), out_of_range("count"));
    // The first run, its length, and the second run.
    assert_eq!(refused(&runs, 24, 0), out_of_range("segment or slots"));
    assert_eq!(refused(&runs, 28, 0), out_of_range("slot run"));
    assert_eq!(refused(&runs, 33, 0), out_of_range("slot run"));
    assert_eq!(refused(&runs, 35, 1), out_of_range("slot run"));
    let every_other: Vec<_> = (50..400).map(|number| (number * 2, 1)).collect();
    let bits = slots(SlotsPurpose::Live, &every_other);
    assert!(encoded(&bits).len() < 8 * every_other.len() / 4);
    assert_eq!(refused(&bits, 16, 1), out_of_range("count or first_slot"));
    assert_eq!(refused(&bits, 19, 1), out_of_range("count or first_slot"));
}

#[test]
fn pages_become_runs_if_they_follow_each_other() {
    let mut runs = Vec::new();
    let first = data(1);
    for (slot, epoch) in [(10, 1), (14, 1), (18, 1), (22, 2), (27, 2), (23, 2)] {
        let page = DataEntry {
            at: SlotAddr { slot, ..first.at },
            key_epoch: KeyEpoch(epoch),
            ..first
        };
        PageRun::push(&mut runs, &page, 4);
    }
    let seen: Vec<_> = runs.iter().map(|run| (run.at.slot, run.count)).collect();
    assert_eq!(seen, [(10, 3), (22, 1), (27, 1), (23, 1)]);
}

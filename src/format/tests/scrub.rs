//! The record of scrubs.

use crate::error::Damage;
use crate::format::scrub::{FINDINGS_MAX, SCRUB_LEN_MAX, ScrubFault, ScrubFinding, ScrubRecord};
use crate::units::{HeadId, PageNo, SegmentId, SlotAddr, StoreId};

const STORE: StoreId = StoreId([3; 16]);

fn finding(number: u32) -> ScrubFinding {
    ScrubFinding {
        fault: ScrubFault::all()
            .into_iter()
            .cycle()
            .nth(number as usize)
            .unwrap(),
        pass: 7,
        first_at_ms: 1,
        last_at_ms: u64::MAX,
        at: (!number.is_multiple_of(3)).then_some(SlotAddr {
            segment: SegmentId(u32::MAX),
            slot: number,
        }),
        head: (!number.is_multiple_of(2)).then(|| "volume \"pg\"".to_owned()),
        page: (!number.is_multiple_of(5)).then_some(PageNo(u64::MAX)),
        message: format!("it is damaged: {number}"),
    }
}

fn record(count: u32) -> ScrubRecord {
    ScrubRecord {
        pass: 7,
        began_at_ms: 5,
        next: Some((HeadId(4), PageNo(99))),
        only: vec![HeadId(4), HeadId(9)],
        done_bytes: 1 << 40,
        ended_at_ms: Some(77),
        findings: (0..count).map(finding).collect(),
        more: 12,
    }
}

#[test]
fn a_record_of_scrubs_reads_as_it_was_written() {
    for record in [ScrubRecord::default(), record(0), record(30)] {
        let bytes = record.encode(STORE);
        assert_eq!(ScrubRecord::decode(&bytes, STORE), Ok(record));
        let other = ScrubRecord::decode(&bytes, StoreId([4; 16]));
        assert_eq!(other, Err(Damage::WrongIdentity));
    }
}

#[test]
fn no_flipped_bit_and_no_cut_of_a_record_is_accepted() {
    let bytes = record(3).encode(STORE);
    for index in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            *bytes.get_mut(index).unwrap() ^= 1 << bit;
            assert!(ScrubRecord::decode(&bytes, STORE).is_err(), "{index} {bit}");
        }
        assert!(ScrubRecord::decode(bytes.get(..index).unwrap(), STORE).is_err());
    }
}

#[test]
fn a_record_is_bounded_whatever_is_found() {
    let mut record = ScrubRecord::default();
    for number in 0..FINDINGS_MAX as u32 + 5 {
        let at = SlotAddr {
            segment: SegmentId(1),
            slot: number,
        };
        record.note(ScrubFinding {
            at: Some(at),
            head: Some("x".repeat(400)),
            message: "tab\tbreak\n".repeat(100),
            ..finding(1)
        });
    }
    assert_eq!((record.findings.len(), record.more), (FINDINGS_MAX, 5));
    let bytes = record.encode(STORE);
    assert!((bytes.len() as u64) < SCRUB_LEN_MAX);
    let read = ScrubRecord::decode(&bytes, STORE).unwrap();
    assert_eq!(read.findings.len(), FINDINGS_MAX);
    let is_plain = |found: &ScrubFinding| !found.message.contains(['\t', '\n']);
    assert!(read.findings.iter().all(is_plain));
    let hostile = vec![b'x'; SCRUB_LEN_MAX as usize + 1];
    assert!(ScrubRecord::decode(&hostile, STORE).is_err());
}

#[test]
fn what_is_found_again_is_noted_once() {
    let mut record = ScrubRecord::default();
    record.note(finding(1));
    let again = ScrubFinding {
        pass: 8,
        first_at_ms: 50,
        last_at_ms: 51,
        ..finding(1)
    };
    record.note(again);
    assert_eq!(record.findings.len(), 1);
    let known = record.findings.first().unwrap();
    assert_eq!(
        (known.pass, known.first_at_ms, known.last_at_ms),
        (8, 1, 51)
    );
}

//! Volumes far larger than any disk.

use std::time::{Duration, Instant};

use offshoot::format::record::Record;
use offshoot::{Error, Extent, ExtentKind, Options, Volume};

use crate::fixture::{Fixture, PAGE, Sim, page, page_byte};

const TIB: u64 = 1 << 40;

fn extents(volume: &Volume) -> Vec<Extent> {
    volume
        .extents(0..volume.len().unwrap())
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn extent(kind: ExtentKind, pages: std::ops::Range<u64>) -> Extent {
    let depth = u32::from(kind != ExtentKind::Hole);
    Extent {
        offset: pages.start * PAGE,
        len: (pages.end - pages.start) * PAGE,
        kind,
        depth,
    }
}

/// A discard costs what is mapped at its edges: below them whole subtrees go.
#[test]
fn discard_by_subtree() {
    for fanout in [3, 78] {
        let sim = Sim::with(1, Options::new().fanout(fanout).workers(0));
        let store = sim.create();
        let volume = store.create_volume("v", 2 * TIB, &sim.key).unwrap();
        let last = 2 * TIB / PAGE - 1;
        // A page in each 2 GiB, and runs around the edges of what will be discarded.
        for number in 0..1024 {
            volume.write_all_at(&page(1), number << 31).unwrap();
        }
        let (first, end) = (1_000_000, last - 1_000_000);
        volume
            .write_all_at(&page(2).repeat(20), (first - 10) * PAGE)
            .unwrap();
        volume
            .write_all_at(&page(3).repeat(20), (end - 10) * PAGE)
            .unwrap();
        volume
            .write_zeroes((first + 20) * PAGE..(first + 40) * PAGE)
            .unwrap();
        volume
            .write_zeroes((end + 20) * PAGE..(end + 40) * PAGE)
            .unwrap();
        store.checkpoint().unwrap();
        let before = extents(&volume);
        let log = sim.watch();
        let start = Instant::now();
        // Half a page at each edge stays: those are written, the rest is one record.
        volume
            .discard(first * PAGE + 100..end * PAGE + 100)
            .unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        let [batch] = &log.take()[..] else {
            panic!("one batch")
        };
        assert_eq!(batch.records.len(), 2);
        assert!(batch.len <= 2 * PAGE + (64 << 10), "{} bytes", batch.len);
        let Record::Discard(range) = &batch.records[0] else {
            panic!("{:?}", batch.records)
        };
        assert_eq!((range.first.0, range.count), (first + 1, end - first - 1));
        // Before and behind, everything is as it was; between there is nothing.
        let outside = |extent: &Extent| {
            extent.offset + extent.len <= (first - 10) * PAGE || extent.offset >= (end + 20) * PAGE
        };
        let mut expected: Vec<Extent> = before.iter().copied().filter(outside).collect();
        let middle = expected
            .iter()
            .position(|extent| extent.offset >= end * PAGE)
            .unwrap();
        let hole_before = before.iter().filter(|extent| extent.offset < first * PAGE);
        assert!(hole_before.count() > 2);
        expected.splice(
            middle..middle,
            [
                extent(ExtentKind::Data, first - 10..first + 1),
                extent(ExtentKind::Hole, first + 1..end),
                extent(ExtentKind::Data, end..end + 10),
                extent(ExtentKind::Hole, end + 10..end + 20),
            ],
        );
        assert_eq!(extents(&volume), expected);
        let mut bytes = page(0xEE);
        volume.read_exact_at(&mut bytes, first * PAGE).unwrap();
        assert!(bytes[..100].iter().all(|&byte| byte == 2));
        assert!(bytes[100..].iter().all(|&byte| byte == 0));
        volume.read_exact_at(&mut bytes, end * PAGE).unwrap();
        assert!(bytes[..100].iter().all(|&byte| byte == 0));
        assert!(bytes[100..].iter().all(|&byte| byte == 3));
        assert_eq!(page_byte(&volume, 1 << 28), 0, "in the middle");
        assert_eq!(page_byte(&volume, first - 1), 2);
        drop(volume);
        let sim = sim.kill();
        assert_eq!(
            extents(&sim.open().volume("v").unwrap()),
            expected,
            "rolled forward"
        );
        // The whole volume at once.
        let store = sim.open();
        let volume = store.volume("v").unwrap();
        let log = sim.watch();
        volume.discard(0..2 * TIB).unwrap();
        assert_eq!(log.take()[0].len, PAGE);
        assert_eq!(extents(&volume), [extent(ExtentKind::Hole, 0..last + 1)]);
        // There is nothing left, so nothing is written.
        volume.discard(0..2 * TIB).unwrap();
        assert_eq!(log.take().len(), 0);
    }
}

#[test]
fn explicit_zero_hole_and_discarded_pages_read_alike_and_show_apart() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("v", 2 * TIB, &fixture.key).unwrap();
    let at = 1 << 28;
    volume.write_all_at(&page(1).repeat(6), at * PAGE).unwrap();
    volume
        .write_zeroes((at + 1) * PAGE..(at + 2) * PAGE)
        .unwrap();
    volume.discard((at + 2) * PAGE..(at + 3) * PAGE).unwrap();
    volume
        .write_zeroes((at + 3) * PAGE..(at + 4) * PAGE)
        .unwrap();
    volume.discard((at + 3) * PAGE..(at + 4) * PAGE).unwrap();
    volume
        .write_zeroes((at + 6) * PAGE..(at + 8) * PAGE)
        .unwrap();
    // Zeroes that are written like any bytes are data.
    volume.write_all_at(&page(0), (at + 5) * PAGE).unwrap();
    // A part of a page is never an explicit zero, nor does it make a hole.
    volume
        .write_zeroes((at + 4) * PAGE + 1..(at + 5) * PAGE)
        .unwrap();
    volume
        .discard((at + 4) * PAGE + 1..(at + 5) * PAGE)
        .unwrap();
    volume
        .discard((at + 6) * PAGE + 1..(at + 7) * PAGE)
        .unwrap();
    let expected = [
        extent(ExtentKind::Hole, 0..at),
        extent(ExtentKind::Data, at..at + 1),
        extent(ExtentKind::Zero, at + 1..at + 2),
        extent(ExtentKind::Hole, at + 2..at + 4),
        extent(ExtentKind::Data, at + 4..at + 6),
        extent(ExtentKind::Zero, at + 6..at + 8),
        extent(ExtentKind::Hole, at + 8..2 * TIB / PAGE),
    ];
    assert_eq!(extents(&volume), expected);
    for number in [1, 2, 3, 5, 6, 7, 8] {
        assert_eq!(page_byte(&volume, at + number), 0, "page {number}");
    }
    assert_eq!(volume.usage().unwrap().referenced_bytes, 3 * PAGE);
    drop(volume);
    store.close().unwrap();
    let store = fixture.open();
    assert_eq!(extents(&store.volume("v").unwrap()), expected);
    // Of a part of the volume, the same cut to it.
    let volume = store.volume("v").unwrap();
    let part = volume
        .extents(at * PAGE + 10..(at + 1) * PAGE + 20)
        .unwrap();
    let part: Vec<_> = part
        .map(|extent| extent.unwrap())
        .map(|e| (e.offset, e.len))
        .collect();
    assert_eq!(part, [(at * PAGE + 10, PAGE - 10), ((at + 1) * PAGE, 20)]);
}

#[test]
fn a_thin_volume_of_16_tib_works_from_end_to_end() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("thin", 16 * TIB, &fixture.key).unwrap();
    assert_eq!(volume.len().unwrap(), 16 * TIB);
    let last = 16 * TIB / PAGE - 1;
    volume.write_all_at(&page(1), last * PAGE).unwrap();
    volume.write_all_at(&[2], 16 * TIB - 1).unwrap();
    volume.write_all_at(&page(3), 0).unwrap();
    volume.write_all_at(&[4; 9000], 8 * TIB - 4500).unwrap();
    for (offset, len) in [(16 * TIB - 1, 2), (16 * TIB, 1)] {
        let result = volume.write_all_at(&vec![0; len], offset);
        assert!(matches!(result, Err(Error::OutOfBounds { .. })));
    }
    volume.write_all_at(&[], 16 * TIB).unwrap();
    let clone = volume.create_clone("clone", &fixture.key).unwrap();
    volume.discard(0..16 * TIB).unwrap();
    drop((volume, clone));
    store.close().unwrap();
    let store = fixture.open();
    assert_eq!(extents(&store.volume("thin").unwrap()).len(), 1);
    let clone = store.volume("clone").unwrap();
    let mut bytes = page(0);
    clone.read_exact_at(&mut bytes, last * PAGE).unwrap();
    assert!(bytes[..4095].iter().all(|&byte| byte == 1) && bytes[4095] == 2);
    clone.read_exact_at(&mut bytes, 8 * TIB).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 4));
    assert_eq!(page_byte(&clone, 0), 3);
    assert_eq!(clone.usage().unwrap().referenced_bytes, (1 + 1 + 4) * PAGE);
    assert!(store.info().unwrap().segment_count < 3);
}

#[test]
fn the_longest_volume_is_used_to_its_last_byte_and_shrinks() {
    let sim = Sim::with(
        2,
        Options::new().segment_len(256 * PAGE).fanout(3).workers(0),
    );
    let store = sim.create();
    let len = (1 << 63) - PAGE;
    let volume = store.create_volume("v", len, &sim.key).unwrap();
    volume.write_all_at(&[7], len - 1).unwrap();
    volume.write_all_at(&[8], 0).unwrap();
    volume.write_zeroes(len - 3 * PAGE..len - PAGE).unwrap();
    let mut byte = [0];
    volume.read_exact_at(&mut byte, len - 1).unwrap();
    assert_eq!(byte, [7]);
    assert!(matches!(
        volume.read_exact_at(&mut byte, len),
        Err(Error::OutOfBounds { .. })
    ));
    volume.resize(len - PAGE).unwrap();
    volume.resize(len).unwrap();
    volume.read_exact_at(&mut byte, len - 1).unwrap();
    assert_eq!(byte, [0], "what was cut off is gone when it grows again");
    volume.discard(1..len).unwrap();
    volume.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!((byte, extents(&volume).len()), ([8], 2));
    store.close().unwrap();
    assert_eq!(extents(&sim.open().volume("v").unwrap()).len(), 2);
}

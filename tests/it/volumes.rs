use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};

use offshoot::{Error, ExtentKind, FileKms, Location, Options, Volume};

use crate::fixture::{Fixture, PAGE, Rng, Sim, page, page_bytes, segment_name};

#[test]
fn four_pages_are_shared_until_either_side_writes() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let a = store.create_volume("a", 4 * PAGE, &fixture.key).unwrap();
    for number in 0..4 {
        a.write_all_at(&page(number + 1), u64::from(number) * PAGE)
            .unwrap();
    }
    let b = a.create_clone("b", &fixture.key).unwrap();
    a.write_all_at(&page(0x1A), 0).unwrap();
    b.write_all_at(&page(0x4B), 3 * PAGE).unwrap();
    let pages = |volume: &Volume| page_bytes(volume, 4);
    assert_eq!(pages(&a), [0x1A, 2, 3, 4]);
    assert_eq!(pages(&b), [1, 2, 3, 0x4B]);
    drop((a, b));
    store.close().unwrap();
    let store = fixture.open();
    let (a, b) = (store.volume("A").unwrap(), store.volume("b").unwrap());
    assert_eq!(pages(&a), [0x1A, 2, 3, 4]);
    assert_eq!(pages(&b), [1, 2, 3, 0x4B]);
    let depths: Vec<_> = b
        .extents(0..4 * PAGE)
        .unwrap()
        .map(|e| e.unwrap().depth)
        .collect();
    assert_eq!(depths, [2, 1]);
    a.delete().unwrap();
    drop((b, store));
    let store = fixture.open();
    assert_eq!(pages(&store.volume("b").unwrap()), [1, 2, 3, 0x4B]);
    assert!(store.volume("a").is_err());
}

#[test]
fn any_offset_and_length_can_be_written() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let len = 3 << 20;
    let volume = store.create_volume("v", len, &fixture.key).unwrap();
    let mut model = vec![0u8; len as usize];
    let mut seed = 1u64;
    for step in 0..200u32 {
        let mut next = |below: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        let offset = next(len);
        let count = next(len - offset).min(next(2 << 20)) as usize;
        let range = offset as usize..offset as usize + count;
        match next(4) {
            0 => {
                volume.discard(offset..offset + count as u64).unwrap();
                model[range].fill(0);
            }
            1 => {
                volume.write_zeroes(offset..offset + count as u64).unwrap();
                model[range].fill(0);
            }
            _ => {
                let bytes = vec![step as u8 | 1; count];
                volume.write_all_at(&bytes, offset).unwrap();
                model[range].copy_from_slice(&bytes);
            }
        }
    }
    let mut bytes = vec![0; len as usize];
    volume.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == model);
    volume.flush().unwrap();
    drop((volume, store));
    let store = fixture.open();
    let volume = store.volume("v").unwrap();
    let mut bytes = vec![0; len as usize];
    volume.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == model);
    let extents: Vec<_> = volume
        .extents(0..len)
        .unwrap()
        .map(|e| e.unwrap())
        .collect();
    assert!(extents.iter().any(|extent| extent.kind == ExtentKind::Zero));
}

#[test]
fn an_empty_range_is_nothing_wherever_it_lies() {
    let sim = Sim::new(1);
    let store = sim.create();
    let volume = store.create_volume("v", 2 * PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(7), 0).unwrap();
    let log = sim.watch();
    for at in [0, 1, PAGE - 1, PAGE, PAGE + 5, 2 * PAGE] {
        volume.read_exact_at(&mut [], at).unwrap();
        volume.write_all_at(&[], at).unwrap();
        volume.write_zeroes(at..at).unwrap();
        volume.discard(at..at).unwrap();
        assert_eq!(volume.extents(at..at).unwrap().count(), 0);
    }
    assert_eq!(log.take().len(), 0, "nothing was appended");
    assert_eq!(page_bytes(&volume, 2), [7, 0]);
}

#[test]
fn both_edges_of_a_discard_fit_where_a_batch_holds_one_page() {
    let options = Options::new()
        .page_len(65536)
        .segment_len(19 * PAGE)
        .workers(0);
    let sim = Sim::with(1, options);
    let store = sim.create();
    assert_eq!(store.info().unwrap().atomic_write_len, 65536);
    let volume = store.create_volume("v", 4 << 16, &sim.key).unwrap();
    for round in 0..2 {
        volume.write_all_at(&vec![9; 4 << 16], 0).unwrap();
        match round {
            0 => volume.discard(5..(4 << 16) - 5).unwrap(),
            _ => volume.write_zeroes(5..(4 << 16) - 5).unwrap(),
        }
        let mut bytes = vec![1; 4 << 16];
        volume.read_exact_at(&mut bytes, 0).unwrap();
        let nines = [0..5, (4 << 16) - 5..4 << 16];
        assert!((0..4 << 16).all(|at| (bytes[at] == 9) == nines.iter().any(|r| r.contains(&at))));
    }
}

/// Threads help with reads and writes of 512 KiB and more, in stints; and a read longer than 4,096 pages is looked up in parts.
#[test]
fn long_reads_and_writes_are_the_same_with_help_and_without() {
    const LEN: usize = 24 << 20;
    for workers in [0, 2] {
        let sim = Sim::with(1, Options::new().segment_len(8 << 20).workers(workers));
        let log = sim.watch();
        let store = sim.create();
        let base = store.create_volume("base", LEN as u64, &sim.key).unwrap();
        let mut model: Vec<u8> = (0..LEN).map(|at| (at / 1000 % 251) as u8).collect();
        base.write_all_at(&model, 0).unwrap();
        let volume = base.create_clone("clone", &sim.key).unwrap();
        let mut rng = Rng(workers as u64 + 7);
        for byte in 0..60 {
            let (at, len) = (rng.index(LEN), 1 + rng.index(100_000));
            let end = LEN.min(at + len);
            match byte % 4 {
                0 => {
                    model[at..end].fill(0);
                    volume.discard(at as u64..end as u64).unwrap();
                }
                _ => {
                    model[at..end].fill(byte);
                    volume.write_all_at(&model[at..end], at as u64).unwrap();
                }
            }
        }
        for range in [0..LEN, 1..LEN - 1, 4096..4096 + (513 << 10), 99..700_000] {
            let mut bytes = vec![1; range.len()];
            volume
                .read_exact_at(&mut bytes, range.start as u64)
                .unwrap();
            assert!(
                bytes == model[range.clone()],
                "{workers} workers, {range:?}"
            );
        }
        // Of what is damaged the page is named, whoever comes upon it.
        let (_, bad) = log.take_pages().remove(2000);
        sim.flip(
            &segment_name(bad.entry.at),
            u64::from(bad.entry.at.slot) * PAGE,
            3,
        );
        match base.read_exact_at(&mut vec![0; LEN], 0) {
            Err(Error::Corrupt {
                location: Location::Page { page, .. },
                ..
            }) => assert_eq!(page, bad.page),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn opening_a_copy_destroys_no_key_of_the_original() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let copy = fixture.dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(fixture.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let volume = store.create_volume("v", PAGE, &fixture.key).unwrap();
    volume.write_all_at(&page(7), 0).unwrap();
    volume.flush().unwrap();
    // A KMS of another process, which did not assign the head key.
    let kms = FileKms::open(&fixture.dir.path().join("kms")).unwrap();
    Fixture::options()
        .open(&copy, kms)
        .unwrap()
        .close()
        .unwrap();
    drop((volume, store));
    let kms = FileKms::open(&fixture.dir.path().join("kms")).unwrap();
    let store = Fixture::options().open(fixture.path(), kms).unwrap();
    assert_eq!(page_bytes(&store.volume("v").unwrap(), 1), [7]);
}

#[test]
fn a_long_read_puts_every_page_in_its_place_whatever_lies_between() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let len = 256 * PAGE;
    let volume = store.create_volume("v", len, &fixture.key).unwrap();
    let mut expected = vec![0; len as usize];
    let mut put = |pages: std::ops::Range<u64>, byte: u8| {
        let (start, end) = (pages.start * PAGE, pages.end * PAGE);
        let part = &mut expected[start as usize..end as usize];
        part.fill(byte);
        match byte {
            0 => volume.discard(start..end).unwrap(),
            _ => volume.write_all_at(part, start).unwrap(),
        }
    };
    put(0..200, 1);
    put(10..11, 2);
    put(11..13, 3);
    put(60..90, 4);
    put(61..62, 0);
    put(120..150, 0);
    // One batch: its two edge pages lie side by side on disk, with a hole between in the volume.
    volume.discard(160 * PAGE + 9..190 * PAGE + 7).unwrap();
    expected[160 * PAGE as usize + 9..190 * PAGE as usize + 7].fill(0);
    for (start, end) in [
        (0, len),
        (1, len - 1),
        (10 * PAGE, 92 * PAGE),
        (5, 170 * PAGE + 5),
    ] {
        let mut found = vec![7; (end - start) as usize];
        volume.read_exact_at(&mut found, start).unwrap();
        assert!(
            found == expected[start as usize..end as usize],
            "{start}..{end}"
        );
    }
}

#[test]
fn a_cursor_reads_writes_and_seeks_as_a_file_does_and_ends_with_its_volume() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("v", 2 * PAGE, &fixture.key).unwrap();
    let mut cursor = volume.cursor();
    let contents: Vec<u8> = (0..2 * PAGE).map(|at| (at / 7) as u8 | 1).collect();
    cursor.write_all(&contents).unwrap();
    cursor.flush().unwrap();
    // It is at the end.
    assert_eq!(cursor.write(&[9]).unwrap(), 0);
    let error = cursor.write_all(&[9]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriteZero);
    let mut bytes = Vec::new();
    assert_eq!(cursor.read_to_end(&mut bytes).unwrap(), 0);
    assert_eq!(cursor.seek(SeekFrom::Start(5)).unwrap(), 5);
    cursor.read_to_end(&mut bytes).unwrap();
    assert!(bytes == contents[5..]);
    assert_eq!(cursor.seek(SeekFrom::End(-3)).unwrap(), 2 * PAGE - 3);
    // Less is done than asked, never more than there is.
    assert_eq!(cursor.write(&[9; 10]).unwrap(), 3);
    assert_eq!(cursor.seek(SeekFrom::Current(-4)).unwrap(), 2 * PAGE - 4);
    let mut last = [0; 4];
    cursor.read_exact(&mut last).unwrap();
    assert_eq!(last, [contents[2 * PAGE as usize - 4], 9, 9, 9]);
    // Behind the end nothing is there; before the start there is no place.
    cursor.seek(SeekFrom::Start(u64::MAX)).unwrap();
    assert_eq!(cursor.read(&mut last).unwrap(), 0);
    assert_eq!(cursor.write(&last).unwrap(), 0);
    for to in [SeekFrom::Current(1), SeekFrom::End(-(3 * PAGE as i64))] {
        let error = cursor.seek(to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{to:?}");
    }
    assert_eq!(cursor.stream_position().unwrap(), u64::MAX);
    volume.delete().unwrap();
    cursor.seek(SeekFrom::Start(0)).unwrap();
    let error = cursor.read(&mut last).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

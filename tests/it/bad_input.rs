//! Bad input and bad machines: a clear error each time, and a store that opens afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use offshoot::io::{Access, Disk};
use offshoot::{
    Damage, Error, FileKms, HeadState, KeyId, KeyService, Kind, Location, Options, Result, Store,
};

use crate::fixture::{Fixture, PAGE, Sim, page, page_byte, page_bytes};

/// A closed store with a volume `v` of pages 1 to 8 and its clone `c`, in two segments or more.
fn closed_store() -> Fixture {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("v", 8 * PAGE, &fixture.key).unwrap();
    for number in 0..8 {
        volume
            .write_all_at(&page(number + 1), u64::from(number) * PAGE)
            .unwrap();
    }
    let filler = store
        .create_volume("filler", 2 << 20, &fixture.key)
        .unwrap();
    filler.write_all_at(&vec![7; 2 << 20], 0).unwrap();
    volume.create_clone("c", &fixture.key).unwrap();
    drop((volume, filler));
    store.close().unwrap();
    fixture
}

/// The store opens, and all is there.
#[track_caller]
fn assert_sound(fixture: &Fixture) {
    let store = fixture.open();
    for name in ["v", "c"] {
        let volume = store.volume(name).unwrap();
        assert_eq!(page_bytes(&volume, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
        volume.write_all_at(&page(1), 0).unwrap();
    }
    store.close().unwrap();
}

/// Does something to a file, looks at what that does, and puts the file back.
fn with_file(path: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>, then: impl FnOnce()) {
    let before = fs::read(path).unwrap();
    fs::write(path, change(before.clone())).unwrap();
    then();
    fs::write(path, before).unwrap();
}

#[track_caller]
fn error<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("that should have failed"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            error
        }
    }
}

#[test]
fn what_is_not_a_store_is_told_apart_and_left_alone() {
    let fixture = Fixture::new();
    let not_a_store = |path: &Path| {
        let error = error(Options::new().open(path, fixture.kms.clone()));
        let is_it = matches!(
            &error,
            Error::NotAStore {
                kind: Kind::Store,
                ..
            }
        );
        assert!(is_it, "{}: {error}", path.display());
    };
    let dir = fixture.dir.path();
    not_a_store(&dir.join("missing"));
    let empty = dir.join("empty");
    fs::create_dir(&empty).unwrap();
    not_a_store(&empty);
    assert_eq!(
        fs::read_dir(&empty).unwrap().count(),
        0,
        "nothing was made there"
    );
    let other = dir.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "mine").unwrap();
    not_a_store(&other);
    let file = dir.join("file");
    fs::write(&file, "text").unwrap();
    not_a_store(&file);
    not_a_store(&dir.join("kms"));
    for path in [&other, &empty, &file] {
        let kms = error(FileKms::open(path));
        assert!(
            matches!(
                kms,
                Error::NotAStore {
                    kind: Kind::Kms,
                    ..
                }
            ),
            "{kms}"
        );
    }
    assert_eq!(fs::read(other.join("notes.txt")).unwrap(), b"mine");
    // A store is not made where one is, nor where a file is.
    fixture.create().close().unwrap();
    let again = error(Options::new().create(fixture.path(), fixture.kms.clone()));
    assert!(
        matches!(
            again,
            Error::AlreadyExists {
                kind: Kind::Store,
                ..
            }
        ),
        "{again}"
    );
    assert!(Options::new().create(&file, fixture.kms.clone()).is_err());
    fixture.open().close().unwrap();
}

#[test]
fn a_store_that_lost_a_superblock_is_not_made_anew() {
    for name in ["superblock-a", "superblock-b"] {
        let fixture = closed_store();
        fs::remove_file(fixture.file(name)).unwrap();
        let again = error(Options::new().create(fixture.path(), fixture.kms.clone()));
        assert!(
            matches!(again, Error::AlreadyExists { .. }),
            "{name}: {again}"
        );
        assert_sound(&fixture);
        // Nor when both are gone: the segments are still worth something.
        fs::remove_file(fixture.file("superblock-a")).ok();
        fs::remove_file(fixture.file("superblock-b")).ok();
        let again = error(Options::new().create(fixture.path(), fixture.kms.clone()));
        assert!(
            matches!(again, Error::AlreadyExists { .. }),
            "{name}: {again}"
        );
        let opened = error(fixture.try_open());
        assert!(matches!(opened, Error::NotAStore { .. }), "{opened}");
    }
}

/// Sets the version in a superblock slot or segment header, with the checksum it needs.
fn set_version(bytes: &mut [u8], slot: usize, version: u32) {
    let slot = &mut bytes[slot * PAGE as usize..][..PAGE as usize];
    slot[8..12].copy_from_slice(&version.to_le_bytes());
    let crc = crc32fast::hash(&slot[..4092]);
    slot[4092..].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_newer_version_is_named_and_nothing_is_changed() {
    let fixture = closed_store();
    let is_newer = |result: Result<Store>| match error(result) {
        Error::UnsupportedVersion {
            found: 9, known: 0, ..
        } => {}
        other => panic!("{other}"),
    };
    // One superblock of a newer program is enough: it knows more than all the older ones.
    for slot in [0, 1] {
        let both = [fixture.file("superblock-a"), fixture.file("superblock-b")];
        let newer = |mut bytes: Vec<u8>| {
            set_version(&mut bytes, slot, 9);
            bytes
        };
        with_file(&both[0], newer, || {
            with_file(&both[1], newer, || is_newer(fixture.try_open()));
        });
    }
    let segment = |mut bytes: Vec<u8>| {
        set_version(&mut bytes, 0, 9);
        bytes
    };
    // Of a segment it shows when the segment is used.
    with_file(&fixture.file("segment-00000001"), segment, || {
        let read = fixture.try_open().and_then(|store| {
            store.volume("v")?.read_exact_at(&mut page(0), 0)?;
            Ok(store)
        });
        is_newer(read);
    });
    let keys = fixture.dir.path().join("kms/keys");
    let newer_keys = |mut bytes: Vec<u8>| {
        bytes[8] = 9;
        bytes
    };
    with_file(&keys, newer_keys, || {
        let kms = error(FileKms::open(&fixture.dir.path().join("kms")));
        assert!(
            matches!(kms, Error::UnsupportedVersion { found: 9, .. }),
            "{kms}"
        );
        is_newer(fixture.try_open());
    });
    assert_sound(&fixture);
}

#[test]
fn a_locked_store_names_its_owner() {
    let fixture = closed_store();
    let store = fixture.open();
    for options in [Fixture::options(), Fixture::options().read_only(true)] {
        match error(options.open(fixture.path(), fixture.kms.clone())) {
            Error::Locked {
                location: Location::Directory(dir),
                pid,
            } => {
                assert_eq!(
                    (Path::new(&dir), pid),
                    (&*fixture.path(), Some(std::process::id()))
                );
            }
            other => panic!("{other}"),
        }
    }
    let volume = store.volume("v").unwrap();
    drop(store);
    assert!(
        matches!(error(fixture.try_open()), Error::Locked { .. }),
        "a handle keeps it"
    );
    drop(volume);
    // Readers share it, and keep writers out.
    let open = || {
        Fixture::options()
            .read_only(true)
            .open(fixture.path(), fixture.kms.clone())
    };
    let (one, two) = (open().unwrap(), open().unwrap());
    assert_eq!(page_byte(&one.volume("c").unwrap(), 3), 4);
    assert!(matches!(error(fixture.try_open()), Error::Locked { .. }));
    two.close().unwrap();
    one.close().unwrap();
    assert_sound(&fixture);
}

#[test]
fn names_follow_the_rule_and_case_does_not_count() {
    let sim = Sim::new(1);
    let store = sim.create();
    let (long, longer) = ("a".repeat(63), "a".repeat(64));
    let source = store.create_volume("source", PAGE, &sim.key).unwrap();
    let bad = [
        "", "-", "-a", "a-", "a--b", "1a", "a_b", "a b", " a", "a.b", "a/b", "é", "aé", "a\0",
        "a\n", "..", &longer,
    ];
    for name in bad {
        let invalid = |result: Result<()>| match error(result) {
            Error::Invalid { what, rule, .. } => assert!(!what.is_empty() && !rule.is_empty()),
            other => panic!("{name:?}: {other}"),
        };
        invalid(store.create_volume(name, PAGE, &sim.key).map(drop));
        invalid(store.volume(name).map(drop));
        invalid(source.create_clone(name, &sim.key).map(drop));
        invalid(source.rename(name));
        if name != longer {
            invalid(source.create_snapshot(name).map(drop));
            invalid(store.snapshot(name).map(drop));
        }
    }
    for name in ["a", "Z", "a1", "a-b", "a-1-b", &long] {
        let volume = store.create_volume(name, PAGE, &sim.key).unwrap();
        assert_eq!(volume.name().unwrap(), name.to_ascii_lowercase());
        let upper = name.to_ascii_uppercase();
        let taken = error(store.create_volume(&upper, PAGE, &sim.key));
        assert!(
            matches!(
                taken,
                Error::AlreadyExists {
                    kind: Kind::Volume,
                    ..
                }
            ),
            "{taken}"
        );
        assert!(matches!(
            error(source.rename(&upper)),
            Error::AlreadyExists { .. }
        ));
        assert_eq!(
            store.volume(&upper).unwrap().info().unwrap(),
            volume.info().unwrap()
        );
    }
    source.create_snapshot(&"s".repeat(255)).unwrap();
    assert!(matches!(
        error(source.create_snapshot(&"s".repeat(256))),
        Error::Invalid { .. }
    ));
    let unknown = error(store.volume("nobody"));
    assert!(
        matches!(
            unknown,
            Error::NotFound {
                kind: Kind::Volume,
                ..
            }
        ),
        "{unknown}"
    );
    let unknown = error(store.snapshot("nobody"));
    assert!(
        matches!(
            unknown,
            Error::NotFound {
                kind: Kind::Snapshot,
                ..
            }
        ),
        "{unknown}"
    );
    drop(source);
    store.close().unwrap();
    assert_eq!(sim.open().volumes().len(), 7);
}

#[test]
fn offsets_outside_the_volume_are_refused_and_nothing_is_written() {
    let sim = Sim::new(2);
    let store = sim.create();
    let volume = store.create_volume("v", 4 * PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(5), 3 * PAGE).unwrap();
    let taken = volume.create_snapshot("s").unwrap();
    let log = sim.watch();
    let len = 4 * PAGE;
    let ranges = [
        (len, 1),
        (len - 1, 2),
        (0, len + 1),
        (len + 1, 0),
        (u64::MAX, 0),
        (u64::MAX, 1),
        (u64::MAX - 1, 5),
        (u64::MAX / 2, 8),
        (1 << 63, 1),
        (u64::MAX - 4095, 4096),
    ];
    for (offset, count) in ranges {
        let mut bytes = vec![9; count as usize];
        let end = offset.saturating_add(count);
        let mut results = vec![
            volume.write_all_at(&bytes, offset),
            volume.read_exact_at(&mut bytes, offset),
            taken.read_exact_at(&mut bytes, offset),
            volume.discard(offset..end),
            volume.write_zeroes(offset..end),
            volume.extents(offset..end).map(drop),
            taken.extents(offset..end).map(drop),
        ];
        if offset.checked_add(count).is_none() {
            results.truncate(3);
        }
        for result in results {
            let error = error(result);
            assert!(
                matches!(error, Error::OutOfBounds { .. }),
                "{offset} {count}: {error}"
            );
        }
        assert!(bytes.iter().all(|&byte| byte == 9), "never in part");
    }
    for range in [0..u64::MAX, 5..u64::MAX, len - 1..len + 1] {
        for result in [
            volume.discard(range.clone()),
            volume.write_zeroes(range.clone()),
        ] {
            assert!(matches!(error(result), Error::OutOfBounds { .. }));
        }
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is the bad input")]
    for result in [volume.discard(9..3), volume.write_zeroes(u64::MAX..0)] {
        assert!(matches!(error(result), Error::Invalid { .. }));
    }
    assert_eq!(log.take().len(), 0, "nothing was appended");
    assert_eq!(page_bytes(&volume, 4), [0, 0, 0, 5]);
}

#[test]
fn impossible_sizes_are_refused() {
    let sim = Sim::new(3);
    let store = sim.create();
    let volume = store.create_volume("v", PAGE, &sim.key).unwrap();
    for len in [
        0,
        1 << 63,
        (1 << 63) - 1,
        (1 << 63) - 4095,
        u64::MAX,
        u64::MAX - 4095,
    ] {
        for result in [
            store.create_volume("x", len, &sim.key).map(drop),
            store.import_volume("x", len, &sim.key).map(drop),
            volume.resize(len),
        ] {
            match error(result) {
                Error::Invalid {
                    what: "volume size",
                    value,
                    ..
                } => {
                    assert_eq!(value, len.to_string());
                }
                other => panic!("{len}: {other}"),
            }
        }
    }
    assert_eq!((store.volumes().len(), volume.len().unwrap()), (1, PAGE));
    for (len, rounded) in [
        (1, PAGE),
        (PAGE + 1, 2 * PAGE),
        ((1 << 63) - PAGE, (1 << 63) - PAGE),
    ] {
        volume.resize(len).unwrap();
        assert_eq!(volume.len().unwrap(), rounded);
    }
    let options = |change: fn(Options) -> Options| change(Options::new());
    let fixture = Fixture::new();
    for bad in [
        options(|options| options.page_len(0)),
        options(|options| options.page_len(4095)),
        options(|options| options.page_len(12288)),
        options(|options| options.page_len(131_072)),
        options(|options| options.segment_len(0)),
        options(|options| options.segment_len((1 << 20) + 1)),
        options(|options| options.segment_len(1 << 19)),
        options(|options| options.segment_len((1 << 30) + 4096)),
        options(|options| options.segment_len(u64::MAX)),
    ] {
        let error = error(bad.create(fixture.path(), fixture.kms.clone()));
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(!fixture.path().exists(), "nothing was made");
    }
}

#[test]
fn unknown_and_malformed_keys_are_refused() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let unknown = KeyId([9; 16]);
    let refused = error(store.create_volume("v", PAGE, &unknown));
    assert!(matches!(refused, Error::KeyUnavailable { .. }), "{refused}");
    for reference in ["", "nothing", "alias/", "arn:x", "key/1"] {
        let malformed = error(fixture.kms.key(reference));
        assert!(
            matches!(malformed, Error::Invalid { .. }),
            "{reference}: {malformed}"
        );
    }
    assert!(matches!(
        error(fixture.kms.key("alias/nobody")),
        Error::NotFound { .. }
    ));
    assert!(fixture.kms.resolve("alias/nobody").is_err());
    let taken = error(fixture.kms.create_key(Some("alias/default")));
    assert!(
        matches!(
            taken,
            Error::AlreadyExists {
                kind: Kind::Key,
                ..
            }
        ),
        "{taken}"
    );
    assert!(matches!(
        error(fixture.kms.create_key(Some("a b"))),
        Error::Invalid { .. }
    ));
    assert_eq!(store.volumes().len(), 0);
    store.create_volume("v", PAGE, &fixture.key).unwrap();
}

#[test]
fn a_full_disk_refuses_new_segments_and_nothing_else() {
    // Without help: else what the calls below let die would be given back.
    let options = Options::new().segment_len(64 * PAGE).auto_reclaim(false);
    let sim = Sim::with(4, options.workers(0));
    let store = sim.create();
    let volume = store.create_volume("v", 200 * PAGE, &sim.key).unwrap();
    let second = store.create_volume("w", 4 * PAGE, &sim.key).unwrap();
    second.write_all_at(&page(3), 0).unwrap();
    store.flush().unwrap();
    sim.disks.set_free_len(100 * PAGE);
    let mut written = 0;
    let full = loop {
        match volume.write_all_at(&page(written as u8 + 1), written * PAGE) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::NoSpace { .. }), "{full}");
    assert!(written > 10, "the open segment was filled first: {written}");
    // What takes less than a page fills the last slots.
    while second.rename("u").and_then(|()| second.rename("w")).is_ok() {}
    // It stays so, for all calls that need room, and none leaves a trace.
    for _ in 0..3 {
        for result in [
            volume.write_all_at(&vec![9; 40 * PAGE as usize], 0),
            volume.create_clone("x", &sim.key).map(drop),
            volume.create_snapshot("x").map(drop),
            store.create_volume("x", PAGE, &sim.key).map(drop),
        ] {
            assert!(matches!(error(result), Error::NoSpace { .. }));
        }
    }
    assert_eq!((store.volumes().len(), store.snapshots().len()), (2, 0));
    let bytes: Vec<u8> = (0..written).map(|number| number as u8 + 1).collect();
    assert_eq!(page_bytes(&volume, written), bytes, "reads go on");
    assert_eq!(page_byte(&volume, written), 0);
    volume.flush().unwrap();
    store.checkpoint().unwrap();
    // Room again: the same store goes on.
    sim.disks.set_free_len(1 << 30);
    volume.write_all_at(&page(77), written * PAGE).unwrap();
    second.delete().unwrap();
    let clone = volume.create_clone("x", &sim.key).unwrap();
    assert_eq!(page_byte(&clone, written), 77);
    drop((volume, clone));
    store.close().unwrap();
    let store = sim.open();
    assert_eq!(page_bytes(&store.volume("x").unwrap(), written), bytes);
    assert_eq!(store.volumes().len(), 2);
}

#[test]
fn a_store_on_a_full_disk_opens_and_reads_and_deletes_while_its_segment_has_room() {
    let sim = Sim::with(5, Options::new().segment_len(64 * PAGE).workers(0));
    let store = sim.create();
    for name in ["v", "w"] {
        let volume = store.create_volume(name, 100 * PAGE, &sim.key).unwrap();
        volume.write_all_at(&page(3), 0).unwrap();
    }
    store.close().unwrap();
    sim.disks.set_free_len(0);
    let store = sim.open();
    let volume = store.volume("v").unwrap();
    assert_eq!(page_byte(&volume, 0), 3);
    // Too long for the rest of the segment; a deletion is not.
    let full = error(volume.write_all_at(&vec![1; 60 * PAGE as usize], 0));
    assert!(matches!(full, Error::NoSpace { .. }), "{full}");
    store.volume("w").unwrap().delete().unwrap();
    volume.discard(0..PAGE).unwrap();
    assert_eq!((store.volumes().len(), page_byte(&volume, 0)), (1, 0));
    drop(volume);
    store.close().unwrap();
    // A killed one too, which may write to no segment that is there.
    let killed = sim.kill();
    killed.disks.set_free_len(0);
    let store = killed.open();
    assert_eq!(
        (
            store.volumes().len(),
            page_byte(&store.volume("v").unwrap(), 0)
        ),
        (1, 0)
    );
}

#[test]
fn a_full_disk_of_the_kms_makes_no_half_volume() {
    // Too little for a line of the audit, or for a longer file of head keys.
    for free in [8 << 10, 30 << 10] {
        let sim = Sim::new(6);
        let store = sim.create();
        let mut made = 0;
        sim.vault.set_free_len(free);
        let full = loop {
            match store.create_volume(&format!("v{made}"), PAGE, &sim.key) {
                Ok(_) => made += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(full, Error::NoSpace { .. }), "{full}");
        assert_eq!(
            store.volumes().len(),
            made,
            "a call that failed has changed nothing"
        );
        sim.vault.set_free_len(1 << 30);
        store
            .create_volume(&format!("v{made}"), PAGE, &sim.key)
            .unwrap();
        store.close().unwrap();
        assert_eq!(sim.open().volumes().len(), made + 1);
    }
}

#[test]
fn a_truncated_or_missing_file_is_named() {
    let fixture = closed_store();
    let names = |error: &Error, name: &str| match error {
        Error::Corrupt {
            location: Location::File(file),
            damage,
        } => {
            assert!(file.contains(name), "{error}");
            *damage
        }
        other => panic!("{name}: {other}"),
    };
    let use_all = || -> Result<()> {
        let store = fixture.try_open()?;
        for name in ["v", "c"] {
            store
                .volume(name)?
                .read_exact_at(&mut vec![0; 8 * PAGE as usize], 0)?;
        }
        store
            .volume("filler")?
            .read_exact_at(&mut vec![0; 2 << 20], 0)
    };
    let mut segments: Vec<String> = fs::read_dir(fixture.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("segment-"))
        .collect();
    segments.sort();
    assert!(segments.len() >= 3);
    for name in &segments {
        let path = fixture.file(name);
        for len in [0, 1, 4096, (1 << 20) - 1] {
            with_file(
                &path,
                |bytes| bytes[..len].to_vec(),
                || {
                    assert_eq!(names(&error(use_all()), name), Damage::Truncated);
                },
            );
        }
        with_file(
            &path,
            |bytes| [bytes, vec![0]].concat(),
            || {
                assert!(
                    matches!(error(use_all()), Error::Corrupt { .. }),
                    "too long"
                );
            },
        );
        let moved = fixture.file("moved");
        fs::rename(&path, &moved).unwrap();
        assert_eq!(names(&error(use_all()), name), Damage::Missing);
        fs::rename(&moved, &path).unwrap();
        use_all().unwrap();
    }
    // One superblock file is enough; without any whole one it is an error.
    for name in ["superblock-a", "superblock-b"] {
        for len in [0, 100, 4096] {
            with_file(
                &fixture.file(name),
                |bytes| bytes[..len].to_vec(),
                || use_all().unwrap(),
            );
        }
    }
    with_file(
        &fixture.file("superblock-a"),
        |_| Vec::new(),
        || {
            with_file(
                &fixture.file("superblock-b"),
                |bytes| bytes[..50].to_vec(),
                || {
                    names(&error(use_all()), "superblock");
                },
            );
        },
    );
    for name in ["keys", "aliases", "heads"] {
        let path = fixture.dir.path().join("kms").join(name);
        let open = || FileKms::open(&fixture.dir.path().join("kms"));
        with_file(
            &path,
            |bytes| bytes[..bytes.len() / 2].to_vec(),
            || {
                names(&error(open()), name);
            },
        );
        with_file(
            &path,
            |_| Vec::new(),
            || assert_eq!(names(&error(open()), name), Damage::Truncated),
        );
    }
    with_file(
        &fixture.dir.path().join("kms/keys"),
        |_| b"x".repeat(300),
        || {
            assert_eq!(names(&error(use_all()), "keys"), Damage::BadMagic);
        },
    );
    assert_sound(&fixture);
}

#[test]
fn a_foreign_segment_in_the_place_of_one_is_not_believed() {
    let (fixture, other) = (closed_store(), closed_store());
    let (mine, foreign) = (
        fixture.file("segment-00000001"),
        other.file("segment-00000001"),
    );
    let foreign = fs::read(foreign).unwrap();
    let read = || {
        let store = fixture.try_open()?;
        store.volume("v")?.read_exact_at(&mut page(0), 0)
    };
    with_file(
        &mine,
        |_| foreign,
        || match error(read()) {
            Error::Corrupt {
                location: Location::File(file),
                damage,
            } => {
                assert_eq!(
                    (file.as_str(), damage),
                    ("segment-00000001", Damage::WrongIdentity)
                );
            }
            other => panic!("{other}"),
        },
    );
    assert_sound(&fixture);
}

#[test]
fn a_directory_where_a_file_belongs_is_an_error() {
    let fixture = closed_store();
    for name in [
        "superblock-a",
        "superblock-b",
        "segment-00000001",
        "segment-00000002",
        "lock",
    ] {
        let (path, moved) = (fixture.file(name), fixture.file("moved"));
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        let opened = fixture.try_open().and_then(|store| {
            for volume in ["v", "filler"] {
                let volume = store.volume(volume)?;
                volume.read_exact_at(&mut vec![0; volume.len()? as usize], 0)?;
            }
            Ok(())
        });
        let error = error(opened);
        assert!(
            matches!(error, Error::Io { .. } | Error::Corrupt { .. }),
            "{name}: {error}"
        );
        fs::remove_dir(&path).unwrap();
        fs::rename(&moved, &path).unwrap();
        assert_sound(&fixture);
    }
    // A directory where the next segment would be is not written over.
    let next = fixture.file("segment-00000099");
    fs::create_dir(&next).unwrap();
    assert_sound(&fixture);
    assert!(next.is_dir());
}

#[test]
fn a_read_only_store_reads_and_changes_nothing() {
    let fixture = closed_store();
    // What was flushed but not checkpointed is there for a reader too.
    let store = fixture.open();
    let volume = store.volume("v").unwrap();
    volume.write_all_at(&page(1), 0).unwrap();
    volume.create_snapshot("s").unwrap();
    drop((volume, store));
    let before: Vec<_> = fs::read_dir(fixture.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let open = || {
        Fixture::options()
            .read_only(true)
            .open(fixture.path(), fixture.kms.clone())
    };
    let store = open().unwrap();
    let volume = store.volume("v").unwrap();
    assert_eq!(page_bytes(&volume, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    for result in [
        volume.write_all_at(&page(9), 0),
        volume.write_zeroes(0..PAGE),
        volume.discard(0..PAGE),
        volume.resize(PAGE),
        volume.rename("x"),
        volume.create_clone("x", &fixture.key).map(drop),
        volume.create_snapshot("x").map(drop),
        volume.begin_import().map(drop),
        store.create_volume("x", PAGE, &fixture.key).map(drop),
        store.import_volume("x", PAGE, &fixture.key).map(drop),
        store.snapshot("s").unwrap().delete(),
        store.checkpoint(),
        volume.clone().delete(),
    ] {
        assert!(matches!(error(result), Error::ReadOnly));
    }
    store.flush().unwrap();
    drop(volume);
    store.close().unwrap();
    for (path, bytes) in before {
        assert!(
            fs::read(&path).unwrap() == bytes,
            "{} changed",
            path.display()
        );
    }
    assert_sound(&fixture);
}

#[test]
fn a_read_only_directory_serves_readers_and_tells_writers() {
    let fixture = closed_store();
    let set_mode = |mode: u32| {
        for entry in fs::read_dir(fixture.path()).unwrap() {
            let mode = fs::Permissions::from_mode(mode & 0o666);
            fs::set_permissions(entry.unwrap().path(), mode).unwrap();
        }
        fs::set_permissions(fixture.path(), fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o555);
    if fs::write(fixture.file("probe"), "").is_ok() {
        eprintln!("skipped: who runs this test may write to every directory");
        return;
    }
    assert!(matches!(error(fixture.try_open()), Error::Io { .. }));
    let options = Fixture::options().read_only(true);
    let store = options.open(fixture.path(), fixture.kms.clone()).unwrap();
    assert_eq!(page_byte(&store.volume("v").unwrap(), 1), 2);
    store.close().unwrap();
    let below = options.create(fixture.file("below"), fixture.kms.clone());
    assert!(matches!(error(below), Error::Io { .. }));
    set_mode(0o755);
    assert_sound(&fixture);
}

#[test]
fn what_is_deleted_while_in_use_is_gone_for_every_handle() {
    let sim = Sim::new(7);
    let store = sim.create();
    let volume = store.create_volume("v", 2 * PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(1), 0).unwrap();
    let taken = volume.create_snapshot("s").unwrap();
    let clone = taken.create_clone("c", &sim.key).unwrap();
    let (second, other) = (volume.clone(), store.volume("v").unwrap());
    let extents = volume.extents(0..2 * PAGE).unwrap();
    let taken_again = store.snapshot("s").unwrap();
    second.delete().unwrap();
    taken_again.delete().unwrap();
    assert_eq!(extents.count(), 2, "what was asked before is answered");
    let new = store.create_volume("v", PAGE, &sim.key).unwrap();
    for gone in [&volume, &other] {
        let mut bytes = page(0);
        for result in [
            gone.read_exact_at(&mut bytes, 0),
            gone.write_all_at(&bytes, 0),
            gone.write_zeroes(0..PAGE),
            gone.discard(0..PAGE),
            gone.extents(0..1).map(drop),
            gone.usage().map(drop),
            gone.resize(PAGE),
            gone.rename("x"),
            gone.info().map(drop),
            gone.len().map(drop),
            gone.name().map(drop),
            gone.create_clone("x", &sim.key).map(drop),
            gone.create_snapshot("x").map(drop),
            gone.begin_import().map(drop),
            gone.clone().delete(),
        ] {
            let error = error(result);
            assert!(
                matches!(
                    error,
                    Error::NotFound {
                        kind: Kind::Volume,
                        ..
                    }
                ),
                "{error}"
            );
        }
    }
    for result in [
        taken.read_exact_at(&mut page(0), 0),
        taken.info().map(drop),
        taken.create_clone("x", &sim.key).map(drop),
        taken.create_snapshot("x").map(drop),
        taken.clone().delete(),
    ] {
        let error = error(result);
        assert!(
            matches!(
                error,
                Error::NotFound {
                    kind: Kind::Snapshot,
                    ..
                }
            ),
            "{error}"
        );
    }
    assert_eq!((page_byte(&new, 0), page_byte(&clone, 0)), (0, 1));
    assert_eq!(store.volumes().len(), 2);
}

#[test]
fn a_closed_store_only_gives_errors_and_another_may_open_it() {
    let fixture = closed_store();
    let store = fixture.open();
    let (volume, second) = (store.volume("v").unwrap(), store.clone());
    let taken = volume.create_snapshot("s").unwrap();
    store.close().unwrap();
    let mut bytes = page(0);
    for (number, result) in [
        volume.read_exact_at(&mut bytes, 0),
        taken.read_exact_at(&mut bytes, 0),
        volume.write_all_at(&bytes, 0),
        volume.write_zeroes(0..PAGE),
        volume.discard(0..PAGE),
        volume.flush(),
        volume.extents(0..1).map(drop),
        volume.usage().map(drop),
        volume.resize(PAGE),
        volume.rename("x"),
        volume.create_clone("x", &fixture.key).map(drop),
        volume.create_snapshot("x").map(drop),
        volume.clone().delete(),
        taken.clone().delete(),
        second.create_volume("x", PAGE, &fixture.key).map(drop),
        second.import_volume("x", PAGE, &fixture.key).map(drop),
        second.volume("v").map(drop),
        second.snapshot("s").map(drop),
        volume.info().map(drop),
        second.flush(),
        second.checkpoint(),
        second.info().map(drop),
    ]
    .into_iter()
    .enumerate()
    {
        let error = match result {
            Ok(()) => panic!("call {number} on a closed store"),
            Err(error) => error,
        };
        let is_closed = matches!(
            &error,
            Error::InvalidState {
                state: "closed",
                ..
            }
        );
        assert!(is_closed, "call {number}: {error}");
    }
    assert_sound(&fixture);
    assert!(second.close().is_err(), "closed twice");
    assert_sound(&fixture);
}

#[test]
fn an_import_that_never_ends_leaves_no_volume_that_looks_whole() {
    let sim = Sim::new(8);
    let store = sim.create();
    let old = store.create_volume("old", 2 * PAGE, &sim.key).unwrap();
    old.write_all_at(&page(1), 0).unwrap();
    let new = store.import_volume("new", 2 * PAGE, &sim.key).unwrap();
    new.volume().write_all_at(&page(2), 0).unwrap();
    let again = old.begin_import().unwrap();
    again.volume().write_all_at(&page(3), 0).unwrap();
    for volume in [new.volume(), again.volume()] {
        assert_eq!(volume.info().unwrap().state.as_str(), "importing");
        let refused = error(volume.create_clone("x", &sim.key));
        assert!(
            matches!(
                refused,
                Error::InvalidState {
                    state: "importing",
                    ..
                }
            ),
            "{refused}"
        );
        assert!(matches!(
            error(volume.begin_import()),
            Error::InvalidState { .. }
        ));
    }
    store.flush().unwrap();
    let sim = sim.kill();
    let store = sim.open();
    assert!(matches!(error(store.volume("new")), Error::NotFound { .. }));
    let old = store.volume("old").unwrap();
    assert_eq!(old.info().unwrap().state, HeadState::ImportFailed);
    let refused = error(old.write_all_at(&page(4), 0));
    assert!(matches!(refused, Error::InvalidState { .. }), "{refused}");
    let import = old.begin_import().unwrap();
    import.volume().write_all_at(&page(5), 0).unwrap();
    assert_eq!(page_byte(&import.finish().unwrap(), 0), 5);
    let new = store.import_volume("new", PAGE, &sim.key).unwrap();
    new.abort().unwrap();
    drop(old);
    store.close().unwrap();
    let store = sim.open();
    assert_eq!(
        store.volume("old").unwrap().info().unwrap().state,
        HeadState::Available
    );
    assert_eq!(store.volumes().len(), 1);
}

#[test]
fn a_bit_flipped_in_each_superblock_loses_nothing() {
    let sim = Sim::new(9);
    let store = sim.create();
    let volume = store.create_volume("v", 4 * PAGE, &sim.key).unwrap();
    for number in 0..4 {
        volume
            .write_all_at(&page(number + 1), u64::from(number) * PAGE)
            .unwrap();
        store.checkpoint().unwrap();
    }
    drop(volume);
    store.close().unwrap();
    let disk = sim.disks.dir("store");
    for slots in [
        vec![("superblock-a", 0)],
        vec![("superblock-a", 1)],
        vec![("superblock-a", 0), ("superblock-b", 0)],
        vec![("superblock-a", 1), ("superblock-b", 1)],
    ] {
        let damaged = sim.kill();
        for (name, slot) in &slots {
            assert!(disk.open(name, Access::Read).is_ok());
            damaged.flip(name, slot * PAGE + 200, 3);
        }
        // The newest superblock, or the one before it and the log since.
        let store = damaged.open();
        let volume = store.volume("v").unwrap();
        assert_eq!(page_bytes(&volume, 4), [1, 2, 3, 4], "{slots:?}");
        volume.write_all_at(&page(9), 0).unwrap();
        drop(volume);
        store.close().unwrap();
        assert_eq!(
            page_bytes(&damaged.open().volume("v").unwrap(), 4),
            [9, 2, 3, 4]
        );
    }
    let damaged = sim.kill();
    for name in ["superblock-a", "superblock-b"] {
        for slot in 0..2 {
            damaged.flip(name, slot * PAGE + 200, 3);
        }
    }
    let before = damaged.disks.fingerprint();
    let refused = error(damaged.try_open());
    assert!(
        matches!(
            refused,
            Error::Corrupt {
                damage: Damage::BadChecksum,
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(damaged.disks.fingerprint(), before, "the evidence stays");
}

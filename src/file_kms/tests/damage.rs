use super::*;
use crate::error::{Damage, Error, Kind};
use crate::file_kms::keys::{KeyRing, decode_aliases};
use crate::file_kms::records::put_crc;
use crate::kms::KeyService;
use crate::source::Random;
use crate::units::{HeadKeyId, Location};

fn filled(machine: &SimMachine) -> (FileKms, HeadKeyId) {
    let kms = create(machine);
    let key = kms.create_key(Some("prod")).unwrap().id;
    kms.create_key(Some("test")).unwrap();
    let (head, _) = kms.assign_head_key(&key, STORE, RESOURCE).unwrap();
    kms.claim_head_keys(STORE, &[head]).unwrap();
    (kms, head)
}

fn names(location: &Location, file: &str) -> bool {
    matches!(location, Location::File(name) if name.ends_with(&format!("/{file}")))
}

fn open_error(machine: &SimMachine) -> Error {
    open_on(disk(machine), 2).unwrap_err()
}

fn flip(disk: &dyn Disk, name: &str, bit: usize) {
    let file = disk.open(name, Access::ReadWrite).unwrap();
    let (mut byte, offset) = ([0], (bit / 8) as u64);
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], offset)
        .unwrap();
}

#[test]
fn no_flipped_bit_of_a_small_file_is_accepted() {
    let machine = SimMachine::new();
    filled(&machine);
    let disk = disk(&machine);
    let first_line = read(&*disk, "audit")
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap()
        + 1;
    let lens = [
        ("keys", read(&*disk, "keys").len()),
        ("aliases", read(&*disk, "aliases").len()),
        ("heads", 512),
        ("audit", first_line),
    ];
    assert_eq!((lens[0].1, lens[1].1), (128 + 2 * 144, 64 + 2 * 272));
    for (name, len) in lens {
        for bit in 0..len * 8 {
            flip(&*disk, name, bit);
            match open_error(&machine) {
                Error::Corrupt { location, .. } | Error::UnsupportedVersion { location, .. } => {
                    assert!(names(&location, name), "{name} bit {bit}: {location}");
                }
                other => panic!("{name} bit {bit}: {other}"),
            }
            flip(&*disk, name, bit);
        }
    }
    open(&machine, 2);
}

#[test]
fn no_flipped_bit_of_a_head_key_is_accepted() {
    let machine = SimMachine::new();
    let (kms, head) = filled(&machine);
    let disk = disk(&machine);
    let bytes = read(&*disk, "heads");
    let slot = bytes
        .chunks(512)
        .position(|slot| slot[16..32] == head.0)
        .unwrap();
    for bit in slot * 4096..(slot + 1) * 4096 {
        flip(&*disk, "heads", bit);
        match kms.head_key(&head, STORE, RESOURCE).unwrap_err() {
            KmsError::Failed(error) => assert!(matches!(*error, Error::Corrupt { .. }), "{bit}"),
            other => panic!("bit {bit}: {other}"),
        }
        flip(&*disk, "heads", bit);
    }
    kms.head_key(&head, STORE, RESOURCE).unwrap();
}

#[test]
fn a_damaged_slot_hinders_nobody_else() {
    let machine = SimMachine::new();
    let (_, head) = filled(&machine);
    let disk = disk(&machine);
    flip(&*disk, "heads", 8 * (512 * 64 + 100));
    let kms = open(&machine, 2);
    kms.head_key(&head, STORE, RESOURCE).unwrap();
    let key = kms.resolve("alias/prod").unwrap();
    kms.assign_head_key(&key, STORE, RESOURCE).unwrap();
    kms.destroy_unclaimed(STORE).unwrap();
    let slot = &read(&*disk, "heads")[512 * 64..512 * 65];
    assert_eq!(
        slot.iter().filter(|&&byte| byte != 0).count(),
        1,
        "left as it was"
    );
    // It may have been the one that is looked for.
    let missing = kms.head_key(&HeadKeyId([0; 16]), STORE, RESOURCE);
    assert!(matches!(missing, Err(KmsError::Failed(_))));
}

#[test]
fn every_shorter_or_longer_file_is_refused() {
    let machine = SimMachine::new();
    filled(&machine);
    let disk = disk(&machine);
    for name in ["keys", "aliases"] {
        let whole = read(&*disk, name);
        for len in (0..whole.len()).chain([whole.len() + 1, whole.len() + 144]) {
            let mut other = whole.clone();
            other.resize(len, 0);
            replace(&*disk, name, &other);
            assert!(
                matches!(open_error(&machine), Error::Corrupt { .. }),
                "{name} {len}"
            );
            if other.len() >= 16 {
                put_crc(&mut other);
                replace(&*disk, name, &other);
                assert!(
                    matches!(open_error(&machine), Error::Corrupt { .. }),
                    "{name} {len}"
                );
            }
        }
        replace(&*disk, name, &whole);
    }
    let whole = read(&*disk, "heads");
    for len in [0, 1, 511, 512, 1024, whole.len() - 1] {
        replace(&*disk, "heads", &whole[..len]);
        assert!(matches!(
            open_error(&machine),
            Error::Corrupt {
                damage: Damage::Truncated,
                ..
            }
        ));
    }
    replace(&*disk, "heads", &whole);
    replace(&*disk, "audit", b"{\"file\":");
    assert!(matches!(
        open_error(&machine),
        Error::Corrupt {
            damage: Damage::Truncated,
            ..
        }
    ));
}

#[test]
fn reserved_bytes_and_unknown_values_are_refused_behind_a_right_checksum() {
    let machine = SimMachine::new();
    filled(&machine);
    let disk = disk(&machine);
    // Where something must be zero or is of few values; not the version, material, ids, times.
    let keys = (40..128)
        .chain(128 + 20..128 + 24)
        .chain(128 + 32..128 + 112);
    let aliases = (32..64).chain([64 + 16]).chain(64 + 21..64 + 272);
    for (name, places) in [
        ("keys", keys.collect::<Vec<_>>()),
        ("aliases", aliases.collect()),
    ] {
        let whole = read(&*disk, name);
        for at in places {
            let mut bad = whole.clone();
            bad[at] ^= 0x80;
            put_crc(&mut bad);
            replace(&*disk, name, &bad);
            let error = open_error(&machine);
            assert!(
                matches!(error, Error::Corrupt { .. }),
                "{name} byte {at}: {error}"
            );
        }
        replace(&*disk, name, &whole);
    }
    let whole = read(&*disk, "heads");
    for at in (35..512).chain([32]) {
        let mut bad = whole.clone();
        bad[at] ^= 0x80;
        put_crc(&mut bad[..512]);
        replace(&*disk, "heads", &bad);
        let result = open_on(Arc::clone(&disk), 2);
        assert!(matches!(result, Err(Error::Corrupt { .. })), "byte {at}");
    }
}

#[test]
fn a_newer_version_is_called_newer() {
    let machine = SimMachine::new();
    filled(&machine);
    let disk = disk(&machine);
    for name in ["keys", "aliases", "heads", "audit"] {
        let whole = read(&*disk, name);
        let mut newer = whole.clone();
        match name {
            "audit" => {
                newer = String::from_utf8(newer)
                    .unwrap()
                    .replacen(":0,", ":7,", 1)
                    .into()
            }
            _ => newer[8] = 7,
        }
        replace(&*disk, name, &newer);
        let error = open_error(&machine);
        assert!(
            matches!(
                error,
                Error::UnsupportedVersion {
                    found: 7,
                    known: 0,
                    ..
                }
            ),
            "{name}: {error}"
        );
        replace(&*disk, name, &whole);
    }
}

#[test]
fn a_missing_file_is_named_and_nothing_at_all_is_no_kms() {
    for name in ["keys", "aliases", "heads", "audit"] {
        let machine = SimMachine::new();
        filled(&machine);
        disk(&machine).remove(name).unwrap();
        match open_error(&machine) {
            Error::Corrupt {
                location,
                damage: Damage::Missing,
            } => assert!(names(&location, name)),
            other => panic!("{name}: {other}"),
        }
    }
    let machine = SimMachine::new();
    assert!(matches!(
        open_error(&machine),
        Error::NotAStore {
            kind: Kind::Kms,
            ..
        }
    ));
    assert!(
        disk(&machine).list().unwrap().is_empty(),
        "opening made a file"
    );
}

#[test]
fn files_of_another_kms_are_refused() {
    let (machine, other) = (SimMachine::new(), SimMachine::new());
    filled(&machine);
    let random = Arc::new(SimRandom::new(77));
    let kms = FileKms::create_on(
        disk(&other),
        "elsewhere",
        Arc::new(SimClock::new(0)),
        random,
    );
    assert_eq!(kms.unwrap().region(), "elsewhere");
    for name in ["aliases", "heads", "audit"] {
        let (disk, whole) = (disk(&machine), read(&*disk(&machine), name));
        replace(&*disk, name, &read(&*super::disk(&other), name));
        let error = open_error(&machine);
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error}");
        replace(&*disk, name, &whole);
    }
    let kms = open(&machine, 2);
    replace(&*disk(&machine), "keys", &read(&*disk(&other), "keys"));
    let error = kms.keys().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Corrupt {
                damage: Damage::WrongIdentity,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_kms_is_never_made_over_another() {
    let machine = SimMachine::new();
    filled(&machine);
    let make = || {
        let (clock, random) = (Arc::new(SimClock::new(0)), Arc::new(SimRandom::new(5)));
        FileKms::create_on(disk(&machine), "local", clock, random)
    };
    assert!(matches!(
        make(),
        Err(Error::AlreadyExists {
            kind: Kind::Kms,
            ..
        })
    ));
    // Not even when its keys are gone: its head keys may serve again when they come back.
    disk(&machine).remove("keys").unwrap();
    assert!(matches!(
        make(),
        Err(Error::AlreadyExists {
            kind: Kind::Kms,
            ..
        })
    ));
    disk(&machine).remove("heads").unwrap();
    assert!(make().unwrap().keys().unwrap().is_empty());
    disk(&machine).remove("keys").unwrap();
    assert!(
        make().is_ok(),
        "a creation that was cut off can be repeated"
    );
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let random = SimRandom::new(3);
    let machine = SimMachine::new();
    filled(&machine);
    for name in ["keys", "aliases"] {
        let whole = read(&*disk(&machine), name);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                let len = random.below(4).min(bytes.len() - at);
                random.fill(&mut bytes[at..at + len]);
            }
            bytes.truncate(16.max(random.below(bytes.len() * 2)));
            put_crc(&mut bytes);
            let decoded = match name {
                "keys" => KeyRing::decode(&bytes).map(|ring| ring.encode().to_vec()),
                _ => {
                    let kms = bytes
                        .get(16..32)
                        .map_or([0; 16], |id| id.try_into().unwrap());
                    let encode = |list| crate::file_kms::keys::encode_aliases(&list, kms);
                    decode_aliases(&bytes, kms).map(encode)
                }
            };
            // What is accepted has no other form.
            assert!(decoded.is_err() || decoded.as_ref() == Ok(&bytes));
        }
    }
}

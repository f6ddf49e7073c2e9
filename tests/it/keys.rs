//! Who can read what: KMS keys, key epochs, damage, and what the KMS writes down.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::sync::Arc;

use offshoot::check::{CheckOptions, check};
use offshoot::format::catalog::KeyEpochRecord;
use offshoot::format::record::Record;
use offshoot::io::sim::Crash;
use offshoot::io::{Access, Disk};
use offshoot::{
    Damage, Error, FileKms, KeyEpoch, KeyId, KeyService, KeyState, LineageEpoch, Location, Options,
    PageNo, Result, Store, Volume,
};

use crate::fixture::{
    Fixture, Log, PAGE, Rng, Sim, files_below, page, page_byte, page_bytes, segment_name,
};

/// `keys` of a KMS: a header of 128 bytes, records of 144 that start with the key's id.
const KEYS_HEADER_LEN: usize = 128;
const KEY_LEN: usize = 144;

/// Takes a key's record out of the file `keys`, as if the KMS had lost or destroyed it.
fn destroy_key(sim: &Sim, key: &KeyId) {
    let disk = sim.vault.dir("kms");
    let file = disk.open("keys", Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let records = bytes.split_off(KEYS_HEADER_LEN);
    let left: Vec<_> = records
        .chunks(KEY_LEN)
        .filter(|record| record[..16] != key.0)
        .collect();
    assert_eq!(left.len() + 1, records.len() / KEY_LEN, "the key was there");
    bytes[40..44].copy_from_slice(&(left.len() as u32).to_le_bytes());
    bytes.extend(left.concat());
    bytes[12..16].fill(0);
    let crc = crc32fast::hash(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.remove("keys").unwrap();
    disk.create("keys", bytes.len() as u64)
        .unwrap()
        .write_all_at(&bytes, 0)
        .unwrap();
}

fn audit(sim: &Sim) -> String {
    let file = sim.vault.dir("kms").open("audit", Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
fn assert_unavailable<T>(result: Result<T>, key: &KeyId) {
    match result.map(drop) {
        Err(Error::KeyUnavailable {
            key: named,
            state: KeyState::Missing,
        }) => {
            assert_eq!(named, key.to_string());
        }
        other => panic!("{other:?}"),
    }
}

/// The lineage epoch's key epochs and how they are linked, as the log says.
#[derive(Default)]
struct Epochs {
    keys: BTreeMap<KeyEpoch, KeyEpochRecord>,
    parents: BTreeMap<LineageEpoch, Option<LineageEpoch>>,
    /// Open key epoch of each head, by name, and its KMS key.
    open: BTreeMap<String, (KeyEpoch, KeyId)>,
}

impl Epochs {
    fn add(&mut self, log: &Log) {
        for record in log.take().into_iter().flat_map(|batch| batch.records) {
            match record {
                Record::KeyEpoch(epoch) => {
                    self.keys.insert(epoch.key_epoch, *epoch);
                }
                Record::Lineage(epoch) => {
                    let beside = epoch.beside.and_then(|id| self.parents[&id]);
                    self.parents.insert(epoch.lineage, epoch.parent.or(beside));
                }
                Record::Head(head) => {
                    self.open.insert(head.name, (head.key_epoch, head.kms_key));
                }
                _ => {}
            }
        }
    }

    /// All key epochs that whoever has the key of `open` can unwrap.
    fn unlocked_by(&self, open: KeyEpoch) -> BTreeSet<KeyEpoch> {
        let (mut found, mut next) = (BTreeSet::new(), vec![open]);
        while let Some(id) = next.pop() {
            if found.insert(id) {
                let epoch = &self.keys[&id];
                next.extend(
                    [epoch.above, epoch.far]
                        .into_iter()
                        .flatten()
                        .map(|link| link.to),
                );
            }
        }
        found
    }

    /// Lineage epochs from that of a key epoch up to the root.
    fn line(&self, open: KeyEpoch) -> Vec<LineageEpoch> {
        let mut line = vec![self.keys[&open].lineage];
        while let Some(&Some(parent)) = self.parents.get(line.last().unwrap()) {
            line.push(parent);
        }
        line
    }
}

/// A volume under one KMS key and its clone under another, both written after the branch.
struct TwoKeys {
    sim: Sim,
    store: Store,
    source: Volume,
    clone: Volume,
    clone_key: KeyId,
}

fn two_keys() -> TwoKeys {
    let sim = Sim::new(1);
    let clone_key = sim.kms.create_key(Some("alias/tenant")).unwrap().id;
    let store = sim.create();
    let source = store.create_volume("source", 4 * PAGE, &sim.key).unwrap();
    source
        .write_all_at(&[page(1), page(2), page(3), page(4)].concat(), 0)
        .unwrap();
    let clone = source.create_clone("clone", &clone_key).unwrap();
    source.write_all_at(&page(11), 0).unwrap();
    clone.write_all_at(&page(14), 3 * PAGE).unwrap();
    store.flush().unwrap();
    TwoKeys {
        sim,
        store,
        source,
        clone,
        clone_key,
    }
}

#[test]
fn a_clone_under_another_key_reads_old_pages_and_seals_new_ones_under_its_own_epoch() {
    let sim = Sim::new(2);
    let clone_key = sim.kms.create_key(None).unwrap().id;
    let store = sim.create();
    let log = sim.watch();
    let mut epochs = Epochs::default();
    let source = store.create_volume("source", 4 * PAGE, &sim.key).unwrap();
    epochs.add(&log);
    let before = epochs.open["source"].0;
    source
        .write_all_at(&[page(1), page(2), page(3), page(4)].concat(), 0)
        .unwrap();
    let sealed_under = |log: &Log| -> BTreeSet<KeyEpoch> {
        log.take_pages()
            .iter()
            .map(|(_, delta)| delta.entry.key_epoch)
            .collect()
    };
    assert_eq!(sealed_under(&log), BTreeSet::from([before]));
    let clone = source.create_clone("clone", &clone_key).unwrap();
    epochs.add(&log);
    let (of_clone, of_source) = (epochs.open["clone"], epochs.open["source"]);
    assert_eq!((of_clone.1, of_source.1), (clone_key, sim.key));
    assert_eq!(
        BTreeSet::from([before, of_clone.0, of_source.0]).len(),
        3,
        "both are fresh"
    );
    // Whole pages, parts of old ones, and many: all new pages of a side are under its own.
    for (volume, open) in [(&clone, of_clone.0), (&source, of_source.0)] {
        volume.write_all_at(&page(20), 0).unwrap();
        volume.write_all_at(&[21; 5], PAGE + 100).unwrap();
        volume.write_zeroes(2 * PAGE + 5..2 * PAGE + 6).unwrap();
        assert_eq!(sealed_under(&log), BTreeSet::from([open]));
    }
    assert_eq!(
        page_byte(&clone, 3),
        4,
        "sealed under the source's key before the branch"
    );
    let info = clone.info().unwrap();
    assert_eq!(
        (info.kms_key, source.info().unwrap().kms_key),
        (clone_key, sim.key)
    );
    drop((source, clone));
    store.close().unwrap();
    let store = sim.open();
    assert_eq!(page_byte(&store.volume("clone").unwrap(), 3), 4);
    assert_eq!(page_byte(&store.volume("source").unwrap(), 3), 4);
}

#[test]
fn losing_one_sides_kms_key_loses_exactly_that_side() {
    for lose_source in [true, false] {
        let TwoKeys {
            sim,
            store,
            source,
            clone,
            clone_key,
        } = two_keys();
        let taken = source.create_snapshot("source-s").unwrap();
        let lost = if lose_source { sim.key } else { clone_key };
        drop((source, clone, taken));
        store.close().unwrap();
        destroy_key(&sim, &lost);
        for round in 0..2 {
            // Another process each time: keys in memory do not help.
            let sim = sim.on(sim.disks.clone(), sim.vault.clone());
            let store = sim.open();
            assert_eq!((store.volumes().len(), store.snapshots().len()), (2, 1));
            let (source, clone) = (
                store.volume("source").unwrap(),
                store.volume("clone").unwrap(),
            );
            let (dead, alive) = if lose_source {
                (&source, &clone)
            } else {
                (&clone, &source)
            };
            let mut bytes = page(0xEE);
            assert_unavailable(dead.read_exact_at(&mut bytes, 0), &lost);
            assert_unavailable(dead.write_all_at(&bytes, 0), &lost);
            assert_unavailable(dead.create_clone("x", &sim.key), &lost);
            assert_unavailable(store.create_volume("x", PAGE, &lost), &lost);
            assert!(store.volume("x").is_err());
            // What needs no key goes on, on the dead side too.
            assert_eq!(dead.info().unwrap().kms_key, lost);
            assert!(
                dead.extents(0..4 * PAGE)
                    .unwrap()
                    .all(|extent| extent.is_ok())
            );
            assert_eq!(dead.usage().unwrap().referenced_bytes, (4 - round) * PAGE);
            dead.discard(PAGE..2 * PAGE).unwrap();
            dead.rename(&format!("renamed-{round}")).unwrap();
            dead.rename(if lose_source { "source" } else { "clone" })
                .unwrap();
            // The other side does all there is, with pages that the dead side wrote.
            let expected = if lose_source {
                [1, 2, 3, 14]
            } else {
                [11, 2, 3, 4]
            };
            let expected = if round == 0 {
                expected
            } else {
                [50, expected[1], 3, expected[3]]
            };
            assert_eq!(page_bytes(alive, 4), expected);
            alive.write_all_at(&page(50), 0).unwrap();
            alive
                .create_clone("y", &alive.info().unwrap().kms_key)
                .unwrap()
                .delete()
                .unwrap();
            let mut bytes = page(0);
            let read = store
                .snapshot("source-s")
                .unwrap()
                .read_exact_at(&mut bytes, 0);
            match lose_source {
                true => assert_unavailable(read, &lost),
                false => read.unwrap(),
            }
            store.checkpoint().unwrap();
            match round {
                0 => store.close().unwrap(),
                _ => {
                    // Its keys are not needed to delete it, and that changes nothing elsewhere.
                    let (dead, alive) = if lose_source {
                        (source, clone)
                    } else {
                        (clone, source)
                    };
                    dead.delete().unwrap();
                    store.checkpoint().unwrap();
                    let expected = if lose_source {
                        [50, 2, 3, 14]
                    } else {
                        [50, 2, 3, 4]
                    };
                    assert_eq!(page_bytes(&alive, 4), expected);
                    drop(alive);
                    store.close().unwrap();
                    assert_eq!(sim.open().volumes().len(), 1);
                }
            }
        }
    }
}

#[test]
fn losing_or_damaging_one_head_key_loses_exactly_that_head() {
    for destroyed in [true, false] {
        lose_a_head_key(destroyed);
    }
}

fn lose_a_head_key(destroyed: bool) {
    let TwoKeys {
        sim,
        store,
        source,
        clone,
        ..
    } = two_keys();
    let log = sim.watch();
    source.rename("renamed").unwrap();
    let head_key = log
        .take()
        .iter()
        .flat_map(|batch| &batch.records)
        .find_map(|record| {
            let Record::Head(head) = record else {
                return None;
            };
            Some(head.head_key)
        });
    let head_key = head_key.unwrap();
    drop((source, clone));
    store.close().unwrap();
    // A slot of `heads` is 512 bytes and zeroes if its key is destroyed; the id is at 16.
    let file = sim
        .vault
        .dir("kms")
        .open("heads", Access::ReadWrite)
        .unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let slot = bytes
        .chunks(512)
        .position(|slot| slot[16..32] == head_key.0)
        .unwrap();
    match destroyed {
        true => file.write_all_at(&[0; 512], slot as u64 * 512).unwrap(),
        false => file.write_all_at(&[0xAA], slot as u64 * 512 + 100).unwrap(),
    }
    let sim = sim.on(sim.disks.clone(), sim.vault.clone());
    let store = sim.open();
    let source = store.volume("renamed").unwrap();
    let mut bytes = page(0);
    let read = source.read_exact_at(&mut bytes, 0);
    match destroyed {
        true => assert!(
            matches!(read, Err(Error::KeyUnavailable { .. })),
            "{read:?}"
        ),
        false => assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}"),
    }
    assert_eq!(
        page_bytes(&store.volume("clone").unwrap(), 4),
        [1, 2, 3, 14]
    );
    source.delete().unwrap();
    store.checkpoint().unwrap();
    store.close().unwrap();
    assert_eq!(
        page_bytes(&sim.open().volume("clone").unwrap(), 4),
        [1, 2, 3, 14]
    );
}

#[test]
fn four_forms_name_a_key_and_keys_work_in_their_region_only() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let info = kms.key("alias/default").unwrap();
    let alias_arn = info.arn.split("key/").next().unwrap().to_owned() + "alias/default";
    for form in [&info.id.to_string(), &info.arn, "alias/default", &alias_arn] {
        assert_eq!(kms.resolve(form).unwrap(), fixture.key, "{form}");
    }
    assert_eq!(
        (info.region.as_str(), kms.region().as_str()),
        ("local", "local")
    );
    for foreign in [
        info.arn.replace("local", "far"),
        info.arn.replace("000", "123"),
    ] {
        let refused = kms.key(&foreign);
        assert!(
            matches!(refused, Err(Error::AccessDenied { .. })),
            "{foreign}: {refused:?}"
        );
    }
    // A key of another region's KMS is none here.
    let far = FileKms::create(&fixture.dir.path().join("far"), "far").unwrap();
    let far_key = far.create_key(None).unwrap();
    assert!(matches!(
        kms.key(&far_key.arn),
        Err(Error::AccessDenied { .. })
    ));
    assert_unavailable(
        fixture.create().create_volume("v", PAGE, &far_key.id),
        &far_key.id,
    );
}

#[test]
fn a_store_opens_with_its_own_kms_only() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("v", PAGE, &fixture.key).unwrap();
    volume.write_all_at(&page(5), 0).unwrap();
    drop(volume);
    store.close().unwrap();
    let other = FileKms::create(&fixture.dir.path().join("other"), "local").unwrap();
    let open = |kms: &FileKms| Options::new().open(fixture.path(), kms.clone());
    assert!(matches!(open(&other), Err(Error::WrongKms { .. })));
    other.create_key(Some("alias/offshoot-store")).unwrap();
    assert!(matches!(open(&other), Err(Error::WrongKms { .. })));
    let no_kms = FileKms::open(&fixture.dir.path().join("nothing"));
    assert!(matches!(no_kms, Err(Error::NotAStore { .. })));
    // A KMS without the key that wraps store keys makes no store.
    let bare = FileKms::create(&fixture.dir.path().join("bare"), "local").unwrap();
    let made = Options::new().create(fixture.dir.path().join("second"), bare);
    assert!(matches!(made, Err(Error::WrongKms { .. })), "{made:?}");
    // The refused tries have changed nothing.
    let store = open(&fixture.kms).unwrap();
    assert_eq!(page_byte(&store.volume("v").unwrap(), 0), 5);
}

#[test]
fn a_store_whose_own_key_is_gone_says_so() {
    let TwoKeys {
        sim,
        store,
        source,
        clone,
        ..
    } = two_keys();
    let key = store.info().unwrap().kms_key;
    drop((source, clone));
    store.close().unwrap();
    destroy_key(&sim, &key);
    let sim = sim.on(sim.disks.clone(), sim.vault.clone());
    match sim.try_open() {
        Err(Error::WrongKms { key: named }) => assert_eq!(named, key.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_use_of_a_key_is_written_down_with_the_resource_it_was_for() {
    let TwoKeys {
        sim,
        store,
        source,
        clone,
        clone_key,
    } = two_keys();
    let (of_source, of_clone) = (source.info().unwrap().id, clone.info().unwrap().id);
    let line = |action: &str, key: &KeyId, resource: &dyn std::fmt::Display| {
        let (key, resource) = (
            format!("\"key\":\"{key}\""),
            format!("\"resource\":\"{resource}\""),
        );
        let action = format!("\"action\":\"{action}\"");
        let text = audit(&sim);
        text.lines()
            .filter(|line| {
                line.contains(&action) && line.contains(&key) && line.contains(&resource)
            })
            .count()
    };
    assert_eq!(line("assign-head-key", &sim.key, &of_source), 1);
    assert_eq!(line("assign-head-key", &clone_key, &of_clone), 1);
    assert_eq!(line("unwrap-head-key", &clone_key, &of_clone), 0);
    let (store_key, store_id) = (store.info().unwrap().kms_key, store.info().unwrap().id);
    assert_eq!(line("generate", &store_key, &store_id), 1);
    source.rename("renamed").unwrap();
    drop((source, clone));
    store.close().unwrap();
    let decrypted = line("decrypt", &store_key, &store_id);
    let store = sim.open();
    assert_eq!(line("decrypt", &store_key, &store_id), decrypted + 1);
    assert_eq!(page_byte(&store.volume("clone").unwrap(), 0), 1);
    assert_eq!(page_byte(&store.volume("renamed").unwrap(), 0), 11);
    assert_eq!(line("unwrap-head-key", &clone_key, &of_clone), 1);
    assert_eq!(
        line("unwrap-head-key", &sim.key, &of_source),
        1,
        "the id outlives the name"
    );
}

#[test]
fn no_written_bytes_lie_in_any_file_in_the_clear() {
    let fixture = Fixture::new();
    let pattern = b"a sentence that must never lie on any disk in the clear";
    let store = fixture.create();
    let volume = store.create_volume("v", 1 << 20, &fixture.key).unwrap();
    let many: Vec<u8> = pattern.iter().copied().cycle().take(300_000).collect();
    volume.write_all_at(&many, 77).unwrap();
    let clone = volume.create_clone("c", &fixture.key).unwrap();
    clone.write_all_at(pattern, 500_000).unwrap();
    volume.write_zeroes(100..200).unwrap();
    volume.create_snapshot("s").unwrap();
    store.checkpoint().unwrap();
    volume.write_all_at(pattern, 5_000).unwrap();
    drop((volume, clone));
    store.close().unwrap();
    let files = files_below(fixture.dir.path());
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let found = bytes.windows(16).any(|window| window == &pattern[..16]);
        assert!(!found, "{}", file.display());
    }
    let mut bytes = vec![0; pattern.len()];
    fixture
        .open()
        .volume("c")
        .unwrap()
        .read_exact_at(&mut bytes, 500_000)
        .unwrap();
    assert_eq!(bytes, pattern);
}

#[test]
fn a_flipped_bit_of_a_page_is_an_error_that_names_it_and_never_wrong_data() {
    let sim = Sim::new(3);
    let store = sim.create();
    let log = sim.watch();
    let volume = store.create_volume("v", 4 * PAGE, &sim.key).unwrap();
    volume
        .write_all_at(&[page(1), page(2), page(3)].concat(), 0)
        .unwrap();
    let clone = volume.create_clone("c", &sim.key).unwrap();
    let at = log.take_pages()[1].1.entry.at;
    let mut rng = Rng(3);
    for _ in 0..50 {
        let (offset, bit) = (
            u64::from(at.slot) * PAGE + rng.below(PAGE),
            rng.below(8) as u32,
        );
        sim.flip(&segment_name(at), offset, bit);
        for (name, volume) in [("v", &volume), ("c", &clone)] {
            for (count, start) in [(4096, PAGE), (10, PAGE + 900), (3 * 4096, 0)] {
                let mut bytes = vec![0xEE; count];
                match volume.read_exact_at(&mut bytes, start) {
                    Err(Error::Corrupt {
                        location:
                            Location::Page {
                                head,
                                page,
                                at: found,
                            },
                        damage: Damage::BadTag,
                    }) => assert_eq!((head.as_str(), page, found), (name, PageNo(1), at)),
                    other => panic!("{other:?}"),
                }
                let of_page_1 = &bytes[(PAGE.saturating_sub(start)) as usize..][..count.min(4096)];
                assert!(!of_page_1.contains(&2), "nothing of the page comes out");
            }
            assert_eq!((page_byte(volume, 0), page_byte(volume, 2)), (1, 3));
        }
        // A part of it cannot be written: that would make the damage look whole.
        assert!(matches!(
            clone.write_all_at(&[1], PAGE),
            Err(Error::Corrupt { .. })
        ));
        sim.flip(&segment_name(at), offset, bit);
        assert_eq!((page_byte(&volume, 1), page_byte(&clone, 1)), (2, 2));
    }
    sim.flip(&segment_name(at), u64::from(at.slot) * PAGE, 0);
    clone.write_all_at(&page(9), PAGE).unwrap();
    assert_eq!(
        page_byte(&clone, 1),
        9,
        "written anew as a whole, it is sound"
    );
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_changes_nothing() {
    let sim = Sim::with(
        4,
        Options::new().segment_len(64 * PAGE).fanout(3).workers(0),
    );
    let store = sim.create();
    let volume = store.create_volume("v", 12 * PAGE, &sim.key).unwrap();
    let mut expected = [0; 12];
    for number in 0..12 {
        volume
            .write_all_at(&page(number + 1), u64::from(number) * PAGE)
            .unwrap();
        expected[usize::from(number)] = number + 1;
    }
    let clone = volume.create_clone("c", &sim.key).unwrap();
    volume.write_all_at(&page(100), 0).unwrap();
    store.checkpoint().unwrap();
    clone.write_all_at(&page(101), PAGE).unwrap();
    store.flush().unwrap();
    volume.write_all_at(&page(102), 2 * PAGE).unwrap();
    store.flush().unwrap();
    drop((volume, clone));
    store.close().unwrap();
    let disk = sim.disks.dir("store");
    let mut rng = Rng(4);
    let (mut refused, mut tries) = (0, 0);
    for name in disk.list().unwrap() {
        let len = disk.open(&name, Access::Read).unwrap().len().unwrap();
        for slot in 0..len / PAGE {
            for end in [40, 60, 140, 200, 600, PAGE, PAGE] {
                let offset = rng.below(end);
                let (offset, bit) = (slot * PAGE + offset, rng.below(8) as u32);
                let damaged = sim.kill();
                damaged.flip(&name, offset, bit);
                tries += 1;
                let mut check = |result: Result<bool>| match result {
                    Ok(same) => assert!(same, "wrong data: {name} offset {offset} bit {bit}"),
                    Err(Error::Corrupt { .. } | Error::UnsupportedVersion { .. }) => refused += 1,
                    Err(other) => panic!("{name} offset {offset} bit {bit}: {other}"),
                };
                let store = match damaged.try_open() {
                    Ok(store) => store,
                    Err(error) => {
                        check(Err(error));
                        continue;
                    }
                };
                for (number, &byte) in expected.iter().enumerate() {
                    for (head, own) in [("v", [(0, 100), (2, 102)]), ("c", [(1, 101), (1, 101)])] {
                        let volume = store.volume(head).unwrap();
                        let mut bytes = page(0xEE);
                        let read = volume.read_exact_at(&mut bytes, number as u64 * PAGE);
                        let own = own.iter().find(|(page, _)| *page == number);
                        let byte = own.map_or(byte, |(_, byte)| *byte);
                        check(read.map(|()| bytes == page(byte)));
                    }
                }
            }
        }
    }
    assert!(
        tries > 300 && refused > 100,
        "{refused} of {tries} were refused"
    );
}

#[test]
fn no_side_of_a_branch_holds_a_key_to_what_another_wrote_after_it() {
    for seed in 0..20 {
        let sim = Sim::new(5);
        let store = sim.create();
        let log = sim.watch();
        let (mut rng, mut epochs) = (Rng(seed), Epochs::default());
        let mut volumes = vec![store.create_volume("v0", 8 * PAGE, &sim.key).unwrap()];
        // Who wrote pages under which key epoch.
        let mut writers: BTreeMap<KeyEpoch, usize> = BTreeMap::new();
        epochs.add(&log);
        for step in 1..60 {
            let index = rng.index(volumes.len());
            if rng.below(3) > 0 {
                volumes[index]
                    .write_all_at(&page(step), rng.below(8) * PAGE)
                    .unwrap();
                let key_epoch = log.take_pages()[0].1.entry.key_epoch;
                let writer = *writers.entry(key_epoch).or_insert(index);
                assert_eq!(writer, index, "two heads seal under one epoch");
            } else {
                let name = format!("v{}", volumes.len());
                volumes.push(volumes[index].create_clone(&name, &sim.key).unwrap());
                epochs.add(&log);
            }
        }
        for (name, (open, _)) in &epochs.open {
            let unlocked = epochs.unlocked_by(*open);
            let line = epochs.line(*open);
            for id in &unlocked {
                assert!(
                    line.contains(&epochs.keys[id].lineage),
                    "{name} opens a sibling's {id}"
                );
            }
            for (other, (others_open, _)) in &epochs.open {
                assert!(
                    other == name || !unlocked.contains(others_open),
                    "{name} opens {other}"
                );
            }
            // All that was written above is within reach.
            let above = writers
                .keys()
                .filter(|id| line.contains(&epochs.keys[id].lineage));
            assert!(
                above.into_iter().all(|id| unlocked.contains(id)),
                "{name} misses a key"
            );
        }
    }
}

#[test]
fn no_nonce_seals_twice_under_one_subkey() {
    let mut sim = Sim::with(6, Options::new().segment_len(64 * PAGE).workers(0));
    let log = sim.watch();
    let store = sim.create();
    store.create_volume("v0", 16 * PAGE, &sim.key).unwrap();
    drop(store);
    let (mut rng, mut seen, mut count) = (Rng(6), HashSet::new(), 0);
    for process in 1..12 {
        let store = sim.open();
        let names: Vec<_> = store
            .volumes()
            .into_iter()
            .map(|volume| volume.name)
            .collect();
        for _ in 0..30 {
            let volume = store.volume(&names[rng.index(names.len())]).unwrap();
            let first = rng.below(16);
            let pages = 1 + rng.below(16 - first);
            let bytes = vec![process as u8; (pages * PAGE) as usize];
            volume.write_all_at(&bytes, first * PAGE).unwrap();
        }
        let source = store.volume(&names[rng.index(names.len())]).unwrap();
        source
            .create_clone(&format!("v{process}"), &sim.key)
            .unwrap();
        for batch in log.take() {
            for record in batch.records {
                let Record::Pages { deltas, .. } = record else {
                    continue;
                };
                for delta in deltas {
                    let entry = delta.entry;
                    count += 1;
                    assert!(
                        seen.insert((entry.key_epoch, batch.head.header.salt, entry.nonce)),
                        "{entry:?}"
                    );
                }
            }
        }
        match process % 3 {
            0 => store.close().unwrap(),
            1 => drop(store),
            _ => {
                // The log goes on being watched on the machine that goes on.
                drop(store);
                sim.kms = sim.open_kms();
            }
        }
    }
    assert!(count > 1_000, "{count} pages");
}

#[test]
fn a_volume_in_use_goes_on_when_its_key_goes_and_ends_with_the_process() {
    let TwoKeys {
        sim,
        store,
        source,
        clone,
        clone_key,
    } = two_keys();
    destroy_key(&sim, &clone_key);
    // The keys are in memory: within the lease a KMS is asked once for a head.
    assert_eq!(page_byte(&clone, 3), 14);
    clone.write_all_at(&page(15), 0).unwrap();
    assert_unavailable(source.create_clone("x", &clone_key), &clone_key);
    assert_unavailable(store.create_volume("x", PAGE, &clone_key), &clone_key);
    assert_eq!(store.volumes().len(), 2);
    drop((source, clone));
    store.close().unwrap();
    let kms: Arc<dyn KeyService> = Arc::new(sim.open_kms());
    let store = sim.options.open_on(sim.machine(), kms).unwrap();
    let mut bytes = page(0);
    let clone = store.volume("clone").unwrap();
    assert_unavailable(clone.read_exact_at(&mut bytes, 0), &clone_key);
    assert_eq!(page_byte(&store.volume("source").unwrap(), 0), 11);
}

/// Nobody has claimed its head key then: the note of it was not synced.
#[test]
fn who_only_looks_after_a_power_loss_finds_the_keys_of_what_was_acknowledged() {
    let sim = Sim::new(95).joined();
    let store = sim.create();
    let volume = store.create_volume("v", 8 * PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(1), 0).unwrap();
    let clone = volume.create_clone("c", &sim.key).unwrap();
    clone.write_all_at(&page(2), PAGE).unwrap();
    store.flush().unwrap();
    let lost = sim.disks.power_loss(&Crash::NONE_KEPT);
    let after = sim.on(lost.clone(), lost);
    let kms: Arc<dyn KeyService> = Arc::new(after.open_kms());
    let looked = check(
        &after.disks.dir("store"),
        &CheckOptions::new().kms(kms.clone()).open_pages(),
    );
    let report = looked.unwrap();
    assert!(report.is_clean(), "{report}");
    let options = after.options.clone().read_only(true);
    let store = options.open_on(after.machine(), kms).unwrap();
    let clone = store.volume("c").unwrap();
    assert_eq!(page_bytes(&clone, 2), [1, 2]);
    drop((clone, store));
    // And it stays so for those that write, who destroy what is named nowhere.
    after.open().close().unwrap();
    let store = after.open();
    assert_eq!(page_bytes(&store.volume("c").unwrap(), 2), [1, 2]);
}

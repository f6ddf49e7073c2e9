//! KMS keys that are switched off, rotated, moved and destroyed under stores.

use std::sync::{Arc, Mutex};

use offshoot::check::{CheckOptions, check};
use offshoot::io::sim::{SimClock, SimRandom};
use offshoot::{Error, FileKms, KeyId, KeyState, RekeyStart, Result, Store};

use crate::fixture::{PAGE, Sim, page, page_byte};

pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A store in which `mine` and the snapshot `before` are under `alias/prod`, and `theirs`, a clone of
/// `mine`, is under `alias/other`.
pub fn rig() -> Sim {
    let sim = Sim::new(7);
    let prod = sim.kms.create_key(Some("alias/prod")).unwrap().id;
    let other = sim.kms.create_key(Some("alias/other")).unwrap().id;
    let store = sim.create();
    let mine = store.create_volume("mine", 4 * PAGE, &prod).unwrap();
    mine.write_all_at(&page(1), 0).unwrap();
    mine.create_snapshot("before").unwrap();
    let theirs = mine.create_clone("theirs", &other).unwrap();
    mine.write_all_at(&page(2), PAGE).unwrap();
    theirs.write_all_at(&page(3), PAGE).unwrap();
    drop((mine, theirs));
    store.close().unwrap();
    sim
}

fn key(sim: &Sim, alias: &str) -> KeyId {
    sim.kms.key(alias).unwrap().id
}

/// The KMS as a process sees it whose clock shows another time.
pub fn kms_at(sim: &Sim, now_ms: u64) -> FileKms {
    let (clock, random) = (
        Arc::new(SimClock::new(now_ms)),
        Arc::new(SimRandom::new(99)),
    );
    FileKms::open_on(Arc::new(sim.vault.dir("kms")), clock, random).unwrap()
}

/// Puts `alias/prod` into a state.
fn put(sim: &Sim, state: KeyState) {
    match state {
        KeyState::Disabled => drop(sim.kms.disable_key("alias/prod").unwrap()),
        KeyState::PendingDeletion | KeyState::Deleted => {
            let pending = sim.kms.schedule_key_deletion("alias/prod", 7).unwrap();
            if state == KeyState::Deleted {
                let late = kms_at(sim, pending.deletion_at_ms.unwrap());
                late.create_key(None).unwrap();
            }
        }
        _ => {}
    }
    assert_eq!(sim.kms.key("alias/prod").unwrap().state, state);
}

type Operation = fn(&Sim) -> Result<()>;

fn with_store<T>(sim: &Sim, work: impl FnOnce(&Store) -> Result<T>) -> Result<()> {
    let store = sim.try_open()?;
    let done = work(&store).map(drop);
    store.close()?;
    done
}

pub fn fsck(sim: &Sim) -> Result<()> {
    let options = CheckOptions::new().kms(Arc::new(sim.kms.clone()));
    let report = check(&sim.disks.dir("store"), &options.read_data(true))?;
    assert!(report.is_clean(), "{report}");
    Ok(())
}

const OPERATIONS: &[(&str, Operation)] = &[
    ("store: open, close", |sim| with_store(sim, |_| Ok(()))),
    ("store: checkpoint", |sim| {
        with_store(sim, |store| {
            store.volume("theirs")?.write_all_at(&page(9), 0)?;
            store.checkpoint()
        })
    }),
    ("store: fsck", fsck),
    ("store: rewrap", |sim| with_store(sim, Store::rewrap)),
    ("volume: read", |sim| {
        with_store(sim, |store| {
            store.volume("mine")?.read_exact_at(&mut page(0), PAGE)
        })
    }),
    ("volume: read what the clone shares", |sim| {
        with_store(sim, |store| {
            store.volume("mine")?.read_exact_at(&mut page(0), 0)
        })
    }),
    ("volume: write", |sim| {
        with_store(sim, |store| store.volume("mine")?.write_all_at(&page(9), 0))
    }),
    ("volume: clone", |sim| {
        let key = key(sim, "alias/prod");
        with_store(sim, |store| store.volume("mine")?.create_clone("x", &key))
    }),
    ("volume: clone under another key", |sim| {
        let key = key(sim, "alias/other");
        with_store(sim, |store| store.volume("mine")?.create_clone("x", &key))
    }),
    ("volume: snapshot", |sim| {
        with_store(sim, |store| store.volume("mine")?.create_snapshot("x"))
    }),
    ("volume: create", |sim| {
        let key = key(sim, "alias/prod");
        with_store(sim, |store| store.create_volume("x", PAGE, &key))
    }),
    ("volume: show, map, usage", |sim| {
        with_store(sim, |store| {
            let mine = store.volume("mine")?;
            mine.extents(0..4 * PAGE)?
                .try_for_each(|extent| extent.map(drop))?;
            mine.usage()
        })
    }),
    ("volume: discard whole pages", |sim| {
        with_store(sim, |store| store.volume("mine")?.discard(0..PAGE))
    }),
    ("volume: resize, rename", |sim| {
        with_store(sim, |store| {
            store.volume("mine")?.resize(8 * PAGE)?;
            store.volume("mine")?.rename("x")
        })
    }),
    ("volume: rewrap to another key", |sim| {
        let key = key(sim, "alias/other");
        with_store(sim, |store| store.volume("mine")?.rewrap(&key))
    }),
    ("volume: delete", |sim| {
        with_store(sim, |store| store.volume("mine")?.delete())
    }),
    ("snapshot: read", |sim| {
        with_store(sim, |store| {
            store.snapshot("before")?.read_exact_at(&mut page(0), 0)
        })
    }),
    ("snapshot: delete", |sim| {
        with_store(sim, |store| store.snapshot("before")?.delete())
    }),
    ("clone under another key: read all", |sim| {
        with_store(sim, |store| {
            store
                .volume("theirs")?
                .read_exact_at(&mut page(0).repeat(4), 0)
        })
    }),
    ("clone under another key: write", |sim| {
        with_store(sim, |store| {
            store.volume("theirs")?.write_all_at(&page(9), 0)
        })
    }),
    ("clone under another key: snapshot", |sim| {
        with_store(sim, |store| store.volume("theirs")?.create_snapshot("x"))
    }),
    (
        "clone under another key: clone back under this one",
        |sim| {
            let key = key(sim, "alias/prod");
            with_store(sim, |store| store.volume("theirs")?.create_clone("x", &key))
        },
    ),
    ("key: show, list", |sim| {
        sim.kms.key("alias/prod")?;
        sim.kms.keys().map(drop)
    }),
    ("key: rotate", |sim| {
        sim.kms.rotate_key("alias/prod").map(drop)
    }),
    ("key: enable", |sim| {
        sim.kms.enable_key("alias/prod").map(drop)
    }),
    ("key: disable", |sim| {
        sim.kms.disable_key("alias/prod").map(drop)
    }),
    ("key: schedule deletion", |sim| {
        sim.kms.schedule_key_deletion("alias/prod", 30).map(drop)
    }),
    ("key: cancel deletion", |sim| {
        sim.kms.cancel_key_deletion("alias/prod").map(drop)
    }),
    ("key: alias set to it", |sim| {
        sim.kms.set_alias("x", "alias/prod").map(drop)
    }),
    ("key: alias moved away, deleted", |sim| {
        sim.kms.set_alias("prod", "alias/other")?;
        sim.kms.delete_alias("prod").map(drop)
    }),
];

/// What became of an operation; a refusal names the key and its state.
fn cell(result: Result<()>, key: &KeyId, state: KeyState) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(Error::KeyUnavailable {
            key: named,
            state: of,
        }) => {
            assert_eq!((named, of), (key.to_string(), state));
            "unavailable"
        }
        Err(Error::InvalidState { name, state: of }) => {
            assert_eq!((name, of), (key.to_string(), state.as_str()));
            "forbidden"
        }
        Err(error) => panic!("{error}"),
    }
}

/// `o` ok, `u` the key is unavailable, `f` its state forbids it: as enabled, disabled, pending
/// deletion, deleted.
const TABLE: &[(&str, &str)] = &[
    ("store: open, close", "oooo"),
    ("store: checkpoint", "oooo"),
    ("store: fsck", "oooo"),
    ("store: rewrap", "oooo"),
    ("volume: read", "ouuu"),
    ("volume: read what the clone shares", "ouuu"),
    ("volume: write", "ouuu"),
    ("volume: clone", "ouuu"),
    ("volume: clone under another key", "ouuu"),
    ("volume: snapshot", "ouuu"),
    ("volume: create", "ouuu"),
    ("volume: show, map, usage", "oooo"),
    ("volume: discard whole pages", "oooo"),
    ("volume: resize, rename", "oooo"),
    ("volume: rewrap to another key", "ouuu"),
    ("volume: delete", "oooo"),
    ("snapshot: read", "ouuu"),
    ("snapshot: delete", "oooo"),
    ("clone under another key: read all", "oooo"),
    ("clone under another key: write", "oooo"),
    ("clone under another key: snapshot", "oooo"),
    ("clone under another key: clone back under this one", "ouuu"),
    ("key: show, list", "oooo"),
    ("key: rotate", "offf"),
    ("key: enable", "ooff"),
    ("key: disable", "ooff"),
    ("key: schedule deletion", "ooff"),
    ("key: cancel deletion", "ffof"),
    ("key: alias set to it", "ooff"),
    ("key: alias moved away, deleted", "oooo"),
];

#[test]
fn the_table_of_key_states_and_operations_holds_in_every_cell() {
    let states = [
        KeyState::Enabled,
        KeyState::Disabled,
        KeyState::PendingDeletion,
        KeyState::Deleted,
    ];
    let mut rows: Vec<Vec<&str>> = vec![Vec::new(); OPERATIONS.len()];
    for state in states {
        let sim = rig();
        put(&sim, state);
        let key = key(&sim, "alias/prod");
        for ((_, operation), row) in OPERATIONS.iter().zip(&mut rows) {
            // Each on a copy of its own, and all that needs no such key works afterwards.
            let sim = sim.on(sim.disks.kill(), sim.vault.kill());
            row.push(cell(operation(&sim), &key, state));
            fsck(&sim).unwrap();
            let store = sim.open();
            assert_eq!(page_byte(&store.volume("theirs").unwrap(), 1), 3);
        }
    }
    println!(
        "| operation | enabled | disabled | pending deletion | deleted |\n|---|---|---|---|---|"
    );
    for ((name, _), row) in OPERATIONS.iter().zip(&rows) {
        println!("| {name} | {} |", row.join(" | "));
    }
    assert_eq!(OPERATIONS.len(), TABLE.len());
    for (((name, _), row), (expected_name, expected)) in OPERATIONS.iter().zip(&rows).zip(TABLE) {
        let letters: String = row.iter().map(|cell| &cell[..1]).collect();
        assert_eq!((*name, letters.as_str()), (*expected_name, *expected));
    }
}

pub fn state_of<T>(result: Result<T>) -> Option<KeyState> {
    match result.map(drop) {
        Ok(()) => None,
        Err(Error::KeyUnavailable { state, .. }) => Some(state),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_rewrap_moves_a_head_to_another_key_and_touches_no_page() {
    let sim = rig();
    let (prod, other) = (key(&sim, "alias/prod"), key(&sim, "alias/other"));
    let store = sim.open();
    let log = sim.watch();
    store.volume("mine").unwrap().rewrap(&other).unwrap();
    store.snapshot("before").unwrap().rewrap(&other).unwrap();
    assert!(log.take_pages().is_empty());
    assert_eq!(store.volume("mine").unwrap().info().unwrap().kms_key, other);
    store.close().unwrap();
    sim.kms.disable_key("alias/prod").unwrap();
    let sim = sim.on(sim.disks.clone(), sim.vault.clone());
    let store = sim.open();
    assert_eq!(page_byte(&store.volume("mine").unwrap(), 1), 2);
    let before = store.snapshot("before").unwrap();
    assert_eq!(before.info().unwrap().kms_key, other);
    before.read_exact_at(&mut page(0), 0).unwrap();
    // Not back: that key is disabled. The next snapshot is under the new one.
    assert_eq!(
        state_of(store.volume("mine").unwrap().rewrap(&prod)),
        Some(KeyState::Disabled)
    );
    store
        .volume("mine")
        .unwrap()
        .create_snapshot("after")
        .unwrap();
    fsck_of(store, &sim);
}

fn fsck_of(store: Store, sim: &Sim) {
    store.close().unwrap();
    fsck(sim).unwrap();
}

#[test]
fn a_rewrap_puts_everything_under_the_newest_versions() {
    let sim = rig();
    for alias in ["alias/prod", "alias/offshoot-store", "alias/other"] {
        sim.kms.rotate_key(alias).unwrap();
    }
    sim.kms.disable_key("alias/other").unwrap();
    let store = sim.open();
    let plan = store.plan_rewrap().unwrap();
    assert_eq!((plan.outdated, plan.current, plan.unavailable), (2, 0, 1));
    assert!(plan.store_key);
    assert_eq!(store.rewrap().unwrap(), plan);
    let plan = store.plan_rewrap().unwrap();
    assert_eq!((plan.outdated, plan.current, plan.unavailable), (0, 2, 1));
    assert!(!plan.store_key);
    fsck_of(store, &sim);
    let store = sim.open();
    assert_eq!(page_byte(&store.volume("mine").unwrap(), 1), 2);
    assert!(!store.plan_rewrap().unwrap().store_key);
}

/// A rewrap that a power loss cuts off anywhere leaves everything readable, and can be repeated.
#[test]
fn a_rewrap_that_is_cut_off_is_harmless() {
    let sim = rig().joined();
    let machine = sim.disks.clone();
    for alias in ["alias/prod", "alias/offshoot-store"] {
        sim.kms.rotate_key(alias).unwrap();
    }
    let other = key(&sim, "alias/other");
    let states = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&states);
    let store = sim.open();
    machine.on_barrier(move |killed| {
        let lost = killed.crash_points().into_iter();
        let mut kept = kept.lock().unwrap();
        kept.extend(lost.map(|crash| killed.power_loss(&crash)));
        kept.push(killed.kill());
    });
    store.rewrap().unwrap();
    store.volume("mine").unwrap().rewrap(&other).unwrap();
    machine.clear_hooks();
    let states = std::mem::take(&mut *states.lock().unwrap());
    assert!(states.len() > 20, "{}", states.len());
    for machine in states {
        let sim = sim.on(machine.clone(), machine);
        let store = sim.open();
        let mine = store.volume("mine").unwrap();
        assert_eq!((page_byte(&mine, 0), page_byte(&mine, 1)), (1, 2));
        assert_eq!(page_byte(&store.volume("theirs").unwrap(), 1), 3);
        let before = store.snapshot("before").unwrap();
        before.read_exact_at(&mut page(0), 0).unwrap();
        store.rewrap().unwrap();
        mine.rewrap(&other).unwrap();
        let plan = store.plan_rewrap().unwrap();
        assert_eq!((plan.outdated, plan.store_key), (0, false));
        // A superblock of which only one mirror was written is made whole by the next ones.
        for byte in [8, 9] {
            mine.write_all_at(&page(byte), 2 * PAGE).unwrap();
            store.checkpoint().unwrap();
        }
        drop((mine, before));
        fsck_of(store, &sim);
    }
}

#[test]
fn the_key_of_one_side_in_any_state_leaves_the_other_side_fully_usable() {
    for of_source in [true, false] {
        for state in [
            KeyState::Disabled,
            KeyState::PendingDeletion,
            KeyState::Deleted,
        ] {
            let sim = Sim::new(8);
            let prod = sim.kms.create_key(Some("alias/prod")).unwrap().id;
            let other = sim.kms.create_key(Some("alias/other")).unwrap().id;
            let (first, second) = match of_source {
                true => (prod, other),
                false => (other, prod),
            };
            let store = sim.create();
            let source = store.create_volume("source", 8 * PAGE, &first).unwrap();
            source.write_all_at(&page(1).repeat(8), 0).unwrap();
            let clone = source.create_clone("clone", &second).unwrap();
            source.write_all_at(&page(2), 0).unwrap();
            clone.write_all_at(&page(3), PAGE).unwrap();
            drop((source, clone));
            store.close().unwrap();
            put(&sim, state);
            let store = sim.open();
            let (lost, left, bytes) = match of_source {
                true => ("source", "clone", [1, 3, 1, 1, 1, 1, 1, 1]),
                false => ("clone", "source", [2, 1, 1, 1, 1, 1, 1, 1]),
            };
            let lost = store.volume(lost).unwrap().read_exact_at(&mut page(0), 0);
            assert_eq!(state_of(lost), Some(state));
            let left = store.volume(left).unwrap();
            assert_eq!(
                (0..8).map(|at| page_byte(&left, at)).collect::<Vec<_>>(),
                bytes
            );
            left.write_all_at(&page(4), 2 * PAGE).unwrap();
            left.create_clone("more", &other).unwrap();
            let rekeyed = left.rekey(RekeyStart::NewEpoch).unwrap();
            assert!(rekeyed.collect::<Result<Vec<_>>>().is_ok());
            assert_eq!(page_byte(&left, 7), 1);
            drop(left);
            fsck_of(store, &sim);
        }
    }
}

/// The wrong KMS, keys that were rotated and rewrapped in part, a KMS that was put back, and upkeep
/// while all tenants' keys are locked.
#[test]
fn wrong_rotated_restored_key() {
    let sim = rig().joined();
    let expect = |sim: &Sim| {
        let store = sim.open();
        let mine = store.volume("mine").unwrap();
        assert_eq!((page_byte(&mine, 0), page_byte(&mine, 1)), (1, 2));
        assert_eq!(page_byte(&store.volume("theirs").unwrap(), 1), 3);
        let before = store.snapshot("before").unwrap();
        before.read_exact_at(&mut page(0), 0).unwrap();
        drop((mine, before));
        fsck_of(store, sim);
    };
    // Wrong.
    let mut wrong = sim.on(sim.disks.clone(), sim.vault.clone());
    wrong.kms = Sim::new(9).kms;
    assert!(matches!(
        wrong.try_open().map(drop),
        Err(Error::WrongKms { .. })
    ));
    // Rotated, and rewrapped for one head only.
    let backup = sim.vault.kill();
    for alias in ["alias/prod", "alias/other", "alias/offshoot-store"] {
        sim.kms.rotate_key(alias).unwrap();
    }
    let store = sim.open();
    let (mine, other) = (store.volume("mine").unwrap(), key(&sim, "alias/other"));
    mine.rewrap(&other).unwrap();
    assert_eq!(store.plan_rewrap().unwrap().outdated, 2);
    drop(mine);
    store.close().unwrap();
    expect(&sim);
    // Restored: head keys as they were wrapped before, in a KMS that never saw the rotation.
    expect(&sim.on(sim.disks.kill(), backup));
    // Locked: what needs no tenant's key goes on for everybody.
    for alias in ["alias/prod", "alias/other"] {
        sim.kms.disable_key(alias).unwrap();
    }
    let sim = sim.on(sim.disks.clone(), sim.vault.clone());
    let store = sim.open();
    let mine = store.volume("mine").unwrap();
    assert_eq!(
        state_of(mine.read_exact_at(&mut page(0), 0)),
        Some(KeyState::Disabled)
    );
    mine.discard(PAGE..2 * PAGE).unwrap();
    mine.usage().unwrap();
    mine.plan_erase().unwrap();
    assert!(
        mine.extents(0..4 * PAGE)
            .unwrap()
            .all(|extent| extent.is_ok())
    );
    store.volume("theirs").unwrap().delete().unwrap();
    store.checkpoint().unwrap();
    drop(mine);
    fsck_of(store, &sim);
    for alias in ["alias/prod", "alias/other"] {
        sim.kms.enable_key(alias).unwrap();
    }
    let store = sim.open();
    let mine = store.volume("mine").unwrap();
    assert_eq!((page_byte(&mine, 0), page_byte(&mine, 1)), (1, 0));
    mine.write_all_at(&page(5), PAGE).unwrap();
    assert_eq!(page_byte(&mine, 1), 5);
    drop(mine);
    fsck_of(store, &sim);
}

//! Pins: what they hold, whatever happens to what they were made from.

use offshoot::{Error, KeyState};

use crate::fixture::{Fixture, PAGE, Sim, page};

#[test]
fn a_pin_reads_on_while_what_it_holds_is_overwritten_deleted_and_reclaimed() {
    let sim = Sim::new(71);
    let store = sim.create();
    let volume = store.create_volume("db", 64 * PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(1).repeat(64), 0).unwrap();
    let snapshot = volume.create_snapshot("s").unwrap();
    let pins = [
        volume.pin("of-volume").unwrap(),
        snapshot.pin("of-snapshot").unwrap(),
    ];
    volume.write_all_at(&page(2).repeat(64), 0).unwrap();
    let held_ids = [volume.info().unwrap().id, snapshot.info().unwrap().id];
    store.delete(&["db"], &["s"]).unwrap();
    store.compact(|_| true).unwrap();
    for (pin, held_id) in pins.iter().zip(held_ids) {
        assert_eq!(pin.info().unwrap().held_id, held_id);
        let mut bytes = vec![0; 64 * PAGE as usize];
        pin.read_exact_at(&mut bytes, 0).unwrap();
        assert!(
            bytes == page(1).repeat(64),
            "what was there when the pin was made"
        );
    }
    // The handles of what is deleted give a clear error, never zeroes.
    let mut byte = [7];
    let gone = volume.read_exact_at(&mut byte, 0);
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    assert_eq!(byte, [7]);
    // Both hold the same pages, so neither has any for itself.
    assert!(
        pins.iter()
            .all(|pin| pin.usage().unwrap().exclusive_bytes == 0)
    );
    let space = store.space().unwrap();
    assert_eq!((space.page_bytes, space.snapshot_bytes), (64 * PAGE, 0));
    assert!(space.pin_bytes >= 64 * PAGE, "{space:?}");

    // A pin outlives the process, and a crash.
    drop((pins, volume, snapshot, store));
    let sim = sim.kill();
    let store = sim.open();
    let names: Vec<String> = store.pins().into_iter().map(|pin| pin.name).collect();
    assert_eq!(names, ["of-volume", "of-snapshot"]);
    let pin = store.pin("OF-Snapshot").unwrap();
    store.pin("of-volume").unwrap().release().unwrap();
    store.checkpoint().unwrap();
    assert_eq!(pin.usage().unwrap().exclusive_bytes, 64 * PAGE);
    let clone = pin.clone();
    pin.release().unwrap();
    let gone = clone.read_exact_at(&mut byte, 0);
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    store.checkpoint().unwrap();
    assert_eq!(store.space().unwrap().page_bytes, 0);
}

#[test]
fn names_of_pins_are_their_own_and_taken_once() {
    let sim = Sim::new(72);
    let store = sim.create();
    let volume = store.create_volume("db", PAGE, &sim.key).unwrap();
    volume.create_snapshot("x").unwrap();
    let pin = volume.pin("X").unwrap();
    assert_eq!(pin.name().unwrap(), "x");
    let taken = volume.pin("x");
    assert!(
        matches!(taken, Err(Error::AlreadyExists { .. })),
        "{taken:?}"
    );
    for name in ["", "1", "a--b", "ü"] {
        assert!(
            matches!(volume.pin(name), Err(Error::Invalid { .. })),
            "{name}"
        );
    }
    let none = store.pin("none").map(drop);
    assert!(matches!(none, Err(Error::NotFound { .. })), "{none:?}");
    pin.release().unwrap();
    volume.pin("x").unwrap();
}

#[test]
fn a_pin_needs_the_key_to_be_made_and_read_but_not_to_be_released() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("db", 4 * PAGE, &fixture.key).unwrap();
    volume.write_all_at(&page(3), 0).unwrap();
    let pin = volume.pin("p").unwrap();
    store.close().unwrap();
    drop((volume, pin));
    fixture.kms.disable_key("alias/default").unwrap();
    let store = fixture.open();
    let refused = store.volume("db").unwrap().pin("q");
    let is_refused = |state| matches!(state, KeyState::Disabled);
    assert!(
        matches!(refused, Err(Error::KeyUnavailable { state, .. }) if is_refused(state)),
        "{refused:?}"
    );
    let pin = store.pin("p").unwrap();
    let mut bytes = [7];
    let refused = pin.read_exact_at(&mut bytes, 0);
    assert!(
        matches!(refused, Err(Error::KeyUnavailable { .. })),
        "{refused:?}"
    );
    pin.release().unwrap();
    assert_eq!(store.pins(), []);
}

#[test]
fn erasing_names_the_pin_through_which_pages_stay_readable() {
    let sim = Sim::new(73);
    let store = sim.create();
    let volume = store.create_volume("db", 4 * PAGE, &sim.key).unwrap();
    volume.write_all_at(&page(3), 0).unwrap();
    let pin = volume.pin("p").unwrap();
    let plan = volume.erase().unwrap();
    assert_eq!(plan.readers().collect::<Vec<_>>(), ["pin p"]);
    let mut bytes = page(0);
    pin.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, page(3));
}

//! Deletion protection.

use offshoot::{DeletionProtection, Error, Kind, Store};

use crate::fixture::{PAGE, Sim};

fn protection(store: &Store, name: &str) -> DeletionProtection {
    let info = store.volume(name).unwrap().info().unwrap();
    info.deletion_protection
}

fn assert_refused(store: &Store, name: &str) {
    match store.volume(name).unwrap().delete() {
        Err(Error::Protected { kind, name: named }) => {
            assert_eq!((kind, named.as_str()), (Kind::Volume, name));
        }
        other => panic!("{other:?}"),
    }
    assert!(store.volume(name).is_ok(), "it is still there");
}

#[test]
fn a_protected_volume_is_not_deleted_until_the_protection_is_taken_away() {
    let sim = Sim::new(40);
    let store = sim.create();
    let volume = store.create_volume("db", 4 * PAGE, &sim.key).unwrap();
    assert_eq!(protection(&store, "db"), DeletionProtection::Off);
    volume
        .set_deletion_protection(DeletionProtection::On)
        .unwrap();
    assert_refused(&store, "db");
    // What else is done to it does not change that.
    volume.rename("db2").unwrap();
    volume.resize(8 * PAGE).unwrap();
    let snapshot = volume.create_snapshot("s").unwrap();
    volume.create_clone("clone", &sim.key).unwrap();
    assert_refused(&store, "db2");
    // What is made of it is not protected.
    assert_eq!(protection(&store, "clone"), DeletionProtection::Off);
    store.volume("clone").unwrap().delete().unwrap();
    snapshot.delete().unwrap();
    drop((volume, store));
    let sim = sim.kill();
    for _ in 0..2 {
        // After a kill from the log, after a close from the tables.
        let store = sim.open();
        assert_eq!(protection(&store, "db2"), DeletionProtection::On);
        assert_refused(&store, "db2");
        store.close().unwrap();
    }
    let store = sim.open();
    let volume = store.volume("db2").unwrap();
    volume
        .set_deletion_protection(DeletionProtection::Off)
        .unwrap();
    volume.delete().unwrap();
    assert!(store.volumes().is_empty());
    store.close().unwrap();
}

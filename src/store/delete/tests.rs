//! Sets of heads: all or none, and in batches that fit.

use crate::error::Error;
use crate::format::catalog::{HeadKind, HeadRecord};
use crate::format::record::Record;
use crate::store::delete::chunks;
use crate::store::{DeletionProtection, Options, Store};
use crate::units::KeyId;

fn store() -> (tempfile::TempDir, Store, KeyId) {
    let dir = tempfile::tempdir().unwrap();
    let kms = crate::file_kms::FileKms::create(&dir.path().join("kms"), "local").unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(None).unwrap().id;
    let options = Options::new().segment_len(1 << 20).workers(0);
    let store = options.create(dir.path().join("store"), kms).unwrap();
    (dir, store, key)
}

#[test]
fn if_one_of_a_set_cannot_be_deleted_none_is() {
    let (_dir, store, key) = store();
    let volume = store.create_volume("a", 4096, &key).unwrap();
    let kept = volume.create_clone("kept", &key).unwrap();
    volume.create_snapshot("s").unwrap();
    kept.set_deletion_protection(DeletionProtection::On)
        .unwrap();
    let refused = store.delete(&["a", "kept"], &["s"]);
    assert!(
        matches!(refused, Err(Error::Protected { .. })),
        "{refused:?}"
    );
    let refused = store.delete(&["a", "nobody"], &["s"]);
    assert!(
        matches!(refused, Err(Error::NotFound { .. })),
        "{refused:?}"
    );
    assert_eq!((store.volumes().len(), store.snapshots().len()), (2, 1));
    // A name that is given twice is one.
    store.delete(&["a", "A"], &["s", "s"]).unwrap();
    assert_eq!((store.volumes().len(), store.snapshots().len()), (1, 0));
    let again = store.delete(&["a"], &[]);
    assert!(matches!(again, Err(Error::NotFound { .. })), "{again:?}");
    store.delete(&[], &[]).unwrap();
}

#[test]
fn a_set_is_one_batch_if_that_fits_and_else_several() {
    let (_dir, store, key) = store();
    let names: Vec<String> = (0..40).map(|number| format!("v{number}")).collect();
    for name in &names {
        store.create_volume(name, 4096, &key).unwrap();
    }
    let batches = store.stats().unwrap().batches;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    store.delete(&names, &[]).unwrap();
    assert_eq!(store.stats().unwrap().batches, batches + 1);

    let some = store.create_volume("x", 4096, &key).unwrap();
    let head = store
        .0
        .find(HeadKind::Volume, &some.name().unwrap())
        .unwrap();
    let record = |name: &str| {
        Record::Head(Box::new(HeadRecord {
            name: name.to_owned(),
            ..head.record.clone()
        }))
    };
    let records = [
        record("a"),
        record("b"),
        record(&"c".repeat(200)),
        record("d"),
    ];
    let counts = |len_max| -> Vec<usize> {
        chunks(&records, len_max)
            .iter()
            .map(|chunk| chunk.len())
            .collect()
    };
    assert_eq!(counts(10_000), [4]);
    assert_eq!(counts(600), [2, 1, 1]);
    assert_eq!(counts(1), [1, 1, 1, 1]);
    assert_eq!(chunks(&[], 600).concat().len(), 0);
}

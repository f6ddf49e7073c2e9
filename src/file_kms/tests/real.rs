use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::error::{Error, Kind};
use crate::kms::KeyService;

#[test]
fn a_directory_of_the_file_system_is_a_kms() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("kms/local");
    let result = FileKms::open(&path);
    assert!(matches!(
        result,
        Err(Error::NotAStore {
            kind: Kind::Kms,
            ..
        })
    ));
    let kms = FileKms::create(&path, "local").unwrap();
    let key = kms.create_key(Some("default")).unwrap().id;
    let (head, secret) = kms.assign_head_key(&key, STORE, RESOURCE).unwrap();
    kms.claim_head_keys(STORE, &[head]).unwrap();
    let again = FileKms::create(&path, "local");
    assert!(matches!(
        again,
        Err(Error::AlreadyExists {
            kind: Kind::Kms,
            ..
        })
    ));
    let kms = FileKms::open(&path).unwrap();
    assert_eq!(kms.resolve("alias/default").unwrap(), key);
    assert_eq!(
        kms.head_key(&head, STORE, RESOURCE).unwrap().expose(),
        secret.expose()
    );
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600);
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["aliases", "audit", "heads", "keys", "lock"]);
}

#[test]
fn what_is_no_file_in_a_files_place_is_an_error() {
    for name in ["keys", "aliases", "heads", "audit", "lock"] {
        let place = tempfile::tempdir().unwrap();
        FileKms::create(place.path(), "local").unwrap();
        fs::remove_file(place.path().join(name)).unwrap();
        fs::create_dir(place.path().join(name)).unwrap();
        let error = FileKms::open(place.path()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, b"").unwrap();
    let result = FileKms::open(&file);
    assert!(matches!(
        result,
        Err(Error::NotAStore {
            kind: Kind::Kms,
            ..
        })
    ));
    assert!(FileKms::create(&file, "local").is_err());
}

#[test]
fn processes_wait_for_each_others_lock() {
    let place = tempfile::tempdir().unwrap();
    let kms = FileKms::create(place.path(), "local").unwrap();
    let key = kms.create_key(None).unwrap().id;
    let kms: Vec<_> = (0..3)
        .map(|_| FileKms::open(place.path()).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for kms in &kms {
            scope.spawn(|| {
                for _ in 0..10 {
                    kms.create_key(None).unwrap();
                    kms.assign_head_key(&key, STORE, RESOURCE).unwrap();
                }
            });
        }
    });
    assert_eq!(kms[0].keys().unwrap().len(), 31);
}

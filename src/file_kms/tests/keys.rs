use super::*;
use crate::crypto::Secret;
use crate::error::{Error, Kind};
use crate::file_kms::keys::{Key, KeyRing, KeyVersion, Status};
use crate::kms::KeyService;
use crate::units::KeyId;

#[test]
fn four_reference_forms_name_one_key() {
    let machine = SimMachine::new();
    let kms = create(&machine);
    let key = kms.create_key(Some("alias/team/prod_1")).unwrap();
    kms.create_key(None).unwrap();
    let alias_arn = "arn:offshoot:kms:local:000000000000:alias/team/prod_1";
    assert_eq!(
        key.arn,
        format!("arn:offshoot:kms:local:000000000000:key/{}", key.id)
    );
    for reference in [
        &key.id.to_string(),
        &key.arn,
        "alias/team/prod_1",
        alias_arn,
    ] {
        assert_eq!(kms.key(reference).unwrap(), key, "{reference}");
        assert_eq!(kms.resolve(reference).unwrap(), key.id, "{reference}");
    }
    assert_eq!(key.aliases, ["alias/team/prod_1"]);
    assert_eq!((key.version, key.region.as_str()), (1, "local"));
    assert_eq!(kms.keys().unwrap().len(), 2);
    assert_eq!(open(&machine, 2).keys().unwrap(), kms.keys().unwrap());
}

#[test]
fn keys_of_another_region_or_account_are_refused() {
    let kms = create(&SimMachine::new());
    let key = kms.create_key(Some("prod")).unwrap();
    let id = key.id;
    for reference in [
        format!("arn:offshoot:kms:elsewhere:000000000000:key/{id}"),
        format!("arn:offshoot:kms:local:000000000001:key/{id}"),
        "arn:offshoot:kms:elsewhere:000000000000:alias/prod".to_owned(),
        "arn:offshoot:kms:local::alias/prod".to_owned(),
    ] {
        let error = kms.key(&reference).unwrap_err();
        assert!(
            matches!(error, Error::AccessDenied { .. }),
            "{reference}: {error}"
        );
        assert!(matches!(
            kms.resolve(&reference),
            Err(KmsError::Denied { .. })
        ));
    }
}

#[test]
fn bad_references_are_told_from_unknown_ones() {
    let kms = create(&SimMachine::new());
    for bad in [
        "",
        "prod",
        "alias/",
        "alias/a b",
        "arn:",
        "arn:aws:kms:local:000000000000:alias/x",
        "arn:offshoot:kms:local:000000000000",
        "arn:offshoot:kms:local:000000000000:key/1",
        "arn:offshoot:kms:local:000000000000:other/x",
        "arn:offshoot:kms:local:000000000000:00000000-0000-4000-8000-000000000000",
    ] {
        assert!(matches!(kms.key(bad), Err(Error::Invalid { .. })), "{bad}");
    }
    for unknown in ["alias/prod", "00000000-0000-4000-8000-000000000000"] {
        assert!(matches!(
            kms.key(unknown),
            Err(Error::NotFound {
                kind: Kind::Key,
                ..
            })
        ));
        assert!(matches!(kms.resolve(unknown), Err(KmsError::NotFound(name)) if name == unknown));
    }
}

#[test]
fn aliases_and_regions_keep_their_rules() {
    let kms = create(&SimMachine::new());
    let long = "a".repeat(250);
    for good in ["prod", "alias/Prod", "a/b_c-9", &long] {
        kms.create_key(Some(good)).unwrap();
    }
    let error = kms.create_key(Some("alias/prod")).unwrap_err();
    assert!(
        matches!(error, Error::AlreadyExists { kind: Kind::Key, name } if name == "alias/prod")
    );
    for bad in ["", "alias/", "a b", "ü", "a:b", &"a".repeat(251)] {
        assert!(
            matches!(kms.create_key(Some(bad)), Err(Error::Invalid { .. })),
            "{bad}"
        );
    }
    assert_eq!(kms.keys().unwrap().len(), 4);
    for bad in ["", "eu west", "eu_west", &"a".repeat(64)] {
        let disk = disk(&SimMachine::new());
        let (clock, random) = (Arc::new(SimClock::new(0)), Arc::new(SimRandom::new(0)));
        let result = FileKms::create_on(Arc::clone(&disk), bad, clock, random);
        assert!(
            matches!(result, Err(Error::Invalid { what: "region", .. })),
            "{bad}"
        );
        assert!(disk.list().unwrap().is_empty());
    }
}

#[test]
fn a_data_key_comes_back_only_with_its_exact_context() {
    let kms = create(&SimMachine::new());
    let key = kms.create_key(None).unwrap().id;
    let other_key = kms.create_key(None).unwrap().id;
    let (wrapped, secret) = kms.generate(&key, &CONTEXT).unwrap();
    assert_eq!(
        kms.decrypt(&key, &wrapped, &CONTEXT).unwrap().expose(),
        secret.expose()
    );
    let denied = |key, wrapped: &[u8], context: &Context| {
        let result = kms.decrypt(key, wrapped, context);
        matches!(
            result,
            Err(KmsError::Denied {
                action: "decrypt",
                ..
            })
        )
    };
    assert!(denied(&other_key, &wrapped, &CONTEXT));
    assert!(denied(
        &key,
        &wrapped,
        &Context {
            store: StoreId([3; 16]),
            ..CONTEXT
        }
    ));
    assert!(denied(
        &key,
        &wrapped,
        &Context {
            resource: ResourceId([3; 16]),
            ..CONTEXT
        }
    ));
    assert!(denied(
        &key,
        &wrapped,
        &Context {
            purpose: "store-kez",
            ..CONTEXT
        }
    ));
    assert!(denied(&key, &wrapped[..63], &CONTEXT));
    assert!(denied(&key, &[&wrapped[..], &[0]].concat(), &CONTEXT));
    for bit in 0..wrapped.len() * 8 {
        let mut bad = wrapped.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(denied(&key, &bad, &CONTEXT), "bit {bit}");
    }
    assert!(is_missing(&kms.decrypt(
        &KeyId([9; 16]),
        &wrapped,
        &CONTEXT
    )));
    assert!(is_missing(&kms.generate(&KeyId([9; 16]), &CONTEXT)));
}

#[test]
fn deleting_a_keys_record_makes_its_heads_unreadable() {
    let machine = SimMachine::new();
    let kms = create(&machine);
    let key = kms.create_key(Some("prod")).unwrap().id;
    let (wrapped, _) = kms.generate(&key, &CONTEXT).unwrap();
    let (head, _) = kms.assign_head_key(&key, STORE, RESOURCE).unwrap();
    kms.claim_head_keys(STORE, &[head]).unwrap();
    let disk = disk(&machine);
    let mut ring = KeyRing::decode(&read(&*disk, "keys")).unwrap();
    ring.keys.clear();
    replace(&*disk, "keys", &ring.encode());
    for kms in [&kms, &open(&machine, 2)] {
        assert!(is_missing(&kms.head_key(&head, STORE, RESOURCE)));
        assert!(is_missing(&kms.decrypt(&key, &wrapped, &CONTEXT)));
        assert!(is_missing(&kms.assign_head_key(&key, STORE, RESOURCE)));
        assert!(is_missing(&kms.refill(&key, StoreId([8; 16]))));
        assert!(is_missing(&kms.resolve("alias/prod")));
    }
}

#[test]
fn versions_of_keys_read_back() {
    let version = |byte| KeyVersion {
        created_at_ms: byte,
        material: Secret::from_bytes([byte as u8; 32]),
    };
    let key = |id, versions: &[u64]| Key {
        id: KeyId([id; 16]),
        account: "000000000000".to_owned(),
        status: if id == 1 {
            Status::Enabled
        } else {
            Status::PendingDeletion { at_s: 5 }
        },
        versions: versions.iter().map(|&byte| version(byte)).collect(),
    };
    let ring = KeyRing {
        kms: [5; 16],
        region: "eu-west-1".to_owned(),
        created_at_ms: 7,
        keys: vec![key(1, &[1, 2, 3]), key(2, &[4])],
    };
    let decoded = KeyRing::decode(&ring.encode()).unwrap();
    assert_eq!(decoded.encode()[..], ring.encode()[..]);
    let first = decoded.usable(&KeyId([1; 16]), 0).unwrap();
    let (newest, secret) = first.newest();
    assert_eq!((newest, secret.expose()), (3, &[3; 32]));
    assert_eq!(first.version(2).unwrap().expose(), &[2; 32]);
    assert!(first.version(0).is_none());
    assert!(first.version(4).is_none());
    assert!(decoded.usable(&KeyId([2; 16]), 0).is_err());
    // The same key twice, with another between.
    let torn = KeyRing {
        keys: vec![key(1, &[1]), key(2, &[4]), key(1, &[1])],
        ..ring
    };
    assert!(KeyRing::decode(&torn.encode()).is_err());
}

#[test]
fn two_processes_see_each_others_keys() {
    let machine = SimMachine::new();
    let (one, two) = (create(&machine), open(&machine, 2));
    let first = one.create_key(Some("a")).unwrap();
    let second = two.create_key(Some("b")).unwrap();
    assert!(matches!(
        one.create_key(Some("b")),
        Err(Error::AlreadyExists { .. })
    ));
    assert_eq!(one.keys().unwrap(), [first.clone(), second.clone()]);
    assert_eq!(two.key("alias/a").unwrap(), first);
    assert_eq!(one.resolve("alias/b").unwrap(), second.id);
}

#[test]
fn each_use_of_a_key_is_a_line_of_the_audit() {
    let machine = SimMachine::new();
    let kms = create(&machine);
    let key = kms.create_key(Some("prod")).unwrap().id;
    let (wrapped, _) = kms.generate(&key, &CONTEXT).unwrap();
    kms.decrypt(&key, &wrapped, &CONTEXT).unwrap();
    // A crash cut the last line off.
    let disk = disk(&machine);
    let file = disk.open("audit", Access::ReadWrite).unwrap();
    file.write_all_at(b"{\"time", file.len().unwrap()).unwrap();
    let (head, _) = kms.assign_head_key(&key, STORE, RESOURCE).unwrap();
    kms.head_key(&head, STORE, RESOURCE).unwrap();
    let text = String::from_utf8(read(&*disk, "audit")).unwrap();
    let lines: Vec<_> = text.lines().skip(1).collect();
    let actions = [
        "create-key",
        "generate",
        "decrypt",
        "assign-head-key",
        "unwrap-head-key",
    ];
    let whole: Vec<_> = lines.iter().filter(|line| line.ends_with('}')).collect();
    assert_eq!((lines.len(), whole.len()), (6, 5));
    for (line, action) in whole.iter().zip(actions) {
        assert!(
            line.contains(&format!("\"action\":\"{action}\",\"key\":\"{key}\"")),
            "{line}"
        );
        let bound = format!("\"store\":\"{STORE}\",\"resource\":\"{RESOURCE}\",\"synced\"");
        assert!(line.contains(&bound) || action == "create-key", "{line}");
    }
    assert!(whole[1].contains("\"purpose\":\"store-key\""));
}

use super::*;
use crate::error::{Error, Kind};
use crate::file_kms::KeyInfo;
use crate::file_kms::keys::KeyRing;
use crate::kms::KeyService;
use crate::source::Clock;
use crate::sync::Mutex;
use crate::units::{HeadKeyId, KeyId};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A KMS with a clock in hand, a key and things wrapped under it.
struct Rig {
    machine: SimMachine,
    clock: Arc<SimClock>,
    kms: FileKms,
    key: KeyId,
    wrapped: Vec<u8>,
    head: HeadKeyId,
}

fn rig() -> Rig {
    let machine = SimMachine::new();
    let (clock, random) = (Arc::new(SimClock::new(1000)), Arc::new(SimRandom::new(1)));
    let kms = FileKms::create_on(disk(&machine), "local", clock.clone(), random).unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(Some("alias/prod")).unwrap().id;
    let (wrapped, _) = kms.generate(&key, &CONTEXT).unwrap();
    let (head, _) = kms.assign_head_key(&key, STORE, RESOURCE).unwrap();
    kms.claim_head_keys(STORE, &[head]).unwrap();
    Rig {
        machine,
        clock,
        kms,
        key,
        wrapped,
        head,
    }
}

impl Rig {
    /// The state that all use of the key fails with; `None` if all of it works.
    fn refusal(&self) -> Option<KeyState> {
        let (kms, key) = (&self.kms, &self.key);
        // Stores that have nothing pooled yet.
        let empty = |n: u8| {
            let mut id = [n; 16];
            id[..8].copy_from_slice(&self.clock.now_ms().to_le_bytes());
            StoreId(id)
        };
        let uses = [
            kms.generate(key, &CONTEXT).map(drop),
            kms.decrypt(key, &self.wrapped, &CONTEXT).map(drop),
            kms.assign_head_key(key, STORE, RESOURCE).map(drop),
            kms.assign_head_key(key, empty(1), RESOURCE).map(drop),
            kms.refill(key, empty(2)),
            kms.head_key(&self.head, STORE, RESOURCE).map(drop),
        ];
        let refusals: Vec<_> = uses
            .into_iter()
            .map(|result| match result {
                Ok(()) => None,
                Err(KmsError::Unavailable { key, state }) => {
                    assert_eq!(key, self.key.to_string());
                    Some(state)
                }
                Err(error) => panic!("{error}"),
            })
            .collect();
        assert!(
            refusals.iter().all(|one| *one == refusals[0]),
            "{refusals:?}"
        );
        refusals[0]
    }

    fn shown(&self) -> KeyInfo {
        self.kms.key("alias/prod").unwrap()
    }
}

fn forbidden(result: crate::error::Result<KeyInfo>, of: &str) {
    match result {
        Err(Error::InvalidState { state, .. }) => assert_eq!(state, of),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_disabled_key_does_nothing_until_it_is_enabled() {
    let rig = rig();
    assert_eq!(rig.refusal(), None);
    let disabled = rig.kms.disable_key("alias/prod").unwrap();
    assert_eq!(disabled.state, KeyState::Disabled);
    assert_eq!(rig.refusal(), Some(KeyState::Disabled));
    assert_eq!(rig.shown(), disabled);
    assert_eq!(open(&rig.machine, 2).keys().unwrap()[1], disabled);
    assert_eq!(rig.kms.disable_key("alias/prod").unwrap(), disabled);
    forbidden(rig.kms.rotate_key("alias/prod"), "disabled");
    forbidden(rig.kms.cancel_key_deletion("alias/prod"), "disabled");
    // What needs no key goes on.
    rig.kms.claim_head_keys(STORE, &[rig.head]).unwrap();
    rig.kms.note_head_key(STORE, &rig.head).unwrap();
    rig.kms.destroy_unclaimed(STORE).unwrap();
    assert_eq!(
        rig.kms.enable_key("alias/prod").unwrap().state,
        KeyState::Enabled
    );
    assert_eq!(rig.refusal(), None);
    forbidden(rig.kms.cancel_key_deletion("alias/prod"), "enabled");
}

#[test]
fn a_planned_deletion_says_what_one_would_do_and_changes_nothing() {
    let rig = rig();
    let files = |name| read(&*disk(&rig.machine), name);
    let before = (files("keys"), files("aliases"), files("audit"));
    let planned = rig.kms.plan_key_deletion("alias/prod", 7).unwrap();
    assert_eq!(
        (planned.id, planned.state),
        (rig.key, KeyState::PendingDeletion)
    );
    let result = rig.kms.plan_key_deletion("alias/prod", 6);
    assert!(matches!(result, Err(Error::Invalid { what: "days", .. })));
    // What a deletion would be refused, its plan is.
    assert!(
        rig.kms
            .plan_key_deletion("alias/offshoot-store", 7)
            .is_err()
    );
    assert!((files("keys"), files("aliases"), files("audit")) == before);
    assert_eq!(rig.refusal(), None);
    let done = rig.kms.schedule_key_deletion("alias/prod", 7).unwrap();
    assert_eq!(done.state, planned.state);
    forbidden(
        rig.kms.plan_key_deletion("alias/prod", 7),
        "pending_deletion",
    );
}

#[test]
fn a_deletion_can_be_cancelled_until_its_date_and_not_after() {
    let rig = rig();
    for days in [0, 6, 31, u32::MAX] {
        let result = rig.kms.schedule_key_deletion("alias/prod", days);
        assert!(matches!(result, Err(Error::Invalid { what: "days", .. })));
    }
    rig.clock.set(5_000);
    let pending = rig.kms.schedule_key_deletion("alias/prod", 7).unwrap();
    assert_eq!(pending.state, KeyState::PendingDeletion);
    let date = pending.deletion_at_ms.unwrap();
    assert_eq!(date, 6_000 + 7 * DAY_MS);
    for result in [
        rig.kms.schedule_key_deletion("alias/prod", 8),
        rig.kms.enable_key("alias/prod"),
        rig.kms.disable_key("alias/prod"),
        rig.kms.rotate_key("alias/prod"),
    ] {
        forbidden(result, "pending_deletion");
    }
    rig.clock.set(date - 100);
    assert_eq!(rig.refusal(), Some(KeyState::PendingDeletion));
    rig.clock.set(date - 50);
    let kept = rig.kms.cancel_key_deletion("alias/prod").unwrap();
    assert_eq!(
        (kept.state, kept.deletion_at_ms),
        (KeyState::Disabled, None)
    );
    rig.kms.enable_key("alias/prod").unwrap();
    assert_eq!(rig.refusal(), None);

    rig.clock.set(date);
    let pending = rig.kms.schedule_key_deletion("alias/prod", 30).unwrap();
    let date = pending.deletion_at_ms.unwrap();
    rig.clock.set(date);
    // Who only looks changes nothing, and sees it deleted all the same.
    let before = read(&*disk(&rig.machine), "keys");
    assert_eq!(rig.shown().state, KeyState::Deleted);
    assert_eq!(read(&*disk(&rig.machine), "keys"), before);
    assert_eq!(rig.refusal(), Some(KeyState::Deleted));
    assert_eq!(rig.shown().deletion_at_ms, Some(date));
    // The clock cannot bring it back.
    rig.clock.set(0);
    assert_eq!(rig.refusal(), Some(KeyState::Deleted));
    for result in [
        rig.kms.cancel_key_deletion("alias/prod"),
        rig.kms.enable_key("alias/prod"),
        rig.kms.schedule_key_deletion("alias/prod", 7),
    ] {
        forbidden(result, "deleted");
    }
}

#[test]
fn a_deleted_keys_secret_is_on_no_part_of_the_disk() {
    let rig = rig();
    rig.kms.rotate_key("alias/prod").unwrap();
    let secrets: Vec<Vec<u8>> = {
        let ring = KeyRing::decode(&read(&*disk(&rig.machine), "keys")).unwrap();
        let key = ring.usable(&rig.key, 0).unwrap();
        [1, 2]
            .map(|version| key.version(version).unwrap().expose().to_vec())
            .into()
    };
    let date = rig
        .kms
        .schedule_key_deletion("alias/prod", 7)
        .unwrap()
        .deletion_at_ms;
    // Files that lost their name too.
    let on_disk = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&on_disk);
    rig.machine.on_write(move |event| {
        if event.name == "keys" || event.name == "keys.tmp" {
            written.lock().push(event.bytes.to_vec());
        }
    });
    rig.clock.set(date.unwrap());
    assert_eq!(rig.refusal(), Some(KeyState::Deleted));
    rig.machine.clear_hooks();
    let holds = |bytes: &[u8]| {
        secrets
            .iter()
            .any(|secret| bytes.windows(32).any(|window| window == secret))
    };
    let written = on_disk.lock();
    assert!(!holds(&read(&*disk(&rig.machine), "keys")));
    assert!(written.iter().all(|bytes| !holds(bytes)));
    let old_len = read(&*disk(&rig.machine), "keys").len();
    let wipes = written.iter().filter(|bytes| **bytes == vec![0; old_len]);
    assert_eq!(wipes.count(), 1, "the file before was overwritten");
    assert_eq!(
        rig.shown().version,
        2,
        "what is left says that there was a key"
    );
}

#[test]
fn the_stores_key_is_never_taken_away() {
    let rig = rig();
    let of_stores = rig.kms.key("alias/offshoot-store").unwrap();
    for name in [
        &of_stores.id.to_string(),
        &of_stores.arn,
        "alias/offshoot-store",
    ] {
        let refusal = "the region's own key";
        forbidden(rig.kms.disable_key(name), refusal);
        forbidden(rig.kms.schedule_key_deletion(name, 7), refusal);
    }
    for result in [
        rig.kms.set_alias("offshoot-store", "alias/prod"),
        rig.kms.delete_alias("alias/offshoot-store"),
    ] {
        assert!(matches!(result, Err(Error::InvalidState { .. })));
    }
    assert_eq!(rig.kms.key("alias/offshoot-store").unwrap(), of_stores);
    assert_eq!(
        rig.kms.rotate_key("alias/offshoot-store").unwrap().version,
        2
    );
}

#[test]
fn old_versions_unwrap_and_the_newest_wraps() {
    let rig = rig();
    let version = |wrapped: &[u8]| u32::from_le_bytes(wrapped[..4].try_into().unwrap());
    assert_eq!(version(&rig.wrapped), 1);
    for expected in [2, 3] {
        let rotated = rig.kms.rotate_key("alias/prod").unwrap();
        assert_eq!(
            (rotated.version, rotated.state),
            (expected, KeyState::Enabled)
        );
        let (wrapped, secret) = rig.kms.generate(&rig.key, &CONTEXT).unwrap();
        assert_eq!(version(&wrapped), expected);
        for kms in [&rig.kms, &open(&rig.machine, 2)] {
            let again = kms.decrypt(&rig.key, &wrapped, &CONTEXT).unwrap();
            assert_eq!(again.expose(), secret.expose());
            kms.decrypt(&rig.key, &rig.wrapped, &CONTEXT).unwrap();
            kms.head_key(&rig.head, STORE, RESOURCE).unwrap();
        }
    }
}

#[test]
fn an_alias_is_set_moved_and_deleted() {
    let rig = rig();
    let other = rig.kms.create_key(None).unwrap();
    let arn = "arn:offshoot:kms:local:000000000000:alias/team";
    for reference in [
        &other.id.to_string(),
        &other.arn,
        "alias/team",
        "arn:offshoot:kms:local:000000000000:alias/team",
    ] {
        for alias in ["team", "alias/team", arn] {
            let set = rig.kms.set_alias(alias, reference).unwrap();
            assert_eq!((set.name.as_str(), set.arn.as_str()), ("alias/team", arn));
            assert_eq!(set.key, other.id);
        }
    }
    assert_eq!(rig.kms.key(arn).unwrap().id, other.id);
    rig.kms.set_alias("team", "alias/prod").unwrap();
    assert_eq!(rig.kms.key("alias/team").unwrap().id, rig.key);
    assert_eq!(rig.shown().aliases, ["alias/prod", "alias/team"]);
    let names: Vec<_> = rig.kms.aliases().unwrap();
    let names: Vec<_> = names.iter().map(|alias| alias.name.as_str()).collect();
    assert_eq!(names, ["alias/offshoot-store", "alias/prod", "alias/team"]);
    assert_eq!(rig.kms.delete_alias(arn).unwrap().key, rig.key);
    for result in [
        rig.kms.delete_alias("team"),
        rig.kms.set_alias("x", "alias/team"),
    ] {
        assert!(matches!(
            result,
            Err(Error::NotFound {
                kind: Kind::Key,
                ..
            })
        ));
    }
    for bad in [
        "a b",
        "",
        "arn:offshoot:kms:local:000000000000:key/x",
        &other.arn,
    ] {
        let result = rig.kms.set_alias(bad, "alias/prod");
        assert!(matches!(result, Err(Error::Invalid { .. })), "{bad}");
    }
    let elsewhere = "arn:offshoot:kms:elsewhere:000000000000:alias/team";
    let result = rig.kms.set_alias(elsewhere, "alias/prod");
    assert!(matches!(result, Err(Error::AccessDenied { .. })));
    rig.kms.disable_key(&other.arn).unwrap();
    rig.kms.set_alias("team", &other.arn).unwrap();
    rig.kms.schedule_key_deletion(&other.arn, 7).unwrap();
    assert!(matches!(
        rig.kms.set_alias("team-2", &other.arn),
        Err(Error::InvalidState { .. })
    ));
}

type Step = fn(&FileKms) -> crate::error::Result<KeyInfo>;

/// Each change leaves the state before or the state after at every power loss, and everything
/// that was wrapped opens in both as the state allows.
#[test]
fn a_change_that_is_cut_off_has_happened_or_not() {
    let steps: [(&str, Step); 5] = [
        ("rotate", |kms| kms.rotate_key("alias/prod")),
        ("disable", |kms| kms.disable_key("alias/prod")),
        ("schedule", |kms| kms.schedule_key_deletion("alias/prod", 9)),
        ("cancel", |kms| kms.cancel_key_deletion("alias/prod")),
        ("enable", |kms| kms.enable_key("alias/prod")),
    ];
    let rig = rig();
    let mut cases = 0;
    for (name, step) in steps {
        let before = rig.shown();
        let crashed = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&crashed);
        rig.machine.on_barrier(move |killed| {
            let lost = killed.crash_points().into_iter();
            kept.lock()
                .extend(lost.map(|crash| killed.power_loss(&crash)));
            kept.lock().push(killed.kill());
        });
        let after = step(&rig.kms).unwrap();
        rig.machine.clear_hooks();
        for machine in crashed.lock().drain(..) {
            cases += 1;
            let kms = open(&machine, 2);
            let found = kms.key("alias/prod").unwrap();
            assert!(found == before || found == after, "{name}: {found:?}");
            let opened = kms.decrypt(&rig.key, &rig.wrapped, &CONTEXT);
            assert_eq!(opened.is_ok(), found.state == KeyState::Enabled, "{name}");
            step(&kms).unwrap_or(found);
        }
        let lost = rig.machine.crash_points().into_iter();
        for crash in lost {
            let kms = open(&rig.machine.power_loss(&crash), 2);
            assert_eq!(kms.key("alias/prod").unwrap(), after, "{name}");
        }
    }
    assert!(cases > 50, "{cases}");
}

#[test]
fn a_destruction_that_is_cut_off_is_done_again() {
    let rig = rig();
    let pending = rig.kms.schedule_key_deletion("alias/prod", 7).unwrap();
    rig.clock.set(pending.deletion_at_ms.unwrap());
    let cases = Arc::new(Mutex::new(0));
    let (count, wrapped, key) = (Arc::clone(&cases), rig.wrapped.clone(), rig.key);
    rig.machine.on_barrier(move |killed| {
        for crash in killed.crash_points() {
            *count.lock() += 1;
            let late = Arc::new(SimClock::new(8 * DAY_MS));
            let machine = killed.power_loss(&crash);
            let random = Arc::new(SimRandom::new(2));
            let kms = FileKms::open_on(disk(&machine), late, random).unwrap();
            assert_eq!(kms.key("alias/prod").unwrap().state, KeyState::Deleted);
            let result = kms.decrypt(&key, &wrapped, &CONTEXT);
            assert!(matches!(
                result,
                Err(KmsError::Unavailable {
                    state: KeyState::Deleted,
                    ..
                })
            ));
            let ring = KeyRing::decode(&read(&*disk(&machine), "keys")).unwrap();
            assert_eq!(ring.keys[1].versions[0].material.expose(), &[0; 32]);
        }
    });
    assert_eq!(rig.refusal(), Some(KeyState::Deleted));
    rig.machine.clear_hooks();
    assert!(*cases.lock() > 5);
}

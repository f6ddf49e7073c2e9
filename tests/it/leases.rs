//! How long a store goes on with keys that its KMS refuses by now.

use std::sync::Arc;
use std::time::Duration;

use offshoot::io::Disk;
use offshoot::io::sim::{SimClock, SimRandom};
use offshoot::{
    Clock, Error, FileKms, KeyState, Machine, Options, Revocation, Snapshot, Store, Volume,
};

use crate::fixture::{PAGE, Sim, asked, page, page_byte};
use crate::key_states::{DAY_MS, fsck, kms_at, rig, state_of};

/// A store with a clock in hand, opened by one process, and its KMS opened by another.
struct Shared {
    sim: Sim,
    clock: Arc<SimClock>,
    store: Store,
    elsewhere: FileKms,
}

fn shared(revocation: Revocation) -> Shared {
    let sim = rig();
    let clock = Arc::new(SimClock::new(10_000));
    let machine = Machine {
        clock: clock.clone(),
        ..sim.machine()
    };
    let options = sim.options.clone().revocation(revocation);
    let store = options.open_on(machine, Arc::new(sim.open_kms())).unwrap();
    let elsewhere = kms_at(&sim, 20_000);
    Shared {
        sim,
        clock,
        store,
        elsewhere,
    }
}

#[test]
fn a_lease_ends_reading_and_writing_at_the_next_use_after_it() {
    let shared = shared(Revocation::Lease(Duration::from_millis(500)));
    let (store, clock) = (&shared.store, &shared.clock);
    let (mine, theirs) = (
        store.volume("mine").unwrap(),
        store.volume("theirs").unwrap(),
    );
    let before = store.snapshot("before").unwrap();
    let mut bytes = page(0);
    let mut uses = || {
        let states = [
            state_of(mine.read_exact_at(&mut bytes, 0)),
            state_of(mine.write_all_at(&page(5), 2 * PAGE)),
            state_of(mine.write_all_at(&[5], 3 * PAGE + 7)),
            state_of(before.read_exact_at(&mut bytes, 0)),
        ];
        assert_eq!(page_byte(&theirs, 1), 3, "others go on");
        assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
        states[0]
    };
    assert_eq!(uses(), None);
    clock.set(20_000);
    assert_eq!(uses(), None);
    shared.elsewhere.disable_key("alias/prod").unwrap();
    clock.set(20_400);
    assert_eq!(uses(), None, "the lease is not over");
    clock.set(20_900);
    assert_eq!(uses(), Some(KeyState::Disabled));
    clock.set(20_901);
    assert_eq!(uses(), Some(KeyState::Disabled), "nothing is kept");
    // A clock that goes back keeps nothing alive.
    clock.set(5_000);
    assert_eq!(uses(), Some(KeyState::Disabled));
    shared.elsewhere.enable_key("alias/prod").unwrap();
    assert_eq!(uses(), None);
    clock.set(30_000);
    shared
        .elsewhere
        .schedule_key_deletion("alias/prod", 7)
        .unwrap();
    assert_eq!(uses(), Some(KeyState::PendingDeletion));
    store.flush().unwrap();
    store.checkpoint().unwrap();
    drop((mine, theirs, before));
    shared.store.close().unwrap();
    fsck(&shared.sim).unwrap();
}

#[test]
fn on_detach_lasts_until_the_store_is_closed() {
    let shared = shared(Revocation::OnDetach);
    let mine = shared.store.volume("mine").unwrap();
    assert_eq!(page_byte(&mine, 1), 2);
    shared.elsewhere.disable_key("alias/prod").unwrap();
    shared.clock.set(10 * DAY_MS);
    mine.write_all_at(&page(6), 0).unwrap();
    assert_eq!(page_byte(&mine, 0), 6);
    // Who was not unlocked yet is refused.
    let before = shared.store.snapshot("before").unwrap();
    assert_eq!(
        state_of(before.read_exact_at(&mut page(0), 0)),
        Some(KeyState::Disabled)
    );
    drop((mine, before));
    shared.store.close().unwrap();
    let store = shared.sim.open();
    let mine = store.volume("mine").unwrap();
    assert_eq!(
        state_of(mine.read_exact_at(&mut page(0), 0)),
        Some(KeyState::Disabled)
    );
}

#[test]
fn a_kms_that_cannot_be_asked_takes_no_keys_and_extends_no_lease() {
    let shared = shared(Revocation::Lease(Duration::from_millis(500)));
    let mine = shared.store.volume("mine").unwrap();
    assert_eq!(page_byte(&mine, 1), 2);
    let vault = shared.sim.vault.dir("kms");
    vault.rename("keys", "away").unwrap();
    shared.clock.set(20_000);
    for _ in 0..2 {
        let result = mine.read_exact_at(&mut page(0), PAGE);
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
    }
    vault.rename("away", "keys").unwrap();
    assert_eq!(page_byte(&mine, 1), 2);
}

#[test]
fn a_branch_after_the_keys_came_back_reads_and_writes_on_both_sides() {
    let shared = shared(Revocation::Lease(Duration::ZERO));
    let mine = shared.store.volume("mine").unwrap();
    let key = mine.info().unwrap().kms_key;
    for round in 0..4 {
        shared.elsewhere.disable_key("alias/prod").unwrap();
        assert!(mine.write_all_at(&page(1), 0).is_err());
        shared.elsewhere.enable_key("alias/prod").unwrap();
        mine.write_all_at(&page(10 + round), 0).unwrap();
        let clone = mine.create_clone(&format!("c{round}"), &key).unwrap();
        mine.write_all_at(&page(20 + round), 0).unwrap();
        assert_eq!(page_byte(&clone, 0), 10 + round);
        assert_eq!(page_byte(&mine, 0), 20 + round);
    }
}

#[test]
fn the_default_is_a_lease_of_a_second() {
    let text = format!("{:?}", Options::new());
    assert!(text.contains("Lease(1s)"), "{text}");
}

/// Who uses a volume and a snapshot whose key may be away.
struct User<'a> {
    mine: &'a Volume,
    before: &'a Snapshot,
    /// What the volume's last two pages begin with.
    written: [u8; 2],
}

impl User<'_> {
    /// Reads or writes, as chance has it: what refused that, and what a read gave.
    fn use_it(&mut self, random: &SimRandom) -> (Option<KeyState>, Vec<u8>) {
        let mut bytes = vec![0; 4 * PAGE as usize];
        let value = 10 + random.below(200) as u8;
        let from = random.below(PAGE as usize);
        let (len, rest) = (1 + random.below(2 * PAGE as usize), PAGE as usize - from);
        let used = match random.below(5) {
            0 => self.mine.read_exact_at(&mut bytes[..len], from as u64),
            1 => self.mine.read_exact_at(&mut bytes, 0),
            2 => {
                let into = &mut bytes[..len.min(rest)];
                self.before.read_exact_at(into, from as u64)
            }
            3 => {
                let done = self.mine.write_all_at(&page(value), 2 * PAGE);
                done.inspect(|()| self.written[0] = value)
            }
            _ => {
                let done = self.mine.write_all_at(&[value], 3 * PAGE);
                done.inspect(|()| self.written[1] = value)
            }
        };
        (state_of(used), bytes)
    }
}

/// Whatever a store was asked before, and whenever: once the lease is over nothing is read or written.
#[test]
fn after_a_lease_nothing_is_read_or_written_whenever_the_key_went() {
    for seed in asked("OFFSHOOT_LEASES").unwrap_or(0..50) {
        let random = SimRandom::new(seed);
        let lease_ms = 1 + random.below(2_000);
        let shared = shared(Revocation::Lease(Duration::from_millis(lease_ms as u64)));
        let (clock, kms) = (&shared.clock, &shared.elsewhere);
        let mine = shared.store.volume("mine").unwrap();
        let before = shared.store.snapshot("before").unwrap();
        let mut user = User {
            mine: &mine,
            before: &before,
            written: [0, 0],
        };
        for _ in 0..random.below(6) {
            clock.set(clock.now_ms() + random.below(2 * lease_ms) as u64);
            assert_eq!(user.use_it(&random).0, None, "seed {seed}");
        }
        let gone = match random.below(2) {
            0 => kms.disable_key("alias/prod").unwrap(),
            _ => kms.schedule_key_deletion("alias/prod", 7).unwrap(),
        };
        let gone_ms = clock.now_ms();
        // Each head asks at times of its own, so until then one may go on while another does not.
        for _ in 0..random.below(6) {
            clock.set(gone_ms + random.below(lease_ms) as u64);
            let (found, _) = user.use_it(&random);
            assert!(found.is_none_or(|it| it == gone.state), "seed {seed}");
        }
        let over_ms = gone_ms + lease_ms as u64;
        for _ in 0..10 {
            clock.set(over_ms + random.below(5_000) as u64);
            let (found, bytes) = user.use_it(&random);
            assert_eq!(found, Some(gone.state), "seed {seed}");
            assert!(
                bytes.iter().all(|byte| *byte == 0),
                "seed {seed}: plaintext"
            );
        }
        if gone.state == KeyState::PendingDeletion {
            kms.cancel_key_deletion("alias/prod").unwrap();
        }
        kms.enable_key("alias/prod").unwrap();
        let mut bytes = vec![0; 4 * PAGE as usize];
        mine.read_exact_at(&mut bytes, 0).unwrap();
        let found = [0, 1, 2, 3].map(|index| bytes[index * PAGE as usize]);
        let [third, fourth] = user.written;
        assert_eq!(found, [1, 2, third, fourth], "seed {seed}");
    }
}

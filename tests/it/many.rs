//! Several writes in one call.

use std::thread;

use offshoot::{Error, Options};

use crate::fixture::{Fixture, PAGE, Sim};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }
}

#[test]
fn many_writes_are_like_one_after_the_other() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let len = 4 << 20;
    let volume = store.create_volume("v", len, &fixture.key).unwrap();
    let mut model = vec![0u8; len as usize];
    let mut dice = Dice(3);
    for round in 0..60 {
        // Close together, so that they overlap; now and then more than one change can hold.
        let near = [20_000, 200_000, len][round % 3];
        let writes: Vec<(u64, Vec<u8>)> = (0..dice.roll(20))
            .map(|_| {
                let offset = dice.roll(near);
                let count = dice.roll((near - offset).min([9_000, 300_000][round % 2]) + 1);
                (offset, vec![dice.roll(255) as u8 + 1; count as usize])
            })
            .collect();
        let slices: Vec<(u64, &[u8])> =
            writes.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
        volume.write_many(&slices).unwrap();
        for (offset, bytes) in &writes {
            model[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        let mut found = vec![0; len as usize];
        volume.read_exact_at(&mut found, 0).unwrap();
        assert!(found == model, "round {round}");
    }
    drop((volume, store));
    let mut found = vec![0; len as usize];
    fixture
        .open()
        .volume("v")
        .unwrap()
        .read_exact_at(&mut found, 0)
        .unwrap();
    assert!(found == model);
}

#[test]
fn many_writes_are_one_batch_and_all_or_nothing_after_a_crash() {
    // Each crash is another future of one store, under one KMS.
    let options = Options::new().segment_len(1 << 20).workers(0);
    let mut sim = Sim::with(5, options.accept_rollback(true));
    let store = sim.create();
    let volume = store.create_volume("v", 1 << 20, &sim.key).unwrap();
    store.flush().unwrap();
    let before = store.stats().unwrap().batches;
    let ones = [1; 6000];
    let writes = [(0, &ones[..]), (40_000, &ones[..]), (300_001, &ones[..9])];
    volume.write_many(&writes).unwrap();
    assert_eq!(store.stats().unwrap().batches - before, 1);
    let (mut all, mut none) = (0, 0);
    for crash in sim.disks.crash_points() {
        let after = sim.disks.power_loss(&crash);
        let before = std::mem::replace(&mut sim.disks, after);
        let volume = sim.open().volume("v").unwrap();
        sim.disks = before;
        let read = |offset| {
            let mut byte = [0];
            volume.read_exact_at(&mut byte, offset).unwrap();
            byte[0]
        };
        match [0, 5999, 40_000, 45_999, 300_001, 300_009].map(read) {
            [1, 1, 1, 1, 1, 1] => all += 1,
            [0, 0, 0, 0, 0, 0] => none += 1,
            bytes => panic!("{bytes:?} after {crash:?}"),
        }
    }
    assert!(all > 0 && none > 0, "{all} with all, {none} with none");
}

#[test]
fn a_range_outside_writes_nothing() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("v", 2 * PAGE, &fixture.key).unwrap();
    for outside in [2 * PAGE, 2 * PAGE - 1, u64::MAX, u64::MAX - 1] {
        let refused = volume.write_many(&[(0, &[7; 100]), (outside, &[7; 2])]);
        assert!(matches!(refused, Err(Error::OutOfBounds { .. })));
    }
    volume.write_many(&[]).unwrap();
    volume.write_many(&[(2 * PAGE, &[])]).unwrap();
    let mut found = [1; 100];
    volume.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, [0; 100]);
}

#[test]
fn threads_that_want_the_same_pages_do_not_wait_for_each_other_for_ever() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("v", 64 * PAGE, &fixture.key).unwrap();
    thread::scope(|scope| {
        for number in 0..4_u8 {
            let volume = volume.clone();
            scope.spawn(move || {
                let mut dice = Dice(number.into());
                let bytes = [number + 1; 100];
                for _ in 0..200 {
                    let writes: Vec<(u64, &[u8])> = (0..8)
                        .map(|_| (dice.roll(64) * PAGE + 50, &bytes[..]))
                        .collect();
                    volume.write_many(&writes).unwrap();
                    volume.write_all_at(&bytes, dice.roll(63) * PAGE).unwrap();
                }
            });
        }
    });
    for page in 0..63 {
        let mut found = [0; 100];
        volume.read_exact_at(&mut found, page * PAGE + 50).unwrap();
        let (first, last) = (found[0], found[99]);
        assert!(found[..50].iter().all(|byte| *byte == first));
        assert!(found[50..].iter().all(|byte| *byte == last));
    }
}

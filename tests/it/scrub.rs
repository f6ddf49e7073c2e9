//! Scrubs of a store in files, while threads work with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use offshoot::{Options, RekeyStart, ScrubOptions};

use crate::fixture::{Fixture, PAGE, page};

const PAGES: u64 = 400;

/// Says that it is over also if what it is made for panics: or the other threads would go on for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn scrubs_disturb_nobody_and_nobody_disturbs_them() {
    let fixture = Fixture::new();
    let options = Options::new().segment_len(1 << 20).workers(2);
    let store = options.create(fixture.path(), fixture.kms.clone()).unwrap();
    let volume = store
        .create_volume("v", PAGES * PAGE, &fixture.key)
        .unwrap();
    for number in 0..PAGES {
        volume
            .write_all_at(&page(number as u8), number * PAGE)
            .unwrap();
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = |seed: u64| {
            let (volume, store, is_over) = (volume.clone(), store.clone(), &is_over);
            let key = fixture.key;
            scope.spawn(move || {
                let mut number = seed;
                while !is_over.load(Ordering::Relaxed) {
                    number = number.wrapping_mul(6364136223846793005).wrapping_add(1);
                    let at = (number >> 33) % PAGES;
                    volume.write_all_at(&page(at as u8), at * PAGE).unwrap();
                    match number >> 57 {
                        0 => {
                            let clone = volume.create_clone(&format!("c{seed}-{at}"), &key);
                            if let Ok(clone) = clone {
                                clone.write_all_at(&page(9), 0).unwrap();
                                clone.delete().unwrap();
                            }
                        }
                        1 => store.checkpoint().unwrap(),
                        2 => volume.flush().unwrap(),
                        _ => {}
                    }
                }
            })
        };
        let threads = [work(1), work(2)];
        let over = Over(&is_over);
        for _ in 0..2 {
            let scrub = store.scrub(&ScrubOptions::new().restart()).unwrap();
            for step in scrub {
                let step = step.unwrap();
                assert_eq!(step.found, []);
            }
            store.compact(|_| true).unwrap();
        }
        for step in volume.rekey(RekeyStart::NewEpoch).unwrap() {
            step.unwrap();
        }
        drop(over);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
    let state = store.scrub_state().unwrap();
    assert!(state.findings.is_empty() && state.ended_at_ms.is_some());
    for number in 0..PAGES {
        let mut bytes = page(0);
        volume.read_exact_at(&mut bytes, number * PAGE).unwrap();
        assert!(bytes == page(number as u8), "{number}");
    }
    store.close().unwrap();
}

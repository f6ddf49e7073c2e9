//! Readers and writers while files are dropped, punched and packed, on a real disk.

use std::thread;
use std::time::Duration;

use super::*;
use crate::io::real::RealDisk;
use crate::sync::AtomicBool;

#[test]
fn readers_and_writers_do_not_notice() {
    let dir = tempfile::tempdir().unwrap();
    let region = Region::new();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::create(&dir.path().join("store")).unwrap());
    let options = Options::new().segment_len(1 << 20).workers(1);
    let kms = Arc::new(region.kms.clone());
    let store = options.open_segments(3);
    let store = store.create_on(region.on(disk), kms.clone()).unwrap();
    let pages = 1500;
    let volume = store.create_volume("v", pages * PAGE, &region.key).unwrap();
    for first in 0..pages {
        volume
            .write_all_at(&[first as u8; SLOT_LEN], first * PAGE)
            .unwrap();
    }
    let ends = AtomicBool::new(false);
    let mut packs = 0;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut page = vec![0; SLOT_LEN];
                while !ends.load(Ordering::SeqCst) {
                    for number in 0..pages {
                        volume.read_exact_at(&mut page, number * PAGE).unwrap();
                        assert!(page.iter().all(|&byte| byte == number as u8));
                    }
                }
            });
        }
        scope.spawn(|| {
            let random = SimRandom::new(5);
            while !ends.load(Ordering::SeqCst) {
                let number = random.below(pages as usize) as u64;
                let bytes = [number as u8; SLOT_LEN];
                volume.write_all_at(&bytes, number * PAGE).unwrap();
            }
        });
        let steps = (0..60).try_for_each(|_| {
            thread::sleep(Duration::from_millis(20));
            store.checkpoint()?;
            (0..4).try_for_each(|_| {
                packs += step(&store, Goal::Compact)?.packs;
                Ok(())
            })
        });
        ends.store(true, Ordering::SeqCst);
        steps.unwrap_or_else(|error: crate::error::Error| panic!("{error}"));
    });
    assert!(packs > 3, "{packs}");
    store.close().unwrap();
    let options = CheckOptions::new().kms(kms).read_data(true);
    let report = crate::check::check_dir(&dir.path().join("store"), &options).unwrap();
    assert!(report.is_clean(), "{report}");
}

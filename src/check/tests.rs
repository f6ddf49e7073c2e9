//! Tests of the check, on stores that a small builder writes.
#![expect(
    clippy::indexing_slicing,
    reason = "a test that is out of bounds should fail"
)]

mod builder;
mod damage;
mod depths;
mod docs;
mod engine;
mod flips;
mod hostile;
mod looks;
mod mutants;
mod packs;
mod store;
mod views;

use crate::check::{CheckOptions, Report, check, check_dir};
use crate::error::Error;
use crate::io::sim::{SimDisk, SimMachine};
use crate::io::{Disk, Lock};
use crate::units::Seq;

use store::{SMALL, store, store_with, thorough};

/// The codes of a report without their names, each once.
fn codes(report: &Report) -> Vec<&'static str> {
    let mut codes: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.code.split(' ').next().unwrap())
        .collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn report(disk: &SimDisk) -> Report {
    check(disk, &thorough()).unwrap()
}

#[test]
fn a_valid_store_is_clean_with_and_without_keys() {
    for page_len in [4096, 8192] {
        let geometry = crate::format::superblock::Geometry {
            page_len,
            segment_slots: 40,
        };
        let disk = store_with(geometry, &|_| {});
        for options in [CheckOptions::new(), thorough()] {
            let report = check(&disk, &options).unwrap();
            assert!(report.is_clean(), "{report}");
        }
    }
}

#[test]
fn the_report_counts_what_was_looked_at() {
    let stats = report(&store()).stats;
    assert!(stats.authenticated && stats.complete && !stats.clean && !stats.torn_tail);
    assert_eq!((stats.generation, stats.last_seq), (1, Seq(17)));
    assert_eq!(stats.durable_through, Seq(10));
    assert_eq!((stats.log_batches, stats.segments), (7, 2));
    assert_eq!(
        (stats.volumes, stats.snapshots, stats.tombstones),
        (2, 1, 1)
    );
    assert_eq!((stats.lineage_epochs, stats.key_epochs), (6, 6));
    // Nodes a, b, top and old; pages 0, 1, 2, then 1, 100, then 2, 3 and 5.
    assert_eq!(
        (stats.nodes, stats.pages, stats.data_bytes),
        (4, 8, 8 * 4096)
    );
    assert_eq!(stats.pages_read, 5);
    assert!(
        !check(&store(), &CheckOptions::new())
            .unwrap()
            .stats
            .authenticated
    );
}

#[test]
fn a_check_writes_nothing_and_shares_its_lock() {
    let disk = store();
    let before = disk.machine().fingerprint();
    let _shared = disk.lock("lock", Lock::Shared).unwrap();
    report(&disk);
    assert_eq!(disk.machine().fingerprint(), before);
    disk.remove("lock").unwrap();
    assert!(report(&disk).is_clean());
    assert!(!disk.list().unwrap().contains(&"lock".to_owned()));
}

#[test]
fn a_store_that_is_open_for_writing_is_locked() {
    let disk = store();
    let _owner = disk.lock("lock", Lock::Exclusive).unwrap();
    let error = check(&disk, &thorough()).unwrap_err();
    assert!(
        matches!(error, Error::Locked { pid: Some(1), .. }),
        "{error}"
    );
}

#[test]
fn what_is_no_store_is_an_error() {
    let disk = SimMachine::new().dir("empty");
    let error = check(&disk, &thorough()).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }));
    assert!(disk.list().unwrap().is_empty());
    let real = tempfile::tempdir().unwrap();
    let error = check_dir(real.path(), &thorough()).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }));
    let error = check_dir(&real.path().join("none"), &thorough()).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }));
}

#[test]
fn a_store_in_a_real_directory_is_checked_alike() {
    let (sim, real) = (store(), tempfile::tempdir().unwrap());
    for name in sim.list().unwrap() {
        std::fs::write(real.path().join(&name), damage::read_file(&sim, &name)).unwrap();
    }
    let real = check_dir(real.path(), &thorough()).unwrap();
    assert!(real.is_clean(), "{real}");
    assert_eq!(real.stats, report(&sim).stats);
}

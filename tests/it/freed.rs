//! What a deletion gives back is what its dry run said: in the store's own count to the byte, on the disk
//! within segments.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use offshoot::{SpaceInfo, Store};

use crate::fixture::{Fixture, PAGE, Rng};

const SEGMENT: u64 = 1 << 20;
/// What the files of a store may take more or less than what is live: the log with its tables, spares, packs
/// that are not full and holes that are too short to be punched, before and after.
const ROUNDING: u64 = 6 * SEGMENT;
const SOURCE_PAGES: u64 = 2048;
const CLONES: u64 = 16;

/// What `du` says: blocks of all files.
fn disk_usage(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().blocks() * 512)
        .sum()
}

/// Gives everything back that can be. The count of the store, and that of the disk.
fn settled(fixture: &Fixture, store: &Store) -> (SpaceInfo, u64) {
    store.compact(|_| true).unwrap();
    let space = store.space().unwrap();
    assert!(space.is_settled && space.waiting_bytes == 0, "{space:?}");
    (space, disk_usage(&fixture.path()))
}

fn live(space: &SpaceInfo) -> u64 {
    space.page_bytes + space.node_bytes
}

/// A source with many clones, taken from it at different times, and snapshots; clones of a clone. Each clone changes
/// something else, so that every pair of heads shares another set of pages.
fn family(fixture: &Fixture) -> Store {
    let store = fixture.create();
    let mut rng = Rng(7);
    let mut write = |name: &str, count: u64| {
        let volume = store.volume(name).unwrap();
        for _ in 0..count {
            let first = rng.below(SOURCE_PAGES - 64);
            let bytes = vec![rng.below(255) as u8 + 1; (PAGE * (1 + rng.below(64))) as usize];
            volume.write_all_at(&bytes, first * PAGE).unwrap();
        }
    };
    let source = store.create_volume("source", SOURCE_PAGES * PAGE, &fixture.key);
    let source = source.unwrap();
    let bytes = vec![1; (SOURCE_PAGES * PAGE) as usize];
    source.write_all_at(&bytes, 0).unwrap();
    for number in 0..CLONES {
        let clone = format!("c{number}");
        source.create_clone(&clone, &fixture.key).unwrap();
        write(&clone, number % 5 * 2);
        if number % 4 == 0 {
            source.create_snapshot(&format!("s{number}")).unwrap();
        }
        write("source", 3);
    }
    let clone = store.volume("c7").unwrap();
    for number in 0..3 {
        let name = format!("d{number}");
        clone.create_clone(&name, &fixture.key).unwrap();
        write(&name, 4);
    }
    write("c7", 20);
    store
}

/// Deletes sets of volumes and of snapshots, one after the other, until nothing is left.
fn delete_in_order(order: &[(&[&str], &[&str])]) {
    let fixture = Fixture::new();
    let store = family(&fixture);
    let (mut before, mut du_before) = settled(&fixture, &store);
    for (volumes, snapshots) in order {
        let plan = store.plan_deletion(volumes, snapshots).unwrap();
        let predicted = plan.freed_bytes + plan.freed_metadata_bytes;
        store.delete(volumes, snapshots).unwrap();
        let (after, du_after) = settled(&fixture, &store);
        let what = format!("{volumes:?} {snapshots:?}: {predicted}, {before:?}, {after:?}");
        assert_eq!(
            before.page_bytes - after.page_bytes,
            plan.freed_bytes,
            "{what}"
        );
        assert_eq!(live(&before) - live(&after), predicted, "{what}");
        let given_back = du_before as i64 - du_after as i64;
        let off = (given_back - predicted as i64).unsigned_abs();
        assert!(
            off <= ROUNDING,
            "{given_back} of {predicted} given back: {what}"
        );
        // All that is left is what lives, the log, spares and roundings; superblocks and locks are beside it.
        let kept = live(&after) + after.log_bytes + after.spare_bytes;
        assert!(du_after <= kept + 3 * SEGMENT, "{du_after}: {what}");
        let beside = du_after.abs_diff(after.allocated_bytes);
        assert!(beside < 64 << 10, "{beside} bytes beside segments: {what}");
        (before, du_before) = (after, du_after);
    }
    assert_eq!(live(&before), 0);
    assert!(store.volumes().is_empty() && store.snapshots().is_empty());
}

fn names(prefix: &str, numbers: impl Iterator<Item = u64>) -> Vec<String> {
    numbers.map(|number| format!("{prefix}{number}")).collect()
}

#[test]
fn a_source_goes_before_its_clones_and_each_step_gives_back_what_was_predicted() {
    let clones = names("c", 0..CLONES);
    let clones: Vec<&str> = clones.iter().map(String::as_str).collect();
    let mut order: Vec<(&[&str], &[&str])> =
        vec![(&["source"], &[]), (&[], &["s0", "s4", "s8", "s12"])];
    order.extend(clones.chunks(5).map(|some| (some, &[][..])));
    order.push((&["d0", "d1", "d2"], &[]));
    delete_in_order(&order);
}

#[test]
fn clones_go_from_the_last_to_the_first_and_the_source_at_the_end() {
    let clones = names("c", (0..CLONES).rev());
    let clones: Vec<&str> = clones.iter().map(String::as_str).collect();
    let mut order: Vec<(&[&str], &[&str])> = vec![(&["d2"], &[])];
    order.extend(clones.chunks(3).map(|some| (some, &[][..])));
    order.push((&["d0", "d1"], &["s12", "s0"]));
    order.push((&["source"], &["s4", "s8"]));
    delete_in_order(&order);
}

#[test]
fn sets_across_the_family_give_back_what_was_predicted() {
    let (even, odd) = (
        names("c", (0..CLONES).step_by(2)),
        names("c", (1..CLONES).step_by(2)),
    );
    let with = |names: &[String], more: &[&'static str]| -> Vec<String> {
        let more = more.iter().map(|&name| name.to_owned());
        names.iter().cloned().chain(more).collect()
    };
    let (even, odd) = (with(&even, &["source", "d1"]), with(&odd, &["d0", "d2"]));
    let even: Vec<&str> = even.iter().map(String::as_str).collect();
    let odd: Vec<&str> = odd.iter().map(String::as_str).collect();
    delete_in_order(&[(&even, &["s4"]), (&[], &["s0", "s8"]), (&odd, &["s12"])]);
}

//! Files that a crash leaves, and files that are missing.

use super::*;
use crate::format::segment::{segment_file_name, segment_of_file};
use crate::units::SegmentId;

fn copy(disk: &dyn Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn put(disk: &dyn Disk, name: &str, bytes: &[u8]) {
    let file = disk.create(name, bytes.len() as u64).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// A store that was compacted and closed, and the files of segments that are in packs now.
fn compacted() -> (Region, Contents, BTreeMap<String, Vec<u8>>) {
    let region = Region::new();
    let store = region.open();
    let contents = churned(&store);
    let disk = region.machine.dir("store");
    let names = region.files("segment-").into_iter();
    let mut old: BTreeMap<String, Vec<u8>> = names
        .map(|name| (name.clone(), copy(&disk, &name)))
        .collect();
    reclaim(&store, Goal::Compact);
    old.retain(|name, _| {
        let id = segment_of_file(name).unwrap();
        store.0.segments.is_packed(id)
    });
    assert!(!old.is_empty());
    store.close().unwrap();
    (region, contents, old)
}

#[test]
fn what_a_crash_leaves_is_removed_by_the_next_open_for_writing() {
    let (region, contents, old) = compacted();
    let disk = region.machine.dir("store");
    // Files of segments that were packed, and a pack that no record names.
    old.iter().for_each(|(name, bytes)| put(&disk, name, bytes));
    let pack = region.files("pack-").remove(0);
    put(&disk, "pack-00000000000fffff", &copy(&disk, &pack));
    let report = region.fsck();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.stats.leftover_files, old.len() as u64 + 1);
    let names = disk.list().unwrap();
    let kms = Arc::new(region.kms.clone());
    let read_only = options().read_only(true);
    let store = read_only.open_on(region.on(Arc::new(disk.clone())), kms);
    assert_reads(&store.unwrap(), &contents, "read only");
    assert_eq!(disk.list().unwrap(), names, "reading removes nothing");
    let store = region.open();
    assert_reads(&store, &contents, "opened");
    assert_eq!(region.fsck_open().stats.leftover_files, 0);
    let names = disk.list().unwrap();
    assert!(old.keys().all(|name| !names.contains(name)));
}

#[test]
fn the_file_of_a_segment_stays_if_its_pack_is_lost() {
    let (region, _, old) = compacted();
    let disk = region.machine.dir("store");
    for name in region.files("pack-") {
        disk.remove(&name).unwrap();
    }
    let report = region.fsck();
    let codes: Vec<_> = report.findings.iter().map(|found| found.code).collect();
    assert!(codes.contains(&"OF-0207 pack-missing"), "{report}");
    old.iter().for_each(|(name, bytes)| put(&disk, name, bytes));
    drop(region.open());
    let names = disk.list().unwrap();
    assert!(old.keys().all(|name| names.contains(name)));
}

#[test]
fn a_segment_file_that_nothing_needs_may_be_missing() {
    let region = Region::new();
    let store = region.open();
    let contents = churned(&store);
    let before = region.files("segment-");
    let done = reclaim(&store, Goal::Target);
    assert!(done.dropped_files > 0);
    assert!(region.files("segment-").len() < before.len());
    drop(store);
    // The tables are older than that, and list them.
    let report = region.fsck();
    assert!(report.is_clean(), "{report}");
    assert!(report.stats.segments > region.files("segment-").len() as u64);
    let store = region.open();
    assert_reads(&store, &contents, "opened again");
    // One that is needed is missed.
    let needed = live(&store.0);
    let protected = store.0.first_protected().unwrap();
    let mut segments = needed.segments();
    let id = segments.find(|&id| id < protected && needed.count_in(id) > 3);
    store.close().unwrap();
    let name = segment_file_name(id.unwrap());
    region.machine.dir("store").remove(&name).unwrap();
    let report = region.fsck();
    let codes: Vec<_> = report.findings.iter().map(|found| found.code).collect();
    assert!(codes.contains(&"OF-0202 segment-missing"), "{report}");
}

/// A volume of which all pages but some were replaced after the checkpoint, perhaps under a snapshot; and what a
/// reclaim in this state did.
fn replaced_in_log(kept: u64, snapshot: bool) -> (Region, Store, Contents, Progress) {
    let region = Region::new();
    let store = region.open();
    let mut contents = Contents::new();
    write(&store, &mut contents, 0, PAGES, 1);
    settle(&store, &mut contents);
    if snapshot {
        store.volume("v").unwrap().create_snapshot("s").unwrap();
    }
    for byte in [7, 8, 9] {
        write(&store, &mut contents, kept, PAGES - kept, byte);
    }
    let mut all = Progress::default();
    for _ in 0..100 {
        let done = store.0.reclaim_some(Goal::Compact).unwrap();
        all.dropped_files += done.dropped_files;
        all.packs += done.packs;
    }
    (region, store, contents, all)
}

#[test]
fn a_page_that_the_log_has_replaced_need_not_be_there() {
    // All pages of some segments are replaced, or only most: files are dropped, or packed.
    for kept in [3, 0] {
        let (region, _store, contents, done) = replaced_in_log(kept, false);
        assert!(done.dropped_files > 0, "{done:?}");
        assert!(done.packs > 0 || kept == 0, "{done:?}");
        let report = region.fsck_open();
        assert!(report.is_clean(), "{kept}: {report}");
        assert!(report.stats.log_batches > 1, "{report}");
        let crashed = region.with(region.machine.kill());
        assert_reads(&crashed.open(), &contents, "after a crash");
    }
}

#[test]
fn a_page_that_a_snapshot_has_must_be_there() {
    let (region, store, ..) = replaced_in_log(0, true);
    let needed = live(&store.0);
    let first = needed.segments().next().unwrap();
    let crashed = region.with(region.machine.kill());
    let disk = crashed.machine.dir("store");
    assert!(crashed.fsck().is_clean());
    disk.remove(&segment_file_name(first)).unwrap();
    let report = crashed.fsck();
    let codes: Vec<_> = report.findings.iter().map(|found| found.code).collect();
    assert!(codes.contains(&"OF-0202 segment-missing"), "{report}");
}

#[test]
fn segments_that_a_recovery_could_read_are_never_touched() {
    let region = Region::new();
    let store = region.open();
    let inner = &*store.0;
    assert_eq!(
        inner.first_protected().unwrap(),
        SegmentId(0),
        "a new store"
    );
    churned(&store);
    let protected = inner.first_protected().unwrap();
    let (_, candidates) = Superblocks::open(&*inner.disk, Access::Read).unwrap();
    for candidate in &candidates {
        assert!(protected <= candidate.superblock.position.end.segment);
        let tables = candidate.superblock.tables.unwrap();
        assert!(protected <= tables.at.segment);
    }
    let disk = region.machine.dir("store");
    let log = || {
        let first = segment_file_name(protected);
        let names = region.files("segment-").into_iter();
        let names = names.filter(|name| *name >= first);
        names
            .map(|name| (name.clone(), copy(&disk, &name)))
            .collect::<BTreeMap<_, _>>()
    };
    let before = log();
    // Even if nothing is said to be live.
    for _ in 0..20 {
        let done = inner.reclaim_step(&SlotSet::default(), protected, Goal::Compact);
        done.unwrap();
    }
    assert!(log() == before);
    assert_eq!(region.files("segment-").len(), before.len());
}

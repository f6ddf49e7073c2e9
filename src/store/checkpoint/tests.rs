use crate::check::{CheckOptions, Report, check};
use crate::file_kms::FileKms;
use crate::io::fault::{Class, Failure, FaultDisk, Times};
use crate::io::sim::{Crash, SimClock, SimMachine, SimRandom};
use crate::store::reclaim::Goal;
use crate::store::{Machine, Options};
use crate::sync::Arc;
use crate::units::KeyId;

#[test]
fn what_a_checkpoint_begins_after_does_not_change_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let kms = FileKms::create(&dir.path().join("kms"), "local").unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(None).unwrap().id;
    let options = Options::new().segment_len(1 << 20).workers(0);
    let store = options.create(dir.path().join("store"), kms).unwrap();
    let volume = store.create_volume("v", 1 << 20, &key).unwrap();
    volume.write_all_at(&[1; 4096], 0).unwrap();
    let batch = store.0.commit.lock().log.position().seq;
    volume.write_all_at(&[2; 4096], 4096).unwrap();
    let same = store.0.commit.lock().log.position().seq;
    assert_eq!(same, batch, "small changes share a batch");
    let moment = store.0.moment();
    assert_eq!(moment.position.seq, batch);
    volume.write_all_at(&[3; 4096], 8192).unwrap();
    let position = store.0.commit.lock().log.position();
    assert!(
        position.seq > batch,
        "the checkpoint names that batch's chain value"
    );
}

/// A machine's parts, with what is random chosen by a seed.
fn on(machine: &SimMachine, dir: &str, seed: u64) -> Machine {
    Machine {
        disk: Arc::new(machine.dir(dir)),
        clock: Arc::new(SimClock::new(1)),
        random: Arc::new(SimRandom::new(seed)),
    }
}

/// A key service with a store's key, and another key.
fn create_kms(machine: &SimMachine, seed: u64) -> (Arc<FileKms>, KeyId) {
    let parts = on(machine, "kms", seed);
    let kms = FileKms::create_on(parts.disk, "local", parts.clock, parts.random).unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(None).unwrap().id;
    (Arc::new(kms), key)
}

fn open_kms(machine: &SimMachine, seed: u64) -> Arc<FileKms> {
    let parts = on(machine, "kms", seed);
    Arc::new(FileKms::open_on(parts.disk, parts.clock, parts.random).unwrap())
}

fn assert_clean(machine: &SimMachine) -> Report {
    let kms = open_kms(machine, 5);
    let options = CheckOptions::new().kms(kms).read_data(true);
    let report = check(&machine.dir("store"), &options).unwrap();
    assert!(report.is_clean(), "{report}");
    report
}

/// Until a checkpoint is there, both superblocks that are lead to nodes that died before it began.
#[test]
fn reclaim_beside_a_checkpoint_takes_nothing_that_a_superblock_leads_to() {
    const PAGE: u64 = 4096;
    const PAGES: u64 = 60;
    let machine = SimMachine::new();
    let (kms, key) = create_kms(&machine, 1);
    let options = Options::new().segment_len(40 * PAGE).workers(0).fanout(3);
    let store = options.create_on(on(&machine, "store", 2), kms).unwrap();
    let volume = store.create_volume("v", PAGES * PAGE, &key).unwrap();
    let fill = |byte: u8| {
        for page in 0..PAGES {
            volume
                .write_all_at(&[byte; PAGE as usize], page * PAGE)
                .unwrap();
        }
    };
    fill(1);
    // Three, so that none of what is in use lies in what a recovery reads as log.
    for page in 0..3 {
        store.checkpoint().unwrap();
        volume
            .write_all_at(&[1; PAGE as usize], page * PAGE)
            .unwrap();
    }
    store.checkpoint().unwrap();
    fill(2);
    let moment = store.0.moment();
    let mut freed = 0;
    loop {
        let progress = store.0.reclaim_some(Goal::Compact).unwrap();
        freed += progress.freed_bytes + progress.recycled_bytes;
        if progress.is_done {
            break;
        }
    }
    assert!(freed > 0, "there were dead pages to be given back");
    drop((moment, volume));
    let killed = machine.kill();
    let kms = open_kms(&killed, 3);
    let store = options
        .open_on(on(&killed, "store", 4), kms.clone())
        .unwrap();
    let mut bytes = [0; PAGE as usize];
    for page in 0..PAGES {
        let volume = store.volume("v").unwrap();
        volume.read_exact_at(&mut bytes, page * PAGE).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 2), "page {page}");
    }
    store.close().unwrap();
    drop(kms);
    assert_clean(&killed);
}

/// It holds the first page, and goes on.
fn assert_opens(machine: &SimMachine, options: &Options) {
    let kms = open_kms(machine, 6);
    let store = options.open_on(on(machine, "store", 7), kms).unwrap();
    let volume = store.volume("v").unwrap();
    let mut bytes = [0; 4096];
    volume.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [1; 4096]);
    volume.write_all_at(&[2; 4096], 0).unwrap();
    drop(volume);
    store.close().unwrap();
    assert_clean(machine);
}

/// A file that was renamed to a segment when the sync of the names failed is there, but not for good.
#[test]
fn a_segment_that_could_not_be_made_for_good_is_in_no_table() {
    let full = Failure::Kind(std::io::ErrorKind::StorageFull);
    for (failure, spares) in [
        (full, 0),
        (full, 1),
        (Failure::Os(5), 0),
        (Failure::Os(5), 1),
    ] {
        let machine = SimMachine::new();
        let (kms, key) = create_kms(&machine, 1);
        let mut parts = on(&machine, "store", 2);
        let disk = FaultDisk::new(parts.disk);
        let faults = disk.faults();
        parts.disk = Arc::new(disk);
        let options = Options::new().segment_len(1 << 20).workers(0);
        let store = options.create_on(parts, kms).unwrap();
        let volume = store.create_volume("v", 1 << 20, &key).unwrap();
        volume.write_all_at(&[1; 4096], 0).unwrap();
        store.0.segments.set_reserve(0);
        store.0.segments.remove_spares(0).unwrap();
        (0..spares).for_each(|_| store.0.segments.make_spare().unwrap());
        let make_ready = || store.0.commit.lock().log.make_ready(&store.0.segments);
        // Its contents are synced first, then its name.
        faults.count_only(Class::Sync);
        faults.fail_nth(2, failure, Times::Once);
        make_ready().unwrap_err();
        let files = store.0.segments.list().unwrap();
        assert_eq!(files.len(), 2, "{spares} {failure:?}");
        store.checkpoint().unwrap();
        let crashed = machine.power_loss(&Crash::NONE_KEPT);
        assert_opens(&crashed.kill(), &options);
        assert_clean(&crashed);
        // The one that takes its place is in the next.
        make_ready().unwrap();
        store.0.force_checkpoint().unwrap();
        let crashed = machine.power_loss(&Crash::NONE_KEPT);
        let report = assert_clean(&crashed);
        assert_eq!(
            (report.stats.segments, report.stats.unused_segments),
            (2, 0)
        );
    }
}

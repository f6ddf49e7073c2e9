use crate::check::{CheckOptions, check};
use crate::file_kms::FileKms;
use crate::io::Disk;
use crate::io::sim::{SimClock, SimMachine, SimRandom};
use crate::store::reclaim::Goal;
use crate::store::{Machine, Options};
use crate::sync::Arc;

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

/// Until a checkpoint is there, both superblocks that are lead to nodes that died before it began.
#[test]
fn reclaim_beside_a_checkpoint_takes_nothing_that_a_superblock_leads_to() {
    const PAGE: u64 = 4096;
    const PAGES: u64 = 60;
    let open_kms = |machine: &SimMachine, seed| {
        let (clock, random) = (Arc::new(SimClock::new(1)), Arc::new(SimRandom::new(seed)));
        let disk: Arc<dyn Disk> = Arc::new(machine.dir("kms"));
        (disk, clock, random)
    };
    let on = |machine: &SimMachine, seed| Machine {
        disk: Arc::new(machine.dir("store")),
        clock: Arc::new(SimClock::new(1)),
        random: Arc::new(SimRandom::new(seed)),
    };
    let machine = SimMachine::new();
    let (disk, clock, random) = open_kms(&machine, 1);
    let kms = FileKms::create_on(disk, "local", clock, random).unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(None).unwrap().id;
    let options = Options::new().segment_len(40 * PAGE).workers(0).fanout(3);
    let store = options.create_on(on(&machine, 2), Arc::new(kms)).unwrap();
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
    let (disk, clock, random) = open_kms(&killed, 3);
    let kms = Arc::new(FileKms::open_on(disk, clock, random).unwrap());
    let store = options.open_on(on(&killed, 4), kms.clone()).unwrap();
    let mut bytes = [0; PAGE as usize];
    for page in 0..PAGES {
        let volume = store.volume("v").unwrap();
        volume.read_exact_at(&mut bytes, page * PAGE).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 2), "page {page}");
    }
    store.close().unwrap();
    let options = CheckOptions::new().kms(kms).read_data(true);
    let report = check(&killed.dir("store"), &options).unwrap();
    assert!(report.is_clean(), "{report}");
}

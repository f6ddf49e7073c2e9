//! Few descriptors: a child process that may open 64 files works on a store of many more.

use std::path::Path;
use std::process::Command;

use offshoot::check::{CheckOptions, check_dir};
use offshoot::{FileKms, Options, Store, Volume};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::fixture::Fixture;

const DIR_VARIABLE: &str = "OFFSHOOT_LIMITS_CHILD";
const DESCRIPTORS: u64 = 64;
const MIB: u64 = 1 << 20;
const LEN: u64 = 150 * MIB;

fn bytes(at: u64) -> Vec<u8> {
    (0..MIB).map(|byte| (byte / 251 + at / MIB) as u8).collect()
}

fn check_all(volume: &Volume) {
    let mut found = vec![0; MIB as usize];
    // There and back, so that what was closed is opened again.
    let count = (LEN / MIB) as u32;
    for at in (0..count).chain((0..count).rev()) {
        let at = u64::from(at) * MIB;
        volume.read_exact_at(&mut found, at).unwrap();
        assert_eq!(found, bytes(at), "at {at}");
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn open(dir: &Path) -> Store {
    let kms = FileKms::open(&dir.join("kms")).unwrap();
    Options::new().open(dir.join("store"), kms).unwrap()
}

/// Does nothing unless [`a_store_of_many_segments_works_with_few_descriptors`] runs it.
#[test]
fn limited_child() {
    let Ok(dir) = std::env::var(DIR_VARIABLE) else {
        return;
    };
    let dir = Path::new(&dir);
    let limit = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: Some(DESCRIPTORS),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let kms = FileKms::create(&dir.join("kms"), "local").unwrap();
    kms.create_key(Some("alias/offshoot-store")).unwrap();
    let key = kms.create_key(None).unwrap().id;
    let store = Options::new()
        .segment_len(MIB)
        .create(dir.join("store"), kms)
        .unwrap();
    let volume = store.create_volume("v", LEN, &key).unwrap();
    let all: Vec<u8> = (0..LEN).step_by(MIB as usize).flat_map(bytes).collect();
    // One call, without a flush.
    volume.write_all_at(&all, 0).unwrap();
    assert!(store.info().unwrap().segment_count > 2 * DESCRIPTORS as u32);
    check_all(&volume);
    store.flush().unwrap();
    drop((volume, store));
    // After that "crash" all of the log is read, and synced.
    let store = open(dir);
    check_all(&store.volume("v").unwrap());
    store.close().unwrap();
    let store = open(dir);
    let volume = store.volume("v").unwrap();
    check_all(&volume);
    assert!(open_files() < DESCRIPTORS as usize * 3 / 4);
    // Others may take nearly all that is left.
    let taken = (0..).map_while(|_| std::fs::File::open("/dev/null").ok());
    let mut taken: Vec<_> = taken.collect();
    taken.truncate(taken.len() - 4);
    check_all(&volume);
    drop(taken);
    store.close().unwrap();
    let report = check_dir(&dir.join("store"), &CheckOptions::default().read_data(true)).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings.first());
    println!("the child is done");
}

#[test]
fn a_store_of_many_segments_works_with_few_descriptors() {
    let fixture = Fixture::new();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "limits::limited_child", "--nocapture"])
        .env(DIR_VARIABLE, fixture.dir.path().join("child"))
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&child.stdout);
    let err = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{out}{err}");
    assert!(out.contains("the child is done"), "{out}{err}");
}

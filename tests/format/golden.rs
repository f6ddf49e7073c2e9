//! A store of format version 0 as some earlier program wrote it, kept in `tests/golden/v0`.
//!
//! It was made by [`make`]: a volume, a snapshot of it, a clone under another KMS key, changes on
//! both sides, a checkpoint, changes after it, and no close. `tests/golden/read.py` is a second
//! reader, written from the documents of the formats.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use offshoot::io::sim::{SimClock, SimMachine, SimRandom};
use offshoot::io::{Access, Disk};
use offshoot::{Clock, ExtentKind, FileKms, Machine, Options, Random, Store};
use sha2::{Digest, Sha256};

use crate::{is_update, project};

const FOLDER: &str = "tests/golden/v0";
const DIRECTORIES: [&str; 2] = ["store", "kms"];
const PAGE: u64 = 4096;
const LEN: u64 = 8 * PAGE;
/// All that is in the folder; it is in the repository for ever.
const LEN_MAX: u64 = 200_000;

/// Bytes that are different in each page of each text.
fn page(text: &str, number: u64) -> Vec<u8> {
    let line = format!("{text}, page {number}, of the golden store\n");
    line.bytes().cycle().take(PAGE as usize).collect()
}

/// Makes the store on a simulated machine: the same bytes each time.
fn make() -> SimMachine {
    let machine = SimMachine::new();
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new(1_700_000_000_000));
    let random: Arc<dyn Random> = Arc::new(SimRandom::new(0));
    let disk = |name: &str| -> Arc<dyn Disk> { Arc::new(machine.dir(name)) };
    let kms = FileKms::create_on(disk("kms"), "local", clock.clone(), random.clone());
    let kms = kms.expect("a KMS");
    let key = |alias| kms.create_key(Some(alias)).expect("a key").id;
    key("alias/offshoot-store");
    let (first, second) = (key("alias/default"), key("alias/second"));
    let on = Machine {
        disk: disk("store"),
        clock,
        random,
    };
    let options = Options::new().segment_len(8 * PAGE).workers(0);
    let store = options
        .create_on(on, Arc::new(kms.clone()))
        .expect("a store");

    let db = store.create_volume("db", LEN, &first).expect("a volume");
    db.write_all_at(&page("db", 0), 0).expect("a write");
    let before = db.create_snapshot("before").expect("a snapshot");
    let trial = before.create_clone("trial", &second).expect("a clone");
    trial
        .write_all_at(&page("trial", 1), PAGE)
        .expect("a write");
    store.checkpoint().expect("a checkpoint");
    db.write_zeroes(2 * PAGE..4 * PAGE).expect("zeroes");
    trial.rename("trial-2").expect("another name");
    store.flush().expect("a flush");
    machine
}

/// Everything that can be read of the store.
fn check(store: &Store) {
    let names: Vec<_> = store
        .volumes()
        .into_iter()
        .map(|volume| volume.name)
        .collect();
    assert_eq!(names, ["db", "trial-2"]);
    let names: Vec<_> = store
        .snapshots()
        .into_iter()
        .map(|snapshot| snapshot.name)
        .collect();
    assert_eq!(names, ["before"]);
    let (db, trial) = (
        store.volume("db").expect("db"),
        store.volume("trial-2").expect("trial"),
    );
    let before = store.snapshot("before").expect("before");

    let mut bytes = vec![0; LEN as usize];
    let mut wanted = vec![0; LEN as usize];
    wanted[..PAGE as usize].copy_from_slice(&page("db", 0));
    db.read_exact_at(&mut bytes, 0).expect("db's bytes");
    assert!(bytes == wanted, "db");
    before
        .read_exact_at(&mut bytes, 0)
        .expect("the snapshot's bytes");
    assert!(bytes == wanted, "before");
    wanted[PAGE as usize..2 * PAGE as usize].copy_from_slice(&page("trial", 1));
    trial
        .read_exact_at(&mut bytes, 0)
        .expect("the clone's bytes");
    assert!(bytes == wanted, "trial");

    let extents = |range: Range<u64>| -> Vec<_> {
        let extents = db
            .extents(range)
            .expect("extents")
            .map(|extent| extent.expect("an extent"));
        extents.map(|extent| extent.kind).collect()
    };
    let kinds = [
        ExtentKind::Data,
        ExtentKind::Hole,
        ExtentKind::Zero,
        ExtentKind::Hole,
    ];
    assert_eq!(extents(0..LEN), kinds);
    let (db, trial) = (db.info().expect("db"), trial.info().expect("trial"));
    let before = before.info().expect("before");
    assert_eq!((db.len, db.origin_id, before.volume_id), (LEN, None, db.id));
    assert_eq!((trial.origin_id, before.len), (Some(before.id), LEN));
    assert_ne!(trial.kms_key, db.kms_key);
    assert_eq!(before.kms_key, db.kms_key);
}

/// Spares are all alike: one shows what they are.
const SPARE: &str = "spare-00000001";

fn write_files(machine: &SimMachine, folder: &Path) {
    for name in DIRECTORIES {
        let (from, to) = (machine.dir(name), folder.join(name));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(&to).expect("a folder");
        for file in from
            .list()
            .expect("names")
            .iter()
            .filter(|file| *file != "lock" && (!file.starts_with("spare-") || *file == SPARE))
        {
            let open = from.open(file, Access::Read).expect("a file");
            let mut bytes = vec![0; open.len().expect("a length") as usize];
            open.read_exact_at(&mut bytes, 0).expect("its bytes");
            fs::write(to.join(file), bytes).expect("a written file");
        }
    }
}

fn copy_files(from: &Path, to: &Path) -> u64 {
    let mut len = 0;
    for name in DIRECTORIES {
        fs::create_dir(to.join(name)).expect("a folder");
        for file in fs::read_dir(from.join(name)).expect("tests/golden/v0: run UPDATE=1") {
            let file = file.expect("a name");
            let to = to.join(name).join(file.file_name());
            len += fs::copy(file.path(), to).expect("a copy");
        }
    }
    len
}

/// A line for each volume and snapshot, as the second reader prints it.
fn contents(store: &Store) -> String {
    let mut heads = Vec::new();
    for info in store.volumes() {
        let volume = store.volume(&info.name).expect("a volume");
        let mut bytes = vec![0; info.len as usize];
        volume.read_exact_at(&mut bytes, 0).expect("its bytes");
        heads.push(("volume", info.name, bytes));
    }
    for info in store.snapshots() {
        let snapshot = store.snapshot(&info.name).expect("a snapshot");
        let mut bytes = vec![0; info.len as usize];
        snapshot.read_exact_at(&mut bytes, 0).expect("its bytes");
        heads.push(("snapshot", info.name, bytes));
    }
    let line = |(kind, name, bytes): &(&str, String, Vec<u8>)| {
        format!("{kind} {name} {} {}\n", bytes.len(), sha256(bytes))
    };
    heads.iter().map(line).collect()
}

fn sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the second reader prints; `None` without Python.
fn second_reader(folder: &Path) -> Option<String> {
    let mut python = Command::new("python3");
    let run = python
        .arg("-B")
        .arg(project("tests/golden/read.py"))
        .arg(folder)
        .output();
    let Ok(output) = run else {
        println!("skipped: there is no python3 to run tests/golden/read.py");
        return None;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "read.py failed: {errors}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn a_reader_written_from_the_documents_reads_the_same() {
    let Some(read) = second_reader(&project(FOLDER)) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy_files(&project(FOLDER), folder.path());
    let kms = FileKms::open(&folder.path().join("kms")).expect("the KMS opens");
    let options = Options::new().read_only(true);
    let store = options
        .open(folder.path().join("store"), kms)
        .expect("the store opens");
    assert_eq!(read, contents(&store));
}

/// High trees, pages of several slots, keys several branches up, a log over many segments.
#[test]
fn a_reader_written_from_the_documents_reads_a_branched_store() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kms = FileKms::create(&folder.path().join("kms"), "local").expect("a KMS");
    kms.create_key(Some("alias/offshoot-store")).expect("a key");
    let key = kms.create_key(Some("alias/default")).expect("a key").id;
    let options = Options::new().segment_len(1 << 20).page_len(8192).fanout(3);
    let store = options
        .create(folder.path().join("store"), kms)
        .expect("a store");
    let mut head = store
        .create_volume("v0", 64 * 8192, &key)
        .expect("a volume");
    for round in 1..6u64 {
        for number in [5, 40] {
            let text = format!("round {round}, page {number}");
            head.write_all_at(text.as_bytes(), (number + 2 * round) * 8192 + 77)
                .expect("a write");
        }
        head.discard(round * 8192..(round + 3) * 8192)
            .expect("a discard");
        let older = head.clone();
        head = head
            .create_clone(&format!("v{round}"), &key)
            .expect("a clone");
        older.write_zeroes(0..4 * 8192).expect("zeroes");
        head.write_zeroes((60 - 9 * round) * 8192..(66 - 9 * round) * 8192)
            .expect("zeroes");
        if round == 3 {
            store.checkpoint().expect("a checkpoint");
            older.delete().expect("a delete");
        }
    }
    store.flush().expect("a flush");
    if let Some(read) = second_reader(folder.path()) {
        assert_eq!(read, contents(&store));
        assert_eq!(read.lines().count(), 5);
    }
    let all = contents(&store);
    store.close().expect("a clean close");
    if let Some(read) = second_reader(folder.path()) {
        assert_eq!(read, all);
    }
}

#[test]
fn a_store_of_an_earlier_program_opens_and_holds_what_it_held() {
    let golden = project(FOLDER);
    if is_update() {
        write_files(&make(), &golden);
    }
    let copy = tempfile::tempdir().expect("a temporary folder");
    assert!(
        copy_files(&golden, copy.path()) < LEN_MAX,
        "the golden store is too large"
    );
    let open = |options: Options| {
        let kms = FileKms::open(&copy.path().join("kms")).expect("the KMS opens");
        options
            .open(copy.path().join("store"), kms)
            .expect("the store opens")
    };
    check(&open(Options::new().read_only(true)));

    // Recovery, then changes and a clean close by this program.
    let store = open(Options::new());
    check(&store);
    let db = store.volume("db").expect("db");
    db.write_all_at(&page("new", 7), 7 * PAGE).expect("a write");
    db.discard(7 * PAGE..LEN).expect("a discard");
    db.create_clone("gone", &db.info().expect("db").kms_key)
        .expect("a clone");
    store
        .volume("gone")
        .expect("the clone")
        .delete()
        .expect("its end");
    store.close().expect("a clean close");
    check(&open(Options::new()));
}

#[test]
fn the_golden_store_can_be_made_anew() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_files(&make(), folder.path());
    let kms = FileKms::open(&folder.path().join("kms")).expect("the KMS opens");
    let store = Options::new()
        .open(folder.path().join("store"), kms)
        .expect("the store opens");
    check(&store);
}

//! A core dump of a process that has a store open: no key is in it. Needs `gcore` (of gdb).
//!
//! The child is this test binary again, with a variable that makes `dump_child` do its work.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use offshoot::io::real::{RealDisk, SystemClock, SystemRandom};
use offshoot::{FileKms, Machine, Options, Random};

use crate::fixture::{PAGE, page};

const DIR_VARIABLE: &str = "OFFSHOOT_DUMP_CHILD";
const KEY_LEN: usize = 32;

/// Randomness that remembers all keys that were made of it.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<[u8; KEY_LEN]>>);

impl Random for Recorder {
    fn fill(&self, buf: &mut [u8]) {
        SystemRandom.fill(buf);
        if let Ok(key) = <[u8; KEY_LEN]>::try_from(&*buf) {
            self.0.lock().unwrap().push(key);
        }
    }
}

/// What is in the child's memory and should be found: what it was called with, backwards.
fn marker(dir: &Path) -> Vec<u8> {
    let mut bytes = dir.as_os_str().as_encoded_bytes().to_vec();
    bytes.reverse();
    bytes
}

/// Makes a store of a volume and its clone, and gives the store's, head and epoch keys.
fn make(dir: &Path) -> Vec<[u8; KEY_LEN]> {
    let disk = |name: &str| Arc::new(RealDisk::create(&dir.join(name)).unwrap());
    let (kms_disk, clock) = (disk("kms"), Arc::new(SystemClock));
    let kms = FileKms::create_on(
        kms_disk.clone(),
        "local",
        clock.clone(),
        Arc::new(SystemRandom),
    );
    // The keys of the KMS itself are in the clear in its files, and not what this is about.
    kms.unwrap()
        .create_key(Some("alias/offshoot-store"))
        .unwrap();
    let random = Arc::new(Recorder::default());
    let plain = FileKms::open(&dir.join("kms")).unwrap();
    let key = plain.create_key(Some("alias/default")).unwrap().id;
    let kms = FileKms::open_on(kms_disk, clock.clone(), random.clone()).unwrap();
    let machine = Machine {
        disk: disk("store"),
        clock,
        random: random.clone(),
    };
    let store = Options::new().create_on(machine, Arc::new(kms)).unwrap();
    let volume = store.create_volume("v", 64 * PAGE, &key).unwrap();
    volume.write_all_at(&page(1).repeat(8), 0).unwrap();
    let clone = volume.create_clone("c", &key).unwrap();
    clone.write_all_at(&page(2), PAGE).unwrap();
    drop((volume, clone));
    store.close().unwrap();
    let keys = random.0.lock().unwrap();
    keys.clone()
}

/// Not a test by itself: the child of the one below.
#[test]
fn dump_child() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else {
        return;
    };
    let dir = Path::new(&dir);
    // Alone on its pages: those that small things share with keys are not dumped.
    let marker = marker(dir).repeat(20_000);
    let kms = FileKms::open(&dir.join("kms")).unwrap();
    let store = Options::new().open(dir.join("store"), kms).unwrap();
    let mut bytes = page(0);
    for (name, byte) in [("v", 1), ("c", 2)] {
        let volume = store.volume(name).unwrap();
        volume.read_exact_at(&mut bytes, PAGE).unwrap();
        assert_eq!(bytes, page(byte));
        volume.write_all_at(&page(3), 9 * PAGE).unwrap();
        volume.flush().unwrap();
    }
    // Not `print`, which the test harness keeps to itself.
    writeln!(stdout(), "\n@ open").unwrap();
    stdin().read_line(&mut String::new()).unwrap();
    drop((store, std::hint::black_box(marker)));
}

fn spawn(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "dump::dump_child", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "@ open"), "it opens");
    child
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

/// Which of the keys are in there, by the order in which they were made.
fn found(haystack: &[u8], keys: &[[u8; KEY_LEN]]) -> BTreeSet<usize> {
    let mut by_start = vec![Vec::new(); 1 << 16];
    for (number, key) in keys.iter().enumerate() {
        by_start[usize::from(u16::from_le_bytes([key[0], key[1]]))].push(number);
    }
    let at = |part: &[u8]| {
        let likely = &by_start[usize::from(u16::from_le_bytes([part[0], part[1]]))];
        likely.iter().copied().find(|&number| keys[number] == part)
    };
    haystack.windows(KEY_LEN).filter_map(at).collect()
}

#[test]
fn a_core_dump_has_no_key_of_the_store_its_heads_or_its_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let keys = make(dir);
    assert!(keys.len() > 4, "{} keys", keys.len());
    let mut child = spawn(dir);
    let dumped = Command::new("gcore")
        .arg("-o")
        .arg(dir.join("core"))
        .arg(child.id().to_string())
        .output();
    let core = fs::read(dir.join(format!("core.{}", child.id())));
    child.kill().unwrap();
    child.wait().unwrap();
    let (Ok(_), Ok(core)) = (dumped, core) else {
        println!("SKIPPED: there is no gcore, or it may not look at other processes");
        return;
    };
    assert!(contains(&core, &marker(dir)), "this is the child's memory");
    let found = found(&core, &keys);
    assert!(found.is_empty(), "{found:?} of {} keys", keys.len());
}

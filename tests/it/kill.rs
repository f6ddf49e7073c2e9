//! Kill -9: a child process writes to a real store and dies at any moment.
//!
//! The child is this test binary again, with a variable that makes `kill_child` do its work.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use offshoot::{Error, FileKms, KeyId, Options, Store, Volume};

use crate::fixture::{Fixture, PAGE, Rng};

const DIR_VARIABLE: &str = "OFFSHOOT_KILL_CHILD";
const CYCLES_VARIABLE: &str = "OFFSHOOT_KILL_CYCLES";
const CYCLES: u64 = 30;
/// Pairs of pages. Write number n goes to both pages of pair n mod PAIRS.
const PAIRS: u64 = 64;
const CLONES_MAX: usize = 4;

fn options() -> Options {
    Options::new().segment_len(4 << 20)
}

/// The last number written to each pair; 0 if none was.
fn numbers(volume: &Volume) -> Vec<u64> {
    let mut bytes = vec![0; (PAIRS * 2 * PAGE) as usize];
    volume.read_exact_at(&mut bytes, 0).unwrap();
    let pairs = bytes.chunks(2 * PAGE as usize).map(|pair| {
        let number = u64::from_le_bytes(pair[..8].try_into().unwrap());
        assert!(
            pair.chunks(8).all(|part| part == number.to_le_bytes()),
            "half of write {number}"
        );
        number
    });
    pairs.collect()
}

/// What the pairs hold after exactly the first `count` writes.
fn prefix(count: u64) -> Vec<u64> {
    let last = |pair| {
        (0..PAIRS)
            .filter_map(|back| count.checked_sub(back))
            .find(|n| n % PAIRS == pair)
    };
    (0..PAIRS).map(|pair| last(pair).unwrap_or(0)).collect()
}

/// How many writes a volume holds: they are the first so many, without a gap.
#[track_caller]
fn write_count(volume: &Volume) -> u64 {
    let numbers = numbers(volume);
    let count = numbers.iter().copied().max().unwrap();
    assert_eq!(
        numbers,
        prefix(count),
        "{}: not a prefix of the writes",
        volume.name().unwrap()
    );
    count
}

fn open(dir: &Path) -> (Store, KeyId) {
    let kms = FileKms::open(&dir.join("kms")).unwrap();
    let key = kms.key("alias/default").unwrap().id;
    (options().open(dir.join("store"), kms).unwrap(), key)
}

/// Not a test by itself: the child of the one below.
#[test]
fn kill_child() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else {
        return;
    };
    let (store, key) = open(Path::new(&dir));
    let volume = store.volume("v").unwrap();
    let start = write_count(&volume);
    // Not `print`, which the test harness keeps to itself.
    let say = |line: String| {
        let mut out = stdout().lock();
        writeln!(out, "\n@ {line}").unwrap();
        out.flush().unwrap();
    };
    say(format!("start {start}"));
    let mut clones: Vec<String> = store.volumes().into_iter().map(|v| v.name).collect();
    clones.retain(|name| name != "v");
    for number in start + 1.. {
        let bytes: Vec<u8> = number.to_le_bytes().repeat(2 * PAGE as usize / 8);
        volume
            .write_all_at(&bytes, number % PAIRS * 2 * PAGE)
            .unwrap();
        if number % 7 == 0 {
            volume.flush().unwrap();
            say(format!("flushed {number}"));
        }
        if number % 31 == 0 {
            let name = format!("c{number}");
            volume.create_clone(&name, &key).unwrap();
            say(format!("cloned {number}"));
            clones.push(name);
        }
        if clones.len() > CLONES_MAX {
            let name = clones.remove(0);
            say(format!("deleting {}", &name[1..]));
            store.volume(&name).unwrap().delete().unwrap();
            say(format!("deleted {}", &name[1..]));
        }
        if number % 97 == 0 {
            store.checkpoint().unwrap();
        }
    }
}

/// What children said, over all cycles.
#[derive(Default)]
struct Acks {
    durable: u64,
    /// Clones by their number: whether they must be there, or `None` if that is open.
    clones: BTreeMap<u64, Option<bool>>,
    started: bool,
}

impl Acks {
    fn add(&mut self, line: &str) {
        let Some((word, number)) = line
            .strip_prefix("@ ")
            .and_then(|line| line.split_once(' '))
        else {
            return;
        };
        let number: u64 = number.parse().unwrap();
        match word {
            "start" => self.started = true,
            // All that returned before a clone or a deletion is durable with it.
            "flushed" => self.durable = number,
            "cloned" => {
                self.durable = number;
                self.clones.insert(number, Some(true));
            }
            "deleting" => _ = self.clones.insert(number, None),
            "deleted" => _ = self.clones.insert(number, Some(false)),
            other => panic!("the child says {other}"),
        }
    }
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::kill_child", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn what_was_acknowledged_survives_kill_9_and_the_rest_is_a_prefix() {
    let asked = std::env::var(CYCLES_VARIABLE).ok();
    let cycles = asked.map_or(CYCLES, |cycles| cycles.parse().unwrap());
    let fixture = Fixture::new();
    let dir = fixture.dir.path();
    let store = options()
        .create(fixture.path(), fixture.kms.clone())
        .unwrap();
    store
        .create_volume("v", PAIRS * 2 * PAGE, &fixture.key)
        .unwrap();
    store.close().unwrap();
    let (mut acks, mut rng) = (Acks::default(), Rng(std::process::id().into()));
    let (mut most_lost, mut deaths_at_work) = (0, 0);
    for cycle in 0..cycles {
        let mut child = spawn(dir);
        let (send, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reader = thread::spawn(move || {
            for line in out.lines() {
                _ = send.send(line.unwrap());
            }
        });
        acks.started = false;
        // Some die while they open the store, the others at work.
        let patience = Duration::from_secs(30);
        while cycle % 5 != 4 && !acks.started {
            acks.add(&lines.recv_timeout(patience).expect("the child starts"));
        }
        thread::sleep(Duration::from_micros(rng.below(120_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        lines.try_iter().for_each(|line| acks.add(&line));
        deaths_at_work += u64::from(acks.started);
        // The lock went with the process.
        let (store, _) = open(dir);
        let count = write_count(&store.volume("v").unwrap());
        assert!(
            count >= acks.durable,
            "cycle {cycle}: {count} writes, {} durable",
            acks.durable
        );
        most_lost = most_lost.max(count - acks.durable);
        let mut found: Vec<String> = store.volumes().into_iter().map(|v| v.name).collect();
        found.retain(|name| name != "v");
        for name in &found {
            let number: u64 = name[1..].parse().unwrap();
            let held = write_count(&store.volume(name).unwrap());
            assert_eq!(held, number, "{name} is the moment it was made");
            assert_ne!(
                acks.clones.get(&number),
                Some(&Some(false)),
                "{name} was deleted"
            );
        }
        for (number, must) in &acks.clones {
            let name = format!("c{number}");
            assert!(
                *must != Some(true) || found.contains(&name),
                "{name} was acknowledged"
            );
        }
        // What nobody was told about is settled now.
        acks.clones
            .retain(|number, _| found.contains(&format!("c{number}")));
        for name in found {
            acks.clones.insert(name[1..].parse().unwrap(), Some(true));
        }
        acks.durable = count;
        if cycle % 3 == 0 {
            store.close().unwrap();
        }
    }
    assert!(acks.durable > cycles, "only {} writes in all", acks.durable);
    assert!(
        deaths_at_work > cycles / 2,
        "only {deaths_at_work} children died at work"
    );
    println!(
        "{cycles} kills, {} writes, at most {most_lost} not yet acknowledged",
        acks.durable
    );
}

#[test]
fn a_killed_owner_leaves_no_lock_and_a_living_one_is_named() {
    let fixture = Fixture::new();
    let store = options()
        .create(fixture.path(), fixture.kms.clone())
        .unwrap();
    store
        .create_volume("v", PAIRS * 2 * PAGE, &fixture.key)
        .unwrap();
    store.close().unwrap();
    let mut child = spawn(fixture.dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "@ start 0"));
    match options().open(fixture.path(), fixture.kms.clone()) {
        Err(Error::Locked { pid, .. }) => assert_eq!(pid, Some(child.id())),
        other => panic!("{other:?}"),
    }
    // Nor may it be read meanwhile.
    let read = options()
        .read_only(true)
        .open(fixture.path(), fixture.kms.clone());
    assert!(matches!(read, Err(Error::Locked { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    open(fixture.dir.path()).0.close().unwrap();
}

//! What clones cost: to make the ten-thousandth, to keep, to read through, to list and to delete.
//!
//! `cargo bench --bench clones` takes full sizes, `-- --clones N --mib N` others; under `cargo test
//! --benches` they are toys. What is measured, and how, is in `benches/README.md`.

use std::time::{Duration, Instant};

use offshoot::{FileKms, KeyId, Options, Store, Volume};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
const ROUNDS: usize = 5;

struct Plan {
    clones: usize,
    /// What the volume maps of which untouched clones are deleted.
    mib: u64,
    changed: [u64; 3],
}

struct Rig {
    dir: tempfile::TempDir,
    kms: FileKms,
    key: KeyId,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let is_full = args.iter().any(|arg| arg == "--bench");
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    let plan = Plan {
        clones: value("--clones").map_or(if is_full { 10_000 } else { 20 }, |count| count as usize),
        mib: value("--mib").unwrap_or(if is_full { 8192 } else { 4 }),
        changed: if is_full {
            [1_000, 10_000, 100_000]
        } else {
            [10, 20, 40]
        },
    };
    many(&plan);
    deletes(&plan);
}

impl Rig {
    fn new() -> Self {
        let here = std::env::current_dir().expect("a current directory");
        let dir = tempfile::tempdir_in(here).expect("a temporary directory");
        let kms = FileKms::create(&dir.path().join("kms"), "local").expect("a KMS");
        kms.create_key(Some("alias/offshoot-store")).expect("a key");
        let key = kms.create_key(None).expect("a key").id;
        Self { dir, kms, key }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("store")
    }

    fn create(&self) -> Store {
        let store = Options::new().create(self.path(), self.kms.clone());
        store.expect("a store")
    }
}

/// Many clones of one volume at once.
fn many(plan: &Plan) {
    let rig = Rig::new();
    let store = rig.create();
    let volume = store
        .create_volume("source", 64 * MIB, &rig.key)
        .expect("a volume");
    volume
        .write_all_at(&vec![7; 16 * MIB as usize], 0)
        .expect("a write");
    store.checkpoint().expect("a checkpoint");
    let read_before = read_time(&volume);
    let before = metadata(&store);
    let times: Vec<Duration> = (0..plan.clones)
        .map(|number| {
            let start = Instant::now();
            volume
                .create_clone(&format!("c{number}"), &rig.key)
                .expect("a clone");
            start.elapsed()
        })
        .collect();
    let some = (plan.clones / 10).clamp(1, 100);
    let (first, last) = (median(&times[..some]), median(&times[times.len() - some..]));
    println!(
        "{} clones of one volume: the first {:.3} ms, the last {:.3} ms (medians of {some}); ratio {:.2}",
        plan.clones,
        ms(first),
        ms(last),
        last.div_duration_f64(first),
    );
    let (start, appended) = (Instant::now(), store.stats().expect("stats").appended_bytes);
    store.checkpoint().expect("a checkpoint");
    let tables = store.stats().expect("stats").appended_bytes - appended;
    println!(
        "a checkpoint of them: {:.0} ms, {} bytes of tables and nodes a clone; {} bytes a clone of nodes kept",
        ms(start.elapsed()),
        tables / plan.clones as u64,
        (metadata(&store) - before) / plan.clones as u64,
    );
    let read_after = read_time(&volume);
    let clone = store
        .volume(&format!("c{}", plan.clones - 1))
        .expect("a clone");
    println!(
        "reading 4 KiB: {:.2} us before, {:.2} us beside them, {:.2} us through the last of them",
        read_before,
        read_after,
        read_time(&clone),
    );
    timed("volumes and what each takes", || {
        for info in store.volumes() {
            store
                .volume(&info.name)
                .and_then(|volume| volume.usage())
                .expect("usage");
        }
    });
    timed("what each is charged", || {
        drop(store.charges().expect("charges"))
    });
    timed("the space of the store", || {
        _ = store.space().expect("space")
    });
    timed("what deleting one of them would free", || {
        drop(store.plan_deletion(&["source"], &[]).expect("a plan"));
    });
    drop((volume, clone));
    let start = Instant::now();
    store.close().expect("a clean close");
    println!("close: {:.0} ms", ms(start.elapsed()));
    command_line(&rig.dir);
    let start = Instant::now();
    let store = Options::new()
        .open(rig.path(), rig.kms.clone())
        .expect("a store");
    println!("open: {:.0} ms", ms(start.elapsed()));
    let names: Vec<String> = (0..plan.clones)
        .map(|number| format!("c{number}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let start = Instant::now();
    store.delete(&names, &[]).expect("a delete");
    let gone = start.elapsed();
    while store.stats().expect("stats").deleted_heads > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!(
        "all clones deleted at once: off the list in {:.0} ms, removed after {:.0} ms",
        ms(gone),
        ms(start.elapsed()),
    );
    store.close().expect("a clean close");
}

/// The release binary, if it was built.
fn command_line(dir: &tempfile::TempDir) {
    let Some(binary) = std::env::var_os("OFFSHOOT_BINARY") else {
        println!("(the command line is timed if OFFSHOOT_BINARY names it)");
        return;
    };
    for command in [
        &["volume", "list"][..],
        &["volume", "show", "c0"],
        &["clone", "tree"],
        &["store", "stats"],
    ] {
        let times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                let mut process = std::process::Command::new(&binary);
                process
                    .args(command)
                    .arg("--store")
                    .arg(dir.path().join("store"));
                process.arg("--kms").arg(dir.path().join("kms"));
                let output = process.output().expect("a process");
                assert!(output.status.success(), "{output:?}");
                start.elapsed()
            })
            .collect();
        println!(
            "offshoot {}: {:.0} ms",
            command.join(" "),
            ms(median(&times))
        );
    }
}

/// Deleting an untouched clone of much, and clones that changed some pages.
fn deletes(plan: &Plan) {
    let rig = Rig::new();
    let store = rig.create();
    let volume = store
        .create_volume("source", plan.mib * MIB, &rig.key)
        .expect("a volume");
    let bytes = vec![3; MIB as usize];
    (0..plan.mib).for_each(|mib| volume.write_all_at(&bytes, mib * MIB).expect("a write"));
    store.checkpoint().expect("a checkpoint");
    println!("deletes with {} MiB mapped (medians of {ROUNDS})", plan.mib);
    println!("pages changed  off the list ms  removed after ms  us a page");
    for count in [0].into_iter().chain(plan.changed) {
        let (mut gone, mut removed) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let name = format!("c{count}-{round}");
            let clone = volume.create_clone(&name, &rig.key).expect("a clone");
            change(&clone, count, plan.mib * 256);
            store.checkpoint().expect("a checkpoint");
            let start = Instant::now();
            clone.delete().expect("a delete");
            gone.push(start.elapsed());
            // The store's thread does that; polling takes a core, so not too often.
            while store.stats().expect("stats").deleted_heads > 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
            removed.push(start.elapsed());
        }
        let (gone, removed) = (median(&gone), median(&removed));
        println!(
            "{count:>13}  {:>15.2}  {:>16.2}  {:>9.2}",
            ms(gone),
            ms(removed),
            removed.as_secs_f64() * 1e6 / count.max(1) as f64,
        );
    }
    drop(volume);
    store.close().expect("a clean close");
}

/// Writes so many pages, one by one all over the volume.
fn change(clone: &Volume, count: u64, pages: u64) {
    let page = vec![9; PAGE as usize];
    // Odd, so no page comes twice.
    let step = (pages / count.max(1)).max(1) | 1;
    for number in 0..count {
        clone
            .write_all_at(&page, number * step % pages * PAGE)
            .expect("a write");
    }
}

/// Microseconds of a read of a page that is in memory.
fn read_time(volume: &Volume) -> f64 {
    const READS: u64 = 2_000;
    let mut page = vec![0; PAGE as usize];
    let mut read = |number: u64| {
        let at = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 4096 * PAGE;
        volume.read_exact_at(&mut page, at).expect("a read");
    };
    (0..4096).for_each(&mut read);
    let times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..READS).for_each(&mut read);
            start.elapsed()
        })
        .collect();
    median(&times).as_secs_f64() * 1e6 / READS as f64
}

fn metadata(store: &Store) -> u64 {
    store.space().expect("space").node_bytes
}

fn timed(what: &str, work: impl Fn()) {
    let times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    println!("{what}: {:.1} ms", ms(median(&times)));
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

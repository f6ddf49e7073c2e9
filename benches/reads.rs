//! Warm random reads of 4 KiB beside a plain file, at the end of a long chain of clones, and the
//! memory that they take.
//!
//! `cargo bench --bench reads` takes full sizes, and `-- --gib 8` a volume of so many GiB; under
//! `cargo test --benches` they are toys. Ours and plain take turns in short rounds, so that both
//! meet the same noise; a ratio is the median of the rounds', with the quartiles. What is
//! measured, and how, is in `benches/README.md`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use offshoot::{FileKms, KeyId, Options, PAGE_CIPHER, Store, Volume};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// What the memory of a process is measured of: mapped bytes, and the cache for their table.
const CACHE_BYTES: usize = 64 << 20;

struct Sizes {
    volume: u64,
    rounds: usize,
    round_reads: u64,
    /// Of one of the rounds at depth.
    deep_reads: u64,
    depth: u32,
    mapped: u64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        Some(
            args.get(args.iter().position(|arg| arg == name)? + 1)?
                .as_str(),
        )
    };
    if let Some(dir) = value("--memory-of") {
        return report_memory(Path::new(dir));
    }
    let gib = value("--gib").map_or(2, |gib| gib.parse().expect("a number of GiB"));
    let sizes = match args.iter().any(|arg| arg == "--bench") {
        true => Sizes {
            volume: gib * GIB,
            rounds: 101,
            round_reads: 4000,
            deep_reads: 50_000,
            depth: 1000,
            mapped: 16 * GIB,
        },
        false => Sizes {
            volume: 4 * MIB,
            rounds: 3,
            round_reads: 50,
            deep_reads: 100,
            depth: 10,
            mapped: 64 * MIB,
        },
    };
    let dir = tempfile::tempdir_in(std::env::current_dir().expect("a current directory"))
        .expect("a temporary directory");
    println!("pages are opened by {PAGE_CIPHER}");
    let (store, key) = create(dir.path());
    beside_a_file(&store, &key, &dir.path().join("plain"), &sizes);
    after_clones(&store, &key, &sizes);
    store.close().expect("a clean close");
    drop(dir);
    memory(&sizes);
}

fn create(dir: &Path) -> (Store, KeyId) {
    let kms = FileKms::create(&dir.join("kms"), "local").expect("a KMS");
    kms.create_key(Some("alias/offshoot-store")).expect("a key");
    let key = kms.create_key(None).expect("a key").id;
    let store = Options::new()
        .create(dir.join("store"), kms)
        .expect("a store");
    (store, key)
}

/// Calls `write` with a MiB of bytes for each MiB of a length.
fn fill(len: u64, write: impl Fn(&[u8], u64)) {
    let bytes: Vec<u8> = (0..MIB).map(|at| (at * 31 % 251) as u8).collect();
    (0..len)
        .step_by(MIB as usize)
        .for_each(|at| write(&bytes, at));
}

/// The offsets of one round's reads: spread over all pages, and others in each round.
fn offsets(round: usize, count: u64, len: u64) -> impl Iterator<Item = u64> {
    let first = round as u64 * count;
    let place = |step: u64| step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (first..first + count).map(move |step| place(step) % (len / PAGE) * PAGE)
}

fn beside_a_file(store: &Store, key: &KeyId, path: &Path, sizes: &Sizes) {
    let len = sizes.volume;
    let volume = store.create_volume("v", len, key).expect("a volume");
    fill(len, |bytes, at| {
        volume.write_all_at(bytes, at).expect("a write");
    });
    store.checkpoint().expect("a checkpoint");
    File::create(path).expect("a file");
    let file = File::options().read(true).write(true).open(path);
    let file = file.expect("a file");
    fill(len, |bytes, at| {
        file.write_all_at(bytes, at).expect("a write");
    });
    file.sync_all().expect("a sync");
    let ours = |buf: &mut [u8], at| volume.read_exact_at(buf, at).expect("a read");
    let plain = |buf: &mut [u8], at| file.read_exact_at(buf, at).expect("a read");
    // Everything once, so that both are warm.
    fill(len, |bytes, at| {
        let mut buf = vec![0; bytes.len()];
        ours(&mut buf, at);
        assert_eq!(buf, bytes);
        plain(&mut buf, at);
        assert_eq!(buf, bytes);
    });
    warm(&ours, len);
    let name = format!("random read of 4 KiB in {} MiB, beside a file", len / MIB);
    compare(&name, sizes, 1, (&ours, len), (&plain, len));
    let name = format!("{name}, two threads each");
    compare(&name, sizes, 2, (&ours, len), (&plain, len));
}

/// Reads everything once, in long reads into the page cache (large writes go past it), then page by
/// page into the maps.
fn warm(read: &dyn Fn(&mut [u8], u64), len: u64) {
    for step in [MIB, PAGE] {
        let mut buf = vec![0; step as usize];
        (0..len / step).for_each(|number| read(&mut buf, number * step));
    }
}

fn after_clones(store: &Store, key: &KeyId, sizes: &Sizes) {
    let len = sizes.volume.min(64 * MIB);
    // Both get the same writes in turn, so that they lie alike on disk and in memory.
    let [flat, mut deep] = ["flat", "deep"].map(|name| {
        let volume = store.create_volume(name, len, key);
        volume.expect("a volume")
    });
    fill(len, |bytes, at| {
        for volume in [&flat, &deep] {
            volume.write_all_at(bytes, at).expect("a write");
        }
    });
    for number in 0..sizes.depth {
        let clone = deep.create_clone(&format!("deep-{number}"), key);
        deep = clone.expect("a clone");
        // A clone of what did not change since the last one would not be deeper.
        let at = u64::from(number) * PAGE % len;
        for volume in [&flat, &deep] {
            volume
                .write_all_at(&[1; PAGE as usize], at)
                .expect("a write");
        }
    }
    store.checkpoint().expect("a checkpoint");
    let read = |volume: &Volume, buf: &mut [u8], at| volume.read_exact_at(buf, at).expect("a read");
    let flat = |buf: &mut [u8], at| read(&flat, buf, at);
    let deep = |buf: &mut [u8], at| read(&deep, buf, at);
    warm(&flat, len);
    warm(&deep, len);
    let name = format!("the same at clone depth {}, beside depth 0", sizes.depth);
    // Long rounds, or what is measured is how the caches fill after the other's turn.
    let sizes = Sizes {
        round_reads: sizes.deep_reads,
        ..*sizes
    };
    compare(&name, &sizes, 1, (&deep, len), (&flat, len));
}

type Read<'a> = (&'a (dyn Fn(&mut [u8], u64) + Sync), u64);

/// Prints the median time of both, and the ratio: above 1 ours is faster.
fn compare(what: &str, sizes: &Sizes, threads: u64, ours: Read<'_>, other: Read<'_>) {
    let time = |(read, len): Read<'_>, round: usize| {
        let work = |thread: u64| {
            let mut page = vec![0; PAGE as usize];
            let round = round * threads as usize + thread as usize;
            offsets(round, sizes.round_reads, len).for_each(|at| read(&mut page, at));
        };
        let start = Instant::now();
        match threads {
            1 => work(0),
            _ => std::thread::scope(|scope| {
                (0..threads).for_each(|thread| drop(scope.spawn(move || work(thread))));
            }),
        }
        start.elapsed().as_secs_f64() * 1e6 / (threads * sizes.round_reads) as f64
    };
    let rounds = (0..sizes.rounds).map(|round| (time(ours, round), time(other, round)));
    let rounds: Vec<(f64, f64)> = rounds.collect();
    let sorted = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        [values.len() / 4, values.len() / 2, values.len() * 3 / 4].map(|index| values[index])
    };
    let (ours, other) = (sorted(|round| round.0)[1], sorted(|round| round.1)[1]);
    let [low, ratio, high] = sorted(|round| round.1 / round.0);
    println!("{what}: {ours:.2} us, {other:.2} us; ratio {ratio:.2} ({low:.2} to {high:.2})");
}

/// What a process of its own takes that reads at random in a volume with a large page table.
fn memory(sizes: &Sizes) {
    let dir = tempfile::tempdir_in(std::env::current_dir().expect("a current directory"))
        .expect("a temporary directory");
    let (store, key) = create(dir.path());
    let volume = store
        .create_volume("v", sizes.mapped, &key)
        .expect("a volume");
    // An eighth is data, the rest explicit zeroes, which take the same in the page table.
    volume.write_zeroes(0..sizes.mapped).expect("zeroes");
    fill(sizes.mapped / 8, |bytes, at| {
        volume.write_all_at(bytes, at * 8).expect("a write");
    });
    store.close().expect("a clean close");
    let child = Command::new(std::env::current_exe().expect("this program"))
        .arg("--memory-of")
        .arg(dir.path())
        .status();
    assert!(child.expect("a process").success());
}

fn report_memory(dir: &Path) {
    let kms = FileKms::open(&dir.join("kms")).expect("a KMS");
    let store = Options::new()
        .cache_bytes(CACHE_BYTES)
        .open(dir.join("store"), kms)
        .expect("a store");
    let volume = store.volume("v").expect("a volume");
    let len = volume.len().expect("a length");
    let mut page = vec![0; PAGE as usize];
    for at in offsets(0, (len / PAGE / 2).max(1000), len) {
        volume.read_exact_at(&mut page, at).expect("a read");
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let anonymous = status.lines().find(|line| line.starts_with("RssAnon"));
    let kib = anonymous.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    let stats = store.stats().expect("an open store");
    println!(
        "anonymous memory after random reads in {} MiB mapped, cache of {} MiB: {} MiB, of which \
         {} MiB are {} nodes in the cache; {} segments open",
        len / MIB,
        CACHE_BYTES as u64 / MIB,
        kib.expect("a number") / 1024,
        stats.cache_bytes / MIB,
        stats.cached_nodes,
        stats.open_segments,
    );
}

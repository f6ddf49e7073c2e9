//! Throughput and clone time of one store beside a plain file on the same disk, in one run.
//!
//! `cargo bench` takes full sizes; under `cargo test --benches` they are toys, so that it only
//! shows that the benchmark runs. Each figure is a median of five rounds; ratios are against the
//! plain file of the same round. What is measured, and how, is in `benches/README.md`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use offshoot::{FileKms, KeyId, Options, Store, Volume};

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;
const ROUNDS: usize = 5;

struct Sizes {
    sequential_mib: usize,
    flushed_pages: usize,
    clone_mib: [usize; 2],
}

fn main() {
    let full = std::env::args().any(|arg| arg == "--bench");
    let sizes = match full {
        true => Sizes {
            sequential_mib: 512,
            flushed_pages: 500,
            clone_mib: [64, 4096],
        },
        false => Sizes {
            sequential_mib: 2,
            flushed_pages: 5,
            clone_mib: [1, 4],
        },
    };
    let dir = tempfile::tempdir_in(std::env::current_dir().expect("a current directory"))
        .expect("a temporary directory");
    let kms = FileKms::create(&dir.path().join("kms"), "local").expect("a KMS");
    kms.create_key(Some("alias/offshoot-store")).expect("a key");
    let key = kms.create_key(None).expect("a key").id;
    let store = Options::new()
        .create(dir.path().join("store"), kms)
        .expect("a store");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.path().join("plain"))
        .expect("a file");
    let len = (sizes.sequential_mib * MIB) as u64;
    let volume = store.create_volume("v", len, &key).expect("a volume");
    sequential(&volume, &file, &sizes);
    flushed(&volume, &file, &sizes, 1);
    flushed(&volume, &file, &sizes, 32);
    flushed(&volume, &file, &sizes, usize::MAX);
    clones(&store, &key, &sizes);
    store.close().expect("a clean close");
}

fn sequential(volume: &Volume, file: &File, sizes: &Sizes) {
    let bytes: Vec<u8> = (0..MIB).map(|at| (at * 31 % 251) as u8).collect();
    let offsets = || (0..sizes.sequential_mib).map(|mib| (mib * MIB) as u64);
    let count = sizes.sequential_mib;
    let ours = || {
        offsets().for_each(|at| volume.write_all_at(&bytes, at).expect("a write"));
        volume.flush().expect("a flush");
    };
    let plain = || {
        offsets().for_each(|at| file.write_all_at(&bytes, at).expect("a write"));
        file.sync_data().expect("a sync");
    };
    compare(
        "sequential write of 1 MiB, synced at the end",
        "MiB",
        count,
        ours,
        plain,
    );
}

/// Writes of a page at random, synced after so many, and at the end.
fn flushed(volume: &Volume, file: &File, sizes: &Sizes, every: usize) {
    let pages = (sizes.sequential_mib * MIB / PAGE) as u64;
    let offsets = |count: usize| {
        (0..count as u64).map(move |step| step.wrapping_mul(0x9E37_79B9_7F4A_7C15) % pages * 4096)
    };
    let count = sizes.flushed_pages * every.min(32);
    let page = vec![7; PAGE];
    let is_due = |step: usize| (step + 1).is_multiple_of(every) || step + 1 == count;
    let ours = || {
        for (step, at) in offsets(count).enumerate() {
            volume.write_all_at(&page, at).expect("a write");
            if is_due(step) {
                volume.flush().expect("a flush");
            }
        }
    };
    let plain = || {
        for (step, at) in offsets(count).enumerate() {
            file.write_all_at(&page, at).expect("a write");
            if is_due(step) {
                file.sync_data().expect("a sync");
            }
        }
    };
    let what = match every {
        1 => "random write of 4 KiB, synced each",
        usize::MAX => "random write of 4 KiB, synced at the end",
        _ => "random write of 4 KiB, synced every 32",
    };
    compare(what, "pages", count, ours, plain);
}

/// A clone copies no page, so its time must not depend on what is mapped; a copy's does.
fn clones(store: &Store, key: &KeyId, sizes: &Sizes) {
    let bytes = vec![1; MIB];
    for mib in sizes.clone_mib {
        let name = format!("mapped-{mib}");
        let volume = store
            .create_volume(&name, (mib * MIB) as u64, key)
            .expect("a volume");
        for at in 0..mib {
            volume
                .write_all_at(&bytes, (at * MIB) as u64)
                .expect("a write");
        }
        volume.flush().expect("a flush");
        let times = (0..ROUNDS).map(|round| {
            let start = Instant::now();
            volume
                .create_clone(&format!("clone-{mib}-{round}"), key)
                .expect("a clone");
            let time = start.elapsed();
            // So that the next clone has to split the source's epoch again.
            volume.write_all_at(&bytes[..PAGE], 0).expect("a write");
            time
        });
        let median = median(times.collect());
        println!(
            "durable clone of {mib} MiB mapped: {:.2} ms",
            median.as_secs_f64() * 1e3
        );
    }
}

fn compare(what: &str, unit: &str, count: usize, ours: impl Fn(), plain: impl Fn()) {
    let time = |work: &dyn Fn()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    let rounds = (0..ROUNDS).map(|_| (time(&ours), time(&plain)));
    let (ours, plain): (Vec<_>, Vec<_>) = rounds.unzip();
    let ratios = ours
        .iter()
        .zip(&plain)
        .map(|(ours, plain)| plain.div_duration_f64(*ours));
    let mut ratios: Vec<f64> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    let rate = |times: Vec<Duration>| count as f64 / median(times).as_secs_f64();
    println!(
        "{what}: {:.0} {unit}/s, plain file {:.0}; ratio {:.2} ({:.2} to {:.2})",
        rate(ours),
        rate(plain),
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1],
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

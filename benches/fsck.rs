//! How fast a store is checked, everything in the page cache: the structure, and all pages beside
//! `cat` of the files that they are in.
//!
//! `cargo bench --bench fsck` takes full sizes, and `-- --gib N` a volume of so many GiB, `-- --keep DIR`
//! a store that stays there for the next run; under `cargo test --benches` they are toys. All take
//! turns; a ratio is the median of the rounds', with the least and the greatest. What is measured,
//! and how, is in `benches/README.md`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use offshoot::check::{self, CheckOptions, Report};
use offshoot::{FileKms, Options, Volume};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const PAGE: u64 = 4096;

struct Sizes {
    volume: u64,
    rounds: usize,
}

/// Seconds that a round took.
struct Round {
    cat: f64,
    structure: f64,
    data: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.get(args.iter().position(|arg| arg == name)? + 1);
    let number = |name| value(name).map(|text| text.parse::<u64>().expect("a number"));
    let sizes = match args.iter().any(|arg| arg == "--bench") {
        true => Sizes {
            volume: number("--gib").unwrap_or(8) * GIB,
            rounds: number("--rounds").unwrap_or(5) as usize,
        },
        false => Sizes {
            volume: 4 * MIB,
            rounds: 2,
        },
    };
    if let Some(kept) = value("--keep").map(Path::new) {
        if !kept.exists() {
            fill(kept, sizes.volume);
        }
        return compare(kept, &sizes);
    }
    let here = std::env::current_dir().expect("a current directory");
    let dir = tempfile::tempdir_in(here).expect("a temporary directory");
    fill(dir.path(), sizes.volume);
    compare(dir.path(), &sizes);
}

/// A store with one volume of which everything is mapped.
fn fill(dir: &Path, len: u64) {
    std::fs::create_dir_all(dir).expect("a directory");
    let kms = FileKms::create(&dir.join("kms"), "local").expect("a KMS");
    kms.create_key(Some("alias/offshoot-store")).expect("a key");
    let key = kms.create_key(None).expect("a key").id;
    let store = Options::new()
        .create(dir.join("store"), kms)
        .expect("a store");
    let volume = store.create_volume("db", len, &key).expect("a volume");
    write_in_a_row(&volume, len);
    store.close().expect("a clean close");
}

/// The files that the store's pages are in.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join("store"))
        .expect("a store")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| name(path).starts_with("segment-"))
        .collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("a name")
}

fn write_in_a_row(volume: &Volume, len: u64) {
    let mut bytes = vec![0_u8; MIB as usize];
    for at in (0..len).step_by(bytes.len()) {
        for (index, page) in bytes.chunks_exact_mut(PAGE as usize).enumerate() {
            page[..8].copy_from_slice(&(at + index as u64).to_le_bytes());
        }
        volume.write_all_at(&bytes, at).expect("a write");
    }
    volume.flush().expect("a flush");
}

fn compare(dir: &Path, sizes: &Sizes) {
    let files = segments(dir);
    let bytes: u64 = files
        .iter()
        .map(|file| file.metadata().expect("a file").len())
        .sum();
    // The first brings everything into the page cache.
    cat(&files);
    let mut rounds = Vec::new();
    for _ in 0..sizes.rounds {
        rounds.push(Round {
            cat: cat(&files),
            structure: check(dir, CheckOptions::new(), sizes.volume),
            data: check(dir, CheckOptions::new().read_data(true), sizes.volume),
        });
    }
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
    let median = |value: fn(&Round) -> f64| middle(rounds.iter().map(value).collect());
    let structure = median(|round| round.structure);
    println!("structure            {structure:8.3} s");
    println!(
        "cat of its segments  {:8.2} GB/s",
        rate(median(|round| round.cat))
    );
    println!(
        "--read-data          {:8.2} GB/s",
        rate(median(|round| round.data))
    );
    let mut ratios: Vec<f64> = rounds.iter().map(|round| round.cat / round.data).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, greatest) = (ratios[0], ratios[ratios.len() - 1]);
    let ratio = middle(ratios);
    println!("of the speed of cat  {ratio:8.2} ({least:.2} to {greatest:.2})");
}

fn cat(files: &[PathBuf]) -> f64 {
    let start = Instant::now();
    let mut cat = Command::new("cat");
    let status = cat.args(files).stdout(Stdio::null()).status();
    assert!(status.expect("cat").success());
    start.elapsed().as_secs_f64()
}

/// Checks the store as the command line does.
fn check(dir: &Path, options: CheckOptions, len: u64) -> f64 {
    let start = Instant::now();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let kms = FileKms::open(&dir.join("kms")).expect("a KMS");
    let options = options.workers(workers).kms(std::sync::Arc::new(kms));
    let report = check::check_dir(&dir.join("store"), &options).expect("a check");
    assert_whole(&report, len);
    start.elapsed().as_secs_f64()
}

fn assert_whole(report: &Report, len: u64) {
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.stats.pages, len / PAGE);
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

//! How long opening a store takes after a kill, by how much log there is to roll forward.
//!
//! `cargo bench --bench recovery` has a volume of 8 GiB mapped, `-- --gib N` one of so many; under `cargo test --benches` it is a
//! toy. A process of its own overwrites pages at random, a flush every 32, and is killed. What is measured, and how, is in
//! `benches/README.md`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use offshoot::io::real::RealDisk;
use offshoot::io::{Access, Disk};
use offshoot::{FileKms, Options, Store};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const PAGE: u64 = 4096;
const FLUSH_EVERY: u64 = 32;
/// What is mapped, in units of the log that is to be rolled forward: somewhat more than would make a checkpoint due.
const SHARE: u64 = 10;
const ROUNDS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.get(args.iter().position(|arg| arg == name)? + 1);
    let gib = value("--gib").map_or(8, |text| text.parse().expect("a number"));
    let len = match args.iter().any(|arg| arg == "--bench") {
        true => gib * GIB,
        false => 4 * MIB,
    };
    if let Some(dir) = value("--fill") {
        return fill(Path::new(dir), len);
    }
    let here = std::env::current_dir().expect("a current directory");
    let dir = tempfile::tempdir_in(here).expect("a temporary directory");
    let log_len = fill_and_kill(dir.path(), &args);
    println!(
        "{:.2} GiB of log, {} GiB mapped",
        log_len as f64 / GIB as f64,
        len / GIB
    );
    let store = dir.path().join("store");
    report("not in the page cache", log_len, dir.path(), || {
        drop_cache(&store);
    });
    report("in the page cache", log_len, dir.path(), || ());
}

/// Fills a store in a process of its own, which is killed when it says how much log there is.
fn fill_and_kill(dir: &Path, args: &[String]) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(&args[1..]).arg("--fill").arg(dir);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a process");
    let mut said = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut said).expect("a line");
    child.kill().expect("a kill");
    child.wait().expect("its end");
    said.trim().parse().expect("the bytes of the log")
}

fn fill(dir: &Path, len: u64) {
    let kms = FileKms::create(&dir.join("kms"), "local").expect("a KMS");
    kms.create_key(Some("alias/offshoot-store")).expect("a key");
    let key = kms.create_key(None).expect("a key").id;
    let store = Options::new()
        .create(dir.join("store"), kms)
        .expect("a store");
    let volume = store.create_volume("db", len, &key).expect("a volume");
    let mut bytes = vec![1_u8; MIB as usize];
    for at in (0..len).step_by(bytes.len()) {
        volume.write_all_at(&bytes, at).expect("a write");
    }
    store.checkpoint().expect("a checkpoint");
    bytes.truncate(PAGE as usize);
    let (mut dice, mut written) = (1_u64, 0);
    while store.stats().expect("counts").log_len < len / SHARE {
        for _ in 0..FLUSH_EVERY {
            // Knuth's MMIX generator; its upper bits are the good ones.
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            written += 1;
            bytes[..8].copy_from_slice(&u64::to_le_bytes(written));
            let page = (dice >> 16) % (len / PAGE);
            volume.write_all_at(&bytes, page * PAGE).expect("a write");
        }
        volume.flush().expect("a flush");
    }
    println!("{}", store.stats().expect("counts").log_len);
    loop {
        std::thread::park();
    }
}

/// Opens for reading, so that the log is there to be rolled forward the next time as well.
fn open(dir: &Path) -> Store {
    let kms = FileKms::open(&dir.join("kms")).expect("a KMS");
    let options = Options::new().read_only(true);
    options.open(dir.join("store"), kms).expect("a store")
}

fn drop_cache(dir: &Path) {
    let disk = RealDisk::open(dir).expect("a directory");
    for name in disk.list().expect("names") {
        disk.open(&name, Access::Read).expect("a file").drop_cache();
    }
}

fn report(what: &str, log_len: u64, dir: &Path, before: impl Fn()) {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            before();
            let start = Instant::now();
            let store = open(dir);
            let took = start.elapsed().as_secs_f64();
            drop(store);
            took
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let middle = times[ROUNDS / 2];
    println!(
        "{what:22} {middle:7.3} s ({:.3} to {:.3}), {:6.0} ms per GiB of log",
        times[0],
        times[ROUNDS - 1],
        middle * 1000.0 * GIB as f64 / log_len as f64
    );
}

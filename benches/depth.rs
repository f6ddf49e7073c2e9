//! What a head costs at the end of a long chain of key epochs: each clone is made of the one before and wrote something,
//! so that none of the epochs can be left out.
//!
//! `cargo bench --bench depth` takes a depth of 10,000, `-- --depth N` another; under `cargo test --benches` it is a toy.
//! What is measured, and how, is in `benches/README.md`.

use std::time::{Duration, Instant};

use offshoot::{FileKms, Options, Store, Volume};

const PAGE: u64 = 4096;
const ROUNDS: usize = 7;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let is_full = args.iter().any(|arg| arg == "--bench");
    let asked = args.iter().position(|arg| arg == "--depth");
    let asked = asked.and_then(|at| args.get(at + 1)?.parse::<u64>().ok());
    let depth = asked.unwrap_or(if is_full { 10_000 } else { 20 });
    let here = std::env::current_dir().expect("a current directory");
    let dir = tempfile::tempdir_in(here).expect("a temporary directory");
    let kms = FileKms::create(&dir.path().join("kms"), "local").expect("a KMS");
    kms.create_key(Some("alias/offshoot-store")).expect("a key");
    let key = kms.create_key(None).expect("a key").id;
    let path = dir.path().join("store");
    let store = Options::new().create(&path, kms.clone()).expect("a store");
    let flat = store.create_volume("flat", PAGE, &key).expect("a volume");
    write(&flat, 0);
    let len = (depth + 2) * PAGE;
    let mut at = store.create_volume("d0", len, &key).expect("a volume");
    let mut times = Vec::new();
    for step in 0..depth {
        write(&at, step);
        let start = Instant::now();
        at = at
            .create_clone(&format!("d{}", step + 1), &key)
            .expect("a clone");
        times.push(start.elapsed());
    }
    write(&at, depth);
    let some = times.len().min(100);
    println!(
        "a clone: {:.3} ms at the top, {:.3} ms at depth {depth} (medians of {some})",
        ms(median(&times[..some])),
        ms(median(&times[times.len() - some..])),
    );
    drop((flat, at));
    store.close().expect("a clean close");
    let last = format!("d{depth}");
    let cases = [
        ("depth 0", "flat", 0),
        ("the deepest, its own page", last.as_str(), depth),
        (
            "the deepest, a page from half-way",
            last.as_str(),
            depth / 2,
        ),
        ("the deepest, a page from the top", last.as_str(), 0),
    ];
    let mut firsts = vec![Vec::new(); cases.len()];
    let mut agains = vec![Vec::new(); cases.len()];
    let mut opens = Vec::new();
    for _ in 0..ROUNDS {
        for (case, (_, name, page)) in cases.iter().enumerate() {
            // A new process's store each time: it has unlocked nothing yet.
            let start = Instant::now();
            let store = Options::new().open(&path, kms.clone()).expect("a store");
            opens.push(start.elapsed());
            firsts[case].push(read(&store, name, *page));
            agains[case].push(read(&store, name, *page));
            store.close().expect("a clean close");
        }
    }
    println!(
        "opening the store with its {} volumes: {:.1} ms",
        depth + 2,
        ms(median(&opens))
    );
    let base = median(&firsts[0]);
    for (case, (what, _, _)) in cases.iter().enumerate() {
        let first = median(&firsts[case]);
        println!(
            "{what}: opened and read first in {:.1} us ({:.2} of depth 0), again in {:.1} us",
            us(first),
            first.div_duration_f64(base),
            us(median(&agains[case])),
        );
    }
}

fn write(volume: &Volume, page: u64) {
    let bytes = vec![page as u8 | 1; PAGE as usize];
    volume.write_all_at(&bytes, page * PAGE).expect("a write");
}

/// How long it takes to open a volume by its name and to read a page of it.
fn read(store: &Store, name: &str, page: u64) -> Duration {
    let mut bytes = vec![0; PAGE as usize];
    let start = Instant::now();
    let volume = store.volume(name).expect("a volume");
    volume
        .read_exact_at(&mut bytes, page * PAGE)
        .expect("a read");
    let took = start.elapsed();
    assert!(
        bytes.iter().all(|&byte| byte == page as u8 | 1),
        "its contents"
    );
    took
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

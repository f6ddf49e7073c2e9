//! Overwriting a volume at random, again and again, with snapshots taken and dropped: how much of the
//! disk the store takes, and how much it writes, while space is given back in the background.
//!
//! `cargo bench --bench churn [-- --mib N --rounds N --target R --zipf --off]`; under `cargo test --benches`
//! a toy. Prints a table over time. See `benches/README.md`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use offshoot::{FileKms, Options, Store, Volume};

const PAGE: u64 = 4096;
const FLUSH_EVERY: u64 = 32;

struct Plan {
    mib: u64,
    rounds: u64,
    target: f64,
    is_zipf: bool,
    reclaims: bool,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let is_full = args.iter().any(|arg| arg == "--bench");
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<f64>().ok()
    };
    let plan = Plan {
        mib: value("--mib").map_or(if is_full { 1024 } else { 4 }, |mib| mib as u64),
        rounds: value("--rounds").map_or(if is_full { 6 } else { 1 }, |rounds| rounds as u64),
        target: value("--target").unwrap_or(1.35),
        is_zipf: args.iter().any(|arg| arg == "--zipf"),
        reclaims: !args.iter().any(|arg| arg == "--off"),
    };
    let dir = tempfile::tempdir_in(std::env::current_dir().expect("a current directory"))
        .expect("a temporary directory");
    let kms = FileKms::create(&dir.path().join("kms"), "local").expect("a KMS");
    kms.create_key(Some("alias/offshoot-store")).expect("a key");
    let key = kms.create_key(None).expect("a key").id;
    let path = dir.path().join("store");
    let options = Options::new()
        .space_target(plan.target)
        .auto_reclaim(plan.reclaims);
    let store = options.create(&path, kms).expect("a store");
    let volume = store
        .create_volume("v", plan.mib << 20, &key)
        .expect("a volume");
    let fill = vec![7; 1 << 20];
    for mib in 0..plan.mib {
        volume.write_all_at(&fill, mib << 20).expect("a write");
    }
    store.checkpoint().expect("a checkpoint");
    store.checkpoint().expect("a checkpoint");
    churn(&plan, &store, &volume, &path);
    store.close().expect("a clean close");
}

fn churn(plan: &Plan, store: &Store, volume: &Volume, path: &Path) {
    let pages = plan.mib << 8;
    let zipf = Zipf::new(pages);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let (began, before, disk_before) = (Instant::now(), written(store), written_to_disk());
    let moved = || store.stats().expect("stats").moved_bytes;
    let moved_before = moved();
    let mut waits = Vec::new();
    let mut most = 0.0_f64;
    println!(
        "round  MiB/s  written/user  moved/user  to disk/user  du MiB  live MiB  du/live  over bound"
    );
    for step in 0..plan.rounds * 8 {
        let name = format!("s{step}");
        let snapshot = volume.create_snapshot(&name).expect("a snapshot");
        for write in 0..pages / 8 {
            let dice = next(&mut random);
            let page = if plan.is_zipf {
                zipf.page(dice)
            } else {
                dice % pages
            };
            let bytes = vec![dice as u8; PAGE as usize];
            volume.write_all_at(&bytes, page * PAGE).expect("a write");
            if write == pages / 160 {
                // It holds a twentieth of what is overwritten meanwhile.
                snapshot.clone().delete().expect("a delete");
            }
            if write % FLUSH_EVERY == FLUSH_EVERY - 1 {
                let start = Instant::now();
                volume.flush().expect("a flush");
                waits.push(start.elapsed());
            }
        }
        let user = (step + 1) * (pages / 8) * PAGE;
        let space = store.space().expect("the space");
        // With what the snapshot still holds, if it was not removed yet.
        let live = space.page_bytes + space.node_bytes;
        let du = allocated(path);
        let log_bound = (du / 8).clamp(64 << 20, 4 << 30);
        let bound = live as f64 * plan.target + (log_bound + (256 << 20)) as f64;
        most = most.max(du as f64 / bound);
        println!(
            "{:5.2} {:6.0} {:13.2} {:11.2} {:13.2} {:7} {:9} {:8.2} {:11.2}",
            (step + 1) as f64 / 8.0,
            user as f64 / (1 << 20) as f64 / began.elapsed().as_secs_f64(),
            (written(store) - before) as f64 / user as f64,
            (moved() - moved_before) as f64 / user as f64,
            (written_to_disk() - disk_before) as f64 / user as f64,
            du >> 20,
            live >> 20,
            du as f64 / live as f64,
            du as f64 / bound,
        );
    }
    let stats = store.stats().expect("stats");
    println!("{} checkpoints, {} packs", stats.checkpoints, stats.packs);
    waits.sort_unstable();
    let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied();
    println!(
        "flush: median {:?}, 99 % {:?}; most of the disk: {most:.2} of its bound",
        at(0.5).unwrap_or_default(),
        at(0.99).unwrap_or_default(),
    );
}

/// Bytes that the system counts as written by this process to disks, zeroes ahead of the log included.
fn written_to_disk() -> u64 {
    let counts = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = counts
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// All bytes that the store wrote, by its own count.
fn written(store: &Store) -> u64 {
    let stats = store.stats().expect("stats");
    stats.appended_bytes + stats.moved_bytes
}

fn allocated(path: &Path) -> u64 {
    let files = fs::read_dir(path).expect("a directory");
    let blocks = |file: std::io::Result<fs::DirEntry>| file.ok()?.metadata().ok();
    files
        .filter_map(blocks)
        .map(|file| file.blocks() * 512)
        .sum()
}

fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    random.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// Pages drawn with the frequencies of Zipf's law, exponent 0.99, spread over the volume.
/// (Gray et al., "Quickly Generating Billion-Record Synthetic Databases", 1994.)
struct Zipf {
    pages: u64,
    zeta: f64,
    eta: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    fn new(pages: u64) -> Self {
        let zeta = |count: u64| {
            (1..=count)
                .map(|rank| (rank as f64).powf(-THETA))
                .sum::<f64>()
        };
        let (all, two) = (zeta(pages), zeta(2));
        let eta = (1.0 - (2.0 / pages as f64).powf(1.0 - THETA)) / (1.0 - two / all);
        Self {
            pages,
            zeta: all,
            eta,
        }
    }

    fn page(&self, dice: u64) -> u64 {
        let u = (dice >> 11) as f64 / (1_u64 << 53) as f64;
        let uz = u * self.zeta;
        let rank = if uz < 1.0 {
            0
        } else if uz < 1.0 + 0.5_f64.powf(THETA) {
            1
        } else {
            let base = self.eta * u - self.eta + 1.0;
            (self.pages as f64 * base.powf(1.0 / (1.0 - THETA))) as u64
        };
        rank.min(self.pages - 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.pages
    }
}

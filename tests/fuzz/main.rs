//! The fuzz targets of `fuzz/targets.rs` under plain cargo: over the corpus, and over seeded changes of it.

mod mutate;
mod seeds;
#[path = "../../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;
use rustix::process::{Resource, Rlimit, setrlimit};
use targets::{TARGETS, run};

/// Changed inputs of a target in a normal run; the environment can ask for more.
const CHANGES: u64 = 20_000;
/// Of one whose input is a file of a key service, which takes a while to open.
const SLOW_CHANGES: u64 = 1_500;
const CHANGES_VARIABLE: &str = "OFFSHOOT_FUZZ_CHANGES";
/// Most memory that all of it may take.
const MEMORY_MAX: u64 = 512 << 20;
/// The longest that one input may take.
const TIME_MAX: Duration = Duration::from_secs(5);
/// A target that fails as often is broken: more inputs say no more.
const FAILURES_MAX: usize = 3;

fn corpus_dir(target: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("fuzz/corpus").join(target)
}

/// The inputs of a target by file name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(corpus_dir(target)).expect("a corpus of each target");
    let mut corpus: Vec<_> = files
        .map(|file| {
            let file = file.expect("a file");
            let name = file.file_name().into_string().expect("a name in UTF-8");
            (name, fs::read(file.path()).expect("an input"))
        })
        .collect();
    corpus.sort();
    assert!(!corpus.is_empty(), "no corpus of {target}");
    corpus
}

/// Whether the target took the input well.
fn try_input(target: &str, input: &[u8]) -> Result<(), String> {
    let since = Instant::now();
    catch_unwind(AssertUnwindSafe(|| run(target, input))).map_err(|_| "it panicked".to_owned())?;
    match since.elapsed() {
        took if took > TIME_MAX => Err(format!("it took {took:?}")),
        _ => Ok(()),
    }
}

/// Has each target take its corpus, and changes of it, within the memory that all may take.
#[test]
fn every_target_takes_its_corpus_and_changes_of_it() {
    // An allocation above it aborts the process: whoever believes a length that it read is found out.
    let limit = Rlimit {
        current: Some(MEMORY_MAX),
        maximum: Some(MEMORY_MAX),
    };
    setrlimit(Resource::Data, limit).expect("a lower limit");
    let asked = std::env::var(CHANGES_VARIABLE).ok();
    let asked: Option<u64> = asked.map(|count| count.parse().expect("a count"));
    let mut failed = Vec::new();
    for &(name, _) in TARGETS {
        let corpus = corpus(name);
        for (file, input) in &corpus {
            if let Err(why) = try_input(name, input) {
                failed.push(format!("{name}/{file}: {why}"));
            }
        }
        let usual = if name.starts_with("kms") {
            SLOW_CHANGES
        } else {
            CHANGES
        };
        let before = failed.len();
        for seed in 0..asked.unwrap_or(usual) {
            if failed.len() - before >= FAILURES_MAX {
                break;
            }
            let input = Mutator::new(seed).change(&corpus);
            if let Err(why) = try_input(name, &input) {
                let path = corpus_dir(name).join(format!("failed-{seed}"));
                fs::write(&path, &input).expect("a place for what failed");
                failed.push(format!("{name}: {why}; kept as {}", path.display()));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Says which parts of the golden store, and of a pack, are not in the corpus; `UPDATE=1` puts them there.
#[test]
fn the_corpus_holds_all_parts_of_a_store() {
    for (target, file, bytes) in seeds::all() {
        let path = corpus_dir(target).join(&file);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(corpus_dir(target)).expect("a directory");
            fs::write(&path, &bytes).expect("a file");
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(
            kept == bytes,
            "{target}/{file} is not what this version writes; UPDATE=1 puts it there"
        );
    }
}

/// `cargo fuzz` knows each target by a file and an entry of the manifest.
#[test]
fn every_target_can_be_fuzzed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("a manifest");
    for (name, _) in TARGETS {
        let path = format!("fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{name}");
        let file = fs::read_to_string(fuzz.join(path)).expect("a file of each target");
        assert!(file.contains(&format!("run(\"{name}\", data)")), "{name}");
    }
    let files = fs::read_dir(fuzz.join("fuzz_targets")).expect("the targets");
    assert_eq!(files.count(), TARGETS.len());
}

//! What clients really send, and what nobody should, changed in many ways: no panic, no answer out of
//! proportion, no end without a reason.

use std::fs;
use std::path::Path;

use super::support::{Two, feed};
use crate::nbd::protocol::request::{Command, HEADER_LEN, PAYLOAD_LEN_MAX, Request, Terms};

/// Changed copies of each file.
const MUTATIONS: u64 = 400;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/nbd");
    let files = fs::read_dir(directory).expect("the corpus");
    let mut corpus: Vec<_> = files
        .map(|file| {
            let path = file.expect("a file").path();
            (
                path.display().to_string(),
                fs::read(&path).expect("its bytes"),
            )
        })
        .collect();
    corpus.sort();
    assert!(corpus.len() > 20);
    corpus
}

/// Feeds a handshake and then requests, as a connection does. Returns how many requests there were.
fn run(bytes: &[u8]) -> usize {
    let outcome = feed(&Two::default(), bytes);
    assert!(
        outcome.out.len() <= 64 * bytes.len() + 1024,
        "answers out of proportion"
    );
    assert!(outcome.rest.len() <= bytes.len());
    let Some(chosen) = outcome.chosen else {
        return 0;
    };
    let terms = Terms {
        size: chosen.offer.size,
        page_len: chosen.offer.page_len,
        read_only: chosen.offer.read_only,
        structured: chosen.structured,
        has_contexts: !chosen.contexts.is_empty(),
    };
    let (mut rest, mut count) = (outcome.rest.as_slice(), 0);
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>() {
        let Some(request) = Request::decode(header) else {
            break;
        };
        if request.payload_len() > PAYLOAD_LEN_MAX {
            break;
        }
        let has_range = !matches!(request.command, Command::Disconnect);
        if has_range && request.check(&terms).is_ok() {
            assert!(request.end() <= terms.size);
        }
        count += 1;
        rest = after
            .get(request.payload_len() as usize..)
            .unwrap_or_default();
    }
    count
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.roll(bytes.len());
    match dice.roll(6) {
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.roll(5)],
        2 => bytes.truncate(at),
        3 => drop(bytes.splice(at..at, (0..dice.roll(40)).map(|byte| byte as u8))),
        4 => {
            let end = (at + dice.roll(64)).min(bytes.len());
            drop(bytes.drain(at..end));
        }
        _ => {
            let end = (at + dice.roll(64)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = dice.roll(bytes.len());
            drop(bytes.splice(to..to, piece));
        }
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
}

#[test]
fn real_clients_are_understood() {
    for (name, count) in [("nbdcopy-0", 2), ("qemu-io-0", 5), ("nbdinfo-1", 1)] {
        let all = corpus();
        let found = all
            .iter()
            .find(|(path, _)| path.ends_with(&format!("{name}.bin")));
        let requests = run(&found.expect("the file").1);
        assert!(requests >= count, "{name}: {requests} requests");
    }
}

#[test]
fn every_cut_of_every_file_is_survived() {
    for (_, bytes) in corpus() {
        for cut in 0..bytes.len().min(2048) {
            run(&bytes[..cut]);
        }
    }
}

#[test]
fn every_changed_byte_of_every_file_is_survived() {
    for (_, bytes) in corpus() {
        for at in 0..bytes.len().min(512) {
            for value in [0, 1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                run(&changed);
            }
        }
    }
}

#[test]
fn files_changed_at_random_are_survived() {
    for (index, (_, bytes)) in corpus().into_iter().enumerate() {
        for seed in 0..MUTATIONS {
            let mut dice = Dice(((index as u64) << 32 | seed) + 1);
            let mut changed = bytes.clone();
            for _ in 0..=dice.roll(8) {
                change(&mut changed, &mut dice);
            }
            run(&changed);
        }
    }
}

//! Every byte of a store changed, one at a time.

use offshoot_torture::nonces::{SLOT_LEN, overwrite};

use crate::judge::{Verdict, judge};
use crate::many::{Sample, try_all};
use crate::subject::{Subject, subjects};

/// How a byte is changed.
const FLIPS: [u8; 2] = [0xFF, 0];

/// A changed byte.
#[derive(Clone, Copy, Debug)]
struct Flip {
    subject: usize,
    file: usize,
    offset: usize,
    /// What is flipped in it; 0 stands for one bit, another one in each byte.
    mask: u8,
}

fn flip(what: Flip, subject: &Subject, files: &[(String, Vec<u8>)]) -> Result<Verdict, String> {
    let (name, bytes) = &files[what.file];
    let mask = match what.mask {
        0 => 1 << (what.offset % 8),
        mask => mask,
    };
    let machine = subject.machine.kill();
    overwrite(
        &machine,
        name,
        what.offset as u64,
        &[bytes[what.offset] ^ mask],
    );
    let verdict = judge(&machine, &subject.model, &subject.cut);
    let verdict = verdict.and_then(|verdict| match verdict {
        Verdict::Harmless if !subject.is_unused(name, what.offset) => {
            Err("nobody notices".to_owned())
        }
        verdict => Ok(verdict),
    });
    verdict.map_err(|why| {
        let (slot, byte) = (what.offset / SLOT_LEN, what.offset % SLOT_LEN);
        format!(
            "{}: {name}, slot {slot}, byte {byte}, mask {mask:#04x}: {why}",
            subject.name
        )
    })
}

/// All of them, in order.
fn all() -> Vec<Flip> {
    let mut flips = Vec::new();
    for (subject, found) in subjects().iter().enumerate() {
        let files = found.files();
        let is_spare = |name: &str| name.starts_with("spare-");
        let first_spare = files.iter().position(|(name, _)| is_spare(name));
        for (file, (name, bytes)) in files.iter().enumerate() {
            // What is in a spare means nothing: one stands for all.
            if is_spare(name) && Some(file) != first_spare {
                continue;
            }
            for offset in 0..bytes.len() {
                flips.extend(FLIPS.map(|mask| Flip {
                    subject,
                    file,
                    offset,
                    mask,
                }));
            }
        }
    }
    flips
}

#[test]
fn a_flipped_byte_is_found_or_harmless_and_never_shows_wrong_data() {
    let (all, sample) = (all(), Sample::from_env("OFFSHOOT_FLIPS", 4_000));
    let files: Vec<_> = subjects().iter().map(Subject::files).collect();
    let report = try_all(sample.of(&all), |&what| {
        flip(what, &subjects()[what.subject], &files[what.subject]).map(Some)
    });
    println!("{} of {} flips: {report}", sample.of(&all).len(), all.len());
    report.assert(4);
}

//! Inputs from the golden store: each part that a target reads, without the zeroes behind it. The golden
//! store has no pack, so one is made.

use std::fs;
use std::path::Path;

use offshoot::format::batch::BatchHead;
use offshoot::format::pack::{PackIndex, PackPart};
use offshoot::format::record::Record;
use offshoot::format::scrub::ScrubRecord;
use offshoot::format::segment::segment_of_file;
use offshoot::{HeadId, PackId, PageNo, ScrubFault, ScrubFinding, SegmentId, SlotAddr, StoreId};

use crate::targets::{SCRUBBED, SLOT_LEN};

/// The target, the name of the input, and the input.
type Seed = (&'static str, String, Vec<u8>);

/// The first bytes of what a target reads.
const MAGICS: [(&[u8], &str); 4] = [
    (b"OFFSHOOT", "superblock"),
    (b"OFFSHSEG", "segment"),
    (b"OFFSHPAK", "pack"),
    (b"OFND", "node"),
];

/// A pack with all kinds of runs, and its record.
fn pack() -> [Seed; 2] {
    let part = |segment: u32, runs: Vec<std::ops::Range<u32>>| PackPart {
        segment: SegmentId(segment),
        runs,
    };
    let every_other = (1..256).step_by(2).map(|slot| slot..slot + 1).collect();
    let index = PackIndex {
        pack: PackId(7),
        store_id: StoreId([4; 16]),
        segment_slots: 256,
        parts: vec![part(2, every_other), part(5, vec![1..2, 4..6])],
    };
    let mut record = Vec::new();
    Record::Pack(Box::new(index.record())).encode(&mut record);
    [
        ("pack", "made".to_owned(), without_zeroes(&index.encode())),
        ("records", "pack-made".to_owned(), record),
    ]
}

/// A record of scrubs that says all that one can.
fn scrub() -> Seed {
    let finding = |fault| ScrubFinding {
        fault,
        pass: 2,
        first_at_ms: 1,
        last_at_ms: 2,
        at: Some(SlotAddr {
            segment: SegmentId(1),
            slot: 9,
        }),
        head: Some("volume \"pg\"".to_owned()),
        page: None,
        message: "its checksum does not match".to_owned(),
    };
    let record = ScrubRecord {
        pass: 2,
        began_at_ms: 5,
        next: Some((HeadId(3), PageNo(70))),
        only: vec![HeadId(3)],
        done_bytes: 4096,
        ended_at_ms: Some(3),
        findings: ScrubFault::all().map(finding).into(),
        more: 1,
    };
    ("scrub", "made".to_owned(), record.encode(SCRUBBED))
}

pub fn all() -> Vec<Seed> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v0");
    let mut seeds = Vec::from(pack());
    seeds.push(scrub());
    for (name, bytes) in files(&golden.join("store")) {
        for (number, slot) in bytes.chunks_exact(SLOT_LEN).enumerate() {
            let file = format!("{name}-{number}");
            let known = MAGICS.iter().find(|(magic, _)| slot.starts_with(magic));
            if let Some((_, target)) = known {
                seeds.push((*target, file.clone(), without_zeroes(slot)));
            }
            if slot.starts_with(b"OFFSHBAT") {
                let slots = &bytes[number * SLOT_LEN..];
                let segment = segment_of_file(&name).expect("a batch is in a segment");
                let at = SlotAddr {
                    segment,
                    slot: number as u32,
                };
                let left = (slots.len() / SLOT_LEN) as u32;
                let count = BatchHead::peek(slots, at, left).expect("a batch") as usize;
                let header = &slots[..count * SLOT_LEN];
                let head = BatchHead::decode(header, at, left).expect("a batch");
                seeds.push(("batch", file.clone(), without_zeroes(header)));
                seeds.push(("records", file, head.records));
            }
        }
    }
    for (name, bytes) in files(&golden.join("kms")) {
        let target = match name.as_str() {
            "keys" => "kms_keys",
            "aliases" => "kms_aliases",
            "audit" => "kms_audit",
            "heads" => "kms_heads",
            _ => "kms_mark",
        };
        seeds.push((target, name, bytes));
    }
    seeds
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(dir).expect("the golden store");
    let files = files.map(|file| {
        let path = file.expect("a file").path();
        let name = path.file_name().and_then(|name| name.to_str());
        (
            name.expect("a name").to_owned(),
            fs::read(&path).expect("a file"),
        )
    });
    files.collect()
}

fn without_zeroes(bytes: &[u8]) -> Vec<u8> {
    let len = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    bytes[..len].to_vec()
}

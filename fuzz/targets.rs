//! What the fuzz targets do with their bytes; `tests/fuzz` does the same with the corpus, under plain cargo.
//!
//! A checksum would refuse nearly every mutation, so it is made right first: whoever changes a
//! store on purpose can do that too. Nothing may panic or take more than its input is worth, and what
//! is read must be written back as the same bytes, where the format has one form of it.

use std::sync::Arc;

use offshoot::format::LAYOUT;
use offshoot::format::batch::BatchHead;
use offshoot::format::node::{DiskNode, NodeRef};
use offshoot::format::pack::PackIndex;
use offshoot::format::record::{Record, Records};
use offshoot::format::scrub::ScrubRecord;
use offshoot::format::segment::SegmentHeader;
use offshoot::format::superblock::Superblock;
use offshoot::io::Disk;
use offshoot::io::sim::{SimClock, SimMachine, SimRandom};
use offshoot::{FileKms, HeadKeyId, KeyService, SegmentId, SlotAddr, StoreId};

/// A target: its name, which is that of its corpus, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("superblock", superblock),
    ("segment", segment),
    ("batch", batch),
    ("records", records),
    ("node", node),
    ("pack", pack),
    ("scrub", scrub),
    ("kms_keys", kms_keys),
    ("kms_aliases", kms_aliases),
    ("kms_heads", kms_heads),
    ("kms_audit", kms_audit),
    ("kms_mark", kms_mark),
];

/// Has the target of that name take an input.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.expect("a target of that name").1(data);
}

/// Length of a slot in bytes.
pub const SLOT_LEN: usize = 4096;

/// Where something is said to be that is looked at on its own.
const AT: SlotAddr = SlotAddr {
    segment: SegmentId(1),
    slot: 1,
};

/// Slots that a file has at most: as many as the input could fill, and one that it does not.
const SLOTS_MAX: usize = 16;

/// Whole slots with zeroes behind the input: a corpus need not hold these.
fn slots(data: &[u8]) -> Vec<u8> {
    let count = data.len().div_ceil(SLOT_LEN).clamp(1, SLOTS_MAX);
    let mut slots = data[..data.len().min(count * SLOT_LEN)].to_vec();
    slots.resize(count * SLOT_LEN, 0);
    slots
}

fn place(name: &str, field: &str) -> std::ops::Range<usize> {
    let layout = LAYOUT.iter().find(|layout| layout.name == name);
    let fields = layout.expect("a struct of the format").fields;
    let field = fields.iter().find(|known| known.name == field);
    let field = field.expect("a field of the struct");
    field.offset..field.offset + field.len
}

/// Makes the checksum at the front right: of all behind it.
fn put_crc_of_rest(bytes: &mut [u8], name: &str) {
    let at = place(name, "crc");
    let crc = crc32fast::hash(&bytes[at.end..]);
    bytes[at].copy_from_slice(&crc.to_le_bytes());
}

/// Makes the checksum at the end right: of all before it.
fn put_crc_of_front(bytes: &mut [u8], name: &str) {
    let at = place(name, "crc");
    let crc = crc32fast::hash(&bytes[..at.start]);
    bytes[at].copy_from_slice(&crc.to_le_bytes());
}

fn superblock(data: &[u8]) {
    let mut slot = slots(data);
    slot.truncate(SLOT_LEN);
    for mirror in 0..2 {
        let _ = Superblock::decode(&slot, mirror);
    }
    put_crc_of_front(&mut slot, "DiskSuperblock");
    for mirror in 0..2 {
        let _ = Superblock::decode(&slot, mirror);
    }
}

/// The store that the record of scrubs in the corpus is of.
pub const SCRUBBED: StoreId = StoreId([4; 16]);

fn scrub(data: &[u8]) {
    let _ = ScrubRecord::decode(data, SCRUBBED);
    let mark = b"\ncrc32\t";
    let end = data.windows(mark.len()).rposition(|it| it == mark);
    let mut bytes = data[..end.map_or(data.len(), |end| end + 1)].to_vec();
    let crc = crc32fast::hash(&bytes);
    bytes.extend(format!("crc32\t{crc:08x}\n").into_bytes());
    if let Ok(record) = ScrubRecord::decode(&bytes, SCRUBBED) {
        // Long fields are cut when they are written again, so the bytes may differ.
        let again = ScrubRecord::decode(&record.encode(SCRUBBED), SCRUBBED);
        assert_eq!(
            again.expect("what was written").findings.len(),
            record.findings.len()
        );
    }
}

fn segment(data: &[u8]) {
    let mut slot = slots(data);
    slot.truncate(SLOT_LEN);
    let _ = SegmentHeader::decode(&slot);
    put_crc_of_front(&mut slot, "DiskSegmentHeader");
    if let Ok(header) = SegmentHeader::decode(&slot) {
        assert_eq!(header.encode(), slot);
    }
}

fn batch(data: &[u8]) {
    let mut slots = slots(data);
    let left = (slots.len() / SLOT_LEN) as u32 + 1;
    // It may say that it is anywhere.
    let number = |name: &str| {
        let bytes = &slots[place("DiskBatchHeader", name)];
        bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u32::from(byte))
    };
    let at = SlotAddr {
        segment: SegmentId(number("segment")),
        slot: number("slot"),
    };
    for at in [AT, at] {
        let _ = BatchHead::decode(&slots, at, left);
        let Ok(count) = BatchHead::peek(&slots, at, left) else {
            continue;
        };
        slots.truncate(count as usize * SLOT_LEN);
        put_crc_of_rest(&mut slots, "DiskBatchHeader");
        if let Ok(head) = BatchHead::decode(&slots, at, left) {
            head.hash();
            records(&head.records);
        }
    }
}

fn records(data: &[u8]) {
    let mut read = Vec::new();
    for record in Records::new(data) {
        match record {
            Ok(record) => read.push(record),
            Err(_) => break,
        }
    }
    let mut written = Vec::new();
    read.iter().for_each(|record| record.encode(&mut written));
    // A deleted head that was written differently is the same one, so what is read again counts.
    let again: Result<Vec<Record>, _> = Records::new(&written).collect();
    assert_eq!(again.expect("what was encoded is read"), read);
}

fn node(data: &[u8]) {
    let mut slot = slots(data);
    slot.truncate(SLOT_LEN);
    let _ = DiskNode::decode_any(&slot);
    put_crc_of_rest(&mut slot, "NodeHeader");
    if let Ok(node) = DiskNode::decode_any(&slot) {
        assert_eq!(node.encode(), slot);
        let named = NodeRef {
            at: AT,
            key_epoch: node.key_epoch,
            level: node.level(),
            hash: [0; 32],
        };
        assert!(DiskNode::decode(&slot, &named).is_err());
    }
}

fn pack(data: &[u8]) {
    let mut slots = slots(data);
    let _ = PackIndex::decode(&slots);
    if let Ok(count) = PackIndex::peek(&slots, (slots.len() / SLOT_LEN) as u32) {
        slots.truncate(count as usize * SLOT_LEN);
        put_crc_of_rest(&mut slots, "DiskPackHeader");
        if let Ok(index) = PackIndex::decode(&slots) {
            assert_eq!(index.encode(), slots);
        }
    }
}

/// Where each file of a KMS has its checksum, which is of all other bytes.
const KMS_CRC: std::ops::Range<usize> = 12..16;

/// A key service one of whose files is the input: with its own checksum, then with the right one.
fn kms(name: &str, data: &[u8], has_crc: bool) {
    kms_with(name, data);
    if has_crc && data.len() >= KMS_CRC.end {
        let mut data = data.to_vec();
        data[KMS_CRC].fill(0);
        let crc = crc32fast::hash(&data);
        data[KMS_CRC].copy_from_slice(&crc.to_le_bytes());
        kms_with(name, &data);
    }
}

fn kms_with(name: &str, data: &[u8]) {
    let machine = SimMachine::new();
    let disk = machine.dir("kms");
    for (golden, bytes) in GOLDEN_KMS {
        let bytes = if *golden == name { data } else { bytes };
        let file = disk.create(golden, bytes.len() as u64).expect("a new file");
        file.write_all_at(bytes, 0).expect("room");
    }
    let (clock, random) = (SimClock::default(), SimRandom::new(1));
    let Ok(kms) = FileKms::open_on(Arc::new(disk), Arc::new(clock), Arc::new(random)) else {
        return;
    };
    let _ = kms.audit(|_| {});
    let _ = kms.aliases();
    for key in kms.keys().unwrap_or_default() {
        let _ = kms.refill(&key.id, STORE);
        let _ = kms.create_key(None);
        let _ = kms.disable_key(&key.id.to_string());
    }
    for id in 0..4 {
        let _ = kms.head_key_info(&HeadKeyId([id; 16]), STORE);
    }
    let _ = kms.mark(STORE);
}

/// The store that the KMS below serves.
const STORE: StoreId =
    StoreId(*b"\x79\xee\xfb\xb6\x2a\xe9\x23\xe5\xd0\xf6\x55\xf4\xad\x80\x3f\x85");

/// The KMS of the golden store.
const GOLDEN_KMS: &[(&str, &[u8])] = &[
    ("keys", include_bytes!("../tests/golden/v0/kms/keys")),
    ("aliases", include_bytes!("../tests/golden/v0/kms/aliases")),
    ("heads", include_bytes!("../tests/golden/v0/kms/heads")),
    ("audit", include_bytes!("../tests/golden/v0/kms/audit")),
    (
        MARK,
        include_bytes!("../tests/golden/v0/kms/mark-79eefbb6-2ae9-23e5-d0f6-55f4ad803f85"),
    ),
];
const MARK: &str = "mark-79eefbb6-2ae9-23e5-d0f6-55f4ad803f85";

fn kms_keys(data: &[u8]) {
    kms("keys", data, true);
}

fn kms_aliases(data: &[u8]) {
    kms("aliases", data, true);
}

fn kms_heads(data: &[u8]) {
    kms("heads", data, false);
}

fn kms_audit(data: &[u8]) {
    kms("audit", data, false);
}

fn kms_mark(data: &[u8]) {
    kms(MARK, data, true);
}

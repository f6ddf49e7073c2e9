//! The files in the directory: what each is, and whether segment files are what they should be.

use std::collections::BTreeSet;

use crate::check::codes;
use crate::check::files::slot_offset;
use crate::check::finding::Findings;
use crate::check::image::Image;
use crate::check::superblocks::FILES;
use crate::error::Damage;
use crate::format::pack::pack_of_file;
use crate::format::scrub::{SCRUB_FILE, SCRUB_LEN_MAX, ScrubRecord};
use crate::format::segment::{SegmentHeader, segment_file_name, segment_of_file, spare_of_file};
use crate::units::{PackId, SegmentId, SlotAddr};

/// What was found that is no fault.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Segment files that neither tables nor log know: made before a crash.
    pub unused_segments: u64,
    /// What an interrupted creation or packing left.
    pub leftover_files: u64,
    /// Files that no segment is in, kept to be written.
    pub spares: u64,
}

/// Looks at every name in the directory and at every segment that is recorded.
pub(super) fn check(image: &Image<'_>, findings: &mut Findings) -> Counts {
    let mut counts = Counts::default();
    let packs: BTreeSet<PackId> = image.state.in_pack.values().copied().collect();
    for name in &image.files.names {
        if let Some(segment) = segment_of_file(name) {
            if image.files.packed.pack(segment).is_some() {
                // It was packed, and the crash came before its own file was removed.
                counts.leftover_files += 1;
                continue;
            }
            check_segment(image, segment, findings);
            if image.complete && !image.state.segments.contains_key(&segment) {
                counts.unused_segments += 1;
            }
        } else if let Some(pack) = pack_of_file(name) {
            counts.leftover_files += u64::from(image.complete && !packs.contains(&pack));
        } else if spare_of_file(name).is_some() {
            counts.spares += 1;
            check_spare(image, name, findings);
        } else if name == SCRUB_FILE {
            check_scrub(image, findings);
        } else if name.ends_with(".tmp") {
            counts.leftover_files += 1;
        } else if name != "lock" && !FILES.contains(&name.as_str()) {
            let location = format!("file {name}");
            findings.add(codes::FOREIGN_FILE, location, "it is no file of the store");
        }
    }
    for record in image.state.segments.values() {
        let name = segment_file_name(record.segment);
        let location = format!("file {name}");
        if record.segment.0 == 0 || record.slot_count != image.superblock.geometry.segment_slots {
            let message = format!("it is recorded with {} slots", record.slot_count);
            findings.add(codes::SEGMENT_RECORD, &location, message);
        }
        // Those that are not log are gone once nothing in them is in use: the walk will tell.
        let is_log = record.segment >= image.kept_from;
        if record.segment.0 != 0 && is_log && !image.files.has(&name) {
            findings.add(codes::SEGMENT_MISSING, location, Damage::Missing);
        }
    }
    counts
}

/// What scrubs have come to: nothing depends on it.
fn check_scrub(image: &Image<'_>, findings: &mut Findings) {
    let location = format!("file {SCRUB_FILE}");
    let read = image.files.read_all(SCRUB_FILE, SCRUB_LEN_MAX);
    let store = image.superblock.store_id;
    if let Err(trouble) = read.and_then(|bytes| Ok(ScrubRecord::decode(&bytes, store)?)) {
        findings.add(codes::SCRUB_RECORD, location, trouble);
    }
}

/// What is in a spare means nothing; its length does.
fn check_spare(image: &Image<'_>, name: &str, findings: &mut Findings) {
    let location = format!("file {name}");
    let expected = slot_offset(image.superblock.geometry.segment_slots);
    match image.files.len(name) {
        Ok(len) if len == expected => {}
        Ok(len) => {
            let message = format!("it has {len} bytes, not {expected}");
            findings.add(codes::SPARE_LENGTH, location, message);
        }
        Err(trouble) => findings.add(codes::SPARE_LENGTH, location, trouble),
    }
}

fn check_segment(image: &Image<'_>, segment: SegmentId, findings: &mut Findings) {
    let name = segment_file_name(segment);
    let location = format!("file {name}");
    let expected = slot_offset(image.superblock.geometry.segment_slots);
    match image.files.len(&name) {
        Ok(len) if len == expected => {}
        Ok(len) => {
            let message = format!("it has {len} bytes, not {expected}");
            findings.add(codes::SEGMENT_LENGTH, &location, message);
        }
        Err(trouble) => findings.add(codes::SEGMENT_LENGTH, &location, trouble),
    }
    let header = image
        .files
        .read_own(SlotAddr { segment, slot: 0 }, 1)
        .and_then(|slot| Ok(SegmentHeader::decode(&slot)?));
    let expected = SegmentHeader {
        segment,
        store_id: image.superblock.store_id,
        slot_count: image.superblock.geometry.segment_slots,
    };
    match header {
        Ok(header) if header == expected => {}
        Ok(header) => {
            let message = format!(
                "it says segment {} of store {} with {} slots",
                header.segment, header.store_id, header.slot_count
            );
            findings.add(codes::SEGMENT_IDENTITY, location, message);
        }
        Err(trouble) => findings.add(codes::SEGMENT_HEADER, location, trouble),
    }
}

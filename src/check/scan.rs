//! Looks behind the end of the log for evidence that it once went further.

use crate::check::files::Files;
use crate::crypto::Secret;
use crate::format::batch::BatchHead;
use crate::format::superblock::Geometry;
use crate::units::{SLOT_LEN, Seq, SlotAddr};

/// Slots that are read at a time.
const CHUNK: u32 = 64;

/// What lies behind the end of the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// The last batch that a batch there says was durable.
    pub durable_through: Seq,
    /// Whole batches are there: a torn tail.
    pub batches: u64,
    /// Too much there looks like batches; not all was looked at.
    pub abandoned: bool,
}

/// Looks at all slots from `end` on and in later segments. Batches that are not authentic, if
/// that can be told, do not count.
pub(super) fn scan(
    files: &Files<'_>,
    geometry: &Geometry,
    key: Option<&Secret>,
    end: SlotAddr,
) -> Scan {
    let mut scan = Scan::default();
    // What decodes does not overlap; what only looks so could be read again for every slot.
    let mut budget = 1024;
    for segment in files.segments() {
        if segment < end.segment {
            continue;
        }
        let mut slot = if segment == end.segment { end.slot } else { 1 };
        let slots = files.slot_count(segment).min(geometry.segment_slots);
        while slot < slots {
            let count = CHUNK.min(slots - slot);
            let first = SlotAddr { segment, slot };
            budget += u64::from(count) * 4;
            slot += count;
            for (at, bytes) in read(files, first, count) {
                let Ok(cost) = BatchHead::peek(&bytes, at, geometry.segment_slots - at.slot) else {
                    continue;
                };
                let Some(left) = budget.checked_sub(u64::from(cost)) else {
                    scan.abandoned = true;
                    return scan;
                };
                budget = left;
                note(files, geometry, key, at, &mut scan);
            }
        }
    }
    scan
}

/// Slots that can be read, one by one where not all of them can.
fn read(files: &Files<'_>, first: SlotAddr, count: u32) -> Vec<(SlotAddr, Vec<u8>)> {
    let addresses = (0..count).map(|index| SlotAddr {
        slot: first.slot + index,
        ..first
    });
    match files.read(first, count) {
        Ok(bytes) => addresses
            .zip(bytes.chunks_exact(SLOT_LEN).map(<[u8]>::to_vec))
            .collect(),
        Err(_) => addresses
            .filter_map(|at| Some((at, files.read(at, 1).ok()?)))
            .collect(),
    }
}

fn note(
    files: &Files<'_>,
    geometry: &Geometry,
    key: Option<&Secret>,
    at: SlotAddr,
    scan: &mut Scan,
) {
    let Ok(head) = files.batch(at, geometry) else {
        return;
    };
    if key.is_some_and(|key| !head.is_authentic(key)) {
        return;
    }
    scan.batches += 1;
    if head.header.durable_through < head.header.seq {
        scan.durable_through = scan.durable_through.max(head.header.durable_through);
    }
}

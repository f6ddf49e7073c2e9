//! Summaries say what the batches say.

use crate::check::codes;
use crate::check::files::Files;
use crate::check::finding::Findings;
use crate::format::batch::BatchHead;
use crate::format::record::{Record, Records, in_summary};
use crate::format::superblock::{Geometry, Position};
use crate::units::SlotAddr;

/// Compares the summary in a batch, if there is one, with the batches that it sums up, where these
/// can be read.
pub(super) fn verify(
    batch: &BatchHead,
    files: &Files<'_>,
    geometry: &Geometry,
    findings: &mut Findings,
) {
    let Some(Ok(Record::Summary(summary))) = Records::new(&batch.records).next() else {
        return;
    };
    // It sums up the segment before the one that it is in, whether or not batches of that can still be read.
    if summary.segment != batch.header.previous_end.segment {
        let message = format!("it is of segment {}", summary.segment);
        findings.add(codes::LOG_SUMMARY, batch.header.at, message);
        return;
    }
    let mut before = summary.before;
    for item in &summary.batches {
        let place = SlotAddr {
            segment: summary.segment,
            slot: item.slot,
        };
        let Ok(head) = files.batch(place, geometry) else {
            // If it counts, whoever followed the log has reported it.
            return;
        };
        let header = &head.header;
        let is_same = header.seq.0.checked_sub(1) == Some(before.seq.0)
            && (header.previous_chain, header.previous_end) == (before.chain, before.end)
            && (head.chain, header.salt, header.body_slots)
                == (item.chain, item.salt, item.body_slots)
            && head.end().slot == item.end_slot()
            && is_summed_up(&head.records, &item.records);
        if !is_same {
            let message = format!("it says something else of {place}");
            findings.add(codes::LOG_SUMMARY, batch.header.at, message);
            return;
        }
        before = Position {
            seq: header.seq,
            chain: head.chain,
            end: head.end(),
        };
    }
}

/// Stores of before 29 November 2026 have whole summaries in summaries.
fn is_summed_up(records: &[u8], summed_up: &[u8]) -> bool {
    summed_up == in_summary(records) || summed_up == records
}

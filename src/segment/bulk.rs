//! Writes of large batches, which go past the page cache.
//!
//! Invariant: a write has ended before it returns, by whichever way it went. What is in the page
//! cache of its range is dropped by the operating system, so maps show the new bytes.

use std::io;

use crate::io::{DiskFile, is_aligned};
use crate::segment::file::{Segment, Segments};
use crate::sync::Arc;
use crate::units::{SLOT_LEN, SegmentId};

/// From so many slots on. Chosen, not measured: large enough that waiting for the disk is rare
/// (`docs/decisions/0006`).
const BULK_SLOTS_MIN: u32 = 64;

/// Writes batches into one segment, the tail of the log.
#[derive(Debug, Default)]
pub struct BulkWriter {
    /// The segment, and its file opened past the page cache if that is possible.
    tail: Option<(SegmentId, Option<Arc<dyn DiskFile>>)>,
}

impl BulkWriter {
    /// Gets ready to write so many slots into a segment, which is the tail from now on.
    pub fn prepare(&mut self, segments: &Segments, id: SegmentId, slots: u32) {
        // Not kept open any longer: its space would not come back when it is removed.
        self.tail.take_if(|(tail, _)| *tail != id);
        if slots >= BULK_SLOTS_MIN && self.tail.is_none() {
            // Without it the page cache does.
            self.tail = Some((id, segments.open_bulk(id).ok()));
        }
    }

    /// Writes slots that were never acknowledged.
    pub fn write(&self, segment: &Segment, slot: u32, bytes: &[u8]) -> io::Result<()> {
        let is_bulk = bytes.len() >= BULK_SLOTS_MIN as usize * SLOT_LEN && is_aligned(bytes);
        match &self.tail {
            Some((id, Some(file))) if is_bulk && *id == segment.id() => {
                match segment.write_slots_to(&**file, slot, bytes) {
                    // This disk wants larger blocks than ours.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                        segment.write_slots(slot, bytes)
                    }
                    written => written,
                }
            }
            _ => segment.write_slots(slot, bytes),
        }
    }
}

#[cfg(test)]
mod tests;

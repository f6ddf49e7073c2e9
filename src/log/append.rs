//! Appending batches.

use std::io;

use crate::crypto::Secret;
use crate::error::{Error, Result};
use crate::format::batch::{BatchHeader, header_slots};
use crate::format::superblock::Position;
use crate::segment::{Segment, Segments};
use crate::sync::Arc;
use crate::units::{SLOT_LEN, SegmentId, Seq, SlotAddr};

/// The end of the log, where the next batch goes.
#[derive(Debug)]
pub struct LogWriter {
    key: Secret,
    position: Position,
    tail: Option<Arc<Segment>>,
    next_segment: SegmentId,
}

/// Where a batch will be. Nothing is written there yet.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    at: SlotAddr,
    header_slots: u32,
    body_slots: u32,
    records_len: usize,
}

impl Place {
    /// The first body slot.
    pub fn body(&self) -> SlotAddr {
        SlotAddr {
            segment: self.at.segment,
            slot: self.at.slot + self.header_slots,
        }
    }

    /// The first slot.
    pub fn at(&self) -> SlotAddr {
        self.at
    }
}

impl LogWriter {
    /// Goes on after `position`: in `tail`, whose slots from there on were never acknowledged,
    /// or in a new segment. `next_segment` is above all segments that have a file.
    pub fn new(
        key: Secret,
        position: Position,
        tail: Option<Arc<Segment>>,
        next_segment: SegmentId,
    ) -> Self {
        Self {
            key,
            position,
            tail,
            next_segment,
        }
    }

    /// The point after the last batch.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Finds room for a batch; makes a segment (durable before this returns) if there is none.
    ///
    /// On an error nothing has changed but that a new, empty segment may exist.
    pub fn place(
        &mut self,
        segments: &Segments,
        records_len: usize,
        body_slots: u32,
    ) -> Result<Place> {
        let header_slots = header_slots(records_len);
        let slots = header_slots + body_slots;
        let segment_slots = segments.geometry().segment_slots;
        let room = |slot: u32| {
            segment_slots
                .checked_sub(slot)
                .is_some_and(|left| slots <= left)
        };
        if !room(1) {
            let max = u64::from(segment_slots - 1) * SLOT_LEN as u64;
            return Err(Error::LimitExceeded {
                limit: "bytes in one batch",
                max,
            });
        }
        let at = match &self.tail {
            Some(tail)
                if tail.id() == self.position.end.segment && room(self.position.end.slot) =>
            {
                self.position.end
            }
            Some(tail) if tail.id() != self.position.end.segment => SlotAddr {
                segment: tail.id(),
                slot: 1,
            },
            _ => {
                let segment = segments.create(self.next_segment)?;
                self.next_segment = SegmentId(self.next_segment.0 + 1);
                let at = SlotAddr {
                    segment: segment.id(),
                    slot: 1,
                };
                self.tail = Some(segment);
                at
            }
        };
        Ok(Place {
            at,
            header_slots,
            body_slots,
            records_len,
        })
    }

    /// Writes a batch at the place that was found last. `bytes` is the whole batch, its header
    /// slots zeroed. The caller must stop using the log on an error: what is in the slots then
    /// is not known.
    pub fn append(
        &mut self,
        place: Place,
        salt: [u8; 12],
        durable_through: Seq,
        records: &[u8],
        mut bytes: Vec<u8>,
    ) -> io::Result<(Arc<Segment>, [u8; 32])> {
        assert_eq!(
            place.records_len,
            records.len(),
            "BUG: the place is for other records"
        );
        let slots = place.header_slots + place.body_slots;
        assert_eq!(
            bytes.len(),
            slots as usize * SLOT_LEN,
            "BUG: the place is for another body"
        );
        let header = BatchHeader {
            seq: Seq(self.position.seq.0 + 1),
            durable_through,
            at: place.at,
            previous_end: self.position.end,
            previous_chain: self.position.chain,
            salt,
            body_slots: place.body_slots,
        };
        let (head, _) = bytes.split_at_mut(place.header_slots as usize * SLOT_LEN);
        let chain = header.encode(records, head, &self.key);
        let hash = crate::crypto::hash(head);
        let tail = self.tail.as_ref().expect("BUG: a place is in a segment");
        tail.write_slots(place.at.slot, &bytes)?;
        self.position = Position {
            seq: header.seq,
            chain,
            end: header.end(records.len()),
        };
        Ok((tail.clone(), hash))
    }
}

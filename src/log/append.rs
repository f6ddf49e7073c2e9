//! Appending batches.

use std::io;

use crate::crypto::Secret;
use crate::error::{Error, Result};
use crate::format::batch::{BatchHeader, header_slots};
use crate::format::record::{RECORD_HEADER_LEN, Record, in_summary};
use crate::format::summary::{Summary, SummaryBatch};
use crate::format::superblock::Position;
use crate::io::GrowBuf;
use crate::segment::{BulkWriter, Segment, Segments};
use crate::sync::Arc;
use crate::units::{SLOT_LEN, SegmentId, Seq, SlotAddr};

/// Flushes that cover no more than this are paid for by their latency, not by their bytes.
const SMALL_FLUSH_LEN: u64 = 32 << 10;
/// So much is zeroed ahead of small flushes at once, in slots.
const ZERO_AHEAD_SLOTS: u32 = 256;

/// A summary takes at most this part of a segment: 1 in so many.
const SUMMARY_SHARE: u32 = 8;

/// The end of the log, where the next batch goes.
#[derive(Debug)]
pub struct LogWriter {
    key: Secret,
    position: Position,
    tail: Option<Arc<Segment>>,
    next_segment: SegmentId,
    ahead: ZeroAhead,
    bulk: BulkWriter,
    summary: Summary,
}

/// How far the tail was written with zeroes ahead of the log's end.
///
/// A sync of blocks that were written before is twice as fast as one of blocks that are only
/// allocated, whose file system must then write down that they hold data (`docs/decisions/0003`).
#[derive(Debug, Default)]
struct ZeroAhead {
    /// The slot up to which the tail was written.
    end: SlotAddr,
    /// Bytes appended since the last flush.
    unsynced: u64,
    /// Whether the last flush was a small one.
    small_flushes: bool,
}

impl ZeroAhead {
    /// Bytes of zeroes to write behind a batch that goes to `slots` slots from `at`.
    fn zeroes_behind(&self, at: SlotAddr, slots: u32, segment_slots: u32) -> usize {
        let is_written = at.segment == self.end.segment && at.slot + slots <= self.end.slot;
        let room = segment_slots.saturating_sub(at.slot + slots);
        match self.small_flushes && !is_written {
            true => room.min(ZERO_AHEAD_SLOTS).min(segment_slots / 4) as usize * SLOT_LEN,
            false => 0,
        }
    }
}

/// Where a batch will be. Nothing is written there yet.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    at: SlotAddr,
    header_slots: u32,
    body_slots: u32,
    records_len: usize,
    segment_slots: u32,
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
            ahead: ZeroAhead::default(),
            bulk: BulkWriter::default(),
            summary: empty_summary(position),
        }
    }

    /// Whether the next batch may go to a segment that has others already.
    pub fn has_tail(&self) -> bool {
        self.tail.is_some()
    }

    /// Notes that a flush covers all batches up to now.
    pub fn note_flush(&mut self) {
        self.ahead.small_flushes = self.ahead.unsynced <= SMALL_FLUSH_LEN;
        self.ahead.unsynced = 0;
    }

    /// The point after the last batch.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The summary of the tail if a batch does not fit there any more and the summary fits with it
    /// into another segment: to be appended as the first batch there, after
    /// [`Self::start_segment`].
    pub fn summary_due(
        &self,
        segment_slots: u32,
        records_len: usize,
        slots: u32,
    ) -> Option<Vec<u8>> {
        let slots = header_slots(records_len) + slots;
        let end = self.position.end;
        let is_full = end.segment == self.summary.segment && end.slot + slots > segment_slots;
        if !is_full || self.summary.batches.len() < 2 {
            return None;
        }
        let own = header_slots(RECORD_HEADER_LEN + self.summary.encoded_len());
        if own > segment_slots / SUMMARY_SHARE || own + slots >= segment_slots {
            return None;
        }
        let mut records = Vec::new();
        Record::Summary(Box::new(self.summary.clone())).encode(&mut records);
        Some(records)
    }

    /// Makes a segment, durable before this returns, for the next batch.
    pub fn start_segment(&mut self, segments: &Segments) -> Result<()> {
        let segment = segments.create(self.next_segment)?;
        self.next_segment = SegmentId(self.next_segment.0 + 1);
        self.tail = Some(segment);
        Ok(())
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
                let segment = self.next_segment;
                self.start_segment(segments)?;
                SlotAddr { segment, slot: 1 }
            }
        };
        self.bulk.prepare(segments, at.segment, slots);
        Ok(Place {
            at,
            header_slots,
            body_slots,
            records_len,
            segment_slots,
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
        mut bytes: impl GrowBuf,
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
        let tail = self.tail.clone().expect("BUG: a place is in a segment");
        let len = bytes.len();
        let zeroes = self
            .ahead
            .zeroes_behind(place.at, slots, place.segment_slots);
        bytes.append_zeroes(zeroes);
        self.bulk.write(&tail, place.at.slot, &bytes)?;
        self.ahead.unsynced += len as u64;
        if zeroes > 0 {
            self.ahead.end = SlotAddr {
                segment: place.at.segment,
                slot: place.at.slot + (bytes.len() / SLOT_LEN) as u32,
            };
        }
        self.sum_up(&place, chain, salt, records);
        self.position = Position {
            seq: header.seq,
            chain,
            end: header.end(records.len()),
        };
        Ok((tail, hash))
    }

    fn sum_up(&mut self, place: &Place, chain: [u8; 32], salt: [u8; 12], records: &[u8]) {
        if self.summary.segment != place.at.segment {
            self.summary = empty_summary(self.position);
            self.summary.segment = place.at.segment;
        }
        self.summary.batches.push(SummaryBatch {
            slot: place.at.slot,
            header_slots: place.header_slots,
            body_slots: place.body_slots,
            salt,
            chain,
            records: in_summary(records).to_vec(),
        });
    }
}

/// Of a segment that nothing was appended to yet.
fn empty_summary(before: Position) -> Summary {
    Summary {
        segment: SegmentId(0),
        before,
        batches: Vec::new(),
    }
}

//! Appending batches.

use std::io;

use crate::crypto::Secret;
use crate::error::{Error, Result};
use crate::format::batch::{BatchHeader, header_slots};
use crate::format::is_zero;
use crate::format::record::{RECORD_HEADER_LEN, Record, in_summary};
use crate::format::summary::{Summary, SummaryBatch};
use crate::format::superblock::Position;
use crate::io::GrowBuf;
use crate::segment::{BulkWriter, Segment, Segments};
use crate::sync::Arc;
use crate::units::{SLOT_LEN, SegmentId, Seq, SlotAddr};

/// Flushes that cover no more than this are paid for by their latency, not by their bytes.
const SMALL_FLUSH_LEN: u64 = 96 << 10;
/// So many small flushes after each other mean that more will come: a single one may be a large one that another thread's
/// flush came into.
const SMALL_FLUSHES_MIN: u32 = 4;
/// So much is zeroed ahead of small flushes at once, in slots.
const ZERO_AHEAD_SLOTS: u32 = 256;

/// Most body slots of a change that is added to the last batch. A longer one has a batch of its own,
/// where a header matters little.
const GROWTH_SLOTS_MAX: u32 = 16;

/// A summary takes at most this part of a segment: 1 in so many.
const SUMMARY_SHARE: u32 = 8;

/// The end of the log, where the next batch goes.
#[derive(Debug)]
pub struct LogWriter {
    key: Secret,
    position: Position,
    tail: Option<Arc<Segment>>,
    /// A segment that was made for a batch that is to come.
    ready: Option<Arc<Segment>>,
    next_segment: SegmentId,
    ahead: ZeroAhead,
    bulk: BulkWriter,
    summary: Summary,
    growing: Option<Growing>,
}

/// The last batch, as long as no flush, checkpoint or other batch has begun after it: small
/// changes may still be added to it.
///
/// Each batch has header slots of its own, so a batch for each change of a page would write twice
/// what is changed. The header slot is written again with each change, after the change's pages:
/// whatever a crash leaves of it, nothing in it was acknowledged. Until then it is whole at any
/// time for who opens the store after the process was killed.
#[derive(Debug)]
struct Growing {
    place: Place,
    header: BatchHeader,
    records: Vec<u8>,
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
    /// How many small flushes there were since the last that was not.
    small_flushes: u32,
}

impl ZeroAhead {
    /// Bytes of zeroes to write behind a batch that goes to `slots` slots from `at`.
    fn zeroes_behind(&self, at: SlotAddr, slots: u32, segment_slots: u32) -> usize {
        let is_written = at.segment == self.end.segment && at.slot + slots <= self.end.slot;
        let room = segment_slots.saturating_sub(at.slot + slots);
        match self.small_flushes >= SMALL_FLUSHES_MIN && !is_written {
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
        self.last(self.body_slots)
    }

    /// The first of the last so many slots.
    pub fn last(&self, slots: u32) -> SlotAddr {
        let end = self.end();
        SlotAddr {
            slot: end.slot - slots,
            ..end
        }
    }

    /// The first slot.
    pub fn at(&self) -> SlotAddr {
        self.at
    }

    /// The slot after the last.
    pub fn end(&self) -> SlotAddr {
        SlotAddr {
            segment: self.at.segment,
            slot: self.at.slot + self.header_slots + self.body_slots,
        }
    }

    /// The same place with so much more in the batch, if its header slots and the segment have room.
    fn grown(&self, records_len: usize, body_slots: u32) -> Option<Self> {
        let grown = Self {
            records_len: self.records_len + records_len,
            body_slots: self.body_slots + body_slots,
            ..*self
        };
        let fits = header_slots(grown.records_len) == self.header_slots
            && grown.end().slot <= self.segment_slots;
        fits.then_some(grown)
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
            ready: None,
            next_segment,
            ahead: ZeroAhead::default(),
            bulk: BulkWriter::default(),
            summary: empty_summary(position),
            growing: None,
        }
    }

    /// Whether the next batch may go to a segment that has others already.
    pub fn has_tail(&self) -> bool {
        self.tail.is_some()
    }

    /// Ends the last batch: what comes next goes to another one.
    pub fn end_batch(&mut self) {
        self.growing = None;
    }

    /// Notes that a flush covers all batches up to now.
    pub fn note_flush(&mut self) {
        self.end_batch();
        self.ahead.small_flushes = match self.ahead.unsynced <= SMALL_FLUSH_LEN {
            true => self.ahead.small_flushes.saturating_add(1),
            false => 0,
        };
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

    /// Whether a batch of so many slots goes to a segment that is not there yet.
    pub fn needs_segment(&self, segment_slots: u32, slots: u32) -> bool {
        let room = segment_slots - 1;
        self.ready.is_none()
            && match &self.tail {
                None => true,
                Some(tail) if tail.id() != self.position.end.segment => slots > room,
                Some(_) => self.room(segment_slots) < slots,
            }
    }

    /// Slots that are left in the tail.
    pub fn room(&self, segment_slots: u32) -> u32 {
        match &self.tail {
            None => 0,
            Some(tail) if tail.id() != self.position.end.segment => segment_slots - 1,
            Some(_) => segment_slots.saturating_sub(self.position.end.slot),
        }
    }

    /// The segment that is made next: all before it that have a file have it durably. It may have one, too,
    /// if it could not be made for good, under a name that a crash takes away.
    pub fn next_segment(&self) -> SegmentId {
        self.next_segment
    }

    /// Makes a segment, durable before this returns, for a batch that is to come; not from the
    /// reserve.
    pub fn make_ready(&mut self, segments: &Segments) -> Result<()> {
        if self.ready.is_none() {
            let segment = segments.create(self.next_segment)?;
            self.next_segment = SegmentId(self.next_segment.0 + 1);
            self.ready = Some(segment);
        }
        Ok(())
    }

    /// Goes on in a new segment, durable before this returns; from the reserve if the disk is full.
    pub fn start_segment(&mut self, segments: &Segments) -> Result<()> {
        let segment = match self.ready.take() {
            Some(ready) => ready,
            None => {
                let made = segments.create_from_reserve(self.next_segment)?;
                self.next_segment = SegmentId(self.next_segment.0 + 1);
                made
            }
        };
        if segment.is_written() {
            self.ahead.end = SlotAddr {
                segment: segment.id(),
                slot: segments.geometry().segment_slots,
            };
        }
        self.tail = Some(segment);
        Ok(())
    }

    /// Sees to it that the slot at the log's end reads as never written: in a segment that was
    /// used before, something may be there. Returns the tail if it was changed, to be synced.
    pub fn blank_end(&self, segments: &Segments) -> Result<Option<Arc<Segment>>> {
        let end = self.position.end;
        let tail = self.tail.as_ref().filter(|tail| tail.id() == end.segment);
        let has_room = end.slot < segments.geometry().segment_slots;
        let Some(tail) = tail.filter(|_| has_room) else {
            return Ok(None);
        };
        let mut slot = vec![0; SLOT_LEN];
        segments.read_slots(end, &mut slot)?;
        if is_zero(&slot) {
            return Ok(None);
        }
        tail.write_slots(end.slot, &[0; SLOT_LEN])
            .map_err(|error| segments.failed("write", end, error))?;
        Ok(Some(tail.clone()))
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
        self.end_batch();
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
                self.start_segment(segments)?;
                let tail = self.tail.as_ref().expect("BUG: it was just made");
                SlotAddr {
                    segment: tail.id(),
                    slot: 1,
                }
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
        self.note_written(place.at, len, zeroes);
        self.sum_up(&place, chain, salt, records);
        self.position = Position {
            seq: header.seq,
            chain,
            end: header.end(records.len()),
        };
        if place.header_slots == 1 {
            self.growing = Some(Growing {
                place,
                header,
                records: records.to_vec(),
            });
        }
        Ok((tail, hash))
    }

    /// Where the last batch ends if so much is added to it; nothing if it does not take that: it
    /// is ended or full, or its pages are sealed under another salt.
    pub fn room_in_last(
        &self,
        salt: [u8; 12],
        records_len: usize,
        body_slots: u32,
    ) -> Option<Place> {
        let growing = self.growing.as_ref()?;
        let same_salt = growing.header.salt == salt || body_slots == 0;
        let is_small = body_slots <= GROWTH_SLOTS_MAX;
        let place = growing.place.grown(records_len, body_slots)?;
        (same_salt && is_small).then_some(place)
    }

    /// Adds records and body slots to the last batch, at the place just found. The caller must stop
    /// using the log on an error.
    pub fn grow_last(
        &mut self,
        place: Place,
        durable_through: Seq,
        records: &[u8],
        body: &[u8],
    ) -> io::Result<()> {
        let mut growing = self.growing.take().expect("BUG: the last batch is ended");
        let (at, len) = (growing.place.end(), body.len());
        growing.place = place;
        growing.records.extend_from_slice(records);
        growing.header = BatchHeader {
            durable_through,
            body_slots: place.body_slots,
            ..growing.header
        };
        let mut head = vec![0; place.header_slots as usize * SLOT_LEN];
        let chain = growing
            .header
            .encode(&growing.records, &mut head, &self.key);
        let tail = self.tail.clone().expect("BUG: a place is in a segment");
        let slots = (len / SLOT_LEN) as u32;
        let zeroes = self.ahead.zeroes_behind(at, slots, place.segment_slots);
        // Pages go first: a killed process leaves a whole batch, with or without them.
        match zeroes {
            0 if body.is_empty() => {}
            0 => tail.write_slots(at.slot, body)?,
            _ => tail.write_slots(at.slot, &[body, &vec![0; zeroes]].concat())?,
        }
        tail.write_slots(place.at.slot, &head)?;
        self.note_written(at, len, zeroes);
        self.summary.batches.pop();
        self.sum_up(&place, chain, growing.header.salt, &growing.records);
        self.position = Position {
            seq: growing.header.seq,
            chain,
            end: place.end(),
        };
        self.growing = Some(growing);
        Ok(())
    }

    fn note_written(&mut self, at: SlotAddr, len: usize, zeroes: usize) {
        self.ahead.unsynced += len as u64;
        if zeroes > 0 {
            self.ahead.end = SlotAddr {
                segment: at.segment,
                slot: at.slot + ((len + zeroes) / SLOT_LEN) as u32,
            };
        }
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

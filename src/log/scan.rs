//! Rolling forward: which batches after a checkpoint count.
//!
//! A batch counts if it names, by position and keyed chain value, the one before. What is torn
//! after the last batch known to be durable is dropped; what is damaged at or before it is
//! reported, never dropped. A segment that was filled is summed up by the first batch of the
//! next one, so that its headers need not be read one by one.

use std::collections::{HashMap, HashSet};

use crate::crypto::Secret;
use crate::error::{Damage, Error, Result};
use crate::format::batch::BatchHead;
use crate::format::is_zero;
use crate::format::record::{Record, Records};
use crate::format::summary::Summary;
use crate::format::superblock::{Position, Superblock};
use crate::io::AlignedBuf;
use crate::segment::Segments;
use crate::units::{Location, SLOT_LEN, SegmentId, Seq, SlotAddr};

/// Slots that are read at once.
const CHUNK_SLOTS: u32 = 256;

/// The batches after a checkpoint that count.
#[derive(Debug)]
pub struct Scan {
    /// The batches in order.
    pub batches: Vec<Batch>,
    /// The point after the last of them.
    pub end: Position,
    /// Whether the slot at the end was never written, and nothing in a later segment that says that it
    /// follows was dropped: such a batch would count for the next scan before what is written here.
    pub end_is_blank: bool,
}

/// A batch that counts.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its first slot.
    pub at: SlotAddr,
    /// Header slots.
    pub header_slots: u32,
    /// The point after it.
    pub after: Position,
    /// Salt of the subkeys that its pages are sealed under.
    pub salt: [u8; 12],
    /// Its records; of a table batch perhaps only the first, and perhaps without a summary.
    pub records: Vec<u8>,
}

impl Batch {
    fn of_head(head: BatchHead) -> Self {
        Self {
            at: head.header.at,
            header_slots: head.body().slot - head.header.at.slot,
            after: Position {
                seq: head.header.seq,
                chain: head.chain,
                end: head.end(),
            },
            salt: head.header.salt,
            records: head.records,
        }
    }

    /// Its first body slot.
    fn body(&self) -> SlotAddr {
        SlotAddr {
            slot: self.at.slot.saturating_add(self.header_slots),
            ..self.at
        }
    }
}

/// Reads the log from a superblock's position to its end.
pub fn scan(segments: &Segments, key: &Secret, from: &Superblock) -> Result<Scan> {
    let mut log = Reader::new(segments, key, from)?;
    let mut batches = Vec::new();
    let mut end = from.position;
    while let Some(batch) = log.next(end)? {
        end = batch.after;
        batches.push(batch);
    }
    let (found, durable_through) = (batches.len(), log.durable_through);
    let mut counted = Vec::with_capacity(batches.len());
    let mut end = from.position;
    for batch in batches {
        match log.verify(&batch)? {
            Ok(()) => {}
            Err(damage) if batch.after.seq <= durable_through => {
                return Err(corrupt(batch.at, damage));
            }
            Err(_) => break,
        }
        end = batch.after;
        counted.push(batch);
    }
    if durable_through > end.seq || log.witness_after(&end)? {
        return Err(corrupt(
            end.end,
            Damage::Inconsistent("a batch that was durable cannot be read"),
        ));
    }
    let end_is_blank = counted.len() == found && log.is_blank(end.end)?;
    Ok(Scan {
        batches: counted,
        end,
        end_is_blank,
    })
}

/// Where the next batch after the end would be looked for and the medium does not have what the cache shows: what a sync that
/// failed did not write, perhaps over an older writing of the same batch. That would count once the power was lost.
pub fn unsettled(segments: &Segments, end: &Position) -> Result<Vec<SlotAddr>> {
    let later = segments.list()?.into_iter().rev();
    let later = later.take_while(|&id| id > end.end.segment);
    let firsts = later.map(|segment| SlotAddr { segment, slot: 1 });
    let mut unsettled = Vec::new();
    for at in [end.end].into_iter().chain(firsts) {
        if is_written(segments, at)? && !is_on_medium(segments, at, 1)? {
            unsettled.push(at);
        }
    }
    Ok(unsettled)
}

/// Whether there is a slot at a place. A position may be none, or where a segment ends.
fn has_slot(segments: &Segments, at: SlotAddr) -> bool {
    at.segment.0 != 0 && at.slot < segments.geometry().segment_slots
}

/// Whether there is a slot at a place to which something was written, as the file tells without reading it: that would bring
/// pages into the cache, and then the file no longer tells what was never written.
fn is_written(segments: &Segments, at: SlotAddr) -> Result<bool> {
    Ok(has_slot(segments, at) && segments.next_written(at)? == Some(at.slot))
}

/// Whether the medium holds in some slots what the cache shows.
fn is_on_medium(segments: &Segments, at: SlotAddr, slots: u32) -> Result<bool> {
    let len = slots as usize * SLOT_LEN;
    let (mut cached, mut medium) = (vec![0; len], AlignedBuf::zeroed(len));
    segments.read_slots(at, &mut cached)?;
    segments.read_slots_directly(at, &mut medium)?;
    Ok(*cached == *medium)
}

/// The header slots of the batch at a place; the inner error says why there is none.
pub(super) fn read_head(
    segments: &Segments,
    at: SlotAddr,
) -> Result<std::result::Result<BatchHead, Damage>> {
    let Some(left) = segments
        .geometry()
        .segment_slots
        .checked_sub(at.slot)
        .filter(|&left| left > 0)
    else {
        return Ok(Err(Damage::Truncated));
    };
    let mut slots = vec![0; SLOT_LEN];
    segments.read_slots(at, &mut slots)?;
    let count = match BatchHead::peek(&slots, at, left) {
        Ok(count) => count,
        Err(damage) => return Ok(Err(damage)),
    };
    if count > 1 {
        slots = vec![0; count as usize * SLOT_LEN];
        segments.read_slots(at, &mut slots)?;
    }
    Ok(BatchHead::decode(&slots, at, left))
}

struct Reader<'a> {
    segments: &'a Segments,
    key: &'a Secret,
    /// The first batches of later segments, by where they say the log before them ends. Newest
    /// first: if several say that they follow, the newest was written by somebody who knew that
    /// the others do not count.
    firsts: HashMap<SlotAddr, Vec<First>>,
    /// What summaries say, by the first slot of the batch.
    summaries: HashMap<SlotAddr, Vec<First>>,
    /// Batches up to this one were durable, as far as was read.
    durable_through: Seq,
}

/// A batch, and the point that it says it follows.
struct First {
    before: Position,
    batch: Batch,
}

impl<'a> Reader<'a> {
    fn new(segments: &'a Segments, key: &'a Secret, from: &Superblock) -> Result<Self> {
        let mut reader = Self {
            segments,
            key,
            firsts: HashMap::new(),
            summaries: HashMap::new(),
            durable_through: from.durable_through.max(from.position.seq),
        };
        let mut summed_up = HashSet::new();
        let later = segments.list()?.into_iter().rev();
        for segment in later.take_while(|&id| id > from.position.end.segment) {
            let head = read_head(segments, SlotAddr { segment, slot: 1 })?;
            if let Some(head) = head.ok().filter(|head| head.is_authentic(key)) {
                let is_newest = summed_up.insert(head.header.previous_end.segment);
                reader.add_first(head, is_newest);
            }
        }
        Ok(reader)
    }

    /// Of segments that go on after the same one only the newest knows what was there: the others are of a log
    /// that was given up, in which the last batch may have been a longer one.
    fn add_first(&mut self, head: BatchHead, is_newest: bool) {
        self.note(&head);
        let before = before(&head);
        let batch = Batch::of_head(head);
        let first = Records::new(&batch.records).next().filter(|_| is_newest);
        if let Some(Ok(Record::Summary(summary))) = first {
            self.add_summary(*summary);
        }
        let firsts = self.firsts.entry(before.end).or_default();
        firsts.push(First { before, batch });
    }

    fn add_summary(&mut self, summary: Summary) {
        let mut before = summary.before;
        for item in summary.batches {
            let place = |slot| SlotAddr {
                segment: summary.segment,
                slot,
            };
            let (at, end) = (place(item.slot), place(item.end_slot()));
            let after = Position {
                seq: Seq(before.seq.0.saturating_add(1)),
                chain: item.chain,
                end,
            };
            let batch = Batch {
                at,
                header_slots: item.header_slots,
                after,
                salt: item.salt,
                records: item.records,
            };
            let said = self.summaries.entry(at).or_default();
            said.push(First { before, batch });
            before = after;
        }
    }

    /// Takes note of how far an authentic batch says that the log was durable.
    fn note(&mut self, head: &BatchHead) {
        self.durable_through = self.durable_through.max(head.header.durable_through);
    }

    fn next(&mut self, position: Position) -> Result<Option<Batch>> {
        let follows = |first: &&First| first.before == position;
        // A later segment's word goes first: it says that nothing behind the end is log.
        let mut later = self.firsts.get(&position.end).into_iter().flatten();
        if let Some(first) = later.find(follows) {
            return Ok(Some(first.batch.clone()));
        }
        // A summary stands for headers that were durable; the others may be torn.
        let is_durable = |first: &&First| first.batch.after.seq <= self.durable_through;
        let mut said = self.summaries.get(&position.end).into_iter().flatten();
        if let Some(first) = said.find(|first| follows(first) && is_durable(first)) {
            return Ok(Some(first.batch.clone()));
        }
        if !is_written(self.segments, position.end)? {
            return Ok(None);
        }
        let head = read_head(self.segments, position.end)?;
        let follows = |head: &BatchHead| {
            position.seq.0.checked_add(1) == Some(head.header.seq.0)
                && before(head) == position
                && head.is_authentic(self.key)
        };
        let Some(head) = head.ok().filter(follows) else {
            return Ok(None);
        };
        self.note(&head);
        Ok(Some(Batch::of_head(head)))
    }

    /// Whether a batch is as it was written. Its body is read only if it may be torn, and then from the medium, as its
    /// header is: what a sync failed to write is still in the cache, and the next sync would not write it.
    fn verify(&self, batch: &Batch) -> Result<std::result::Result<(), Damage>> {
        let units = match body_units(batch, self.segments.geometry().page_slots()) {
            Ok(units) => units,
            Err(damage) => return Ok(Err(damage)),
        };
        if batch.after.seq <= self.durable_through {
            return Ok(Ok(()));
        }
        if !is_on_medium(self.segments, batch.at, batch.header_slots)? {
            return Ok(Err(Damage::BadChecksum));
        }
        // They are one behind the other.
        let mut units = units.as_slice();
        while let Some(&(at, ..)) = units.first() {
            let (some, slots) = first_units(units);
            let mut bytes = AlignedBuf::zeroed(slots as usize * SLOT_LEN);
            self.segments.read_slots_directly(at, &mut bytes)?;
            let mut rest = &*bytes;
            for &(_, slots, crc) in some {
                let (unit, after) = rest.split_at(slots as usize * SLOT_LEN);
                if crc32fast::hash(unit) != crc {
                    return Ok(Err(Damage::BadChecksum));
                }
                rest = after;
            }
            units = units.get(some.len()..).unwrap_or_default();
        }
        Ok(Ok(()))
    }

    /// Whether any batch that is not part of the log says that the log was durable further on.
    fn witness_after(&self, end: &Position) -> Result<bool> {
        let slot_count = self.segments.geometry().segment_slots;
        for segment in self.segments.list()? {
            let first = match segment.cmp(&end.end.segment) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => end.end.slot,
                std::cmp::Ordering::Greater => 1,
            };
            let mut slot = first;
            while let Some(written) = self.segments.next_written(SlotAddr { segment, slot })? {
                slot = written.max(slot);
                if slot >= slot_count {
                    break;
                }
                let count = CHUNK_SLOTS.min(slot_count - slot);
                if self.witness_in(segment, slot, count, end.seq)? {
                    return Ok(true);
                }
                slot += count;
            }
        }
        Ok(false)
    }

    fn witness_in(&self, segment: SegmentId, slot: u32, count: u32, last: Seq) -> Result<bool> {
        let mut bytes = vec![0; count as usize * SLOT_LEN];
        self.segments
            .read_slots(SlotAddr { segment, slot }, &mut bytes)?;
        for (slot, bytes) in (slot..).zip(bytes.chunks_exact(SLOT_LEN)) {
            let at = SlotAddr { segment, slot };
            let left = self.segments.geometry().segment_slots - slot;
            if BatchHead::peek(bytes, at, left).is_err() {
                continue;
            }
            let head = read_head(self.segments, at)?;
            let is_witness = |head: &BatchHead| {
                head.header.durable_through > last && head.is_authentic(self.key)
            };
            if head.is_ok_and(|head| is_witness(&head)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether there is a slot at a place, and nothing was ever written to it.
    fn is_blank(&self, at: SlotAddr) -> Result<bool> {
        if !has_slot(self.segments, at) {
            return Ok(false);
        }
        if !is_written(self.segments, at)? {
            return Ok(true);
        }
        let mut slot = vec![0; SLOT_LEN];
        self.segments.read_slots(at, &mut slot)?;
        Ok(is_zero(&slot))
    }
}

/// The point that a batch says it follows.
fn before(head: &BatchHead) -> Position {
    Position {
        seq: Seq(head.header.seq.0.saturating_sub(1)),
        chain: head.header.previous_chain,
        end: head.header.previous_end,
    }
}

/// The units of a batch's body: place, slots, CRC-32 of each. They must account for all of it.
fn body_units(
    batch: &Batch,
    page_slots: u32,
) -> std::result::Result<Vec<(SlotAddr, u32, u32)>, Damage> {
    let mut units = Vec::new();
    let mut at = batch.body();
    let mut add = |slots: u32, crc: u32| {
        units.push((at, slots, crc));
        at.slot = at.slot.saturating_add(slots);
        at
    };
    for record in Records::new(&batch.records) {
        match record? {
            Record::Pages { deltas, .. } => {
                for delta in deltas {
                    let end = add(page_slots, delta.entry.crc);
                    let start = SlotAddr {
                        slot: end.slot.saturating_sub(page_slots),
                        ..end
                    };
                    if delta.entry.at != start {
                        return Err(Damage::Inconsistent("a page is not where its batch says"));
                    }
                }
            }
            Record::Nodes(crcs) => {
                for crc in crcs {
                    add(1, crc);
                }
            }
            _ => {}
        }
    }
    match at == batch.after.end {
        true => Ok(units),
        false => Err(Damage::Inconsistent(
            "a batch's records do not account for its body",
        )),
    }
}

/// As many units as are read at once, one at least, and their slots.
fn first_units(units: &[(SlotAddr, u32, u32)]) -> (&[(SlotAddr, u32, u32)], u32) {
    let mut total = 0u32;
    let fits = |&&(_, slots, _): &&(SlotAddr, u32, u32)| {
        let is_first = total == 0;
        total = total.saturating_add(slots);
        is_first || total <= CHUNK_SLOTS
    };
    let count = units.iter().take_while(fits).count();
    let some = units.get(..count).unwrap_or_default();
    (some, some.iter().map(|&(_, slots, _)| slots).sum())
}

fn corrupt(at: SlotAddr, damage: Damage) -> Error {
    Error::Corrupt {
        location: Location::Slot(at),
        damage,
    }
}

//! Rolling forward: which batches after a checkpoint count.
//!
//! A batch counts if it names, by position and keyed chain value, the one before. What is torn
//! after the last batch known to be durable is dropped; what is damaged at or before it is
//! reported, never dropped.

use std::collections::HashMap;

use crate::crypto::Secret;
use crate::error::{Damage, Error, Result};
use crate::format::batch::BatchHead;
use crate::format::record::{Record, Records};
use crate::format::superblock::{Position, Superblock};
use crate::segment::Segments;
use crate::units::{Location, SLOT_LEN, SegmentId, Seq, SlotAddr};

/// Slots that a search for witnesses reads at once.
const CHUNK_SLOTS: u32 = 256;

/// The batches after a checkpoint that count.
#[derive(Debug)]
pub struct Scan {
    /// The batches in order, with their records.
    pub batches: Vec<(BatchHead, Vec<Record>)>,
    /// The point after the last of them.
    pub end: Position,
    /// Whether the slot at the end was never written.
    pub end_is_blank: bool,
}

/// Reads the log from a superblock's position to its end.
pub fn scan(segments: &Segments, key: &Secret, from: &Superblock) -> Result<Scan> {
    let log = Reader {
        segments,
        key,
        firsts: firsts(segments, from.position.end.segment)?,
    };
    let mut heads = Vec::new();
    let mut end = from.position;
    while let Some(head) = log.next(end)? {
        end = Position {
            seq: head.header.seq,
            chain: head.chain,
            end: head.end(),
        };
        heads.push(head);
    }
    let durable_through = heads
        .iter()
        .map(|head| head.header.durable_through)
        .fold(from.durable_through.max(from.position.seq), Seq::max);
    let mut batches = Vec::new();
    let mut end = from.position;
    for head in heads {
        let records = match log.verify(&head, durable_through)? {
            Ok(records) => records,
            Err(damage) if head.header.seq <= durable_through => {
                return Err(corrupt(head.header.at, damage));
            }
            Err(_) => break,
        };
        end = Position {
            seq: head.header.seq,
            chain: head.chain,
            end: head.end(),
        };
        batches.push((head, records));
    }
    if durable_through > end.seq || log.witness_after(&end)? {
        return Err(corrupt(
            end.end,
            Damage::Inconsistent("a batch that was durable cannot be read"),
        ));
    }
    let end_is_blank = log.is_blank(end.end)?;
    Ok(Scan {
        batches,
        end,
        end_is_blank,
    })
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
    /// The first batches of later segments, by where they say the log before them ends.
    firsts: HashMap<SlotAddr, Vec<BatchHead>>,
}

fn firsts(segments: &Segments, after: SegmentId) -> Result<HashMap<SlotAddr, Vec<BatchHead>>> {
    let mut firsts: HashMap<SlotAddr, Vec<BatchHead>> = HashMap::new();
    // Newest first: if several say that they follow, the newest was written by somebody who
    // knew that the others do not count.
    for segment in segments
        .list()?
        .into_iter()
        .rev()
        .take_while(|&id| id > after)
    {
        if let Ok(head) = read_head(segments, SlotAddr { segment, slot: 1 })? {
            firsts
                .entry(head.header.previous_end)
                .or_default()
                .push(head);
        }
    }
    Ok(firsts)
}

impl Reader<'_> {
    fn follows(&self, head: &BatchHead, position: &Position) -> bool {
        head.header.seq.0 == position.seq.0 + 1
            && head.header.previous_end == position.end
            && head.header.previous_chain == position.chain
            && head.is_authentic(self.key)
    }

    fn next(&self, position: Position) -> Result<Option<BatchHead>> {
        // A later segment's word goes first: it says that nothing behind the end is log.
        let later = self.firsts.get(&position.end).into_iter().flatten();
        if let Some(head) = later.into_iter().find(|head| self.follows(head, &position)) {
            return Ok(Some(head.clone()));
        }
        // Not even looked at if nothing was written there: reading it would bring pages into
        // the cache, and then the file no longer tells what was never written.
        if self.is_blank(position.end)? {
            return Ok(None);
        }
        if position.end.segment.0 == 0 {
            return Ok(None);
        }
        let head = read_head(self.segments, position.end)?;
        Ok(head.ok().filter(|head| self.follows(head, &position)))
    }

    /// The records of a batch; its body is read only if it may be torn.
    fn verify(
        &self,
        head: &BatchHead,
        durable_through: Seq,
    ) -> Result<std::result::Result<Vec<Record>, Damage>> {
        let records: std::result::Result<Vec<Record>, Damage> =
            Records::new(&head.records).collect();
        let records = match records {
            Ok(records) => records,
            Err(damage) => return Ok(Err(damage)),
        };
        let units = match body_units(head, &records, self.segments.geometry().page_slots()) {
            Ok(units) => units,
            Err(damage) => return Ok(Err(damage)),
        };
        if head.header.seq <= durable_through {
            return Ok(Ok(records));
        }
        for (at, slots, crc) in units {
            let mut bytes = vec![0; slots as usize * SLOT_LEN];
            self.segments.read_slots(at, &mut bytes)?;
            if crc32fast::hash(&bytes) != crc {
                return Ok(Err(Damage::BadChecksum));
            }
        }
        Ok(Ok(records))
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
        if at.segment.0 == 0 || at.slot >= self.segments.geometry().segment_slots {
            return Ok(false);
        }
        if self.segments.next_written(at)? != Some(at.slot) {
            return Ok(true);
        }
        let mut slot = vec![0; SLOT_LEN];
        self.segments.read_slots(at, &mut slot)?;
        Ok(slot.iter().all(|&byte| byte == 0))
    }
}

/// The units of a batch's body: place, slots, CRC-32 of each. They must account for all of it.
fn body_units(
    head: &BatchHead,
    records: &[Record],
    page_slots: u32,
) -> std::result::Result<Vec<(SlotAddr, u32, u32)>, Damage> {
    let mut units = Vec::new();
    let mut at = head.body();
    let mut add = |slots: u32, crc: u32| {
        units.push((at, slots, crc));
        at.slot = at.slot.saturating_add(slots);
        at
    };
    for record in records {
        match record {
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
                    add(1, *crc);
                }
            }
            _ => {}
        }
    }
    match at == head.end() {
        true => Ok(units),
        false => Err(Damage::Inconsistent(
            "a batch's records do not account for its body",
        )),
    }
}

fn corrupt(at: SlotAddr, damage: Damage) -> Error {
    Error::Corrupt {
        location: Location::Slot(at),
        damage,
    }
}

//! The witness of nonces: under one salt no nonce seals two different pages, in no fork.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;

use offshoot::format::batch::BatchHead;
use offshoot::format::record::{Record, Records};
use offshoot::format::segment::segment_of_file;
use offshoot::io::sim::{SimMachine, WriteEvent};
use offshoot::io::{Access, Disk, read_medium};
use offshoot::{SegmentId, SlotAddr};

use crate::rig::SEGMENT_SLOTS;

pub const SLOT_LEN: usize = 4096;

/// A segment and a slot in it.
pub type Slot = (u32, u32);

/// Pairs of salt and nonce that were used, each with the CRC of the page it sealed.
#[derive(Debug, Default)]
pub struct Nonces(Mutex<HashMap<Pair, u32>>);

/// A salt and a nonce.
type Pair = ([u8; 12], [u8; 12]);

impl Nonces {
    /// Notes the pages of a batch. An error if a pair was used for another page. Pages that are added
    /// to a batch come without a header, which is written again after them.
    pub fn witness(&self, event: &WriteEvent<'_>) -> Result<(), String> {
        let Some(at) = slot_of(event) else {
            return Ok(());
        };
        match batch_at(event.bytes, at) {
            Some(batch) => self.note(&batch),
            None if is_page(event) => Ok(()),
            None => Err(format!("what was written at {at} is no batch")),
        }
    }

    /// Notes the pages of a batch.
    pub fn note(&self, batch: &BatchHead) -> Result<(), String> {
        let mut pairs = self.0.lock().unwrap();
        for record in Records::new(&batch.records) {
            let record = record.map_err(|damage| format!("at {}: {damage}", batch.header.at))?;
            let Record::Pages { deltas, .. } = record else {
                continue;
            };
            for delta in deltas {
                let (salt, entry) = (batch.header.salt, delta.entry);
                match pairs.entry((salt, entry.nonce)) {
                    Entry::Vacant(vacant) => {
                        vacant.insert(entry.crc);
                    }
                    Entry::Occupied(found) if *found.get() == entry.crc => {}
                    Entry::Occupied(_) => {
                        return Err(format!(
                            "salt {salt:02x?} and nonce {:02x?} sealed two pages",
                            entry.nonce
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn slot_of(event: &WriteEvent<'_>) -> Option<SlotAddr> {
    let segment = segment_of_file(event.name)?;
    Some(SlotAddr {
        segment,
        slot: (event.offset / SLOT_LEN as u64) as u32,
    })
}

/// Whether a write can be of pages alone: whole slots, that do not look like a batch's header.
fn is_page(event: &WriteEvent<'_>) -> bool {
    event.bytes.len() >= SLOT_LEN
        && event.bytes.len().is_multiple_of(SLOT_LEN)
        && !event.bytes.starts_with(b"OFFSH")
}

/// The slots that a write to a segment touches.
pub fn slots_written(event: &WriteEvent<'_>) -> Vec<Slot> {
    let Some(at) = slot_of(event) else {
        return Vec::new();
    };
    let end = (event.offset + event.bytes.len() as u64).div_ceil(SLOT_LEN as u64) as u32;
    (at.slot..end).map(|slot| (at.segment.0, slot)).collect()
}

/// Whether a write gives a slot nothing but zeroes: then it holds nothing, as before.
pub fn only_zeroes(event: &WriteEvent<'_>, slot: Slot) -> bool {
    let start = (u64::from(slot.1) * SLOT_LEN as u64).saturating_sub(event.offset) as usize;
    let end = ((u64::from(slot.1) + 1) * SLOT_LEN as u64 - event.offset) as usize;
    let bytes = &event.bytes[start..end.min(event.bytes.len())];
    bytes.iter().all(|&byte| byte == 0)
}

/// The batch that starts these bytes, which lie at `at`.
pub fn batch_at(bytes: &[u8], at: SlotAddr) -> Option<BatchHead> {
    let left = SEGMENT_SLOTS.checked_sub(at.slot)?;
    let count = BatchHead::peek(bytes.get(..SLOT_LEN)?, at, left).ok()?;
    BatchHead::decode(bytes.get(..count as usize * SLOT_LEN)?, at, left).ok()
}

/// All bytes of a file of the store.
pub fn file_bytes(machine: &SimMachine, name: &str) -> Vec<u8> {
    let file = machine.dir("store").open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Overwrites bytes of a file of the store, as damage does.
pub fn overwrite(machine: &SimMachine, name: &str, offset: u64, bytes: &[u8]) {
    let file = machine.dir("store").open(name, Access::ReadWrite).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// The segments of the store that have their final name.
pub fn segments(machine: &SimMachine) -> Vec<(SegmentId, String)> {
    let names = machine.dir("store").list().unwrap();
    let segment = |name: String| Some((segment_of_file(&name)?, name));
    names.into_iter().filter_map(segment).collect()
}

/// All batches that can be decoded, segment by segment, each right after the one before. What a failed sync lost counts
/// no more, though the cache has it still: it is written again.
pub fn batches(machine: &SimMachine) -> Vec<BatchHead> {
    let mut batches = Vec::new();
    for (segment, name) in segments(machine) {
        let mut bytes = file_bytes(machine, &name);
        bytes.truncate(bytes.len() / SLOT_LEN * SLOT_LEN);
        read_medium(&machine.dir("store"), &name, &mut bytes, 0).unwrap();
        let mut slot = 1;
        while slot < SEGMENT_SLOTS {
            let at = SlotAddr { segment, slot };
            let rest = bytes.get(slot as usize * SLOT_LEN..);
            let Some(batch) = rest.and_then(|rest| batch_at(rest, at)) else {
                break;
            };
            slot = batch.end().slot;
            batches.push(batch);
        }
    }
    batches
}

/// The slots of all batches.
pub fn slots_of(batches: &[BatchHead]) -> impl Iterator<Item = Slot> {
    batches.iter().flat_map(|batch| {
        let (at, end) = (batch.header.at, batch.end());
        (at.slot..end.slot).map(move |slot| (at.segment.0, slot))
    })
}

/// The last batch in the write order.
pub fn last_batch(machine: &SimMachine) -> Option<BatchHead> {
    batches(machine)
        .into_iter()
        .max_by_key(|batch| batch.header.seq)
}

//! The tables of a checkpoint: the whole catalog as records, in a chain of table batches.

use crate::error::{Damage, Error, Result};
use crate::format::batch::BATCH_HEADER_LEN;
use crate::format::record::{Record, Records};
use crate::format::superblock::TableRef;
use crate::log::scan::{Batch, read_head};
use crate::segment::Segments;
use crate::units::{Location, SLOT_LEN, SegmentId};

/// Bytes of records in one table batch, so that a batch is short.
const TABLE_BATCH_LEN_MAX: usize = 256 << 10;

/// Splits encoded records over table batches: each part leaves room for its `Table` record.
pub fn table_parts(records: &[Record], segment_slots: u32) -> Vec<Vec<u8>> {
    let link_len = {
        let mut link = Vec::new();
        Record::Table {
            part: 0,
            previous: None,
        }
        .encode(&mut link);
        link.len()
    };
    let segment_len = (segment_slots as usize - 1) * SLOT_LEN;
    let max = TABLE_BATCH_LEN_MAX.min(segment_len - BATCH_HEADER_LEN) - link_len;
    let mut parts = vec![Vec::new()];
    for record in records {
        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        match parts.last_mut() {
            Some(part) if part.len() + encoded.len() <= max => part.append(&mut encoded),
            _ => parts.push(encoded),
        }
    }
    parts
}

/// Reads all table records, in the order in which they were written.
pub fn load_tables(segments: &Segments, last: TableRef) -> Result<Vec<Record>> {
    let mut parts = Vec::new();
    let mut next = Some((last, None));
    while let Some((table, expected_part)) = next {
        let corrupt = |damage| Error::Corrupt {
            location: Location::Slot(table.at),
            damage,
        };
        let head = read_head(segments, table.at)?.map_err(corrupt)?;
        if head.hash() != table.hash {
            return Err(corrupt(Damage::BadHash));
        }
        let mut records = Vec::new();
        for record in Records::new(&head.records) {
            records.push(record.map_err(corrupt)?);
        }
        let Some(Record::Table { part, previous }) = records.first() else {
            return Err(corrupt(Damage::WrongIdentity));
        };
        let (part, previous) = (*part, *previous);
        let linked = previous.is_some() == (part > 0);
        if !linked || expected_part.is_some_and(|expected| expected != part) {
            return Err(corrupt(Damage::Inconsistent(
                "the table parts do not follow each other",
            )));
        }
        // Part numbers fall by one, so this ends.
        next = previous.map(|previous| (previous, Some(part - 1)));
        parts.push(records);
    }
    parts.reverse();
    Ok(parts
        .into_iter()
        .flat_map(|records| records.into_iter().skip(1))
        .collect())
}

/// The segment in which tables begin.
pub fn first_table_segment(segments: &Segments, last: TableRef) -> Result<SegmentId> {
    let mut at = last.at;
    loop {
        let corrupt = |damage| Error::Corrupt {
            location: Location::Slot(at),
            damage,
        };
        let head = read_head(segments, at)?.map_err(corrupt)?;
        match Records::new(&head.records).next() {
            // Batches refer to older ones only, so this ends.
            Some(Ok(Record::Table {
                previous: Some(previous),
                ..
            })) if previous.at < at => at = previous.at,
            Some(Ok(Record::Table { previous: None, .. })) => return Ok(at.segment),
            _ => return Err(corrupt(Damage::WrongIdentity)),
        }
    }
}

impl Batch {
    /// Whether the batch is a part of a checkpoint's tables.
    pub fn is_table(&self) -> bool {
        matches!(
            Records::new(&self.records).next(),
            Some(Ok(Record::Table { .. }))
        )
    }
}

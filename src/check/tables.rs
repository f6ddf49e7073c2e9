//! The tables of a checkpoint: from the last table batch back to the first, each proved by the
//! hash that the one after it names.

use crate::check::codes;
use crate::check::files::Files;
use crate::check::finding::Findings;
use crate::check::state::State;
use crate::format::batch::BatchHead;
use crate::format::record::{Record, Records};
use crate::format::superblock::{Superblock, TableRef};
use crate::units::SlotAddr;

/// The catalog of a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub state: State,
    /// The table batches: first slot and header slots of each.
    pub batches: Vec<(SlotAddr, u32)>,
}

/// Reads the tables that a superblock names; `None` if not all of them can be read.
pub(super) fn read(
    files: &Files<'_>,
    superblock: &Superblock,
    findings: &mut Findings,
) -> Option<Tables> {
    let (tables, is_whole) = salvage(files, superblock, findings);
    is_whole.then_some(tables)
}

/// Reads the tables that a superblock names as far back as each batch proves the one before, and says
/// whether that is all of them.
pub(super) fn salvage(
    files: &Files<'_>,
    superblock: &Superblock,
    findings: &mut Findings,
) -> (Tables, bool) {
    let mut tables = Tables::default();
    let mut next = superblock.tables;
    let mut expected_part = None;
    // Hashes go backwards in time, so this cannot go round.
    let mut batches = Vec::new();
    let mut is_whole = true;
    while let Some(table) = next {
        let Some((records, part, previous, header_slots)) =
            batch(files, superblock, &table, findings)
        else {
            is_whole = false;
            break;
        };
        let in_order = expected_part.is_none_or(|expected| part == expected);
        if !in_order || (part == 0) != previous.is_none() {
            let message = format!("part {part} is not in its place");
            findings.add(codes::TABLE_ORDER, table.at, message);
            is_whole = false;
            break;
        }
        expected_part = part.checked_sub(1);
        tables.batches.push((table.at, header_slots));
        batches.push((table.at, records));
        next = previous;
    }
    for (at, records) in batches.into_iter().rev() {
        for record in records {
            tables.state.add_table_record(record, at, findings);
        }
    }
    (tables, is_whole)
}

type Part = (Vec<Record>, u32, Option<TableRef>, u32);

fn batch(
    files: &Files<'_>,
    superblock: &Superblock,
    table: &TableRef,
    findings: &mut Findings,
) -> Option<Part> {
    let head: BatchHead = match files.batch(table.at, &superblock.geometry) {
        Ok(head) if head.hash() == table.hash => head,
        Ok(_) => {
            let message = "it is whole, but not the table batch that was named";
            findings.add(codes::TABLE_DAMAGED, table.at, message);
            return None;
        }
        Err(trouble) => {
            findings.add(codes::TABLE_DAMAGED, table.at, trouble);
            return None;
        }
    };
    let mut records = Vec::new();
    for record in Records::new(&head.records) {
        match record {
            Ok(record) => records.push(record),
            Err(damage) => {
                findings.add(codes::TABLE_RECORD, table.at, damage);
                return None;
            }
        }
    }
    if head.header.body_slots != 0 {
        findings.add(codes::TABLE_RECORD, table.at, "it has a body");
    }
    let Some(Record::Table { part, previous }) = records.first().cloned() else {
        let message = "its first record is not that of a table batch";
        findings.add(codes::TABLE_ORDER, table.at, message);
        return None;
    };
    records.remove(0);
    let header_slots = head.body().slot - table.at.slot;
    Some((records, part, previous, header_slots))
}

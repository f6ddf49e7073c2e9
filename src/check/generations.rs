//! What the copies of superblocks must say of each other.

use crate::check::codes;
use crate::check::finding::Findings;
use crate::check::superblocks::{SlotCopy, SlotState};
use crate::format::superblock::Superblock;
use crate::units::SlotAddr;

/// Compares the copies with the newest superblock and with each other. Gives the one before.
pub(super) fn compare(
    copies: &[SlotCopy],
    newest: &Superblock,
    findings: &mut Findings,
) -> Option<Superblock> {
    let mut older: Option<&Superblock> = None;
    for copy in copies {
        let is_newest = newest.generation % 2 == u64::from(copy.slot);
        let (expected, code) = match is_newest {
            true => (newest.generation, codes::SUPERBLOCK_MIRROR_LOST),
            false => (
                newest.generation.wrapping_sub(1),
                codes::SUPERBLOCK_OLDER_LOST,
            ),
        };
        match &copy.state {
            // The first superblocks of a store have none before them.
            SlotState::Unwritten if !is_newest && newest.generation <= 1 => {}
            SlotState::Unwritten => findings.add(code, copy.location(), "it was never written"),
            SlotState::Bad(trouble) => findings.add(code, copy.location(), trouble),
            SlotState::Good(superblock) if superblock.generation != expected => {
                let found = superblock.generation;
                let message = format!("it has generation {found}, not {expected}");
                findings.add(code, copy.location(), message);
            }
            SlotState::Good(superblock) => {
                let other = match is_newest {
                    true => newest,
                    false => older.get_or_insert(superblock),
                };
                if **superblock != *other {
                    let message = "its mirror says something else";
                    findings.add(codes::SUPERBLOCK_MIRRORS_DIFFER, copy.location(), message);
                }
            }
        }
    }
    older.cloned()
}

/// What the fields of a superblock must say of each other and of the one before.
pub(super) fn consistency(
    newest: &Superblock,
    older: Option<&Superblock>,
    findings: &mut Findings,
) {
    let position = &newest.position;
    let SlotAddr { segment, slot } = position.end;
    let starts = position.seq.0 == 0;
    let rules = [
        (
            newest.durable_through >= position.seq,
            "durable_through is before seq",
        ),
        (
            !starts || *position == Default::default(),
            "seq is 0, yet chain or end is not",
        ),
        (
            starts || (segment.0 > 0 && slot > 1 && slot <= newest.geometry.segment_slots),
            "the end of batch seq is in no segment",
        ),
        (
            starts == newest.tables.is_none(),
            "there are tables without batches, or batches without tables",
        ),
        (
            older.is_none_or(|older| same_store(newest, older)),
            "the superblock before is of another store",
        ),
        (
            older.is_none_or(|older| rises(newest, older)),
            "a number is less than in the superblock before",
        ),
    ];
    for (holds, message) in rules {
        if !holds {
            let location = format!("superblock {}", newest.generation);
            findings.add(codes::SUPERBLOCK_INCONSISTENT, location, message);
        }
    }
}

fn same_store(a: &Superblock, b: &Superblock) -> bool {
    a.store_id == b.store_id
        && a.geometry == b.geometry
        && a.created_at_ms == b.created_at_ms
        && a.store_key.commitment == b.store_key.commitment
}

fn rises(newest: &Superblock, older: &Superblock) -> bool {
    newest.position.seq >= older.position.seq
        && newest.durable_through >= older.durable_through
        && newest.next.head >= older.next.head
        && newest.next.lineage >= older.next.lineage
        && newest.next.key_epoch >= older.next.key_epoch
}

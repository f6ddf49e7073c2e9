//! The catalog: what a checkpoint and the log after it say there is.

use crate::check::inspect::lineage::{LineageView, view};
use crate::check::inspect::{Loaded, Problem, load};
use crate::check::lock_shared;
use crate::error::Result;
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::{HeadId, KeyEpoch, LineageEpoch, SegmentId, Seq, SlotAddr};

/// The catalog as of the end of the log.
#[derive(Clone, Debug)]
pub struct CatalogView {
    /// Generation of the superblock that it starts from.
    pub generation: u64,
    /// That superblock was written by a holder of the store key.
    pub authenticated: bool,
    /// Last batch whose effect is in the tables.
    pub tables_seq: Seq,
    /// The table batches, the last one first.
    pub table_batches: Vec<SlotAddr>,
    /// Batches of the log that were applied after the tables.
    pub log_batches: u64,
    /// The last of them.
    pub seq: Seq,
    /// Where the log ends.
    pub end: SlotAddr,
    /// A torn tail was dropped there.
    pub torn_tail: bool,
    /// Number that the next head gets, at least.
    pub next_head: HeadId,
    /// Number that the next lineage epoch gets, at least.
    pub next_lineage: LineageEpoch,
    /// Number that the next key epoch gets, at least.
    pub next_key_epoch: KeyEpoch,
    /// Heads and epochs.
    pub lineage: LineageView,
    /// The segments that have a file, with the slots of each.
    pub segments: Vec<(SegmentId, u32)>,
    /// The salts, each with the place from which it is used.
    pub salts: Vec<(SlotAddr, [u8; 12])>,
    /// The tables could be read in full: what is not here is not there.
    pub complete: bool,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// Reads the catalog.
pub fn catalog(disk: &dyn Disk, kms: Option<&dyn KeyService>) -> Result<CatalogView> {
    let _guard = lock_shared(disk)?;
    let Loaded { image, problems } = load(disk, kms)?;
    // Those of tables come first, then those of the log.
    let table_count = image
        .headers
        .len()
        .saturating_sub(image.log_batches as usize);
    let tables = image.headers.iter().take(table_count);
    let segments = image.state.segments.values();
    let salts = image.state.salts.iter();
    Ok(CatalogView {
        generation: image.superblock.generation,
        authenticated: image.authenticated,
        tables_seq: image.superblock.position.seq,
        table_batches: tables.map(|&(at, _)| at).collect(),
        log_batches: image.log_batches,
        seq: image.end.seq,
        end: image.end.end,
        torn_tail: image.torn_tail,
        next_head: image.superblock.next.head,
        next_lineage: image.superblock.next.lineage,
        next_key_epoch: image.superblock.next.key_epoch,
        complete: image.complete,
        problems,
        lineage: view(&image.state),
        segments: segments.map(|it| (it.segment, it.slot_count)).collect(),
        salts: salts.map(|(&at, &salt)| (at, salt)).collect(),
    })
}

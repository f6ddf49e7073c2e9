//! The superblocks.

use crate::check::files::Files;
use crate::check::lock_shared;
use crate::check::superblocks::{FILES, SlotCopy, SlotState, read_slots};
use crate::error::Result;
use crate::format::superblock::Superblock;
use crate::io::Disk;
use crate::units::{HeadId, KeyEpoch, KeyId, LineageEpoch, Seq, SlotAddr, StoreId};

/// A slot of a superblock file.
#[derive(Clone, Debug)]
pub struct SuperblockSlot {
    /// The file's name.
    pub file: &'static str,
    /// The slot in it: 0 for even generations, 1 for odd ones.
    pub slot: u32,
    /// What it holds.
    pub state: SuperblockState,
}

/// What a slot of a superblock file holds.
#[derive(Clone, Debug)]
pub enum SuperblockState {
    /// Zeroes: it was never written.
    Unwritten,
    /// No superblock that can be read, and why.
    Damaged(String),
    /// A superblock whose checksum is right.
    Whole(Box<SuperblockView>),
}

/// A superblock.
#[derive(Clone, Debug)]
pub struct SuperblockView {
    /// The store's random id.
    pub store_id: StoreId,
    /// Rises by one with every superblock.
    pub generation: u64,
    /// When the store was made, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: u64,
    /// Page length in bytes.
    pub page_len: u32,
    /// Slots in a segment file, its header included.
    pub segment_slots: u32,
    /// The store was closed cleanly.
    pub clean: bool,
    /// Number that the next head gets.
    pub next_head: HeadId,
    /// Number that the next lineage epoch gets.
    pub next_lineage: LineageEpoch,
    /// Number that the next key epoch gets.
    pub next_key_epoch: KeyEpoch,
    /// Last batch whose effect is in the tables.
    pub seq: Seq,
    /// Chain value of that batch.
    pub chain: [u8; 32],
    /// The slot after that batch.
    pub end: SlotAddr,
    /// Last batch known to be durable.
    pub durable_through: Seq,
    /// First slot of the last table batch.
    pub tables: Option<SlotAddr>,
    /// The KMS key that wraps the store key.
    pub kms_key: KeyId,
}

/// All slots of the superblock files.
pub fn superblocks(disk: &dyn Disk) -> Result<Vec<SuperblockSlot>> {
    let _guard = lock_shared(disk)?;
    let files = Files::list(disk)?;
    let copies = read_slots(disk, &files)?;
    Ok(copies.into_iter().map(view).collect())
}

/// The store's id, without a lock: while somebody has the store open, too. It is the same in every superblock,
/// so any copy that is whole just now will do; `None` if none is.
pub fn store_id(disk: &dyn Disk) -> Result<Option<StoreId>> {
    let copies = read_slots(disk, &Files::list(disk)?)?;
    Ok(copies.into_iter().find_map(|copy| match copy.state {
        SlotState::Good(superblock) => Some(superblock.store_id),
        SlotState::Unwritten | SlotState::Bad(_) => None,
    }))
}

fn view(copy: SlotCopy) -> SuperblockSlot {
    let mut names = FILES.into_iter().skip(copy.mirror as usize);
    SuperblockSlot {
        file: names.next().unwrap_or_default(),
        slot: copy.slot,
        state: match copy.state {
            SlotState::Unwritten => SuperblockState::Unwritten,
            SlotState::Bad(trouble) => SuperblockState::Damaged(trouble.to_string()),
            SlotState::Good(superblock) => SuperblockState::Whole(Box::new(whole(&superblock))),
        },
    }
}

fn whole(superblock: &Superblock) -> SuperblockView {
    SuperblockView {
        store_id: superblock.store_id,
        generation: superblock.generation,
        created_at_ms: superblock.created_at_ms,
        page_len: superblock.geometry.page_len,
        segment_slots: superblock.geometry.segment_slots,
        clean: superblock.clean,
        next_head: superblock.next.head,
        next_lineage: superblock.next.lineage,
        next_key_epoch: superblock.next.key_epoch,
        seq: superblock.position.seq,
        chain: superblock.position.chain,
        end: superblock.position.end,
        durable_through: superblock.durable_through,
        tables: superblock.tables.map(|tables| tables.at),
        kms_key: superblock.store_key.kms_key,
    }
}

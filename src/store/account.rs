//! What the space of a store is taken by, and whom it is charged to.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::format::catalog::{HeadKind, HeadState};
use crate::lineage::Payer;
use crate::segment::FileId;
use crate::store::erase::display_name;
use crate::store::handles::Store;
use crate::store::inner::Inner;
use crate::units::{ResourceId, SLOT_LEN};

/// What the space of a store is taken by. The first six add up to `allocated_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpaceInfo {
    /// Live pages: what volumes, snapshots and pins map.
    pub page_bytes: u64,
    /// Live nodes of page tables.
    pub node_bytes: u64,
    /// Held by the log: its headers and summaries, checkpoints, and what is dead in segments that an open after a
    /// crash could read.
    pub log_bytes: u64,
    /// Dead, but held until two checkpoints know of it.
    pub waiting_bytes: u64,
    /// Dead, and free to be given back; headers of files among it.
    pub reclaimable_bytes: u64,
    /// Written ahead for what comes next: the end of the log's last segment, and spare files.
    pub spare_bytes: u64,
    /// All that the store's segments, packs and spare files take on the disk.
    pub allocated_bytes: u64,
    /// Of the live pages and nodes: what only snapshots hold.
    pub snapshot_bytes: u64,
    /// What only pins hold.
    pub pin_bytes: u64,
    /// What goes with deleted volumes, snapshots and pins that wait to be removed.
    pub deleted_bytes: u64,
    /// How many these are.
    pub deleted_heads: u64,
    /// Whether live pages and nodes are exactly those that something maps. Else some that nothing
    /// maps any more are among them, until the next checkpoint.
    pub is_settled: bool,
}

/// What a volume, snapshot or pin is charged for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Charge {
    /// `NAME` of a volume, `@NAME` of a snapshot, `pin NAME`.
    pub name: String,
    /// Its id.
    pub id: ResourceId,
    /// Bytes of pages: its own, and all that it shares with what was made from it. When a source
    /// is deleted, what it leaves is split evenly among those that were made from it, whatever
    /// each of them still maps; the oldest gets the remainder. The sum of all is what live pages take.
    pub charged_bytes: u64,
    /// Each page that it maps, divided by the number of those that map it; rounded down.
    pub split_bytes: u64,
}

impl Inner {
    fn space_info(&self) -> Result<SpaceInfo> {
        self.open()?;
        let protected = self.first_protected()?;
        let (tail, tail_free_len) = {
            let commit = self.commit.lock();
            (commit.log.position().end.segment, commit.tail_free_len)
        };
        let slot_len = SLOT_LEN as u64;
        let state = self.state.read();
        let (live, held) = (state.space().live(), state.space().held());
        let nodes = state.lineage().live().nodes * slot_len;
        let spare_len = self.segments.spare_len() + self.segments.kept_len();
        let mut info = SpaceInfo {
            page_bytes: (live.len() * slot_len).saturating_sub(nodes),
            node_bytes: nodes,
            deleted_heads: state.deleted().count() as u64,
            is_settled: state.is_settled(),
            spare_bytes: spare_len,
            allocated_bytes: spare_len,
            ..SpaceInfo::default()
        };
        for file in self.segments.files()? {
            let allocated = self.segments.allocated_len(file)?.unwrap_or(0);
            let segments = self.segments.segments_in(file).into_iter();
            let (live_slots, held_slots) = segments.fold((0, 0), |(alive, all), segment| {
                let (more, held) = (live.count_in(segment), held.count_in(segment));
                (alive + u64::from(more), all + u64::from(held))
            });
            info.allocated_bytes += allocated;
            let mut dead = allocated.saturating_sub(live_slots * slot_len);
            if file == FileId::Segment(tail) {
                let ahead = tail_free_len.min(dead);
                info.spare_bytes += ahead;
                dead -= ahead;
            }
            if matches!(file, FileId::Segment(id) if id >= protected) {
                info.log_bytes += dead;
            } else {
                let waiting = ((held_slots - live_slots) * slot_len).min(dead);
                info.waiting_bytes += waiting;
                info.reclaimable_bytes += dead - waiting;
            }
        }
        let only = |of: &dyn Fn(HeadKind, HeadState) -> bool| {
            let heads = state.heads();
            let heads = heads.filter(|head| of(head.record.kind, head.record.state));
            let open: BTreeSet<_> = heads.map(|head| head.record.lineage).collect();
            let freed = match open.is_empty() {
                true => return 0,
                false => state.lineage().freed_with(&open),
            };
            freed.pages * u64::from(self.page_len()) + freed.nodes * slot_len
        };
        let is_deleted = |state| state == HeadState::Deleted;
        info.snapshot_bytes = only(&|kind, state| kind == HeadKind::Snapshot && !is_deleted(state));
        info.pin_bytes = only(&|kind, state| kind == HeadKind::Pin && !is_deleted(state));
        info.deleted_bytes = only(&|_, state| is_deleted(state));
        Ok(info)
    }

    fn charges(&self) -> Result<Vec<Charge>> {
        self.open()?;
        let state = self.state.read();
        let live = state.heads().map(|head| &head.record);
        let live: Vec<_> = live
            .filter(|record| record.state != HeadState::Deleted)
            .collect();
        let payers = live.iter().map(|record| Payer {
            open: record.lineage,
            id: record.resource_id,
            origin: record.origin_id,
        });
        let payers: Vec<_> = payers.collect();
        let shares = state.lineage().shares(&payers, self.page_len().into());
        let both = live.into_iter().zip(shares);
        let charges = both.map(|(record, share)| Charge {
            name: display_name(record),
            id: record.resource_id,
            charged_bytes: share.even,
            // Sums of parts are a little off.
            split_bytes: (share.exact + 1e-3) as u64,
        });
        Ok(charges.collect())
    }
}

impl Store {
    /// What the space of the store is taken by. Costs a look at each of its files.
    pub fn space(&self) -> Result<SpaceInfo> {
        self.0.space_info()
    }

    /// What each volume, snapshot and pin is charged for, oldest first.
    pub fn charges(&self) -> Result<Vec<Charge>> {
        self.0.charges()
    }
}

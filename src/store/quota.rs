//! How much a store may take: a bound that stops what makes it grow, and nothing else.

use crate::error::{Error, Result};
use crate::format::quota::Quota;
use crate::format::record::Record;
use crate::store::inner::{Commit, Inner};
use crate::store::reclaim::Goal;
use crate::store::reserve::{Purpose, RECORD_SLOTS};
use crate::sync::Ordering;
use crate::units::{Location, SLOT_LEN};

/// Slots of the batch that makes a head: where a page is refused, a head is too.
pub(super) const HEAD_SLOTS: u32 = 2;

/// Making room is tried when so much is dead, and then when it is this part more than at a trial
/// that was of no use: 1 in so many.
const DEAD_LEN_MIN: u64 = 256 << 10;
const DEAD_SHARE: u64 = 16;
/// Room is made for so many slots more, so that not every write has to make some.
const ROOM_SLOTS: u32 = 256;

/// What a batch makes the store take.
struct Growth {
    len: u64,
    needs_segment: bool,
}

/// How much a store may take and how much it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaInfo {
    /// The bounds.
    pub quota: Quota,
    /// Bytes of segments that count against them.
    pub used_bytes: u64,
    /// Volumes, snapshots and pins.
    pub heads: u64,
    /// Bytes of the disk that are free.
    pub free_bytes: u64,
}

/// Bytes of segments that count against the quota. All that is taken counts, until it can be
/// given back.
pub(super) fn held_bytes(commit: &Commit) -> u64 {
    commit.used_len
}

impl Inner {
    /// The quota and what counts against it.
    pub fn quota(&self) -> Result<QuotaInfo> {
        self.open()?;
        let used_bytes = held_bytes(&self.commit.lock());
        let state = self.state.read();
        Ok(QuotaInfo {
            quota: state.quota(),
            used_bytes,
            heads: state.live_count(),
            free_bytes: self.free_len()?,
        })
    }

    fn free_len(&self) -> Result<u64> {
        self.disk.free_len().map_err(|source| Error::Io {
            op: "measure the disk of",
            location: Location::Directory(self.disk.describe()),
            source,
        })
    }

    /// Sets the quota, durably. One below what is used only stops growth.
    pub fn set_quota(&self, quota: Quota) -> Result<()> {
        self.writable()?;
        for (what, bound) in [
            ("quota of bytes", quota.bytes),
            ("quota of heads", quota.heads),
            ("bytes to keep free", quota.keep_free),
        ] {
            if bound == Some(0) {
                return Err(Error::Invalid {
                    what,
                    value: 0.to_string(),
                    rule: "1 or more, or none",
                });
            }
        }
        let mut commit = self.commit_for(Purpose::Release, RECORD_SLOTS, 0)?;
        self.commit_records(&mut commit, &[Record::Quota(quota)])?;
        drop(commit);
        self.flush()
    }

    /// Refuses a batch of so many slots if with it the store would pass its quota, or leave less of the
    /// disk free than it should. Only what makes the store grow asks: deletes, discards, checkpoints
    /// and reclaim go on.
    pub fn check_quota(&self, commit: &Commit, slots: u32) -> Result<()> {
        let quota = self.state.read().quota();
        let growth = self.growth(commit, slots);
        let used = held_bytes(commit);
        match quota.bytes {
            Some(quota) if used.saturating_add(growth.len) > quota => {
                return Err(Error::QuotaExceeded {
                    what: "bytes",
                    quota,
                    used,
                });
            }
            _ => {}
        }
        let Some(keep_free) = quota.keep_free else {
            return Ok(());
        };
        // Not only where a segment is needed: those that checkpoints made would be filled.
        let need = match growth.needs_segment {
            true => u64::from(self.segments.geometry().segment_slots) * SLOT_LEN as u64,
            false => u64::from(slots) * SLOT_LEN as u64,
        };
        let free = self.free_len()?.saturating_sub(keep_free);
        match free < need {
            true => Err(Error::NoSpace { need, free }),
            false => Ok(()),
        }
    }

    fn growth(&self, commit: &Commit, slots: u32) -> Growth {
        let segment_slots = self.segments.geometry().segment_slots;
        let left = segment_slots.saturating_sub(commit.log.position().end.slot);
        let more = match slots <= left {
            true => slots,
            // The rest of this segment stays empty, and the next one starts with its header.
            false => left.saturating_add(slots).saturating_add(1),
        };
        Growth {
            len: u64::from(more) * SLOT_LEN as u64,
            needs_segment: slots > left,
        }
    }

    /// Before something is refused that makes the store grow by so many slots, what is dead is given
    /// back. No lock later than those of pages is held.
    pub fn make_room(&self, slots: u32) -> Result<()> {
        let room_for = |slots| self.check_quota(&self.commit.lock(), slots);
        match room_for(slots) {
            Err(Error::QuotaExceeded { .. } | Error::NoSpace { .. }) => {}
            done => return done,
        }
        let (dead, has_deleted) = {
            let used = held_bytes(&self.commit.lock());
            let state = self.state.read();
            let live = state.space().live().len() * SLOT_LEN as u64;
            (used.saturating_sub(live), state.deleted().next().is_some())
        };
        // Where little is to be won, trying costs more than it gives.
        let tried = self.no_room_len.load(Ordering::Relaxed);
        if !has_deleted && dead < tried + (tried / DEAD_SHARE).max(DEAD_LEN_MIN) {
            return Ok(());
        }
        self.no_room_len.store(u64::MAX / 2, Ordering::Relaxed);
        // What the log holds is given back when neither superblock needs it.
        if self.commit.lock().log_len >= DEAD_LEN_MIN {
            self.force_checkpoint()?;
            self.force_checkpoint()?;
        }
        let more = slots.saturating_add(ROOM_SLOTS);
        let made = self.reclaim(Goal::Compact, &mut |_| room_for(more).is_err());
        let left = {
            let used = held_bytes(&self.commit.lock());
            let live = self.state.read().space().live().len() * SLOT_LEN as u64;
            used.saturating_sub(live)
        };
        let tried = if room_for(slots).is_ok() { 0 } else { left };
        self.no_room_len.store(tried, Ordering::Relaxed);
        made.map(drop)
    }

    /// Refuses one more head if the store may not have it.
    pub fn check_head_quota(&self, commit: &Commit) -> Result<()> {
        let (quota, used) = {
            let state = self.state.read();
            (state.quota().heads, state.live_count())
        };
        match quota.filter(|&quota| used >= quota) {
            Some(quota) => Err(Error::QuotaExceeded {
                what: "volumes, snapshots and pins",
                quota,
                used,
            }),
            None => self.check_quota(commit, HEAD_SLOTS),
        }
    }
}

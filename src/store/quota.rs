//! How much a store may take: a bound that stops what makes it grow, and nothing else.

use crate::error::{Error, Result};
use crate::format::quota::Quota;
use crate::format::record::Record;
use crate::store::inner::{Commit, Inner};
use crate::units::SLOT_LEN;

/// Slots of the batch that makes a head: where a page is refused, a head is too.
const HEAD_SLOTS: u32 = 2;

/// How much a store may take and how much it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaInfo {
    /// The bounds.
    pub quota: Quota,
    /// Bytes of segments that count against them.
    pub used_bytes: u64,
    /// Volumes and snapshots.
    pub heads: u64,
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
        })
    }

    /// Sets the quota, durably. One below what is used only stops growth.
    pub fn set_quota(&self, quota: Quota) -> Result<()> {
        self.writable()?;
        for (what, bound) in [
            ("quota of bytes", quota.bytes),
            ("quota of heads", quota.heads),
        ] {
            if bound == Some(0) {
                return Err(Error::Invalid {
                    what,
                    value: 0.to_string(),
                    rule: "1 or more, or none",
                });
            }
        }
        self.commit_records(&mut self.commit.lock(), &[Record::Quota(quota)])?;
        self.flush()
    }

    /// Refuses a batch of so many slots if with it the store would pass its quota. Only what makes
    /// the store grow asks: deletes, discards, checkpoints and reclaim go on.
    pub fn check_quota(&self, commit: &Commit, slots: u32) -> Result<()> {
        let Some(quota) = self.state.read().quota().bytes else {
            return Ok(());
        };
        let segment_slots = self.segments.geometry().segment_slots;
        let left = segment_slots.saturating_sub(commit.log.position().end.slot);
        let more = match slots <= left {
            true => slots,
            // The rest of this segment stays empty, and the next one starts with its header.
            false => left.saturating_add(slots).saturating_add(1),
        };
        let used = held_bytes(commit);
        match used.saturating_add(u64::from(more) * SLOT_LEN as u64) > quota {
            true => Err(Error::QuotaExceeded {
                what: "bytes",
                quota,
                used,
            }),
            false => Ok(()),
        }
    }

    /// Refuses one more head if the store may not have it.
    pub fn check_head_quota(&self, commit: &Commit) -> Result<()> {
        let (quota, used) = {
            let state = self.state.read();
            (state.quota().heads, state.live_count())
        };
        match quota.filter(|&quota| used >= quota) {
            Some(quota) => Err(Error::QuotaExceeded {
                what: "volumes and snapshots",
                quota,
                used,
            }),
            None => self.check_quota(commit, HEAD_SLOTS),
        }
    }
}

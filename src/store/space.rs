//! When space is given back: by hand, by the store's thread, or by who writes faster than that.

use std::time::Duration;

use crate::error::Result;
use crate::store::inner::Inner;
use crate::store::reclaim::{Goal, Progress, ahead_len};
use crate::sync::Ordering;
use crate::units::SLOT_LEN;

/// Checkpoints after which this process knows of all dead nodes that a superblock needs.
const CHECKPOINTS: u64 = 2;
/// Whoever writes is held up when the store takes so much more than it should: less than is won by some packs, after
/// which the store's thread may just be.
const CROWD_LEN: u64 = 32 << 20;
/// Beyond that, over so many bytes, the longer the more there are, until writers have to help.
const BRAKE_LEN: u64 = 128 << 20;
/// How long a change is held up at the end of that.
const BRAKE_MAX: Duration = Duration::from_millis(10);

/// What a step of the store's thread did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    /// There is more to do.
    pub is_more: bool,
    /// Bytes that were copied.
    pub moved_bytes: u64,
    /// Packs that were made.
    pub packs: u64,
}

/// What giving space back did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Files that were removed, or became spares, because nothing in them was live.
    pub dropped_files: u64,
    /// Holes that were punched.
    pub punched_runs: u64,
    /// Bytes of live pages and nodes that were copied to empty the files they were in.
    pub moved_bytes: u64,
    /// Bytes that the store takes less now.
    pub freed_bytes: u64,
    /// Bytes of files that are spares now, to be written again.
    pub recycled_bytes: u64,
}

impl Inner {
    /// Gives back all that can be, up to a goal. `step` is told of each step; if it says no, that
    /// was all.
    pub fn reclaim(
        &self,
        goal: Goal,
        step: &mut dyn FnMut(&Reclaimed) -> bool,
    ) -> Result<Reclaimed> {
        self.writable()?;
        self.settle_deaths()?;
        self.set_reserve_to_need()?;
        let mut all = Reclaimed::default();
        loop {
            let progress = self.reclaim_some(goal)?;
            all.add(&progress);
            if progress.is_done || !step(&all) {
                self.segments.remove_kept()?;
                self.restock()?;
                return Ok(all);
            }
        }
    }

    /// Makes the checkpoints after which no dead slot has to wait: what died without a word in the log
    /// does until two of them know of it, and what the older superblock's log needs until there
    /// is another one.
    pub fn settle_deaths(&self) -> Result<()> {
        for _ in 0..=CHECKPOINTS {
            let (made, waiting) = (
                self.counters.checkpoints.get(),
                self.state.read().space().waiting_count(),
            );
            if made < CHECKPOINTS || waiting > 0 || !self.state.read().is_settled() {
                self.force_checkpoint()?;
            }
        }
        for _ in 0..CHECKPOINTS {
            let end = self.commit.lock().log.position().end.segment;
            if self.first_protected()?.0.saturating_add(1) < end.0 {
                self.force_checkpoint()?;
            }
        }
        Ok(())
    }

    /// Does a step of giving space back, if it is known what may go.
    pub fn reclaim_some(&self, goal: Goal) -> Result<Progress> {
        if self.counters.checkpoints.get() < CHECKPOINTS {
            return Ok(Progress::done());
        }
        // In this order: what is written from here on is in protected segments, and what is dead
        // now is durably so after the flush.
        let protected = self.first_protected()?;
        let held = self.state.read().space().held();
        self.flush()?;
        let progress = self.reclaim_step(&held, protected, goal)?;
        if progress.is_done {
            self.restock()?;
        }
        let mut limit = self.may_take_len() + CROWD_LEN;
        if progress.is_done {
            // It is the log that takes the space: nothing to win before the next checkpoint.
            limit = limit.max(self.commit.lock().used_len + CROWD_LEN);
        }
        self.crowded_len.store(limit, Ordering::Relaxed);
        Ok(progress)
    }

    /// Bytes that the store may take.
    fn may_take_len(&self) -> u64 {
        let live_len = self.state.read().space().live().len() * SLOT_LEN as u64;
        let used_len = self.commit.lock().used_len;
        (live_len as f64 * self.space_target) as u64 + self.slack_len(used_len)
    }

    /// A step of the store's thread.
    pub fn reclaim_in_background(&self) -> Result<Step> {
        if !self.auto_reclaim {
            return Ok(Step::default());
        }
        // A process may not live to see its second checkpoint, nor any after it.
        while self.is_crowded() && self.counters.checkpoints.get() < CHECKPOINTS {
            self.force_checkpoint()?;
        }
        self.reclaim_some(Goal::Calm).map(Step::of)
    }

    /// Whether the store takes so much more than it may that something is to be done about it at once.
    pub fn is_crowded(&self) -> bool {
        let used_len = self.commit.lock().used_len;
        self.auto_reclaim && used_len > self.may_take_len() + CROWD_LEN
    }

    /// Whether so much of what writes may take was taken that it should be given back while nobody writes: not each time
    /// that a few pages were written, or as many would be copied.
    pub fn needs_room_ahead(&self) -> bool {
        let used_len = self.commit.lock().used_len;
        self.auto_reclaim && used_len + ahead_len(used_len) * 3 / 4 > self.may_take_len()
    }

    /// A step of the store's thread while nobody writes, so that the next writes need not wait for it.
    pub fn reclaim_ahead(&self) -> Result<Step> {
        self.reclaim_some(Goal::Ahead).map(Step::of)
    }

    /// How long the store's thread rests after it has read or copied so much.
    pub fn rest_ms(&self, bytes: u64) -> u64 {
        let rest_ms = |rate: u64| bytes.saturating_mul(1000) / rate.max(1);
        self.reclaim_rate.map_or(0, rest_ms)
    }

    /// Holds whoever writes up if the store's thread cannot keep up, a little at each change, so that none waits
    /// long; lets them help if that is of no use.
    pub fn reclaim_if_crowded(&self) -> Result<()> {
        let Some(bell) = self.bell.as_ref().filter(|_| self.auto_reclaim) else {
            return Ok(());
        };
        let used_len = self.commit.lock().used_len;
        let over = used_len.saturating_sub(self.crowded_len.load(Ordering::Relaxed));
        if over > BRAKE_LEN {
            return self.reclaim_some(Goal::Calm).map(drop);
        }
        if over > 0 {
            bell.reclaim_due();
            std::thread::sleep(brake(over));
        }
        Ok(())
    }
}

/// How long a change is held up in a store that takes so much more than it may: hardly at all at first.
fn brake(over: u64) -> Duration {
    let part = over as f64 / BRAKE_LEN as f64;
    BRAKE_MAX.mul_f64((part * part).min(1.0))
}

impl Step {
    fn of(progress: Progress) -> Self {
        Self {
            is_more: !progress.is_done,
            moved_bytes: progress.moved_bytes,
            packs: progress.packs,
        }
    }
}

impl Reclaimed {
    fn add(&mut self, progress: &Progress) {
        self.dropped_files += progress.dropped_files;
        self.punched_runs += progress.punched_runs;
        self.moved_bytes += progress.moved_bytes;
        self.freed_bytes += progress.freed_bytes;
        self.recycled_bytes += progress.recycled_bytes;
    }
}

#[cfg(test)]
mod tests;

//! Work on files that steps aside while the log is synced: a sync can take as long as all that anybody sent to the
//! disk before it ended.

use std::time::Duration;

use crate::segment::file::Segments;
use crate::sync::{Condvar, Mutex};

/// Longest that a piece of work waits: it goes on though syncs follow each other, or one never ends.
const ASIDE_MAX: Duration = Duration::from_millis(20);

/// The syncs of the log that are under way.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    under_way: Mutex<usize>,
    ended: Condvar,
}

/// A sync, under way until this is dropped.
#[derive(Debug)]
pub struct Syncing<'a>(&'a Syncs);

impl Segments {
    /// Says that the log is being synced, as long as the guard lives.
    pub fn syncing(&self) -> Syncing<'_> {
        *self.syncs.under_way.lock() += 1;
        Syncing(&self.syncs)
    }

    /// Waits for the end of a sync that is under way, but not for the next one.
    pub(super) fn step_aside(&self) {
        let under_way = self.syncs.under_way.lock();
        if *under_way > 0 {
            // Woken for nothing it goes on, too.
            let waited = self.syncs.ended.wait_timeout(under_way, ASIDE_MAX);
            drop(waited.expect("BUG: a thread panicked with this lock"));
        }
    }
}

impl Drop for Syncing<'_> {
    fn drop(&mut self) {
        *self.0.under_way.lock() -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests;

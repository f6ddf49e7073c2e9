//! The thread that makes checkpoints when they are due, so that no writer has to, and that syncs
//! segments as they fill up, so that a flush after many writes finds most of them durable. When there is
//! nothing more urgent it removes deleted heads and gives space back, no faster than it may; once nobody has written
//! for a moment, it gives back ahead what the next writes will take.

use std::ops::Range;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::store::inner::Inner;
use crate::sync::{Arc, Condvar, Mutex, Ordering};
use crate::units::{Location, Seq};

/// Nobody writes if nothing was appended for so long.
const QUIET_MS: u64 = 250;

/// An open store and its thread. When the last handle goes, the thread ends before the store
/// does, and before the lock on its directory is released.
#[derive(Debug)]
pub(super) struct Opened {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes the thread and says what for.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<Rung>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    checkpoint: bool,
    flush: bool,
    removal: bool,
    reclaim: bool,
    /// Something was written since the store was last looked at while nobody wrote.
    noise: bool,
    /// Nobody writes, and space is to be given back ahead.
    ahead: bool,
    stop: bool,
    /// Removal and reclaim rest from the one time to the other, in milliseconds.
    rest: Range<u64>,
}

/// What the thread is woken for, the more urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Checkpoint,
    Flush,
    Removal,
    Reclaim,
    Quiet,
    Ahead,
}

impl Bell {
    /// Says that a checkpoint is due.
    pub fn checkpoint_due(&self) {
        self.state.lock().checkpoint = true;
        self.rung.notify_one();
    }

    /// Says that a segment is full.
    pub fn flush_due(&self) {
        let mut state = self.state.lock();
        (state.flush, state.reclaim, state.noise) = (true, true, true);
        self.rung.notify_one();
    }

    /// Says that there may be space to give back.
    pub fn reclaim_due(&self) {
        self.state.lock().reclaim = true;
        self.rung.notify_one();
    }

    /// Says that somebody may still be writing.
    fn noise(&self) {
        self.state.lock().noise = true;
    }

    /// Says that space is to be given back ahead.
    fn ahead(&self) {
        self.state.lock().ahead = true;
    }

    /// Says that heads were deleted.
    pub fn removal_due(&self) {
        self.state.lock().removal = true;
        self.rung.notify_one();
    }

    /// Lets removal and reclaim rest for so long.
    fn rest(&self, now_ms: u64, len_ms: u64) {
        self.state.lock().rest = now_ms..now_ms.saturating_add(len_ms);
    }

    fn stop(&self) {
        self.state.lock().stop = true;
        self.rung.notify_one();
    }

    /// Waits until something is due, and says what; `None` if it is over.
    fn wait(&self, now_ms: impl Fn() -> u64) -> Option<Due> {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return None;
            }
            if std::mem::take(&mut state.checkpoint) {
                return Some(Due::Checkpoint);
            }
            if std::mem::take(&mut state.flush) {
                return Some(Due::Flush);
            }
            let rest_ms = state.rest_ms(now_ms());
            if rest_ms == 0 && std::mem::take(&mut state.removal) {
                return Some(Due::Removal);
            }
            if rest_ms == 0 && std::mem::take(&mut state.reclaim) {
                return Some(Due::Reclaim);
            }
            if rest_ms == 0 && std::mem::take(&mut state.ahead) {
                return Some(Due::Ahead);
            }
            const BUG: &str = "BUG: a thread panicked with this lock";
            let is_resting = state.removal || state.reclaim || state.ahead;
            if !is_resting && !state.noise {
                state = self.rung.wait(state).expect(BUG);
                continue;
            }
            let wait_ms = if is_resting { rest_ms } else { QUIET_MS };
            let wait = Duration::from_millis(wait_ms);
            let (rung, waited) = self.rung.wait_timeout(state, wait).expect(BUG);
            state = rung;
            if !is_resting && waited.timed_out() && std::mem::take(&mut state.noise) {
                return Some(Due::Quiet);
            }
        }
    }
}

impl Rung {
    /// How long the rest still takes. If the clock went back it is over.
    fn rest_ms(&self, now_ms: u64) -> u64 {
        match self.rest.contains(&now_ms) {
            true => self.rest.end - now_ms,
            false => 0,
        }
    }
}

impl Opened {
    /// Starts the thread if the store has a bell to wake it with.
    pub fn new(inner: Inner) -> Result<Self> {
        let inner = Arc::new(inner);
        let thread = match &inner.bell {
            Some(bell) => {
                if inner.is_crowded() {
                    bell.reclaim_due();
                }
                Some(start(inner.clone())?)
            }
            None => None,
        };
        Ok(Self { inner, thread })
    }
}

fn start(inner: Arc<Inner>) -> Result<JoinHandle<()>> {
    let location = Location::Directory(inner.disk.describe());
    let work = move || {
        let Some(bell) = &inner.bell else { return };
        let mut seen = inner.last_seq();
        while let Some(due) = bell.wait(|| inner.clock.now_ms()) {
            // Whatever is wrong, a writer meets it too: the store is poisoned, or the log grows
            // until writers make the checkpoint themselves.
            let _ = match due {
                Due::Checkpoint => inner.checkpoint_when_due(),
                Due::Flush => inner.flush(),
                Due::Removal => inner.remove_in_background().map(|done| {
                    if done.is_more {
                        bell.removal_due();
                    }
                    bell.rest(inner.clock.now_ms(), inner.rest_ms(done.read_bytes));
                }),
                Due::Reclaim => inner.reclaim_in_background().map(|done| {
                    if done.is_more {
                        bell.reclaim_due();
                    }
                    bell.rest(inner.clock.now_ms(), inner.rest_ms(done.moved_bytes));
                }),
                Due::Quiet if inner.last_seq() != seen => {
                    seen = inner.last_seq();
                    bell.noise();
                    Ok(())
                }
                Due::Quiet => {
                    if inner.needs_room_ahead() {
                        bell.ahead();
                    }
                    Ok(())
                }
                Due::Ahead => inner.reclaim_ahead().map(|done| {
                    // Each pack has a record in the log; what else is new was written by somebody.
                    let expected = Seq(seen.0 + done.packs);
                    seen = inner.last_seq();
                    match seen == expected {
                        true if done.is_more => bell.ahead(),
                        true => {}
                        false => bell.noise(),
                    }
                    bell.rest(inner.clock.now_ms(), inner.rest_ms(done.moved_bytes));
                }),
            };
        }
    };
    let thread = std::thread::Builder::new().name("offshoot-checkpoint".to_owned());
    thread.spawn(work).map_err(|source| Error::Io {
        op: "start a thread for",
        location,
        source,
    })
}

impl std::ops::Deref for Opened {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A checkpoint under way gives up at its next batch.
        self.inner.closed.store(true, Ordering::SeqCst);
        if let Some(bell) = &self.inner.bell {
            bell.stop();
        }
        // If it panicked, there is nothing left to wait for.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests;

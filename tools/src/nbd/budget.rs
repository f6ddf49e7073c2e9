//! How much of a client's requests is in memory at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Most requests of a connection that are not answered.
const REQUESTS_MAX: usize = 128;
/// Most bytes of them and of their answers.
const LEN_MAX: usize = 64 << 20;
/// The same for all connections, as long as each has one request.
const TOTAL_LEN_MAX: usize = 512 << 20;

/// Connections that share the memory.
#[derive(Clone, Default)]
pub struct Sharers(Arc<AtomicUsize>);

/// What one connection has in memory.
pub struct Budget {
    state: Mutex<State>,
    less: Condvar,
    sharers: Sharers,
}

#[derive(Default)]
struct State {
    used: Credit,
    /// How many wait for less: to wake nobody costs a call of the system, too.
    waiting: usize,
}

/// Requests and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    pub requests: usize,
    pub len: usize,
}

impl Credit {
    /// This and another one.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.len += other.len;
    }
}

impl Budget {
    /// Of one more connection.
    pub fn new(sharers: Sharers) -> Self {
        sharers.0.fetch_add(1, Ordering::Relaxed);
        Self {
            state: Mutex::default(),
            less: Condvar::new(),
            sharers,
        }
    }

    /// Takes credit for one request if there is enough. A single request always has.
    pub fn try_take(&self, len: usize) -> bool {
        let mut state = self.lock();
        self.has_room(&state.used, len) && {
            state.used.add(Credit { requests: 1, len });
            true
        }
    }

    /// The same, when there is enough.
    pub fn take(&self, len: usize) {
        let mut state = self.wait_until(|used| self.has_room(used, len));
        state.used.add(Credit { requests: 1, len });
    }

    /// Gives back what was taken.
    pub fn give(&self, credit: Credit) {
        let mut state = self.lock();
        state.used.requests -= credit.requests;
        state.used.len -= credit.len;
        if state.waiting > 0 {
            drop(state);
            self.less.notify_all();
        }
    }

    /// Whether all requests but one are answered.
    pub fn has_one(&self) -> bool {
        self.lock().used.requests == 1
    }

    /// Waits until every request is answered.
    pub fn wait_for_all(&self) {
        drop(self.wait_until(|used| used.requests == 0));
    }

    fn wait_until(&self, is_so: impl Fn(&Credit) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while !is_so(&state.used) {
            state.waiting += 1;
            state = self
                .less
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, used: &Credit, len: usize) -> bool {
        let share = TOTAL_LEN_MAX / self.sharers.0.load(Ordering::Relaxed).max(1);
        let len_max = share.min(LEN_MAX);
        used.requests == 0 || (used.requests < REQUESTS_MAX && used.len + len <= len_max)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.sharers.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_so_many_requests_and_bytes_and_always_one() {
        let budget = Budget::new(Sharers::default());
        assert!(!budget.has_one());
        assert!(budget.try_take(LEN_MAX * 2));
        assert!(budget.has_one());
        assert!(!budget.try_take(1));
        budget.give(Credit {
            requests: 1,
            len: LEN_MAX * 2,
        });
        for _ in 0..REQUESTS_MAX {
            assert!(budget.try_take(1));
        }
        assert!(!budget.try_take(1));
    }

    #[test]
    fn connections_share_the_memory() {
        let sharers = Sharers::default();
        let budget = Budget::new(sharers.clone());
        let others: Vec<_> = (1..64).map(|_| Budget::new(sharers.clone())).collect();
        assert!(budget.try_take(TOTAL_LEN_MAX / 64));
        assert!(!budget.try_take(1));
        drop(others);
        assert!(budget.try_take(1));
    }
}

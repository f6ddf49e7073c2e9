//! How much of a client's requests is in memory at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

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
    used: Mutex<Credit>,
    less: Condvar,
    sharers: Sharers,
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
            used: Mutex::default(),
            less: Condvar::new(),
            sharers,
        }
    }

    /// Takes credit for one request if there is enough. A single request always has.
    pub fn try_take(&self, len: usize) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_room(&used, len) && {
            used.requests += 1;
            used.len += len;
            true
        }
    }

    /// The same, when there is enough.
    pub fn take(&self, len: usize) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.has_room(&used, len) {
            used = self.less.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        used.requests += 1;
        used.len += len;
    }

    /// Gives back what was taken.
    pub fn give(&self, credit: Credit) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.requests -= credit.requests;
        used.len -= credit.len;
        drop(used);
        self.less.notify_all();
    }

    /// Waits until every request is answered.
    pub fn wait_for_all(&self) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while used.requests > 0 {
            used = self.less.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
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
        assert!(budget.try_take(LEN_MAX * 2));
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

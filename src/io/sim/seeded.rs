//! Time and randomness that a replay repeats.

use std::fmt;

use crate::source::{Clock, Random};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// A clock that stands still but for 1 ms at each look.
#[derive(Debug, Default)]
pub struct SimClock(AtomicU64);

impl SimClock {
    /// A clock that first shows `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// The next look shows `now_ms`, earlier or later.
    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Bytes that depend on the seed only: fit for tests, not for keys that guard anything.
///
/// Two machines that come from one history need two seeds, or they use one nonce twice.
pub struct SimRandom(Mutex<blake3::OutputReader>);

impl SimRandom {
    /// The bytes of a seed, from the start.
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("offshoot simulated randomness");
        hasher.update(&seed.to_le_bytes());
        Self(Mutex::new(hasher.finalize_xof()))
    }

    /// A number below `end`, nearly evenly; 0 if `end` is 0.
    pub fn below(&self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % (end as u64).max(1)) as usize
    }
}

impl Random for SimRandom {
    fn fill(&self, buf: &mut [u8]) {
        self.0.lock().fill(buf);
    }
}

impl fmt::Debug for SimRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimRandom")
    }
}

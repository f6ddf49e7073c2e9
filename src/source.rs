//! Where time and randomness come from: the caller says, so that a simulation can replay.

use std::fmt::Debug;

/// The time, as milliseconds since 1970-01-01 UTC.
pub trait Clock: Send + Sync + Debug {
    /// The time now.
    fn now_ms(&self) -> u64;
}

/// Random bytes fit for keys.
pub trait Random: Send + Sync + Debug {
    /// Fills `buf`.
    fn fill(&self, buf: &mut [u8]);
}

//! How far a check is, and whether it should go on.

use std::fmt;

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckProgress {
    /// Bytes of pages and nodes that were looked at, by their entries or in full.
    pub done_bytes: u64,
    /// All of them, as far as the tables know.
    pub total_bytes: u64,
}

/// Whoever is told how far a check is. Once it says `false` the check ends.
pub(super) struct Watch<'a> {
    tell: &'a mut dyn FnMut(CheckProgress) -> bool,
    progress: CheckProgress,
    told_bytes: u64,
    is_cancelled: bool,
}

/// Bytes after which it is told again.
const STEP: u64 = 4 << 20;

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl<'a> Watch<'a> {
    pub fn new(tell: &'a mut dyn FnMut(CheckProgress) -> bool) -> Self {
        Self {
            tell,
            progress: CheckProgress::default(),
            told_bytes: 0,
            is_cancelled: false,
        }
    }

    /// The bytes to look at.
    pub fn expect(&mut self, total_bytes: u64) {
        self.progress.total_bytes = total_bytes;
    }

    /// So many more bytes were looked at.
    pub fn advance(&mut self, bytes: u64) {
        self.progress.done_bytes = self.progress.done_bytes.saturating_add(bytes);
        if self.progress.done_bytes - self.told_bytes >= STEP && !self.is_cancelled {
            self.told_bytes = self.progress.done_bytes;
            self.is_cancelled = !(self.tell)(self.progress);
        }
    }

    /// Whether the check is to end.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }
}

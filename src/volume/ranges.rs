//! Page locks: a change of a part of a page reads it first, so changes of one page take turns.

use std::ops::Range;

use crate::sync::{Condvar, Mutex};
use crate::units::PageNo;

/// The pages of one head that are being changed.
#[derive(Debug, Default)]
pub struct PageLocks {
    taken: Mutex<Vec<Range<PageNo>>>,
    freed: Condvar,
}

/// Holds pages until it is dropped.
#[derive(Debug)]
pub struct PagesLocked<'a> {
    locks: &'a PageLocks,
    pages: Range<PageNo>,
}

impl PageLocks {
    /// Waits until nobody changes any of these pages, and takes them.
    pub fn lock(&self, pages: Range<PageNo>) -> PagesLocked<'_> {
        let overlaps = |other: &Range<PageNo>| other.start < pages.end && pages.start < other.end;
        let mut taken = self.taken.lock();
        while taken.iter().any(overlaps) {
            taken = self
                .freed
                .wait(taken)
                .expect("BUG: a thread panicked with this lock");
        }
        taken.push(pages.clone());
        PagesLocked { locks: self, pages }
    }
}

impl Drop for PagesLocked<'_> {
    fn drop(&mut self) {
        let mut taken = self.locks.taken.lock();
        if let Some(index) = taken.iter().position(|pages| *pages == self.pages) {
            taken.swap_remove(index);
        }
        self.locks.freed.notify_all();
    }
}

//! Page locks: a change of a part of a page reads it first, so changes of one page take turns.

use std::ops::Range;

use crate::sync::{Condvar, Mutex};
use crate::units::PageNo;

/// The pages of one head that are being changed.
#[derive(Debug, Default)]
pub struct PageLocks {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: Vec<Range<PageNo>>,
    /// How many wait for some: to wake nobody costs a call of the system, too.
    waiting: usize,
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
        let mut state = self.state.lock();
        while state.taken.iter().any(overlaps) {
            state.waiting += 1;
            state = self
                .freed
                .wait(state)
                .expect("BUG: a thread panicked with this lock");
            state.waiting -= 1;
        }
        state.taken.push(pages.clone());
        PagesLocked { locks: self, pages }
    }
}

impl Drop for PagesLocked<'_> {
    fn drop(&mut self) {
        let mut state = self.locks.state.lock();
        if let Some(index) = state.taken.iter().position(|pages| *pages == self.pages) {
            state.taken.swap_remove(index);
        }
        if state.waiting > 0 {
            self.locks.freed.notify_all();
        }
    }
}

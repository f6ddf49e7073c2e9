//! Which segments are open, and the salts of all.
//!
//! A store may have more segments than a process may have descriptors, so the ones used least
//! are closed. Invariant: a segment that anybody holds is never closed behind them, so a failed
//! write back is told to whoever wrote and syncs through the descriptor that wrote.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt};

use crate::segment::file::Segment;
use crate::sync::{Arc, AtomicBool, Ordering, RwLock};
use crate::units::{SegmentId, SlotAddr};

/// Salt of a subkey.
pub type Salt = [u8; 12];

/// All segments that something is known of.
#[derive(Debug)]
pub(super) struct Table {
    open_max: usize,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    known: HashMap<SegmentId, Known>,
    /// The open ones, in the order in which they are looked at to be closed.
    open: VecDeque<SegmentId>,
}

#[derive(Debug, Default)]
struct Known {
    /// Salts, each with the slot from which it is used; ascending.
    salts: Vec<(u32, Salt)>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    segment: Arc<Segment>,
    /// Whether it was used since it was last looked at.
    used: AtomicBool,
}

impl Known {
    /// The salt that pages from that slot on are sealed under.
    fn salt(&self, slot: u32) -> Option<Salt> {
        let after = self.salts.partition_point(|&(from, _)| from <= slot);
        Some(self.salts.get(after.checked_sub(1)?)?.1)
    }

    fn segment(&self) -> Option<Arc<Segment>> {
        let open = self.open.as_ref()?;
        // Looking is cheaper than writing to memory that all readers share.
        if !open.used.load(Ordering::Relaxed) {
            open.used.store(true, Ordering::Relaxed);
        }
        Some(open.segment.clone())
    }
}

impl Table {
    /// An empty table that keeps up to `open_max` segments open that nobody holds.
    pub(super) fn new(open_max: usize) -> Self {
        Self {
            open_max: open_max.max(1),
            state: RwLock::new(State {
                known: HashMap::new(),
                open: VecDeque::new(),
            }),
        }
    }

    /// A segment, if it is open.
    pub(super) fn get(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.state.read().known.get(&id)?.segment()
    }

    /// The salt at a place, and the segment if it is open.
    pub(super) fn look_up(&self, at: SlotAddr) -> (Option<Salt>, Option<Arc<Segment>>) {
        match self.state.read().known.get(&at.segment) {
            Some(known) => (known.salt(at.slot), known.segment()),
            None => (None, None),
        }
    }

    /// Adds an open segment, or gives the one that is open already. Closes others if need be.
    pub(super) fn insert(&self, segment: Arc<Segment>) -> Arc<Segment> {
        let id = segment.id();
        let mut state = self.state.write();
        if let Some(open) = state.known.get(&id).and_then(Known::segment) {
            return open;
        }
        let closed = state.shrink(self.open_max - 1);
        let open = Open {
            segment: segment.clone(),
            used: AtomicBool::new(false),
        };
        state.known.entry(id).or_default().open = Some(open);
        state.open.push_back(id);
        drop(state);
        // Unmapping takes a while, and readers need not wait for it.
        drop(closed);
        segment
    }

    /// Closes what nobody holds, down to `count` open segments if that is possible.
    pub(super) fn shrink(&self, count: usize) {
        let closed = self.state.write().shrink(count);
        drop(closed);
    }

    /// Segments that are open.
    pub(super) fn open_count(&self) -> usize {
        self.state.read().open.len()
    }

    /// Notes the salt of the pages from a slot of a segment on.
    pub(super) fn note_salt(&self, at: SlotAddr, salt: Salt) {
        let is_known = |known: &Known| known.salt(at.slot) == Some(salt);
        if self
            .state
            .read()
            .known
            .get(&at.segment)
            .is_some_and(is_known)
        {
            return;
        }
        let mut state = self.state.write();
        let known = state.known.entry(at.segment).or_default();
        match known
            .salts
            .binary_search_by_key(&at.slot, |&(from, _)| from)
        {
            Ok(index) => known.salts[index].1 = salt,
            Err(index) => known.salts.insert(index, (at.slot, salt)),
        }
    }

    /// All salts, each with the place from which it is used; ascending.
    pub(super) fn salts(&self) -> Vec<(SlotAddr, Salt)> {
        let state = self.state.read();
        let of_segment = |(&segment, known): (&SegmentId, &Known)| {
            let at = move |slot| SlotAddr { segment, slot };
            let salts = known.salts.iter();
            salts
                .map(|&(slot, salt)| (at(slot), salt))
                .collect::<Vec<_>>()
        };
        let mut salts: Vec<_> = state.known.iter().flat_map(of_segment).collect();
        salts.sort_unstable_by_key(|&(at, _)| at);
        salts
    }
}

impl State {
    /// Takes out segments until `count` are open; passes over those in use and, once, those used
    /// since they were last looked at.
    #[must_use]
    fn shrink(&mut self, count: usize) -> Vec<Arc<Segment>> {
        let mut closed = Vec::new();
        for _ in 0..self.open.len() * 2 {
            if self.open.len() <= count {
                break;
            }
            let Some(id) = self.open.pop_front() else {
                break;
            };
            let open = &mut self.known.entry(id).or_default().open;
            match open.take_if(|open| open.is_idle()) {
                Some(open) => closed.push(open.segment),
                None => self.open.push_back(id),
            }
        }
        closed
    }
}

impl Open {
    /// Whether nobody holds it, nor used it since this was asked last.
    fn is_idle(&mut self) -> bool {
        Arc::strong_count(&self.segment) == 1 && !std::mem::take(self.used.get_mut())
    }
}

#[cfg(test)]
mod tests;

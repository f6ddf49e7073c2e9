//! Which file each virtual segment is in, which files are open, and the salts of all.
//!
//! A store may have more files than a process may have descriptors, so the ones used least
//! are closed. Invariants: a file that anybody holds is never closed behind them, so a failed
//! write back is told to whoever wrote and syncs through the descriptor that wrote; once a
//! virtual segment is in a pack, a file of its own is not kept open for it.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt};

use crate::format::pack::PackRecord;
use crate::segment::file::Segment;
use crate::segment::pack::Pack;
use crate::sync::{Arc, AtomicBool, Ordering, RwLock, Weak};
use crate::units::{PackId, SegmentId, SlotAddr};

/// Salt of a subkey.
pub type Salt = [u8; 12];

/// A file that slots are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileId {
    /// The file of a segment.
    Segment(SegmentId),
    /// A packed file.
    Pack(PackId),
}

/// Where the slots of a virtual segment are.
#[derive(Debug)]
pub(super) enum Place {
    /// In a file of its own, which is open.
    Segment(Arc<Segment>),
    /// In a pack, which is open.
    Pack(Arc<Pack>),
    /// In a file of its own, if there is one.
    ClosedSegment,
    /// In this pack.
    ClosedPack(Arc<PackRecord>),
}

/// All segments that something is known of.
#[derive(Debug)]
pub(super) struct Table {
    open_max: usize,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    known: HashMap<SegmentId, Known>,
    packs: HashMap<PackId, KnownPack>,
    /// The open ones, in the order in which they are looked at to be closed.
    open: VecDeque<FileId>,
}

#[derive(Debug, Default)]
struct Known {
    /// Salts, each with the slot from which it is used; ascending.
    salts: Vec<(u32, Salt)>,
    /// The pack that it is in, if not in a file of its own.
    pack: Option<PackId>,
    open: Option<Open<Segment>>,
    /// Those that somebody may hold though they are not open here any more.
    held: Vec<Weak<Segment>>,
}

#[derive(Debug)]
struct KnownPack {
    record: Arc<PackRecord>,
    open: Option<Open<Pack>>,
}

#[derive(Debug)]
struct Open<T> {
    file: Arc<T>,
    /// Whether it was used since it was last looked at.
    used: AtomicBool,
}

/// Files that nobody looks up any more. Unmapping them takes a while, and readers need not wait
/// for it.
#[derive(Debug, Default)]
struct Closed {
    segments: Vec<Arc<Segment>>,
    packs: Vec<Arc<Pack>>,
}

impl Known {
    /// The salt that pages from that slot on are sealed under.
    fn salt(&self, slot: u32) -> Option<Salt> {
        let after = self.salts.partition_point(|&(from, _)| from <= slot);
        Some(self.salts.get(after.checked_sub(1)?)?.1)
    }

    fn segment(&self) -> Option<Arc<Segment>> {
        self.open.as_ref().map(Open::get)
    }

    /// Takes the open file out, and keeps an eye on it.
    fn close(&mut self) -> Option<Arc<Segment>> {
        let closed = self.open.take()?.file;
        self.watch(&closed);
        Some(closed)
    }

    fn watch(&mut self, segment: &Arc<Segment>) {
        self.held.retain(|held| held.strong_count() > 0);
        self.held.push(Arc::downgrade(segment));
    }
}

impl Table {
    /// An empty table that keeps up to `open_max` segments open that nobody holds.
    pub(super) fn new(open_max: usize) -> Self {
        Self {
            open_max: open_max.max(1),
            state: RwLock::new(State {
                known: HashMap::new(),
                packs: HashMap::new(),
                open: VecDeque::new(),
            }),
        }
    }

    /// A segment, if it is open.
    pub(super) fn get(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.state.read().known.get(&id)?.segment()
    }

    /// The salt of a slot, and where the slot is.
    pub(super) fn look_up(&self, at: SlotAddr) -> (Option<Salt>, Place) {
        let state = self.state.read();
        match state.known.get(&at.segment) {
            Some(known) => (known.salt(at.slot), state.place(known)),
            None => (None, Place::ClosedSegment),
        }
    }

    /// Where a virtual segment is.
    pub(super) fn place(&self, id: SegmentId) -> Place {
        let state = self.state.read();
        match state.known.get(&id) {
            Some(known) => state.place(known),
            None => Place::ClosedSegment,
        }
    }

    /// The pack that a virtual segment is in.
    pub(super) fn pack_of(&self, id: SegmentId) -> Option<PackId> {
        self.state.read().known.get(&id)?.pack
    }

    /// The virtual segments that something is known of, ascending.
    pub(super) fn segments(&self) -> Vec<SegmentId> {
        let mut ids: Vec<_> = self.state.read().known.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Adds an open segment, or gives the one that is open already. Closes others if need be.
    pub(super) fn insert(&self, segment: Arc<Segment>) -> Arc<Segment> {
        let id = segment.id();
        let mut state = self.state.write();
        if let Some(known) = state.known.get_mut(&id) {
            if let Some(open) = known.segment() {
                return open;
            }
            // It was packed while its file was opened: whoever opened it may use it once.
            if known.pack.is_some() {
                known.watch(&segment);
                return segment;
            }
        }
        let closed = state.shrink(self.open_max - 1);
        state.known.entry(id).or_default().open = Some(Open::new(segment.clone()));
        state.open.push_back(FileId::Segment(id));
        drop(state);
        drop(closed);
        segment
    }

    /// Adds an open pack, or gives the one that is open already. Closes others if need be.
    pub(super) fn insert_pack(&self, pack: Arc<Pack>) -> Arc<Pack> {
        let id = pack.id();
        let mut state = self.state.write();
        match state.packs.get(&id) {
            Some(KnownPack {
                open: Some(open), ..
            }) => return open.get(),
            Some(_) => {}
            None => return pack,
        }
        let closed = state.shrink(self.open_max - 1);
        if let Some(known) = state.packs.get_mut(&id) {
            known.open = Some(Open::new(pack.clone()));
            state.open.push_back(FileId::Pack(id));
        }
        drop(state);
        drop(closed);
        pack
    }

    /// Notes that virtual segments are in a pack from now on.
    pub(super) fn note_pack(&self, record: PackRecord) {
        let mut closed = Closed::default();
        let mut state = self.state.write();
        let id = record.pack;
        // A number that a crash took back can come again.
        closed.packs.extend(state.remove_pack(id));
        for &segment in &record.segments {
            let known = state.known.entry(segment).or_default();
            known.pack = Some(id);
            closed.segments.extend(known.close());
        }
        let is_packed = |segment: &SegmentId| record.segments.binary_search(segment).is_ok();
        state
            .open
            .retain(|file| !matches!(file, FileId::Segment(segment) if is_packed(segment)));
        let record = Arc::new(record);
        state.packs.insert(id, KnownPack { record, open: None });
        drop(state);
        drop(closed);
    }

    /// The packs that a virtual segment is in, ascending.
    pub(super) fn packs(&self) -> Vec<Arc<PackRecord>> {
        let state = self.state.read();
        let packs = state.packs.values().map(|pack| &pack.record);
        let in_use = packs.filter(|record| !state.segments_in(record).is_empty());
        let mut packs: Vec<_> = in_use.cloned().collect();
        packs.sort_unstable_by_key(|record| record.pack);
        packs
    }

    /// The virtual segments that are in a pack.
    pub(super) fn segments_in(&self, pack: PackId) -> Vec<SegmentId> {
        let state = self.state.read();
        match state.packs.get(&pack) {
            Some(pack) => state.segments_in(&pack.record),
            None => Vec::new(),
        }
    }

    /// Closes a file, and says whether somebody holds it all the same.
    pub(super) fn close(&self, file: FileId) -> bool {
        match file {
            FileId::Segment(segment) => self.close_segment(segment),
            FileId::Pack(pack) => self.close_pack(pack),
        }
    }

    fn close_pack(&self, id: PackId) -> bool {
        let mut state = self.state.write();
        let open = state.packs.get_mut(&id).map(|pack| &mut pack.open);
        let held = |open: &Open<Pack>| Arc::strong_count(&open.file) > 1;
        let Some(open) = open.filter(|open| !open.as_ref().is_some_and(held)) else {
            return state.packs.contains_key(&id);
        };
        let closed = open.take();
        state.open.retain(|&open| open != FileId::Pack(id));
        drop(state);
        drop(closed);
        false
    }

    fn close_segment(&self, id: SegmentId) -> bool {
        let mut state = self.state.write();
        state.open.retain(|&open| open != FileId::Segment(id));
        let closed = state.known.get_mut(&id).and_then(Known::close);
        drop(state);
        drop(closed);
        let state = self.state.read();
        let held = state.known.get(&id).map(|known| &known.held);
        held.is_some_and(|held| held.iter().any(|held| held.strong_count() > 0))
    }

    /// Forgets a virtual segment that is no more.
    pub(super) fn forget(&self, id: SegmentId) {
        let mut state = self.state.write();
        state.open.retain(|&open| open != FileId::Segment(id));
        let forgotten = state.known.remove(&id);
        drop(state);
        drop(forgotten);
    }

    /// Forgets a pack that is no more, and the virtual segments that were in it.
    pub(super) fn forget_pack(&self, id: PackId) {
        let mut state = self.state.write();
        let gone = match state.packs.get(&id) {
            Some(pack) => state.segments_in(&pack.record),
            None => Vec::new(),
        };
        for segment in gone {
            state.known.remove(&segment);
        }
        let closed = state.remove_pack(id);
        drop(state);
        drop(closed);
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
    fn place(&self, known: &Known) -> Place {
        if let Some(segment) = known.segment() {
            return Place::Segment(segment);
        }
        match known.pack.and_then(|pack| self.packs.get(&pack)) {
            None => Place::ClosedSegment,
            Some(pack) => match &pack.open {
                Some(open) => Place::Pack(open.get()),
                None => Place::ClosedPack(pack.record.clone()),
            },
        }
    }

    fn segments_in(&self, record: &PackRecord) -> Vec<SegmentId> {
        let is_in = |id: &&SegmentId| {
            let known = self.known.get(id);
            known.is_some_and(|known| known.pack == Some(record.pack))
        };
        record.segments.iter().filter(is_in).copied().collect()
    }

    #[must_use]
    fn remove_pack(&mut self, id: PackId) -> Option<Arc<Pack>> {
        let pack = self.packs.remove(&id)?;
        self.open.retain(|&open| open != FileId::Pack(id));
        pack.open.map(|open| open.file)
    }

    /// Takes out files until `count` are open; passes over those in use and, once, those used
    /// since they were last looked at.
    #[must_use]
    fn shrink(&mut self, count: usize) -> Closed {
        let mut closed = Closed::default();
        for _ in 0..self.open.len() * 2 {
            if self.open.len() <= count {
                break;
            }
            let Some(id) = self.open.pop_front() else {
                break;
            };
            let is_closed = match id {
                FileId::Segment(id) => {
                    let open = self
                        .known
                        .get_mut(&id)
                        .and_then(|known| Open::close(&mut known.open));
                    open.map(|file| closed.segments.push(file)).is_some()
                }
                FileId::Pack(id) => {
                    let open = self
                        .packs
                        .get_mut(&id)
                        .and_then(|pack| Open::close(&mut pack.open));
                    open.map(|file| closed.packs.push(file)).is_some()
                }
            };
            if !is_closed {
                self.open.push_back(id);
            }
        }
        closed
    }
}

impl<T> Open<T> {
    fn new(file: Arc<T>) -> Self {
        Self {
            file,
            used: AtomicBool::new(false),
        }
    }

    fn get(&self) -> Arc<T> {
        // Looking is cheaper than writing to memory that all readers share.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.file.clone()
    }

    /// Takes a file out unless somebody holds it, or used it since this was asked last.
    fn close(open: &mut Option<Self>) -> Option<Arc<T>> {
        let closed = open.take_if(|open| {
            Arc::strong_count(&open.file) == 1 && !std::mem::take(open.used.get_mut())
        });
        closed.map(|open| open.file)
    }
}

#[cfg(test)]
mod tests;

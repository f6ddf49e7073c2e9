//! Sealing old pages of a volume again, under its newest key epoch, while it is in use.
//!
//! Pages are read and sealed outside every lock. A page that somebody else writes or discards
//! meanwhile is left out: what was written last wins. What is done stays done, so a rekey that was cut
//! off is gone on with by looking for pages of older epochs again.

use std::fmt;

use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::store::inner::{Inner, Runtime};
use crate::store::reserve::{Purpose, RECORD_SLOTS};
use crate::store::worker::Opened;
use crate::store::write::NewPages;
use crate::sync::Arc;
use crate::units::{KeyEpoch, PageNo, SlotAddr};

/// Most entries of a page table that one step looks at.
const LOOK_MAX: usize = 1 << 16;

/// Which key epoch a rekey seals under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RekeyStart {
    /// One that begins now: every page is sealed again.
    NewEpoch,
    /// The one that is open: a rekey that was cut off goes on.
    Resume,
}

/// What [`Volume::rekey`](crate::Volume::rekey) would seal again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RekeyPlan {
    /// Bytes of pages to seal again; so much more space is taken at first.
    pub bytes: u64,
    /// Of these, at most so many are shared with other volumes and snapshots now; they become
    /// exclusive, and the others keep theirs.
    pub shared_bytes: u64,
    /// Bytes of pages that are under the key epoch already.
    pub current_bytes: u64,
}

impl fmt::Display for RekeyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bytes,
            shared_bytes,
            current_bytes,
        } = self;
        write!(f, "{bytes} bytes to seal again, at most {shared_bytes} ")?;
        write!(f, "of them shared now; {current_bytes} are current")
    }
}

/// A rekey under way. Each step seals some pages again, as one atomic change; the caller sets the
/// pace. Dropping it keeps what is done.
#[derive(Debug)]
pub struct Rekey {
    store: Arc<Opened>,
    runtime: Arc<Runtime>,
    /// Pages of key epochs below this one are sealed again.
    first: KeyEpoch,
    next: PageNo,
    is_done: bool,
}

/// What one step of a rekey did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RekeyStep {
    /// Bytes of pages that were looked up, read and sealed; of them, those that somebody wrote
    /// meanwhile were left alone.
    pub bytes: u64,
    /// How far the volume is done, in bytes from its start.
    pub done_through: u64,
}

impl Rekey {
    pub(super) fn begin(
        store: Arc<Opened>,
        runtime: Arc<Runtime>,
        start: RekeyStart,
    ) -> Result<Self> {
        let first = store.begin_rekey(&runtime, start)?;
        Ok(Self {
            store,
            runtime,
            first,
            next: PageNo(0),
            is_done: false,
        })
    }

    fn step(&mut self) -> Result<RekeyStep> {
        let page_len = u64::from(self.store.page_len());
        loop {
            let (old, next) = self.store.old_pages(&self.runtime, self.first, self.next)?;
            match self.store.seal_again(&self.runtime, &old) {
                Ok(()) => {}
                // The volume has shrunk: what is left of it is looked up once more.
                Err(Error::OutOfBounds { .. }) => continue,
                Err(error) => return Err(error),
            }
            match next {
                Some(next) => self.next = next,
                None => {
                    self.store.flush()?;
                    self.is_done = true;
                }
            }
            let len = self.store.head_of(&self.runtime)?.record.len;
            return Ok(RekeyStep {
                bytes: old.len() as u64 * page_len,
                done_through: next.map_or(len, |next| next.0 * page_len),
            });
        }
    }
}

/// Pages and where they are.
type OldPages = Vec<(PageNo, SlotAddr)>;

impl Iterator for Rekey {
    type Item = Result<RekeyStep>;

    /// Goes on. After the last step everything is durable; after an error it may be tried again.
    fn next(&mut self) -> Option<Self::Item> {
        (!self.is_done).then(|| self.step())
    }
}

impl Inner {
    /// What a rekey would do.
    pub fn plan_rekey(&self, runtime: &Runtime, start: RekeyStart) -> Result<RekeyPlan> {
        let head = self.head_of(runtime)?;
        Runtime::check_writable(&head)?;
        let first = match start {
            RekeyStart::NewEpoch => KeyEpoch(u32::MAX),
            RekeyStart::Resume => head.record.key_epoch,
        };
        let page_len = u64::from(self.page_len());
        let mut plan = RekeyPlan::default();
        for mapped in head.tree.iter(&self.nodes, PageNo(0)..PageNo(u64::MAX)) {
            let (_, Entry::Data(data)) = mapped? else {
                continue;
            };
            if data.key_epoch >= first {
                plan.current_bytes += page_len;
                continue;
            }
            plan.bytes += page_len;
            let state = self.state.read();
            let birth = state.key_epoch(data.key_epoch).map(|epoch| epoch.lineage);
            if birth != Some(head.record.lineage) {
                plan.shared_bytes += page_len;
            }
        }
        Ok(plan)
    }

    /// The first key epoch of which no page is sealed again.
    fn begin_rekey(&self, runtime: &Runtime, start: RekeyStart) -> Result<KeyEpoch> {
        self.writable()?;
        Runtime::check_writable(&self.head_of(runtime)?)?;
        if start == RekeyStart::NewEpoch {
            let keys = self.keys(runtime)?;
            let mut commit = self.commit_for(Purpose::Growth, RECORD_SLOTS, 0)?;
            let head = self.head(runtime.head, runtime.kind)?;
            self.renew(&mut commit, &head, &keys)?;
        }
        // All later ones of this volume are above it, whatever branches come meanwhile.
        Ok(self.head_of(runtime)?.record.key_epoch)
    }

    /// Pages of older key epochs and where they are, from a page on: as many as one change may
    /// have. Also where to look next, if that is not all.
    fn old_pages(
        &self,
        runtime: &Runtime,
        first: KeyEpoch,
        from: PageNo,
    ) -> Result<(OldPages, Option<PageNo>)> {
        let head = self.head_of(runtime)?;
        let mut old = OldPages::new();
        let mapped = head.tree.iter(&self.nodes, from..PageNo(u64::MAX));
        for (looked, mapped) in mapped.enumerate() {
            let (page, entry) = mapped?;
            if looked == LOOK_MAX || old.len() == self.atomic_pages() {
                return Ok((old, Some(page)));
            }
            if let Entry::Data(data) = entry
                && data.key_epoch < first
            {
                old.push((page, data.at));
            }
        }
        Ok((old, None))
    }

    /// Seals pages again that are still in these places when they get their new ones.
    fn seal_again(&self, runtime: &Runtime, old: &[(PageNo, SlotAddr)]) -> Result<()> {
        self.writable()?;
        let page_len = self.page_len() as usize;
        let mut bytes = vec![0; old.len() * page_len];
        for ((page, _), bytes) in old.iter().zip(bytes.chunks_exact_mut(page_len)) {
            self.read(runtime, bytes, page.0 * page_len as u64)?;
        }
        let over: Vec<SlotAddr> = old.iter().map(|(_, at)| *at).collect();
        let new = NewPages {
            pages: old.iter().map(|(page, _)| *page).collect(),
            fill: &|index, page| {
                let bytes = bytes.chunks_exact(page_len).nth(index);
                page.copy_from_slice(bytes.expect("BUG: a page that was read"));
            },
            over: Some(&over),
        };
        self.change(runtime, new, None)?;
        self.flush_if_due()?;
        self.checkpoint_if_due()
    }
}

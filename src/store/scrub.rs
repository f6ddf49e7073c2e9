//! Reading everything that is live while the store is in use, to find damage before somebody needs it.
//!
//! A pass goes through the page tables of all heads in the order of their numbers, each node and page once,
//! and reads them from their files: nodes are compared with the hash that their parent names, pages with
//! their checksum, and with their tag if the key of a head that has them may be used. What is written
//! or dies meanwhile disturbs nobody. Superblocks come first.
//!
//! Where a pass is and what was found is in the file `scrub` (`format::scrub`), which is replaced as a
//! whole. Invariant: nothing else is written and nothing is repaired; nothing depends on the file.

mod pages;
#[cfg(test)]
mod tests;
mod walk;

use crate::error::{Error, Result};
use crate::format::scrub::{SCRUB_FILE, SCRUB_LEN_MAX, ScrubFault, ScrubFinding, ScrubRecord};
use crate::io::{Access, publish};
use crate::log::{Superblocks, load_tables};
use crate::slots::SlotSet;
use crate::store::handles::Store;
use crate::store::inner::Inner;
use crate::store::scrub::walk::{Walk, what};
use crate::store::worker::Opened;
use crate::sync::{Arc, Ordering};
use crate::units::{HeadId, Location, PageNo, ResourceId, SLOT_LEN};

/// Bytes after which the record is written again: what an interrupted pass reads twice.
const SAVE_LEN: u64 = 256 << 20;

/// What a scrub looks at.
#[derive(Clone, Debug, Default)]
pub struct ScrubOptions {
    only: Vec<ResourceId>,
    restart: bool,
}

impl ScrubOptions {
    /// All volumes, snapshots and pins; a pass that was interrupted goes on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only the volume, snapshot or pin with that id, and others that are named so.
    pub fn only(mut self, id: ResourceId) -> Self {
        self.only.push(id);
        self
    }

    /// Begins a new pass, also if one was interrupted.
    pub fn restart(mut self) -> Self {
        self.restart = true;
        self
    }
}

/// What scrubs have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubState {
    /// What is damaged: what the last pass over all found, and what was found since.
    pub findings: Vec<ScrubFinding>,
    /// Findings that there was no room for.
    pub more_findings: u64,
    /// When the last pass over all ended, in milliseconds since 1970-01-01 UTC.
    pub ended_at_ms: Option<u64>,
    /// A pass was begun and has not ended.
    pub is_under_way: bool,
    /// Bytes that it has read.
    pub done_bytes: u64,
}

/// A scrub under way. Each step reads a few megabytes; the caller sets the pace. At the end, and now and
/// then, it writes down where it is; whoever drops it before the end calls [`Scrub::save`], or the next one reads up
/// to 256 MiB again.
#[derive(Debug)]
pub struct Scrub {
    store: Arc<Opened>,
    record: ScrubRecord,
    /// Up to here an earlier process has read: this one only looks up what that was.
    read_before: Option<(HeadId, PageNo)>,
    walk: Walk,
    total_bytes: u64,
    saved_bytes: u64,
    unsaved: Option<Error>,
    is_begun: bool,
    is_done: bool,
}

/// What one step of a scrub did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScrubStep {
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes of the pass that are done, those of an interrupted one included.
    pub done_bytes: u64,
    /// Bytes of all that was live when the scrub began; those of one head that others share are counted for each
    /// of those that it is about.
    pub total_bytes: u64,
    /// Bytes of pages that were read and of which only the checksum was compared: no key of a head that has
    /// them may be used.
    pub locked_bytes: u64,
    /// What is damaged.
    pub found: Vec<ScrubFinding>,
}

impl Store {
    /// Reads everything live, or some heads, while the store is in use: see [`Scrub`].
    ///
    /// A page or node that is damaged, or that the disk cannot read, is a finding and no error, and stays
    /// as it is: reads of it go on being errors. What is found is kept in the store, in a file beside the segments,
    /// and given back by [`Store::scrub_state`] until a pass over all does not find it any more. If that file cannot
    /// be written (a full disk, an I/O error) the scrub goes on, and [`Scrub::unsaved`] says so; the store is not
    /// poisoned by it. Nodes and pages are read past the cache of the operating system where the file system can do that.
    ///
    /// Makes a checkpoint first if there was none since the store was opened after a crash. One scrub at a time;
    /// a second one is [`Error::InvalidState`].
    pub fn scrub(&self, options: &ScrubOptions) -> Result<Scrub> {
        Scrub::begin(self.0.clone(), options)
    }

    /// What scrubs have found, and how far the last one is. A file that is damaged says nothing: then this is as
    /// if there had been none, and the next pass begins anew.
    pub fn scrub_state(&self) -> Result<ScrubState> {
        self.0.open()?;
        let record = self.0.scrub_record()?;
        Ok(ScrubState {
            is_under_way: record.next.is_some(),
            done_bytes: record.done_bytes,
            ended_at_ms: record.ended_at_ms,
            findings: record.findings,
            more_findings: record.more,
        })
    }
}

impl Scrub {
    fn begin(store: Arc<Opened>, options: &ScrubOptions) -> Result<Self> {
        store.writable()?;
        let only = store.heads_with(&options.only)?;
        if store.is_scrubbed.swap(true, Ordering::SeqCst) {
            return Err(Error::InvalidState {
                name: store.disk.describe(),
                state: "being scrubbed",
            });
        }
        // From here on dropping it says that it is over.
        let mut scrub = Self {
            record: ScrubRecord::default(),
            read_before: None,
            walk: Walk::default(),
            total_bytes: 0,
            saved_bytes: 0,
            unsaved: None,
            is_begun: false,
            is_done: false,
            store,
        };
        // One that cannot be read is replaced by that of this pass.
        scrub.record = scrub.store.scrub_record().unwrap_or_default();
        scrub.store.fold_overlays()?;
        scrub.total_bytes = scrub.store.scrub_len(&only)?;
        let goes_on = !options.restart && scrub.record.only == only;
        match scrub.record.next.filter(|_| goes_on) {
            Some(next) => scrub.read_before = Some(next),
            None => {
                scrub.record.pass += 1;
                scrub.record.began_at_ms = scrub.store.clock.now_ms();
            }
        }
        scrub.record.only = only;
        scrub.record.done_bytes = 0;
        scrub.record.next = Some((HeadId(0), PageNo(0)));
        Ok(scrub)
    }

    /// Writes down where it is, so that the next one goes on there.
    pub fn save(&mut self) -> Result<()> {
        // Before it is where it was, what is written down says more.
        if self.read_before.is_some() && self.record.findings.is_empty() {
            return Ok(());
        }
        let mut record = self.record.clone();
        if let Some(before) = self.read_before {
            record.next = Some(before);
        }
        self.store.save_scrub(&record)?;
        self.saved_bytes = self.record.done_bytes;
        Ok(())
    }

    /// What this pass has found, also before it was interrupted.
    pub fn found(&self) -> impl Iterator<Item = &ScrubFinding> {
        let pass = self.record.pass;
        self.record
            .findings
            .iter()
            .filter(move |found| found.pass == pass)
    }

    /// Why what was found, and where it is, is not written down, if so.
    pub fn unsaved(&self) -> Option<&Error> {
        self.unsaved.as_ref()
    }

    fn step(&mut self) -> Result<ScrubStep> {
        self.store.usable()?;
        let mut step = ScrubStep {
            total_bytes: self.total_bytes,
            ..ScrubStep::default()
        };
        if !self.is_begun {
            self.is_begun = true;
            if self.record.only.is_empty() {
                step.found = self.superblocks();
            }
        }
        let from = self.record.next.unwrap_or_default();
        let next = match self.store.next_head(from.0, &self.record.only) {
            None => None,
            Some(head) => {
                let page = if head.record.head == from.0 {
                    from.1
                } else {
                    PageNo(0)
                };
                let next = self
                    .walk
                    .go(&self.store, &head, page, self.read_before, &mut step);
                let id = head.record.head;
                Some(
                    next.map_or((HeadId(id.0.saturating_add(1)), PageNo(0)), |page| {
                        (id, page)
                    }),
                )
            }
        };
        self.record.done_bytes += step.bytes + self.walk.take_passed_bytes();
        step.done_bytes = self.record.done_bytes;
        self.record.next = next;
        if self.read_before <= next || next.is_none() {
            self.read_before = None;
        }
        for found in &mut step.found {
            self.complete(found);
            self.record.note(found.clone());
        }
        if next.is_none() {
            self.end();
        }
        let is_due = self.record.done_bytes - self.saved_bytes >= SAVE_LEN;
        if is_due || next.is_none() || !step.found.is_empty() {
            self.unsaved = self.save().err();
        }
        Ok(step)
    }

    /// A pass over all has found what there is: what it did not find is not there any more.
    fn end(&mut self) {
        self.is_done = true;
        if self.record.only.is_empty() {
            let pass = self.record.pass;
            self.record.findings.retain(|found| found.pass == pass);
            self.record.more = 0;
            self.record.ended_at_ms = Some(self.store.clock.now_ms());
        }
    }

    fn complete(&self, found: &mut ScrubFinding) {
        let now_ms = self.store.clock.now_ms();
        (found.pass, found.first_at_ms, found.last_at_ms) = (self.record.pass, now_ms, now_ms);
    }

    /// What is damaged of superblocks, and of the tables that they name.
    fn superblocks(&self) -> Vec<ScrubFinding> {
        let inner = &self.store;
        // Held so that none is being written, and no tables go.
        let checkpoint = inner.checkpoint.lock();
        let (disk, key) = (&*inner.disk, &inner.superblock_key);
        let generation = checkpoint.superblock.generation;
        let lost = Superblocks::lost_copies(disk, generation, key);
        let lost = lost.into_iter().map(|(copy, damage)| {
            let fault = match copy.older {
                true => ScrubFault::OlderSuperblockCopyLost,
                false => ScrubFault::SuperblockCopyLost,
            };
            let message = format!("file {} slot {}: {damage}", copy.file, copy.slot);
            finding(fault, message)
        });
        let mut found: Vec<_> = lost.collect();
        // If none can be read, that was said.
        let candidates = Superblocks::open(disk, Access::Read).map(|(_, candidates)| candidates);
        let candidates = candidates.unwrap_or_default();
        let authentic = candidates.iter().filter(|found| found.is_authentic(key));
        let mut tables: Vec<_> = authentic.filter_map(|it| it.superblock.tables).collect();
        tables.dedup();
        for tables in tables {
            if let Err(error) = load_tables(&inner.segments, tables) {
                let at = match &error {
                    Error::Corrupt {
                        location: Location::Slot(at),
                        ..
                    } => *at,
                    _ => tables.at,
                };
                found.push(ScrubFinding {
                    at: Some(at),
                    ..finding(ScrubFault::TableDamaged, what(&error))
                });
            }
        }
        found
    }
}

/// A finding of which only what and where is known.
fn finding(fault: ScrubFault, message: String) -> ScrubFinding {
    ScrubFinding {
        fault,
        pass: 0,
        first_at_ms: 0,
        last_at_ms: 0,
        at: None,
        head: None,
        page: None,
        message,
    }
}

impl Iterator for Scrub {
    type Item = Result<ScrubStep>;

    /// Goes on. After an error it may be tried again.
    fn next(&mut self) -> Option<Self::Item> {
        (!self.is_done).then(|| self.step())
    }
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.store.is_scrubbed.store(false, Ordering::SeqCst);
    }
}

impl Inner {
    /// What is written down of scrubs; nothing if there is no file, or one that is damaged.
    fn scrub_record(&self) -> Result<ScrubRecord> {
        let failed = |source| Error::Io {
            op: "read",
            location: Location::File(SCRUB_FILE.to_owned()),
            source,
        };
        let file = match self.disk.open(SCRUB_FILE, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(ScrubRecord::default());
            }
            file => file.map_err(failed)?,
        };
        let len = file.len().map_err(failed)?;
        if len > SCRUB_LEN_MAX {
            return Ok(ScrubRecord::default());
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        Ok(ScrubRecord::decode(&bytes, self.store_id()).unwrap_or_default())
    }

    fn save_scrub(&self, record: &ScrubRecord) -> Result<()> {
        let bytes = record.encode(self.store_id());
        let written = publish::publish(&*self.disk, SCRUB_FILE, 0, &bytes);
        written.map(drop).map_err(|source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::NoSpace {
                need: bytes.len() as u64,
                free: self.disk.free_len().unwrap_or(0),
            },
            _ => Error::Io {
                op: "write",
                location: Location::File(SCRUB_FILE.to_owned()),
                source,
            },
        })
    }

    /// The numbers of heads with these ids, ascending.
    fn heads_with(&self, ids: &[ResourceId]) -> Result<Vec<HeadId>> {
        let state = self.state.read();
        let mut heads = Vec::new();
        for id in ids {
            let mut all = state.heads();
            let found = all.find(|head| head.record.resource_id == *id);
            let found = found.and_then(|head| state.head(head.record.head));
            let found = found.ok_or_else(|| Error::NotFound {
                kind: crate::error::Kind::Volume,
                name: id.to_string(),
            })?;
            heads.push(found.record.head);
        }
        heads.sort_unstable();
        heads.dedup();
        Ok(heads)
    }

    /// The first head from a number on that a scrub is about.
    fn next_head(&self, from: HeadId, only: &[HeadId]) -> Option<crate::catalog::Head> {
        let state = self.state.read();
        let is_wanted = |id: HeadId| only.is_empty() || only.binary_search(&id).is_ok();
        let mut heads = state.heads().map(|head| head.record.head);
        let found = heads.find(|&id| id >= from && is_wanted(id) && state.head(id).is_some())?;
        state.head(found).cloned()
    }

    /// Bytes that a scrub will read, or more.
    fn scrub_len(&self, only: &[HeadId]) -> Result<u64> {
        let state = self.state.read();
        let live = state.space().live().len() * SLOT_LEN as u64;
        let heads = only.iter().filter_map(|&id| state.head(id));
        let pages: u64 = heads.map(|head| head.page_count).sum();
        Ok(match only.is_empty() {
            true => live,
            false => live.min(pages.saturating_mul(self.page_len().into())),
        })
    }

    /// Has a checkpoint fold in what recovery left over page tables, if it left anything.
    fn fold_overlays(&self) -> Result<()> {
        let is_overlaid = self
            .state
            .read()
            .heads()
            .any(|head| head.tree.is_overlaid());
        match is_overlaid {
            true => self.force_checkpoint(),
            false => Ok(()),
        }
    }

    /// Whether all of these slots are in use: what is not may be gone.
    fn are_live(&self, slots: &SlotSet) -> bool {
        let mut dead = slots.clone();
        dead.subtract(self.state.read().space().live());
        dead.is_empty()
    }
}

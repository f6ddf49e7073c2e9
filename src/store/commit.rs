//! The one place that orders writes and syncs of the store.
//!
//! A change: 1. pages are sealed, outside every lock; 2. under the commit lock the key epoch is
//! checked (and the pages sealed again if a branch came between), a place found, the new page
//! table made; 3. the batch is written, or what was written last is written again with a small
//! change added; 4. the change becomes visible. From 2 on the order of the log is the order of
//! memory, and nothing but a failed write can fail, which poisons.
//!
//! A flush: 1. the last batch is ended, it and the segments not synced are noted; 2. each is synced; 3. all
//! up to that batch is durable. Flushes wait for the one under way; then those that it covered
//! return at once, all together, and one of the others goes on for the rest.
//!
//! A checkpoint: 1. nodes and tables are appended; 2. a flush; 3. superblock mirror a is written
//! and synced; 4. mirror b is.
//!
//! Recovery: all files whose bytes were accepted, and the directory, are synced before the first
//! write, because a killed process leaves bytes that can be read but are not durable.

use crate::error::{Error, Result};
use crate::format::batch::header_len;
use crate::format::superblock::Superblock;
use crate::io::{Disk, GrowBuf};
use crate::log::{Place, Superblocks};
use crate::segment::Segments;
use crate::store::inner::{Commit, Inner};
use crate::sync::{Arc, Condvar, Mutex, Ordering};
use crate::units::{Location, SLOT_LEN, SegmentId, Seq, SlotAddr};

/// How far the log is durable, and whether a flush is making it so further.
///
/// Not a lock held during a sync: who is woken by one loses it to who comes by, again and again.
#[derive(Debug)]
pub(super) struct Synced {
    state: Mutex<SyncState>,
    ended: Condvar,
}

#[derive(Debug)]
struct SyncState {
    through: Seq,
    busy: bool,
}

/// The right to sync. Dropping it lets the next one try.
struct Turn<'a>(&'a Synced);

impl Synced {
    /// Batches up to this one are durable.
    pub fn new(through: Seq) -> Self {
        let state = SyncState {
            through,
            busy: false,
        };
        Self {
            state: Mutex::new(state),
            ended: Condvar::new(),
        }
    }

    /// Waits until `wanted` is durable (`None`) or nobody syncs. `check` is asked before that is
    /// believed: whoever synced may have failed.
    fn turn(&self, wanted: Seq, check: impl Fn() -> Result<()>) -> Result<Option<Turn<'_>>> {
        let mut state = self.state.lock();
        loop {
            check()?;
            if state.through >= wanted {
                return Ok(None);
            }
            if !state.busy {
                state.busy = true;
                return Ok(Some(Turn(self)));
            }
            state = self
                .ended
                .wait(state)
                .expect("BUG: a thread panicked with this lock");
        }
    }
}

impl Turn<'_> {
    fn finish(self, through: Seq) {
        self.0.state.lock().through = through;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().busy = false;
        self.0.ended.notify_all();
    }
}

impl Commit {
    fn note_appended(&mut self, len: u64) {
        self.log_len += len;
        self.used_len += len;
        self.tail_free_len = self.tail_free_len.saturating_sub(len);
    }
}

impl Inner {
    /// Finds a place for a batch. If that is in a new segment, the summary of the one before goes
    /// there first.
    pub fn place(&self, commit: &mut Commit, records_len: usize, body_slots: u32) -> Result<Place> {
        let slot_count = self.segments.geometry().segment_slots;
        if let Some(summary) = commit.log.summary_due(slot_count, records_len, body_slots) {
            commit.log.start_segment(&self.segments)?;
            let place = commit.log.place(&self.segments, summary.len(), 0)?;
            let bytes = vec![0; header_len(summary.len())];
            let salt = *self.salt.lock();
            self.append(commit, place, salt, &summary, bytes)?;
            commit.summaries += 1;
        }
        commit.log.place(&self.segments, records_len, body_slots)
    }

    /// Writes a batch at the place just found. Returns the hash of its header slots.
    pub fn append(
        &self,
        commit: &mut Commit,
        place: Place,
        salt: [u8; 12],
        records: &[u8],
        bytes: impl GrowBuf,
    ) -> Result<[u8; 32]> {
        let durable_through = Seq(self.durable_through.load(Ordering::SeqCst));
        let before = commit.log.position().end.segment;
        let len = bytes.len() as u64;
        let written = commit
            .log
            .append(place, salt, durable_through, records, bytes);
        let (segment, hash) = written.map_err(|error| self.poison("write", place.at(), error))?;
        self.segments.note_salt(place.at(), salt);
        if segment.id() != before {
            self.new_salt();
            // A segment is full, unless this is the first.
            if let Some(bell) = self.bell.as_ref().filter(|_| before.0 > 0) {
                bell.flush_due();
            }
        }
        if commit
            .unsynced
            .last()
            .is_none_or(|last| last.id() != segment.id())
        {
            commit.unsynced.push(segment);
        }
        if place.at().segment != before {
            // The rest of the one before stays empty, and this one has its header.
            commit.used_len += commit.tail_free_len + SLOT_LEN as u64;
            let slots = u64::from(self.segments.geometry().segment_slots) - 1;
            commit.tail_free_len = slots * SLOT_LEN as u64;
        }
        commit.note_appended(len);
        self.counters.batches.add(1);
        self.counters.appended_bytes.add(len);
        Ok(hash)
    }

    /// Lets the log end where nothing seems to be: then the next process goes on there.
    pub fn blank_end(&self) -> Result<()> {
        let mut commit = self.commit.lock();
        self.usable()?;
        let at = commit.log.position().end;
        let blanked = commit.log.blank_end(&self.segments);
        let changed = blanked.inspect_err(|_| self.poisoned.store(true, Ordering::SeqCst))?;
        let is_noted = commit.unsynced.last().map(|last| last.id()) == Some(at.segment);
        commit.unsynced.extend(changed.filter(|_| !is_noted));
        Ok(())
    }

    /// Adds a change to the last batch, at the place just found there.
    pub fn grow_last(
        &self,
        commit: &mut Commit,
        place: Place,
        records: &[u8],
        body: &[u8],
    ) -> Result<()> {
        let durable_through = Seq(self.durable_through.load(Ordering::SeqCst));
        let len = body.len() as u64;
        let grown = commit.log.grow_last(place, durable_through, records, body);
        grown.map_err(|error| self.poison("write", place.at(), error))?;
        commit.note_appended(len);
        self.counters.appended_bytes.add(len);
        Ok(())
    }

    /// The last batch of the log.
    pub fn last_seq(&self) -> Seq {
        self.commit.lock().log.position().seq
    }

    /// Flushes if so many segments wait for it that their descriptors could run out.
    pub fn flush_if_due(&self) -> Result<()> {
        let waiting = self.commit.lock().unsynced.len();
        match waiting < self.segments.unsynced_max() {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Makes every change that has returned durable, of all volumes.
    pub fn flush(&self) -> Result<()> {
        self.usable()?;
        if self.read_only {
            return Ok(());
        }
        self.counters.flushes.add(1);
        let wanted = self.last_seq();
        let Some(turn) = self.synced.turn(wanted, || self.usable())? else {
            return Ok(());
        };
        let (through, segments) = {
            let mut commit = self.commit.lock();
            commit.log.note_flush();
            (
                commit.log.position().seq,
                std::mem::take(&mut commit.unsynced),
            )
        };
        let syncing = self.segments.syncing();
        for segment in &segments {
            let at = SlotAddr {
                segment: segment.id(),
                slot: 0,
            };
            segment
                .file()
                .sync()
                .map_err(|error| self.poison("sync", at, error))?;
            self.counters.syncs.add(1);
        }
        drop(syncing);
        self.durable_through.store(through.0, Ordering::SeqCst);
        turn.finish(through);
        Ok(())
    }

    /// Writes both mirrors of a superblock, one durable before the other is touched.
    pub fn write_superblock(&self, superblock: &Superblock) -> Result<()> {
        for mirror in 0..2 {
            let written = self
                .superblocks
                .write(mirror, superblock, &self.superblock_key);
            let synced = written.and_then(|file| file.map_or(Ok(()), |file| file.sync()));
            synced.map_err(|source| {
                self.poisoned.store(true, Ordering::SeqCst);
                let location = Location::File("superblock".to_owned());
                Error::Io {
                    op: "write",
                    location,
                    source,
                }
            })?;
        }
        self.counters.checkpoints.add(1);
        Ok(())
    }
}

/// Makes zeroes of slots behind the end of the log, durably: no batch that was dropped there counts later.
pub(super) fn clear_behind_end(segments: &Segments, slots: Vec<SlotAddr>) -> Result<()> {
    for at in slots {
        let segment = segments.get(at.segment)?;
        let cleared = segment.write_slots(at.slot, &[0; SLOT_LEN]);
        cleared.map_err(|error| segments.failed("write", at, error))?;
        let synced = segment.file().sync();
        synced.map_err(|error| segments.failed("sync", at, error))?;
    }
    Ok(())
}

/// Makes durable what recovery accepted, before anything is written on top of it.
pub(super) fn sync_accepted(
    disk: &Arc<dyn Disk>,
    superblocks: &Superblocks,
    segments: &Segments,
    accepted: impl IntoIterator<Item = SegmentId>,
) -> Result<()> {
    for id in accepted {
        let at = SlotAddr {
            segment: id,
            slot: 0,
        };
        segments
            .get(id)?
            .file()
            .sync()
            .map_err(|error| segments.failed("sync", at, error))?;
    }
    let failed = |source| Error::Io {
        op: "sync",
        location: Location::Directory(disk.describe()),
        source,
    };
    for file in superblocks.files() {
        file.sync().map_err(failed)?;
    }
    disk.sync_names().map_err(failed)
}

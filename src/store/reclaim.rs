//! Giving space back, a step at a time: files without a live slot are removed, long dead runs are
//! punched, and if the store still takes more than it may, what is left of other files is packed.
//!
//! A pack: 1. its file is published, durable with its name; 2. a record says what is in it, alone
//! in a batch, and is flushed; 3. the files it was made from are removed. So at any time each
//! live slot is in a file that the durable log or tables name, and no key is needed, no page
//! table touched.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::batch::header_len;
use crate::format::pack::{PARTS_MAX, PackPart};
use crate::format::record::Record;
use crate::io::Access;
use crate::log::{Superblocks, first_table_segment};
use crate::maintenance::{Action, FileState, Policy, plan, spares_max};
use crate::segment::FileId;
use crate::slots::{Places, SlotSet};
use crate::store::checkpoint::log_bound;
use crate::store::inner::Inner;
use crate::sync::Ordering;
use crate::units::{PackId, SLOT_LEN, SegmentId};

/// What a store may take beside its target and the log that is to be rolled forward before it packs: a
/// segment that is made ahead, one that is being filled, and the next one. A pack comes on top, and what writers take
/// while they are held up.
const SLACK_LEN: u64 = 192 << 20;
/// Of what waits for checkpoints so much is taken out of the target, as a part of the log's bound: more than
/// changes let go of between two checkpoints.
const WAITING_SHARE: u64 = 4;
/// At least so much of it.
const WAITING_LEN_MIN: u64 = 128 << 20;
/// A punch costs as much as copying so many slots, however few it is of.
const PUNCH_SLOTS_MIN: u32 = 16;
/// The store's own thread punches only what is longer, 512 KiB: a file without holes can be used again as it is,
/// and who writes is held up by each punch.
const PUNCH_SLOTS_CALM: u32 = 128;
/// What one step does at most, if it does not pack.
const DROPS_MAX: usize = 64;
const PUNCHES_MAX: usize = 256;

/// How far reclaim goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The store takes no more than it may, and whatever it need not take is given back.
    Target,
    /// The store takes no more than it may. What it may take is kept where new segments can be made of it.
    Calm,
    /// The same before it is needed: so much less that what writes take until the next checkpoint has room.
    Ahead,
    /// Everything that can be won by packing is won.
    Compact,
    /// The same, for a store that is short of room and has just made spares: they stay.
    Relief,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Files that were removed because nothing in them was live, or made spares.
    pub dropped_files: u64,
    /// Holes that were punched.
    pub punched_runs: u64,
    /// Packs that were made.
    pub packs: u64,
    /// Bytes that were copied into them.
    pub moved_bytes: u64,
    /// Bytes that the store takes less now.
    pub freed_bytes: u64,
    /// Bytes of files that became spares.
    pub recycled_bytes: u64,
    /// There was nothing more to do.
    pub is_done: bool,
}

impl Progress {
    /// Nothing was done, and there is nothing to do.
    pub fn done() -> Self {
        Self {
            is_done: true,
            ..Self::default()
        }
    }
}

/// What reclaim remembers between its steps.
#[derive(Debug, Default)]
pub(super) struct Reclaim {
    /// Slots of files that were punched, by their place there.
    punched: HashMap<FileId, Places>,
    /// Files of which live slots cannot be read: they stay.
    unreadable: HashSet<FileId>,
    /// The file system punches no holes.
    cannot_punch: bool,
    /// The first segment that a recovery could read, as of superblocks of these generations.
    protected: Option<(Vec<u64>, SegmentId)>,
}

/// What files may be used for that nothing needs any more.
#[derive(Clone, Copy, Debug)]
struct Uses {
    /// Spares that there may be.
    spares_max: usize,
    /// One may be kept for the next pack.
    keeps: bool,
}

/// The files of a store, and how many slots it may have beside its live ones.
struct Survey {
    files: Vec<FileState>,
    /// Segments of which something is known, but no file.
    gone: Vec<SegmentId>,
}

impl Inner {
    /// Gives space back, a bounded amount, and says how much. `live` has all slots of pages and nodes
    /// that anything may still read, but for those of segments from `first_protected` on, which
    /// are left alone. [`Self::first_protected`] is to be asked before `live` is looked up: what is
    /// written in between is in segments that were protected then.
    pub fn reclaim_step(
        &self,
        live: &SlotSet,
        first_protected: SegmentId,
        goal: Goal,
    ) -> Result<Progress> {
        let mut reclaim = self.reclaim.lock();
        self.writable()?;
        let survey = self.survey(live, first_protected, &reclaim)?;
        for &segment in &survey.gone {
            self.segments.forget(segment);
        }
        let uses = Uses {
            spares_max: self.spares_max_now(&survey.files, goal),
            keeps: goal != Goal::Relief,
        };
        match goal {
            Goal::Relief => self.segments.remove_kept()?,
            _ => self.segments.remove_spares(uses.spares_max)?,
        }
        let actions = plan(&survey.files, &self.policy(goal));
        let is_small = |action: &&Action| !matches!(action, Action::Pack(_));
        let (mut drops, mut punches) = (0, 0);
        let few = actions.iter().take_while(is_small).take_while(|action| {
            match action {
                Action::Drop(_) => drops += 1,
                _ => punches += 1,
            }
            drops <= DROPS_MAX && punches <= PUNCHES_MAX
        });
        let now = few.count().max(1).min(actions.len());
        let mut progress = Progress {
            is_done: now == actions.len(),
            ..Progress::default()
        };
        for action in actions.iter().take(now) {
            match action {
                Action::Drop(file) => {
                    self.drop_file(*file, uses, &mut reclaim, &mut progress)?;
                    progress.dropped_files += 1;
                }
                Action::Punch(file, run) => {
                    self.punch(*file, run.clone(), &mut reclaim, &mut progress)?;
                }
                Action::Pack(victims) => {
                    match self.pack(victims, live, uses, &mut reclaim, &mut progress) {
                        // Not even the reserve has a place for it: the rest has to do.
                        Err(Error::NoSpace { .. }) => progress.is_done = true,
                        packed => packed?,
                    }
                }
            }
        }
        self.note_progress(&progress);
        Ok(progress)
    }

    fn note_progress(&self, progress: &Progress) {
        let counters = &self.counters;
        counters.packs.add(progress.packs);
        counters.moved_bytes.add(progress.moved_bytes);
        counters.freed_bytes.add(progress.freed_bytes);
        let mut commit = self.commit.lock();
        let gone = progress.freed_bytes + progress.recycled_bytes;
        commit.used_len = commit.used_len.saturating_sub(gone);
    }

    fn policy(&self, goal: Goal) -> Policy {
        let used_len = self.commit.lock().used_len;
        let slack = self.slack_len(used_len);
        let (space_target, slack) = match goal {
            Goal::Target | Goal::Calm | Goal::Ahead => {
                let ahead = if goal == Goal::Ahead {
                    ahead_len(used_len)
                } else {
                    0
                };
                let slack = slack.saturating_sub(self.entitled_by_waiting() + ahead);
                (self.space_target, slack / SLOT_LEN as u64)
            }
            Goal::Compact | Goal::Relief => (0.0, 0),
        };
        Policy {
            space_target,
            slack,
            segment_slots: self.segments.geometry().segment_slots.into(),
            // Ahead nothing is punched: without holes a file can be used again as it is.
            punch_min: match goal {
                Goal::Ahead => u32::MAX,
                Goal::Calm => PUNCH_SLOTS_CALM,
                _ => PUNCH_SLOTS_MIN,
            },
            punches_late: goal == Goal::Calm,
            parts_max: PARTS_MAX as u64,
        }
    }

    /// Spares that there may be: the reserve, one that is needed between two files that are dropped, and, if
    /// the store takes less than it may, as many as the log will need before files are dropped again, but
    /// no more than is live. The blocks of a file that was used before are written twice as fast as those
    /// of a new one (`docs/decisions/0008`).
    fn spares_max_now(&self, files: &[FileState], goal: Goal) -> usize {
        let reserve = self.segments.reserve() + 1;
        if !matches!(goal, Goal::Calm | Goal::Ahead) {
            return reserve;
        }
        let used_len = self.commit.lock().used_len;
        let segment_len = u64::from(self.segments.geometry().segment_slots) * SLOT_LEN as u64;
        let live: u64 = files.iter().map(|file| file.live).sum();
        let wanted = log_bound(used_len).min(live * SLOT_LEN as u64) / segment_len;
        // Here all spares are to find room, not only what is beside those that are there.
        let slack = log_bound(used_len) + SLACK_LEN;
        let policy = Policy {
            slack: slack.saturating_sub(self.entitled_by_waiting()) / SLOT_LEN as u64,
            ..self.policy(Goal::Calm)
        };
        let most = spares_max(files, &policy, reserve as u64, wanted);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Bytes that the target gives for slots that only wait for checkpoints to know of their death: the
    /// store may not take these. Of many, as after a great discard, only some are looked at: else files
    /// would be packed for what is dead soon.
    fn entitled_by_waiting(&self) -> u64 {
        let waiting = self.state.read().space().waiting_count() * SLOT_LEN as u64;
        let most = log_bound(self.commit.lock().used_len) / WAITING_SHARE;
        (waiting.min(most.max(WAITING_LEN_MIN)) as f64 * self.space_target) as u64
    }

    /// What the files of segments and packs may take beside the target, in a store of so many bytes:
    /// the log, and some slack, of which spares are a part.
    pub fn slack_len(&self, used_len: u64) -> u64 {
        let spares_len = self.segments.spare_len() + self.segments.kept_len();
        (log_bound(used_len) + SLACK_LEN).saturating_sub(spares_len)
    }

    /// What the files are like.
    fn survey(&self, live: &SlotSet, protected: SegmentId, reclaim: &Reclaim) -> Result<Survey> {
        let files = self.segments.files()?;
        let newest = files.iter().filter_map(|file| match file {
            FileId::Segment(id) => Some(u64::from(id.0)),
            FileId::Pack(_) => None,
        });
        let newest = newest.max().unwrap_or(0);
        let mut found = Vec::new();
        let mut with_file = HashSet::new();
        for file in files {
            let segments = self.segments.segments_in(file);
            with_file.extend(segments.iter().copied());
            let Some(allocated) = self.segments.allocated_len(file)? else {
                continue;
            };
            let is_log = matches!(file, FileId::Segment(id) if id >= protected);
            let counts: Vec<_> = segments
                .iter()
                .map(|&segment| (segment, u64::from(live.count_in(segment))))
                .collect();
            let mut state = FileState {
                file,
                allocated: allocated / SLOT_LEN as u64,
                live: counts.iter().map(|(_, live)| live).sum(),
                parts: counts.iter().filter(|(_, live)| *live > 0).count() as u64,
                age: newest.saturating_sub(mean_segment(&counts)),
                dead_runs: Vec::new(),
                is_fixed: is_log || reclaim.unreadable.contains(&file),
            };
            if !state.is_fixed && state.live > 0 && !reclaim.cannot_punch {
                state.dead_runs = self.dead_runs(&state, &segments, live, reclaim)?;
            }
            found.push(state);
        }
        let known = self.segments.known().into_iter();
        let gone = known.filter(|segment| {
            *segment < protected && !with_file.contains(segment) && live.count_in(*segment) == 0
        });
        Ok(Survey {
            gone: gone.collect(),
            files: found,
        })
    }

    /// The long runs of dead slots in a file that are worth a punch.
    fn dead_runs(
        &self,
        state: &FileState,
        segments: &[SegmentId],
        live: &SlotSet,
        reclaim: &Reclaim,
    ) -> Result<Vec<Range<u32>>> {
        let min = u64::from(PUNCH_SLOTS_MIN);
        if state.allocated < state.live + min {
            return Ok(Vec::new());
        }
        let mut dead = Places::default();
        let mut slots = 1;
        for &segment in segments {
            // A pack has thousands of runs of each, so what is alive is looked up once for all.
            let living = live.runs_in(segment);
            let mut living = living.iter().peekable();
            for (run, place) in self.segments.runs_in(state.file, segment)? {
                let end = place + (run.end - run.start);
                slots = slots.max(end);
                dead.insert(place..end);
                while let Some(alive) = living.peek().filter(|alive| alive.start < run.end) {
                    let (start, end) = (alive.start.max(run.start), alive.end.min(run.end));
                    if start < end {
                        dead.remove(start - run.start + place..end - run.start + place);
                    }
                    // It may go on in the next run.
                    if alive.end > run.end {
                        break;
                    }
                    living.next();
                }
            }
        }
        let long = |run: &Range<u32>| run.end - run.start >= PUNCH_SLOTS_MIN;
        let long_runs = |dead: &Places| {
            let mut runs = dead.runs();
            runs.retain(long);
            runs
        };
        let long_dead: u64 = long_runs(&dead)
            .iter()
            .map(|run| u64::from(run.end - run.start))
            .sum();
        // An earlier process may have punched them.
        if state.allocated + long_dead < u64::from(slots) + min {
            return Ok(Vec::new());
        }
        if let Some(punched) = reclaim.punched.get(&state.file) {
            dead.subtract(punched);
        }
        Ok(long_runs(&dead))
    }

    fn drop_file(
        &self,
        file: FileId,
        uses: Uses,
        reclaim: &mut Reclaim,
        progress: &mut Progress,
    ) -> Result<()> {
        let len = self.segments.allocated_len(file)?.unwrap_or(0);
        let is_used = self.segments.recycle(file, uses.spares_max)?
            || (uses.keeps && self.segments.keep(file)?);
        match is_used {
            true => progress.recycled_bytes += len,
            false => {
                self.segments.remove(file)?;
                progress.freed_bytes += len;
            }
        }
        reclaim.punched.remove(&file);
        reclaim.unreadable.remove(&file);
        Ok(())
    }

    fn punch(
        &self,
        file: FileId,
        run: Range<u32>,
        reclaim: &mut Reclaim,
        progress: &mut Progress,
    ) -> Result<()> {
        let before = self.segments.allocated_len(file)?.unwrap_or(0);
        match self.segments.punch(file, run.clone()) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::Unsupported => {
                reclaim.cannot_punch = true;
                return Ok(());
            }
            punched => punched?,
        }
        let punched = reclaim.punched.entry(file).or_default();
        punched.insert(run);
        let after = self.segments.allocated_len(file)?.unwrap_or(0);
        progress.punched_runs += 1;
        progress.freed_bytes += before.saturating_sub(after);
        Ok(())
    }

    /// Copies what is live of files into one pack, and removes them.
    fn pack(
        &self,
        victims: &[FileId],
        live: &SlotSet,
        uses: Uses,
        reclaim: &mut Reclaim,
        progress: &mut Progress,
    ) -> Result<()> {
        let segments = victims
            .iter()
            .flat_map(|&file| self.segments.segments_in(file));
        let mut segments: Vec<SegmentId> = segments.collect();
        segments.sort_unstable();
        let parts = segments.into_iter().map(|segment| PackPart {
            segment,
            runs: live.runs_in(segment),
        });
        let parts: Vec<PackPart> = parts.filter(|part| !part.runs.is_empty()).collect();
        let slots: u32 = parts.iter().map(PackPart::slot_count).sum();
        // Each pack's record takes a number, so this one is above those of all packs before.
        let id = PackId(self.last_seq().0 + 1);
        let record = match self.segments.write_pack(id, parts) {
            Err(error @ (Error::Corrupt { .. } | Error::Io { .. })) => {
                reclaim.unreadable.extend(victims);
                return Err(error);
            }
            written => written?,
        };
        let pack = FileId::Pack(id);
        let mut records = Vec::new();
        Record::Pack(Box::new(record.clone())).encode(&mut records);
        let bytes = vec![0; header_len(records.len())];
        let appended = {
            let mut commit = self.commit.lock();
            let appended = self.append_plain(&mut commit, &records, bytes, 0);
            // In one with the log: the tables of a checkpoint from here on have to say so.
            if appended.is_ok() {
                commit.credit.add_records(records.len());
                self.segments.note_pack(record);
            }
            appended
        };
        if let Err(error) = appended {
            // After a failed write the record may be there when the store is opened again.
            if !self.poisoned.load(Ordering::SeqCst) {
                self.segments.remove(pack)?;
            }
            return Err(error);
        }
        self.flush()?;
        let added = self.segments.allocated_len(pack)?.unwrap_or(0);
        for &victim in victims {
            self.drop_file(victim, uses, reclaim, progress)?;
        }
        // What was not given back was made a spare.
        let of_spares = added.saturating_sub(progress.freed_bytes);
        progress.freed_bytes = progress.freed_bytes.saturating_sub(added);
        progress.recycled_bytes = progress.recycled_bytes.saturating_sub(of_spares);
        progress.packs += 1;
        progress.moved_bytes += u64::from(slots) * SLOT_LEN as u64;
        Ok(())
    }

    /// The first segment that a recovery could read as log or tables, from whichever superblock it
    /// starts. No segment from there on may be touched.
    pub fn first_protected(&self) -> Result<SegmentId> {
        let mut reclaim = self.reclaim.lock();
        // One that is just being written does not count yet; then there are older ones.
        let (_, candidates) = Superblocks::open(&*self.disk, Access::Read)?;
        // All of them: while mirrors are being written one has what the other has not.
        let generations = candidates.iter().map(|found| found.superblock.generation);
        let generations: Vec<u64> = generations.collect();
        match &reclaim.protected {
            Some((known, first)) if *known == generations => return Ok(*first),
            _ => {}
        }
        let mut first = SegmentId(u32::MAX);
        for candidate in &candidates {
            let superblock = &candidate.superblock;
            first = first.min(superblock.position.end.segment);
            if let Some(tables) = superblock.tables {
                first = first.min(first_table_segment(&self.segments, tables)?);
            }
        }
        reclaim.protected = Some((generations, first));
        Ok(first)
    }
}

/// What a store of so many bytes has room for when space was given back ahead: the log until the next checkpoint.
pub(super) fn ahead_len(used_len: u64) -> u64 {
    log_bound(used_len)
}

/// The number of the segment that the live slots of a file were written in, on average.
fn mean_segment(counts: &[(SegmentId, u64)]) -> u64 {
    let slots: u64 = counts.iter().map(|(_, live)| live).sum();
    let sum: u64 = counts.iter().map(|(id, live)| u64::from(id.0) * live).sum();
    sum.checked_div(slots).unwrap_or(0)
}

#[cfg(test)]
mod tests;

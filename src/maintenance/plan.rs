//! What to do about dead slots: drop files without live ones, punch long dead runs, and pack what
//! is left of other files, if the store takes more than it may.
//!
//! Which files are packed is a matter of cost and benefit ("The Design and Implementation of a
//! Log-Structured File System", 1992): what packing wins lasts longer in files that have not
//! changed for long, so these are packed while they are still fuller than others. Files of like
//! age are packed together: what died seldom so far will do so, and is not copied again with
//! what dies all the time.

use std::ops::Range;

use crate::segment::FileId;

/// Files are packed only if this part of their space is won, 1 in so many: a full file would be
/// copied for nothing.
const GAIN_SHARE: u64 = 8;
/// A pack takes what is most alike out of the best victims for so many packs.
const POOL_PACKS: u64 = 4;
/// Bytes that a part takes in the index of a pack beside its bitmap, and that the index begins with.
const PART_LEN: u64 = 12;
const INDEX_LEN: u64 = 64;
const SLOT_LEN: u64 = 4096;

/// A file of slots. All counts are of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// The file.
    pub file: FileId,
    /// Slots that it takes: all but those that were punched.
    pub allocated: u64,
    /// Slots of them that are in use.
    pub live: u64,
    /// Virtual segments that are in it.
    pub parts: u64,
    /// How long it has not been written, in segments that were since.
    pub age: u64,
    /// Runs of dead slots that were not punched yet: all, or the long ones.
    pub dead_runs: Vec<Range<u32>>,
    /// It must stay as it is: the log may be rolled forward from it, or it cannot be read.
    pub is_fixed: bool,
}

/// How much space the store may take.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Slots that it may take for each live one.
    pub space_target: f64,
    /// Slots that it may take beside.
    pub slack: u64,
    /// Slots of a segment, and so of a pack at most.
    pub segment_slots: u64,
    /// The shortest run that is worth a punch.
    pub punch_min: u32,
    /// Whether holes are punched only if the store takes more than it may. A file that pages die in one
    /// after the other is soon dead altogether, and without holes it can be used again as it is.
    pub punches_late: bool,
    /// Most virtual segments in a pack.
    pub parts_max: u64,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Remove a file without a live slot.
    Drop(FileId),
    /// Give the space of dead slots of a file back.
    Punch(FileId, Range<u32>),
    /// Copy what is live of these files into one pack, and remove them.
    Pack(Vec<FileId>),
}

/// What to do, in that order.
pub fn plan(files: &[FileState], policy: &Policy) -> Vec<Action> {
    let (mut drops, mut punches) = (Vec::new(), Vec::new());
    let mut victims = Vec::new();
    let mut allocated: u64 = files.iter().map(|file| file.allocated).sum();
    let (limit, room) = (limit(files, policy), room(files, policy));
    let punch_min = match policy.punches_late && room > 0 {
        true => u32::MAX,
        false => policy.punch_min,
    };
    for file in files.iter().filter(|file| !file.is_fixed) {
        if file.live == 0 {
            drops.push(Action::Drop(file.file));
            allocated = allocated.saturating_sub(file.allocated);
            continue;
        }
        let mut file = file.clone();
        for run in std::mem::take(&mut file.dead_runs) {
            if run.end - run.start < punch_min {
                continue;
            }
            let slots = u64::from(run.end - run.start);
            file.allocated = file.allocated.saturating_sub(slots).max(file.live);
            allocated = allocated.saturating_sub(slots);
            punches.push(Action::Punch(file.file, run));
        }
        victims.push(file);
    }
    let excess = allocated.saturating_sub(limit);
    let packs = packs(victims, excess, policy);
    drops.into_iter().chain(punches).chain(packs).collect()
}

/// Slots that the store may take.
fn limit(files: &[FileState], policy: &Policy) -> u64 {
    let live: u64 = files.iter().map(|file| file.live).sum();
    (live as f64 * policy.space_target) as u64 + policy.slack
}

/// Spares that there may be: those that are needed, and beyond them, out of what the store may take, so
/// many that are wanted. `policy.slack` is with all spares.
pub fn spares_max(files: &[FileState], policy: &Policy, needed: u64, wanted: u64) -> u64 {
    let have_room = room(files, policy) / policy.segment_slots;
    needed + wanted.min(have_room.saturating_sub(needed))
}

/// Slots that the store may still take once files without a live slot are gone.
fn room(files: &[FileState], policy: &Policy) -> u64 {
    let stay = |file: &&FileState| file.is_fixed || file.live > 0;
    let stay: u64 = files.iter().filter(stay).map(|file| file.allocated).sum();
    limit(files, policy).saturating_sub(stay)
}

/// Packs that win so many slots, or as many as can be won.
fn packs(mut victims: Vec<FileState>, excess: u64, policy: &Policy) -> Vec<Action> {
    victims.retain(|file| {
        let dead = file.allocated - file.live.min(file.allocated);
        dead * GAIN_SHARE >= file.allocated && file.live < policy.segment_slots
    });
    victims.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let (mut packs, mut won) = (Vec::new(), 0);
    while won < excess {
        let Some(pack) = take_pack(&mut victims, policy) else {
            break;
        };
        let before: u64 = pack.iter().map(|file| file.allocated).sum();
        let after = pack_slots(&pack, policy);
        // Another file of few slots wins nothing but a name.
        if after >= before {
            continue;
        }
        won += before - after;
        packs.push(Action::Pack(pack.iter().map(|file| file.file).collect()));
    }
    packs
}

/// Takes the best victim and those that are most like it in age out of the best.
fn take_pack(victims: &mut Vec<FileState>, policy: &Policy) -> Option<Vec<FileState>> {
    if victims.is_empty() {
        return None;
    }
    let best = victims.remove(0);
    let mut pool_live = 0;
    let pool = victims.iter().take_while(|file| {
        pool_live += file.live;
        pool_live <= POOL_PACKS * policy.segment_slots
    });
    let mut pool: Vec<(f64, FileId)> = pool
        .map(|file| (age_distance(&best, file), file.file))
        .collect();
    pool.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut pack = vec![best];
    for (_, file) in pool {
        let Some(index) = victims.iter().position(|victim| victim.file == file) else {
            continue;
        };
        pack.push(victims[index].clone());
        let parts: u64 = pack.iter().map(|file| file.parts).sum();
        let fits = pack_slots(&pack, policy) <= policy.segment_slots && parts <= policy.parts_max;
        match fits {
            true => drop(victims.remove(index)),
            false => drop(pack.pop()),
        }
    }
    Some(pack)
}

/// What packing a file wins for what it costs, and how long that is likely to last. The root of the
/// age moves less of what is old and nearly full than the age itself does: with it, overwrites
/// by Zipf's law cost 1.7 instead of 2.3 (`plan/tests.rs`).
fn score(file: &FileState) -> f64 {
    let dead = file.allocated.saturating_sub(file.live) as f64;
    dead / file.live.max(1) as f64 * ((file.age + 1) as f64).sqrt()
}

/// By what factor the ages differ, as a logarithm.
fn age_distance(a: &FileState, b: &FileState) -> f64 {
    let age = |file: &FileState| ((file.age + 1) as f64).ln();
    (age(a) - age(b)).abs()
}

/// Slots of a pack of these files, at most.
fn pack_slots(files: &[FileState], policy: &Policy) -> u64 {
    let live: u64 = files.iter().map(|file| file.live).sum();
    let parts: u64 = files.iter().map(|file| file.parts).sum();
    let index = INDEX_LEN + parts * (PART_LEN + policy.segment_slots.div_ceil(8));
    live + index.div_ceil(SLOT_LEN)
}

#[cfg(test)]
mod tests;

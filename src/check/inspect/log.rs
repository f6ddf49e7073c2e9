//! The log: from the oldest checkpoint that there is, batch by batch.

use crate::check::files::Files;
use crate::check::inspect::segment::{BatchView, batch};
use crate::check::inspect::{Problem, chosen};
use crate::check::lock_shared;
use crate::check::log::{Depth, Log};
use crate::crypto::Secret;
use crate::error::Result;
use crate::format::superblock::{Position, Superblock};
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::{Seq, SlotAddr};

/// A part of the log.
#[derive(Clone, Debug)]
pub struct LogView {
    /// The checkpoints that there are, the older one first.
    pub checkpoints: Vec<CheckpointView>,
    /// The batches were proved by the log key; else only their checksums and chain speak for them.
    pub authenticated: bool,
    /// The batches that were asked for, in order.
    pub batches: Vec<BatchView>,
    /// The batch after them, if the log goes on.
    pub next: Option<Seq>,
    /// Where no batch follows, if the log ends in what was asked for; and why the next slot holds none.
    pub end: Option<(SlotAddr, String)>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// What a superblock says of the log.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointView {
    /// The superblock's generation.
    pub generation: u64,
    /// Last batch whose effect is in its tables: the log is read from the next one on.
    pub seq: Seq,
    /// The slot after that batch.
    pub end: SlotAddr,
    /// Last batch known to be durable.
    pub durable_through: Seq,
    /// The store was closed cleanly.
    pub clean: bool,
}

/// Reads up to `count_max` batches of the log, from batch `first` on or from the first that is
/// still kept. A tail that a crash tore is shown, too: its batches have damaged parts.
pub fn log(
    disk: &dyn Disk,
    kms: Option<&dyn KeyService>,
    first: Seq,
    count_max: usize,
) -> Result<LogView> {
    let _guard = lock_shared(disk)?;
    let files = Files::list(disk)?;
    let (chosen, problems) = chosen(disk, &files, kms)?;
    let key = chosen.keys.as_ref().map(|keys| &keys.log);
    let mut checkpoints = chosen.older.iter().chain([&chosen.newest]);
    let mut view = LogView {
        checkpoints: checkpoints.clone().map(checkpoint).collect(),
        authenticated: key.is_some(),
        batches: Vec::new(),
        next: None,
        end: None,
        problems,
    };
    let oldest = chosen.older.as_ref().unwrap_or(&chosen.newest);
    // Nearer to what was asked for there is less to read.
    let start = checkpoints.rfind(|it| it.position.seq < first);
    let start = start.unwrap_or(oldest);
    let mut last = view.follow(&files, start, key, first, count_max);
    let newest = &chosen.newest;
    if view.next.is_none() && last.seq < newest.position.seq {
        // What lies behind damage is proved by the newest superblock.
        let what = format!(
            "the log is cut off here, before batch {}",
            newest.position.seq
        );
        view.problems.push(Problem::at(last.end, what));
        last = view.follow(&files, newest, key, first, count_max);
    }
    if view.next.is_none() {
        let why = match files.batch(last.end, &newest.geometry) {
            Ok(head) => format!("batch {} there does not follow", head.header.seq),
            Err(trouble) => trouble.to_string(),
        };
        view.end = Some((last.end, why));
    }
    Ok(view)
}

impl LogView {
    /// Adds what was asked for, from a superblock on; gives the place where it stops.
    fn follow(
        &mut self,
        files: &Files<'_>,
        start: &Superblock,
        key: Option<&Secret>,
        first: Seq,
        count_max: usize,
    ) -> Position {
        let geometry = start.geometry;
        let mut last: Position = start.position;
        let log = Log::new(files, geometry, key, last.end.segment);
        while let Some(link) = log.next(&last, Depth::Headers, &mut Vec::new()) {
            last = link.after;
            if last.seq < first {
                continue;
            }
            if self.batches.len() == count_max {
                self.next = Some(last.seq);
                return last;
            }
            if let Ok(head) = files.batch(link.at, &geometry) {
                self.batches.push(batch(files, &head, &geometry));
            }
        }
        last
    }
}

fn checkpoint(superblock: &Superblock) -> CheckpointView {
    CheckpointView {
        generation: superblock.generation,
        seq: superblock.position.seq,
        end: superblock.position.end,
        durable_through: superblock.durable_through,
        clean: superblock.clean,
    }
}

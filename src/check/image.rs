//! The state of a store, read without its engine: superblock, tables, then the log.

use std::collections::HashMap;

use crate::check::codes;
use crate::check::files::Files;
use crate::check::finding::Findings;
use crate::check::log::{Depth, Link, Log, Path};
use crate::check::scan::{Scan, scan};
use crate::check::state::State;
use crate::check::superblocks::{Chosen, choose};
use crate::check::tables::{self, Tables};
use crate::check::{catalog, options, packs, replay, summaries};
use crate::crypto::Secret;
use crate::error::Result;
use crate::format::catalog::SegmentRecord;
use crate::format::record::pack_of;
use crate::format::superblock::{Position, Superblock};
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::{SegmentId, Seq, SlotAddr};

/// A store as of the end of its log.
#[derive(Debug)]
pub(super) struct Image<'a> {
    pub files: Files<'a>,
    pub superblock: Superblock,
    /// The one before it, if it is there.
    pub older: Option<Superblock>,
    /// The superblock was written by a holder of the store key.
    pub authenticated: bool,
    /// Tables could be read, so the state is all there is.
    pub complete: bool,
    /// Whether the log is applied to the state: not to one that nothing is known of.
    applies_log: bool,
    pub state: State,
    /// The moment that the tables are of.
    pub start: Position,
    /// The end of the log.
    pub end: Position,
    /// Batches after the superblock.
    pub log_batches: u64,
    /// A torn tail was dropped.
    pub torn_tail: bool,
    /// Header slots of batches that are known to be in use.
    pub headers: Vec<(SlotAddr, u32)>,
    /// Where the log left a segment before its end.
    pub left_at: HashMap<SegmentId, u32>,
    /// Segments from this one on may be read as log, so their files are there.
    pub kept_from: SegmentId,
}

impl<'a> Image<'a> {
    /// Reads a store; `None` if it has no superblock.
    pub fn load(
        disk: &'a dyn Disk,
        kms: Option<&dyn KeyService>,
        depth: options::Depth,
        findings: &mut Findings,
    ) -> Result<Option<Self>> {
        let files = Files::list(disk)?;
        let Some(chosen) = choose(disk, &files, kms, findings)? else {
            return Ok(None);
        };
        let start = match depth {
            options::Depth::Quick => None,
            options::Depth::Structure | options::Depth::Salvage => {
                read_tables(&files, &chosen, findings)
            }
        };
        let complete = start.is_some();
        let start = match depth {
            options::Depth::Salvage => start.or_else(|| salvage_tables(&files, &chosen)),
            _ => start,
        };
        let mut image = Image {
            complete,
            applies_log: start.is_some(),
            authenticated: chosen.authenticated,
            state: State::default(),
            start: chosen.newest.position,
            end: chosen.newest.position,
            log_batches: 0,
            torn_tail: false,
            headers: Vec::new(),
            left_at: HashMap::new(),
            kept_from: kept_from(&chosen),
            superblock: chosen.newest.clone(),
            older: chosen.older.clone(),
            files,
        };
        if let Some((position, tables)) = start {
            image.state = tables.state;
            image.headers = tables.batches;
            image.start = position;
            image.end = position;
        }
        // Without tables the end of the log is found all the same, by the superblock.
        let key = chosen.keys.as_ref().map(|keys| &keys.log);
        let bodies = match depth {
            options::Depth::Quick => Depth::Headers,
            options::Depth::Structure | options::Depth::Salvage => Depth::Bodies,
        };
        image.roll_forward(key, bodies, findings);
        let newest = chosen.newest.position;
        if depth == options::Depth::Salvage && image.end.seq < newest.seq {
            image.go_on_from(&chosen.newest, key, findings);
        }
        if let Some(older) = &chosen.older
            && depth == options::Depth::Structure
        {
            image.verify_fallback(older, key, findings);
        }
        Ok(Some(image))
    }

    /// Whether slots were ever written, as far as that is known.
    pub fn is_written(&self, at: SlotAddr, slots: u32) -> bool {
        if let Some(is_there) = self.files.packed.has(at, slots) {
            return is_there;
        }
        let end = at.slot.checked_add(slots);
        at.slot > 0 && end.is_some_and(|end| end <= self.written_in(at.segment))
    }

    /// Slots of a segment with a file of its own that were ever written, as far as that is known.
    pub fn written_in(&self, segment: SegmentId) -> u32 {
        let all = self.superblock.geometry.segment_slots;
        if !self.state.segments.contains_key(&segment) {
            return 0;
        }
        match segment.cmp(&self.end.end.segment) {
            std::cmp::Ordering::Less => *self.left_at.get(&segment).unwrap_or(&all),
            std::cmp::Ordering::Equal => self.end.end.slot,
            std::cmp::Ordering::Greater => 0,
        }
    }

    fn log<'b>(&'b self, key: Option<&'b Secret>, from: Position) -> Log<'b> {
        let geometry = self.superblock.geometry;
        Log::new(&self.files, geometry, key, from.end.segment)
    }

    /// Follows the log from the tables on, decides where it ends, and applies it.
    fn roll_forward(&mut self, key: Option<&Secret>, depth: Depth, findings: &mut Findings) {
        let start = self.end;
        let log = self.log(key, start);
        let Path { mut links, forged } = log.follow(start, Seq(u64::MAX), depth);
        for at in forged {
            let message = "it is whole and fits, but its keyed hash does not match";
            findings.add(codes::BATCH_NOT_AUTHENTIC, at, message);
        }
        let (mut durable, mut said) = (self.superblock.durable_through, Seq(0));
        for link in &links {
            if link.durable_through >= link.after.seq {
                let message = format!("batch {} says it was durable before", link.after.seq);
                findings.add(codes::BATCH_DURABLE_THROUGH, link.at, message);
                continue;
            }
            if link.durable_through < said {
                let message = format!("batch {said} was, by a batch before");
                findings.add(codes::BATCH_DURABLE_THROUGH, link.at, message);
            }
            said = said.max(link.durable_through);
            durable = durable.max(said);
        }
        let last = |links: &[Link]| links.last().map_or(start, |link| link.after);
        let geometry = &self.superblock.geometry;
        let scan = scan(&self.files, geometry, key, last(&links).end);
        durable = durable.max(scan.durable_through);
        let torn = |link: &Link| {
            let slots = link.after.end.slot.saturating_sub(link.at.slot);
            let is_whole = || depth == Depth::Headers || self.files.is_on_medium(link.at, slots);
            link.after.seq > durable && (!link.bad.is_empty() || !is_whole())
        };
        let found = links.len();
        if let Some(cut) = links.iter().position(torn) {
            links.truncate(cut);
        }
        let end = last(&links);
        self.torn_tail = found > links.len() || scan.batches > 0;
        report_end(&scan, end, durable, findings);
        self.load_packs(&links, findings);
        self.replay(links, start, findings);
        self.end = end;
    }

    /// Goes on from the newest checkpoint where the log from the older one is cut off before it: with what is
    /// left of its tables, and the log after it.
    fn go_on_from(&mut self, newest: &Superblock, key: Option<&Secret>, findings: &mut Findings) {
        let (tables, _) = tables::salvage(&self.files, newest, &mut Findings::default());
        self.state.absorb(tables.state);
        self.headers.extend(tables.batches);
        self.complete = false;
        self.end = newest.position;
        self.roll_forward(key, Depth::Bodies, findings);
    }

    /// Finds out where virtual segments are by the end of the log: before any node is read.
    fn load_packs(&mut self, links: &[Link], findings: &mut Findings) {
        if !self.applies_log {
            return;
        }
        for link in links.iter().filter(|link| link.malformed.is_none()) {
            if let Ok(head) = self.files.batch(link.at, &self.superblock.geometry)
                && let Some(Ok(pack)) = pack_of(&head.records)
            {
                self.state.add_pack(pack);
            }
        }
        self.files.packed = packs::load(&self.files, &self.state, &self.superblock, findings);
    }

    fn replay(&mut self, links: Vec<Link>, start: Position, findings: &mut Findings) {
        let mut before = start.end;
        // What the log changes in what is lost would only say again that it is lost.
        let mut of_lost = Findings::default();
        for link in links {
            if before.segment != link.at.segment && before.segment.0 > 0 {
                self.left_at.insert(before.segment, before.slot);
            }
            before = link.after.end;
            report_link(&link, findings);
            self.log_batches += 1;
            self.headers.push((link.at, link.header_slots));
            let geometry = &self.superblock.geometry;
            if link.malformed.is_none()
                && self.applies_log
                && let Ok(head) = self.files.batch(link.at, geometry)
            {
                summaries::verify(&head, &self.files, geometry, findings);
                let of_records = match self.complete {
                    true => &mut *findings,
                    false => &mut of_lost,
                };
                replay::apply(&mut self.state, &head, &self.files, geometry, of_records);
            }
            // A batch that fits proves its segment, whether or not a record names it.
            let segment = link.at.segment;
            let slot_count = self.superblock.geometry.segment_slots;
            let record = SegmentRecord {
                segment,
                slot_count,
            };
            self.state.segments.entry(segment).or_insert(record);
        }
    }

    /// Whether the older superblock still leads to the newest: then losing that loses nothing.
    fn verify_fallback(&self, older: &Superblock, key: Option<&Secret>, findings: &mut Findings) {
        let mut inner = Findings::default();
        if older.tables.is_some() {
            tables::read(&self.files, older, &mut inner);
        }
        let goal = self.superblock.position;
        let path = self.log(key, older.position);
        let path = path.follow(older.position, goal.seq, Depth::Headers);
        let reached = path.links.last().map_or(older.position, |link| link.after);
        let location = format!("superblock {}", older.generation);
        if let Some(first) = inner.list.first() {
            let message = format!("its tables are damaged: {first}");
            findings.add(codes::FALLBACK_LOST, location, message);
        } else if reached != goal {
            let message = format!(
                "the log after it ends at batch {} ({}), not at batch {} ({})",
                reached.seq, reached.end, goal.seq, goal.end
            );
            findings.add(codes::FALLBACK_LOST, location, message);
        }
    }
}

/// The tables of the newest superblock that has whole ones, and where they are in the log.
fn read_tables(
    files: &Files<'_>,
    chosen: &Chosen,
    findings: &mut Findings,
) -> Option<(Position, Tables)> {
    for superblock in std::iter::once(&chosen.newest).chain(&chosen.older) {
        let tables = match superblock.tables {
            None => Some(Tables::default()),
            Some(_) => tables::read(files, superblock, findings),
        };
        if let Some(tables) = tables {
            catalog::check_next_ids(&tables.state, superblock, findings);
            return Some((superblock.position, tables));
        }
    }
    None
}

/// What is left of the tables of the newest superblock; if nothing is, of those of the older one.
fn salvage_tables(files: &Files<'_>, chosen: &Chosen) -> Option<(Position, Tables)> {
    let superblocks = std::iter::once(&chosen.newest).chain(&chosen.older);
    let mut left = superblocks.map(|superblock| {
        // What is damaged was reported when they were read.
        let (tables, _) = tables::salvage(files, superblock, &mut Findings::default());
        (superblock.position, tables)
    });
    let newest = left.next()?;
    match newest.1.batches.is_empty() {
        true => left.next().or(Some(newest)),
        false => Some(newest),
    }
}

/// The first segment that the log is read from, by either superblock.
fn kept_from(chosen: &Chosen) -> SegmentId {
    let older = chosen.older.as_ref();
    let positions = older.into_iter().chain([&chosen.newest]);
    let ends = positions.map(|superblock| superblock.position.end.segment);
    ends.min().unwrap_or_default()
}

fn report_end(scan: &Scan, end: Position, durable: Seq, findings: &mut Findings) {
    if scan.abandoned {
        let message = "too many things look like batches and are none";
        findings.add(codes::LOG_SCAN_ABANDONED, end.end, message);
    }
    if durable > end.seq {
        let message = format!(
            "the log ends after batch {}, but batch {durable} was durable",
            end.seq
        );
        findings.add(codes::BATCH_LOST, end.end, message);
    }
}

fn report_link(link: &Link, findings: &mut Findings) {
    if let Some(damage) = link.malformed {
        let message = format!("batch {}: {damage}", link.after.seq);
        findings.add(codes::BATCH_MALFORMED, link.at, message);
    }
    for bad in &link.bad {
        let code = match bad.part.is_node {
            true => codes::BATCH_NODE_DAMAGED,
            false => codes::BATCH_PAGE_DAMAGED,
        };
        let message = format!("in batch {}: {}", link.after.seq, bad.trouble);
        findings.add(code, bad.part.at, message);
    }
}

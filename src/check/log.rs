//! Follows the log: from a point in it, batch by batch, as long as each fits the one before.

use std::collections::HashMap;

use crate::check::files::{Files, Trouble};
use crate::crypto::Secret;
use crate::error::Damage;
use crate::format::batch::BatchHead;
use crate::format::record::{Record, Records};
use crate::format::superblock::{Geometry, Position};
use crate::units::{SegmentId, Seq, SlotAddr};

/// What is needed to follow the log.
#[derive(Debug)]
pub(super) struct Log<'a> {
    pub files: &'a Files<'a>,
    pub geometry: Geometry,
    /// The log key; without it chain values are only compared, not proved.
    pub key: Option<&'a Secret>,
    /// Segments by the place at which their first batch takes over, greatest first.
    takes_over: HashMap<SlotAddr, Vec<SegmentId>>,
}

/// How much of a batch is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    Headers,
    Bodies,
}

/// A batch in the log.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub at: SlotAddr,
    pub header_slots: u32,
    pub durable_through: Seq,
    /// The point right after it.
    pub after: Position,
    /// Parts of the body that do not match their checksums.
    pub bad: Vec<BadPart>,
    /// Why its records cannot be, if so.
    pub malformed: Option<Damage>,
}

/// A part of a body that does not match its checksum.
#[derive(Clone, Debug)]
pub(super) struct BadPart {
    pub part: Part,
    pub trouble: Trouble,
}

/// A page or a node in the body of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub at: SlotAddr,
    pub slots: u32,
    pub crc: u32,
    pub is_node: bool,
}

/// The log as far as it goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    pub links: Vec<Link>,
    /// Batches that fit in all but their keyed hash.
    pub forged: Vec<SlotAddr>,
}

impl<'a> Log<'a> {
    /// Finds which segments after `after` take the log over, and where.
    pub fn new(
        files: &'a Files<'a>,
        geometry: Geometry,
        key: Option<&'a Secret>,
        after: SegmentId,
    ) -> Self {
        let mut takes_over: HashMap<_, Vec<_>> = HashMap::new();
        let segments = files.segments().into_iter().rev();
        for segment in segments.filter(|&segment| segment > after) {
            let first = SlotAddr { segment, slot: 1 };
            if let Ok(head) = files.batch(first, &geometry) {
                let place = takes_over.entry(head.header.previous_end).or_default();
                place.push(segment);
            }
        }
        Self {
            files,
            geometry,
            key,
            takes_over,
        }
    }

    /// The batches after a point; with `until` none after that one.
    pub fn follow(&self, from: Position, until: Seq, depth: Depth) -> Path {
        let mut path = Path::default();
        let mut last = from;
        while last.seq < until {
            // Each step has a greater number in a place that names its number: this ends.
            match self.next(&last, depth, &mut path.forged) {
                Some(link) => {
                    last = link.after;
                    path.links.push(link);
                }
                None => break,
            }
        }
        path
    }

    /// The batch after a point. One with a damaged body is taken only if there is no other.
    pub fn next(&self, last: &Position, depth: Depth, forged: &mut Vec<SlotAddr>) -> Option<Link> {
        let mut damaged = None;
        for at in self.candidates(last.end) {
            let Ok(head) = self.files.batch(at, &self.geometry) else {
                continue;
            };
            let header = &head.header;
            let fits = last.seq.0.checked_add(1) == Some(header.seq.0)
                && header.previous_end == last.end
                && header.previous_chain == last.chain;
            if !fits {
                continue;
            }
            if self.key.is_some_and(|key| !head.is_authentic(key)) {
                forged.push(at);
                continue;
            }
            let link = self.link(&head, depth);
            if link.bad.is_empty() {
                return Some(link);
            }
            damaged = damaged.or(Some(link));
        }
        damaged
    }

    /// The places where the log may go on.
    fn candidates(&self, end: SlotAddr) -> impl Iterator<Item = SlotAddr> {
        let others = self.takes_over.get(&end).into_iter().flatten().copied();
        let others = others.filter(move |&segment| segment > end.segment);
        let here = (end.segment.0 > 0 && end.slot < self.geometry.segment_slots).then_some(end);
        others
            .map(|segment| SlotAddr { segment, slot: 1 })
            .chain(here)
    }

    fn link(&self, head: &BatchHead, depth: Depth) -> Link {
        let header = &head.header;
        let (bad, malformed) = match parts(head, &self.geometry) {
            Ok(parts) if depth == Depth::Bodies => (bad_parts(self.files, parts), None),
            Ok(_) => (Vec::new(), None),
            Err(damage) => (Vec::new(), Some(damage)),
        };
        Link {
            at: header.at,
            header_slots: head.body().slot - header.at.slot,
            durable_through: header.durable_through,
            after: Position {
                seq: header.seq,
                chain: head.chain,
                end: head.end(),
            },
            bad,
            malformed,
        }
    }
}

/// The parts that do not match their checksums.
pub(super) fn bad_parts(files: &Files<'_>, parts: Vec<Part>) -> Vec<BadPart> {
    let verify = |part: &Part| match files.read(part.at, part.slots) {
        Ok(bytes) if crc32fast::hash(&bytes) == part.crc => None,
        Ok(_) => Some(Trouble::Damage(Damage::BadChecksum)),
        Err(trouble) => Some(trouble),
    };
    let bad = parts.into_iter().filter_map(|part| {
        let trouble = verify(&part)?;
        Some(BadPart { part, trouble })
    });
    bad.collect()
}

/// What the body of a batch holds, by its records: pages or nodes, slot after slot.
pub(super) fn parts(head: &BatchHead, geometry: &Geometry) -> Result<Vec<Part>, Damage> {
    let mut parts: Vec<Part> = Vec::new();
    let mut next = head.body();
    for record in Records::new(&head.records) {
        match record? {
            Record::Pages { deltas, .. } => {
                for delta in deltas {
                    if delta.entry.at != next {
                        return Err(Damage::Inconsistent("a page is not in its place"));
                    }
                    parts.push(Part {
                        at: next,
                        slots: geometry.page_slots(),
                        crc: delta.entry.crc,
                        is_node: false,
                    });
                    next.slot = next.slot.saturating_add(geometry.page_slots());
                }
            }
            Record::Nodes(crcs) => {
                for crc in crcs {
                    parts.push(Part {
                        at: next,
                        slots: 1,
                        crc,
                        is_node: true,
                    });
                    next.slot = next.slot.saturating_add(1);
                }
            }
            _ => {}
        }
    }
    if next != head.end() {
        return Err(Damage::Inconsistent("records do not account for the body"));
    }
    let mixed = parts.windows(2).any(|pair| match pair {
        [a, b] => a.is_node != b.is_node,
        _ => false,
    });
    match mixed {
        true => Err(Damage::Inconsistent("the body holds both pages and nodes")),
        false => Ok(parts),
    }
}

//! A segment, batch by batch.

use crate::check::files::{Files, Trouble};
use crate::check::lock_shared;
use crate::check::log::{bad_parts, parts};
use crate::check::superblocks::{SlotState, read_slots};
use crate::error::{Damage, Error, Kind, Result};
use crate::format::batch::BatchHead;
use crate::format::record::{PageRange, Record, Records};
use crate::format::segment::{SegmentHeader, segment_file_name};
use crate::format::slots::SlotsPurpose;
use crate::format::superblock::{Geometry, SEGMENT_SLOTS_MAX};
use crate::io::Disk;
use crate::units::{HeadId, SegmentId, Seq, SlotAddr, StoreId};

/// A segment file.
#[derive(Clone, Debug)]
pub struct SegmentView {
    /// The segment.
    pub segment: SegmentId,
    /// The store that it says it belongs to.
    pub store_id: Option<StoreId>,
    /// Slots in it, the header included.
    pub slot_count: u32,
    /// Why its header cannot be read, if so.
    pub problem: Option<String>,
    /// The batches from its first on, as long as one follows the other. The log may end before.
    pub batches: Vec<BatchView>,
    /// The slot after the last one.
    pub end: SlotAddr,
    /// Why there is none there.
    pub stopped: String,
    /// Batches behind that place that are whole: what damage, a hole or a crash cut off from those before.
    pub later: Vec<BatchView>,
}

/// A batch.
#[derive(Clone, Debug)]
pub struct BatchView {
    /// Its place in the write order.
    pub seq: Seq,
    /// All batches up to this one were durable when it was appended.
    pub durable_through: Seq,
    /// Its first slot.
    pub at: SlotAddr,
    /// Where the log before it ends.
    pub previous_end: SlotAddr,
    /// Its chain value.
    pub chain: [u8; 32],
    /// Chain value of the batch before.
    pub previous_chain: [u8; 32],
    /// Salt of its pages.
    pub salt: [u8; 12],
    /// Header slots.
    pub header_slots: u32,
    /// Body slots.
    pub body_slots: u32,
    /// What it says.
    pub records: Vec<RecordView>,
    /// First slots of pages and nodes that do not match their checksums.
    pub damaged: Vec<SlotAddr>,
    /// Why its records cannot be, if so.
    pub malformed: Option<String>,
}

/// A record of a batch, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView {
    /// What it is: `pages`, `zeroes`, `discard`, `nodes`, `head`, `lineage`, `key_epoch`,
    /// `segment`, `salt`, `table`, `summary` or `pack`.
    pub kind: &'static str,
    /// The head that it is about.
    pub head: Option<HeadId>,
    /// Pages or nodes that it is about; else 1.
    pub count: u64,
    /// More, in words.
    pub detail: String,
}

/// Reads a segment file, whether or not it is in use.
pub fn segment(disk: &dyn Disk, segment: SegmentId) -> Result<SegmentView> {
    let _guard = lock_shared(disk)?;
    let files = Files::list(disk)?;
    let copies = read_slots(disk, &files)?;
    let (header, problem) = match header(&files, segment) {
        Ok(header) => (Some(header), None),
        // It was given back or never made; whether the store misses it, a check tells.
        Err(Trouble::Damage(Damage::Missing)) => {
            return Err(Error::NotFound {
                kind: Kind::Segment,
                name: segment_file_name(segment),
            });
        }
        Err(trouble) => (None, Some(trouble.to_string())),
    };
    // What the header of a damaged file says is not to be trusted, its length is.
    let slot_count = header.map_or(SEGMENT_SLOTS_MAX, |header| header.slot_count);
    let slot_count = slot_count.min(files.slot_count(segment));
    let page_len = copies.iter().find_map(|copy| match &copy.state {
        SlotState::Good(superblock) => Some(superblock.geometry.page_len),
        _ => None,
    });
    let geometry = Geometry {
        page_len: page_len.unwrap_or(4096),
        segment_slots: slot_count,
    };
    let (mut batches, mut end) = (Vec::new(), SlotAddr { segment, slot: 1 });
    let stopped = loop {
        if end.slot >= slot_count {
            break "the segment is full".to_owned();
        }
        match files.batch(end, &geometry) {
            Ok(head) => {
                end = head.end();
                batches.push(batch(&files, &head, &geometry));
            }
            Err(trouble) => break trouble.to_string(),
        }
    };
    Ok(SegmentView {
        segment,
        store_id: header.map(|header| header.store_id),
        slot_count,
        problem,
        later: later(&files, end, &geometry),
        batches,
        end,
        stopped,
    })
}

/// The whole batches behind a place where none is.
fn later(files: &Files<'_>, end: SlotAddr, geometry: &Geometry) -> Vec<BatchView> {
    let mut batches = Vec::new();
    let mut at = end;
    // What only looks like a batch could be read again for every slot.
    let mut budget = 1024_u64;
    while at.slot < geometry.segment_slots && budget > 0 {
        let left = geometry.segment_slots - at.slot;
        let first = files.read(at, 1).unwrap_or_default();
        budget += 4;
        let Ok(cost) = BatchHead::peek(&first, at, left) else {
            at.slot += 1;
            continue;
        };
        budget = budget.saturating_sub(u64::from(cost));
        match files.batch(at, geometry) {
            Ok(head) => {
                at = head.end();
                batches.push(batch(files, &head, geometry));
            }
            Err(_) => at.slot += 1,
        }
    }
    batches
}

fn header(files: &Files<'_>, segment: SegmentId) -> Result<SegmentHeader, Trouble> {
    let slot = files.read(SlotAddr { segment, slot: 0 }, 1)?;
    Ok(SegmentHeader::decode(&slot)?)
}

/// What a batch says, and what of its body is damaged.
pub(super) fn batch(files: &Files<'_>, head: &BatchHead, geometry: &Geometry) -> BatchView {
    let header = &head.header;
    let (damaged, malformed) = match parts(head, geometry) {
        Ok(parts) => (bad_parts(files, parts), None),
        Err(damage) => (Vec::new(), Some(damage.to_string())),
    };
    BatchView {
        seq: header.seq,
        durable_through: header.durable_through,
        at: header.at,
        previous_end: header.previous_end,
        chain: head.chain,
        previous_chain: header.previous_chain,
        salt: header.salt,
        header_slots: head.body().slot - header.at.slot,
        body_slots: header.body_slots,
        records: Records::new(&head.records)
            .filter_map(std::result::Result::ok)
            .map(|record| view(&record))
            .collect(),
        damaged: damaged.iter().map(|bad| bad.part.at).collect(),
        malformed,
    }
}

fn view(record: &Record) -> RecordView {
    let range = |kind, range: &PageRange| {
        let detail = format!("from page {}", range.first);
        (kind, Some(range.head), range.count, detail)
    };
    let (kind, head, count, detail) = match record {
        Record::Pages { head, deltas } => {
            let first = deltas.first().map(|delta| delta.page).unwrap_or_default();
            let last = deltas.last().map(|delta| delta.page).unwrap_or_default();
            let detail = format!("pages {first} to {last}");
            ("pages", Some(*head), deltas.len() as u64, detail)
        }
        Record::Zeroes(zeroes) => range("zeroes", zeroes),
        Record::Discard(discard) => range("discard", discard),
        Record::Lost(lost) => range("lost", lost),
        Record::Nodes(crcs) => ("nodes", None, crcs.len() as u64, String::new()),
        Record::Head(head) => {
            let detail = format!("{:?} is {}", head.name, head.state.as_str());
            ("head", Some(head.head), 1, detail)
        }
        Record::Lineage(epoch) => {
            let parent = epoch.parent.unwrap_or_default();
            let detail = format!("lineage epoch {} under {parent}", epoch.lineage);
            ("lineage", None, 1, detail)
        }
        Record::KeyEpoch(epoch) => {
            let detail = format!("{} in lineage epoch {}", epoch.key_epoch, epoch.lineage);
            ("key_epoch", None, 1, detail)
        }
        Record::Segment(segment) => ("segment", None, 1, segment.segment.to_string()),
        Record::Salt(salt) => {
            let detail = format!("segment {} from slot {}", salt.segment, salt.first_slot);
            ("salt", None, 1, detail)
        }
        Record::Slots(slots) => {
            let count = slots.runs.iter().map(|&(_, count)| u64::from(count)).sum();
            let what = match slots.purpose {
                SlotsPurpose::Live => "live".to_owned(),
                SlotsPurpose::DeadPages(bucket) => {
                    format!("pages that lineage epoch {} let go of", bucket.lineage)
                }
                SlotsPurpose::DeadNodes(bucket) => {
                    format!("nodes that lineage epoch {} let go of", bucket.lineage)
                }
            };
            let detail = format!("{what} in segment {}", slots.segment);
            ("slots", None, count, detail)
        }
        Record::Quota(quota) => {
            let bound = |bound: Option<u64>| bound.map_or("any".to_owned(), |it| it.to_string());
            let (bytes, heads) = (bound(quota.bytes), bound(quota.heads));
            ("quota", None, 1, format!("{bytes} bytes, {heads} heads"))
        }
        Record::Table { part, .. } => ("table", None, 1, format!("part {part}")),
        Record::Pack(pack) => {
            let detail = format!("pack {}", pack.pack);
            ("pack", None, pack.segments.len() as u64, detail)
        }
        Record::Summary(summary) => {
            let detail = format!("of segment {}", summary.segment);
            ("summary", None, summary.batches.len() as u64, detail)
        }
    };
    RecordView {
        kind,
        head,
        count,
        detail,
    }
}

//! Records: what a batch says. A batch holds any number of them, one after another.
//!
//! record = header | body of `len` bytes. Unknown kinds are refused: whoever cannot read a
//! record cannot know what it changes.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::Damage;
use crate::format::catalog::{
    HeadRecord, KeyEpochRecord, LineageRecord, SaltRecord, SegmentRecord,
};
use crate::format::entry::{DataEntry, DiskEntry, Entry, SLOT_BITS};
use crate::format::layout::disk_struct;
use crate::format::pack::PackRecord;
use crate::format::quota::Quota;
use crate::format::slots::SlotsRecord;
use crate::format::summary::Summary;
use crate::format::superblock::TableRef;
use crate::units::{HeadId, KeyEpoch, PageNo, SegmentId, SlotAddr};

const PAGES: u16 = 1;
const ZEROES: u16 = 2;
const DISCARD: u16 = 3;
const NODES: u16 = 4;
const HEAD: u16 = 5;
const LINEAGE: u16 = 6;
const KEY_EPOCH: u16 = 7;
const SEGMENT: u16 = 8;
const SALT: u16 = 9;
const TABLE: u16 = 10;
const SUMMARY: u16 = 11;
const SLOTS: u16 = 12;
const QUOTA: u16 = 13;
const PACK: u16 = 14;
const LOST: u16 = 15;

disk_struct! {
    /// The start of a record.
    pub struct RecordHeader = 8 {
        /// 1 pages, 2 zeroes, 3 discard, 4 nodes, 5 head, 6 lineage epoch, 7 key epoch, 8 segment, 9 salt, 10 table, 11 summary, 12 slots, 13 quota, 14 pack, 15 lost.
        kind: U16,
        /// Zero.
        reserved: U16,
        /// Bytes that follow.
        len: U32,
    }
}

/// Length of the start of a record in bytes.
pub const RECORD_HEADER_LEN: usize = size_of::<RecordHeader>();

disk_struct! {
    /// Pages: the head they are written to; page deltas follow, ascending by page.
    pub struct DiskPages = 8 {
        /// The head.
        head: U32,
        /// Page deltas that follow.
        count: U32,
    }
}

disk_struct! {
    /// A page that was written.
    pub struct DiskPageDelta = 64 {
        /// Logical page number.
        page: U64,
        /// Where the page is; its slots are in the body of the same batch.
        entry: DiskEntry,
        /// Segment of the page that was there before; 0 if nothing, an explicit zero or a lost page was.
        old_segment: U32,
        /// First slot of the page before, or 0.
        old_slot: U32,
        /// Key epoch of the page, explicit zero or lost page before, or 0.
        old_key_epoch: U32,
    }
}

disk_struct! {
    /// Zeroes, discard and lost: a range of pages that became explicit zeroes, unmapped, or lost. Page runs follow.
    pub struct DiskRange = 32 {
        /// The head.
        head: U32,
        /// The key epoch that was open: it names the birth of explicit zeroes, lost pages and nodes.
        key_epoch: U32,
        /// First page.
        first_page: U64,
        /// Pages.
        page_count: U64,
        /// Page runs that follow: all pages with contents that the range had before.
        run_count: U32,
        /// Zero.
        reserved: U32,
    }
}

disk_struct! {
    /// Pages that a head let go of, one after the other in a segment.
    pub struct DiskPageRun = 16 {
        /// Segment.
        segment: U32,
        /// First slot of the first page.
        slot: U32,
        /// Pages.
        page_count: U32,
        /// Key epoch that they are sealed under.
        key_epoch: U32,
    }
}

disk_struct! {
    /// Table: this batch is a part of a checkpoint's tables; it changes nothing itself.
    pub struct DiskTable = 44 {
        /// Place of this part among the table batches, from 0.
        part: U32,
        /// Segment of the table batch before; 0 if there is none.
        previous_segment: U32,
        /// First slot of the table batch before.
        previous_slot: U32,
        /// BLAKE3 hash of the header slots of the table batch before.
        previous_hash: [u8; 32],
    }
}

/// One thing that a batch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Pages were written to a head.
    Pages {
        /// The head.
        head: HeadId,
        /// The pages, ascending.
        deltas: Vec<PageDelta>,
    },
    /// Pages became explicit zeroes.
    Zeroes(PageRange),
    /// Pages were unmapped.
    Discard(PageRange),
    /// A repair gave up the contents of pages, which were damaged.
    Lost(PageRange),
    /// The body holds nodes; a CRC-32 for each slot.
    Nodes(Vec<u32>),
    /// A head is new or changed.
    Head(Box<HeadRecord>),
    /// A lineage epoch is new or changed.
    Lineage(LineageRecord),
    /// A key epoch is new or changed.
    KeyEpoch(Box<KeyEpochRecord>),
    /// A segment exists.
    Segment(SegmentRecord),
    /// A salt is used from a slot on. (Only in tables: batches carry theirs in the header.)
    Salt(SaltRecord),
    /// The batch is a part of a checkpoint's tables.
    Table {
        /// Place among the table batches, from 0.
        part: u32,
        /// The table batch before.
        previous: Option<TableRef>,
    },
    /// What the batches of the segment before say. It changes nothing.
    Summary(Box<Summary>),
    /// Slots of a segment that are in use, or wait on a deadlist. (Only in tables.)
    Slots(SlotsRecord),
    /// How much the store may take, from now on.
    Quota(Quota),
    /// Virtual segments are in a packed file from now on.
    Pack(Box<PackRecord>),
}

/// A page that was written, and what it took the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageDelta {
    /// The page.
    pub page: PageNo,
    /// The new entry.
    pub entry: DataEntry,
    /// Where the old page was; `None` if nothing, an explicit zero or a lost page was there.
    pub old_at: Option<SlotAddr>,
    /// The key epoch of what was there; `None` if nothing was.
    pub old_key_epoch: Option<KeyEpoch>,
}

/// A range of pages of a head, and what of it the head let go of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRange {
    /// The head.
    pub head: HeadId,
    /// The key epoch that was open.
    pub key_epoch: KeyEpoch,
    /// First page.
    pub first: PageNo,
    /// Pages.
    pub count: u64,
    /// The pages with contents that were there before.
    pub gone: Vec<PageRun>,
}

/// Pages that follow each other in a segment, sealed under one key epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// The first slot of the first page.
    pub at: SlotAddr,
    /// Pages.
    pub count: u32,
    /// Their key epoch.
    pub key_epoch: KeyEpoch,
}

impl PageRun {
    /// Its length in a record, in bytes.
    pub const LEN: usize = size_of::<DiskPageRun>();

    /// Adds a page to runs: to the last one if it follows that.
    pub fn push(runs: &mut Vec<Self>, page: &DataEntry, page_slots: u32) {
        match runs.last_mut() {
            Some(run)
                if run.key_epoch == page.key_epoch
                    && run.at.segment == page.at.segment
                    && run.at.slot + run.count * page_slots == page.at.slot =>
            {
                run.count += 1;
            }
            _ => runs.push(Self {
                at: page.at,
                count: 1,
                key_epoch: page.key_epoch,
            }),
        }
    }
}

impl PageRun {
    fn decode(disk: &DiskPageRun) -> Result<Self, Damage> {
        let (slot, count) = (disk.slot.get(), disk.page_count.get());
        let end = slot.checked_add(count).filter(|&end| end <= 1 << SLOT_BITS);
        if disk.segment.get() == 0 || slot == 0 || count == 0 || end.is_none() {
            return Err(Damage::OutOfRange("page run"));
        }
        Ok(Self {
            at: SlotAddr {
                segment: SegmentId(disk.segment.get()),
                slot,
            },
            count,
            key_epoch: KeyEpoch(disk.key_epoch.get()),
        })
    }
}

impl PageRange {
    /// The pages.
    pub fn pages(&self) -> std::ops::Range<PageNo> {
        self.first..PageNo(self.first.0.saturating_add(self.count))
    }
}

impl PageDelta {
    /// What was there before, for comparison with a page table.
    pub fn replaces(&self, old: Option<&Entry>) -> bool {
        let at = match old {
            Some(Entry::Data(data)) => Some(data.at),
            _ => None,
        };
        self.old_at == at && self.old_key_epoch == old.map(Entry::key_epoch)
    }

    fn encode(&self) -> DiskPageDelta {
        let old = self.old_at.unwrap_or_default();
        DiskPageDelta {
            page: self.page.0.into(),
            entry: Entry::Data(self.entry).encode(),
            old_segment: old.segment.0.into(),
            old_slot: old.slot.into(),
            old_key_epoch: self.old_key_epoch.unwrap_or_default().0.into(),
        }
    }

    fn decode(disk: &DiskPageDelta) -> Result<Self, Damage> {
        let Entry::Data(entry) = Entry::decode(&disk.entry)? else {
            return Err(Damage::OutOfRange("flags"));
        };
        let old_segment = SegmentId(disk.old_segment.get());
        let old_key_epoch = KeyEpoch(disk.old_key_epoch.get());
        if old_segment.0 == 0 && disk.old_slot.get() != 0 {
            return Err(Damage::NotZero);
        }
        Ok(Self {
            page: PageNo(disk.page.get()),
            entry,
            old_at: (old_segment.0 != 0).then(|| SlotAddr {
                segment: old_segment,
                slot: disk.old_slot.get(),
            }),
            old_key_epoch: (old_key_epoch.0 != 0).then_some(old_key_epoch),
        })
    }
}

impl Record {
    /// Bytes that [`Record::encode`] adds for a `Pages` record of `count` pages.
    pub fn pages_len(count: usize) -> usize {
        size_of::<RecordHeader>() + size_of::<DiskPages>() + count * size_of::<DiskPageDelta>()
    }

    /// Bytes that [`Record::encode`] adds for a `Nodes` record of `count` nodes.
    pub fn nodes_len(count: usize) -> usize {
        size_of::<RecordHeader>() + count * size_of::<U32>()
    }

    /// Appends the record to a batch's records.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_with(self.kind(), out, |out| self.encode_body(out));
    }

    /// Appends a `Pages` record.
    pub fn encode_pages(head: HeadId, deltas: &[PageDelta], out: &mut Vec<u8>) {
        encode_with(PAGES, out, |out| encode_deltas(head, deltas, out));
    }

    fn kind(&self) -> u16 {
        match self {
            Self::Pages { .. } => PAGES,
            Self::Zeroes(_) => ZEROES,
            Self::Discard(_) => DISCARD,
            Self::Lost(_) => LOST,
            Self::Nodes(_) => NODES,
            Self::Head(_) => HEAD,
            Self::Lineage(_) => LINEAGE,
            Self::KeyEpoch(_) => KEY_EPOCH,
            Self::Segment(_) => SEGMENT,
            Self::Salt(_) => SALT,
            Self::Table { .. } => TABLE,
            Self::Summary(_) => SUMMARY,
            Self::Slots(_) => SLOTS,
            Self::Quota(_) => QUOTA,
            Self::Pack(_) => PACK,
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Pages { head, deltas } => encode_deltas(*head, deltas, out),
            Self::Zeroes(range) | Self::Discard(range) | Self::Lost(range) => {
                let disk = DiskRange {
                    head: range.head.0.into(),
                    key_epoch: range.key_epoch.0.into(),
                    first_page: range.first.0.into(),
                    page_count: range.count.into(),
                    run_count: (range.gone.len() as u32).into(),
                    reserved: 0.into(),
                };
                out.extend_from_slice(disk.as_bytes());
                for run in &range.gone {
                    let disk = DiskPageRun {
                        segment: run.at.segment.0.into(),
                        slot: run.at.slot.into(),
                        page_count: run.count.into(),
                        key_epoch: run.key_epoch.0.into(),
                    };
                    out.extend_from_slice(disk.as_bytes());
                }
            }
            Self::Nodes(crcs) => {
                for crc in crcs {
                    out.extend_from_slice(&crc.to_le_bytes());
                }
            }
            Self::Head(head) => head.encode(out),
            Self::Lineage(lineage) => lineage.encode(out),
            Self::KeyEpoch(key_epoch) => key_epoch.encode(out),
            Self::Segment(segment) => segment.encode(out),
            Self::Salt(salt) => salt.encode(out),
            Self::Summary(summary) => summary.encode(out),
            Self::Slots(slots) => slots.encode(out),
            Self::Quota(quota) => quota.encode(out),
            Self::Pack(pack) => pack.encode(out),
            Self::Table { part, previous } => {
                let at = previous.map(|table| table.at).unwrap_or_default();
                let disk = DiskTable {
                    part: (*part).into(),
                    previous_segment: at.segment.0.into(),
                    previous_slot: at.slot.into(),
                    previous_hash: previous.map_or([0; 32], |table| table.hash),
                };
                out.extend_from_slice(disk.as_bytes());
            }
        }
    }

    fn decode(kind: u16, body: &[u8]) -> Result<Self, Damage> {
        Ok(match kind {
            PAGES => decode_pages(body)?,
            ZEROES => Self::Zeroes(decode_range(body)?),
            DISCARD => Self::Discard(decode_range(body)?),
            LOST => Self::Lost(decode_range(body)?),
            NODES => {
                let crcs = <[U32]>::ref_from_bytes(body).map_err(|_| Damage::Truncated)?;
                Self::Nodes(crcs.iter().map(|crc| crc.get()).collect())
            }
            HEAD => Self::Head(Box::new(HeadRecord::decode(body)?)),
            LINEAGE => Self::Lineage(LineageRecord::decode(body)?),
            KEY_EPOCH => Self::KeyEpoch(Box::new(KeyEpochRecord::decode(body)?)),
            SEGMENT => Self::Segment(SegmentRecord::decode(body)?),
            SALT => Self::Salt(SaltRecord::decode(body)?),
            SUMMARY => Self::Summary(Box::new(Summary::decode(body)?)),
            SLOTS => Self::Slots(SlotsRecord::decode(body)?),
            QUOTA => Self::Quota(Quota::decode(body)?),
            PACK => Self::Pack(Box::new(PackRecord::decode(body)?)),
            TABLE => {
                let disk = DiskTable::ref_from_bytes(body).map_err(|_| Damage::Truncated)?;
                let segment = SegmentId(disk.previous_segment.get());
                let is_blank = disk.previous_slot.get() == 0 && disk.previous_hash == [0; 32];
                if segment.0 == 0 && !is_blank {
                    return Err(Damage::NotZero);
                }
                let previous = (segment.0 != 0).then(|| TableRef {
                    at: SlotAddr {
                        segment,
                        slot: disk.previous_slot.get(),
                    },
                    hash: disk.previous_hash,
                });
                Self::Table {
                    part: disk.part.get(),
                    previous,
                }
            }
            _ => return Err(Damage::OutOfRange("record kind")),
        })
    }
}

fn encode_with(kind: u16, out: &mut Vec<u8>, encode_body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let mut header = RecordHeader {
        kind: kind.into(),
        reserved: 0.into(),
        len: 0.into(),
    };
    out.extend_from_slice(header.as_bytes());
    let body = out.len();
    encode_body(out);
    header.len = ((out.len() - body) as u32).into();
    out.get_mut(start..body)
        .expect("BUG: in bounds")
        .copy_from_slice(header.as_bytes());
}

fn encode_deltas(head: HeadId, deltas: &[PageDelta], out: &mut Vec<u8>) {
    let pages = DiskPages {
        head: head.0.into(),
        count: (deltas.len() as u32).into(),
    };
    out.extend_from_slice(pages.as_bytes());
    for delta in deltas {
        out.extend_from_slice(delta.encode().as_bytes());
    }
}

fn decode_pages(body: &[u8]) -> Result<Record, Damage> {
    let (pages, rest) = DiskPages::ref_from_prefix(body).map_err(|_| Damage::Truncated)?;
    let disk = <[DiskPageDelta]>::ref_from_bytes(rest).map_err(|_| Damage::Truncated)?;
    if disk.len() != pages.count.get() as usize {
        return Err(Damage::OutOfRange("count"));
    }
    let deltas = disk
        .iter()
        .map(PageDelta::decode)
        .collect::<Result<Vec<_>, _>>()?;
    if !deltas.is_sorted_by(|a, b| a.page < b.page) {
        return Err(Damage::Inconsistent("pages are out of order"));
    }
    Ok(Record::Pages {
        head: HeadId(pages.head.get()),
        deltas,
    })
}

fn decode_range(body: &[u8]) -> Result<PageRange, Damage> {
    let (disk, rest) = DiskRange::ref_from_prefix(body).map_err(|_| Damage::Truncated)?;
    let runs = <[DiskPageRun]>::ref_from_bytes(rest).map_err(|_| Damage::Truncated)?;
    if runs.len() != disk.run_count.get() as usize {
        return Err(Damage::OutOfRange("run_count"));
    }
    if disk.reserved.get() != 0 {
        return Err(Damage::NotZero);
    }
    if disk.key_epoch.get() == 0
        || disk
            .first_page
            .get()
            .checked_add(disk.page_count.get())
            .is_none()
    {
        return Err(Damage::OutOfRange("key_epoch or page_count"));
    }
    Ok(PageRange {
        head: HeadId(disk.head.get()),
        key_epoch: KeyEpoch(disk.key_epoch.get()),
        first: PageNo(disk.first_page.get()),
        count: disk.page_count.get(),
        gone: runs.iter().map(PageRun::decode).collect::<Result<_, _>>()?,
    })
}

/// What a summary keeps of a batch's records: of a table batch only that it is one, and of one that itself
/// begins with a summary only what follows that. (Else summaries would hold those before them, and so on.)
pub fn in_summary(records: &[u8]) -> &[u8] {
    let Ok((header, _)) = RecordHeader::ref_from_prefix(records) else {
        return records;
    };
    let first = RECORD_HEADER_LEN + header.len.get() as usize;
    let kept = match header.kind.get() {
        TABLE => records.get(..RECORD_HEADER_LEN + size_of::<DiskTable>()),
        SUMMARY => records.get(first..),
        _ => None,
    };
    kept.unwrap_or(records)
}

/// The pack that a batch is about. Its record is alone in its batch, so that finding those of a log
/// takes no look at all its pages.
pub fn pack_of(records: &[u8]) -> Option<Result<PackRecord, Damage>> {
    let (header, _) = RecordHeader::ref_from_prefix(records).ok()?;
    if header.kind.get() != PACK {
        return None;
    }
    match Records::new(records).next()? {
        Ok(Record::Pack(pack)) => Some(Ok(*pack)),
        Ok(_) => None,
        Err(damage) => Some(Err(damage)),
    }
}

/// Reads the records of a batch one after another.
#[derive(Debug)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    /// Starts with the first record.
    pub fn new(records: &'a [u8]) -> Self {
        Self(records)
    }

    fn take(&mut self) -> Result<Record, Damage> {
        let (header, rest) =
            RecordHeader::ref_from_prefix(self.0).map_err(|_| Damage::Truncated)?;
        if header.reserved.get() != 0 {
            return Err(Damage::NotZero);
        }
        let len = header.len.get() as usize;
        let (body, rest) = rest.split_at_checked(len).ok_or(Damage::Truncated)?;
        self.0 = rest;
        Record::decode(header.kind.get(), body)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.take();
        if record.is_err() {
            self.0 = &[];
        }
        Some(record)
    }
}

//! Summaries: what the batches of a full segment say, once more, in one place.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::Damage;
use crate::format::layout::disk_struct;
use crate::format::superblock::Position;
use crate::units::{SegmentId, Seq, SlotAddr};

disk_struct! {
    /// Summary: what the batches of the segment before say; summary items follow, then their records.
    pub struct DiskSummary = 64 {
        /// The segment whose batches these are.
        segment: U32,
        /// Items that follow.
        count: U32,
        /// The place in the write order of the batch before the first; 0 if there is none.
        before_seq: U64,
        /// The segment in which the log before the first batch ends.
        before_segment: U32,
        /// The slot in which the log before the first batch ends.
        before_slot: U32,
        /// Chain value of the batch before the first.
        before_chain: [u8; 32],
        /// Zero.
        reserved: U64,
    }
}

disk_struct! {
    /// A batch in a summary. The batches follow each other in the write order.
    pub struct DiskSummaryItem = 64 {
        /// Its first slot.
        slot: U32,
        /// Its header slots.
        header_slots: U32,
        /// Its body slots.
        body_slots: U32,
        /// Bytes of its records in the summary: all, but of a table batch only the `Table` record, and no summary.
        records_len: U32,
        /// Its salt.
        salt: [u8; 12],
        /// Zero.
        reserved: U32,
        /// Its chain value.
        chain: [u8; 32],
    }
}

/// What the batches of a segment say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The segment.
    pub segment: SegmentId,
    /// The point before the first batch.
    pub before: Position,
    /// The batches, in order.
    pub batches: Vec<SummaryBatch>,
}

/// What a batch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryBatch {
    /// The first slot.
    pub slot: u32,
    /// Header slots.
    pub header_slots: u32,
    /// Body slots.
    pub body_slots: u32,
    /// Salt of the subkeys that its pages are sealed under.
    pub salt: [u8; 12],
    /// Its chain value.
    pub chain: [u8; 32],
    /// Its records; of a table batch only the first, and without a summary.
    pub records: Vec<u8>,
}

impl SummaryBatch {
    /// The slot after the batch.
    pub fn end_slot(&self) -> u32 {
        self.slot
            .saturating_add(self.header_slots)
            .saturating_add(self.body_slots)
    }
}

impl Summary {
    /// Bytes of the record behind its header.
    pub fn encoded_len(&self) -> usize {
        let batches = self.batches.iter();
        let batches = batches.map(|batch| size_of::<DiskSummaryItem>() + batch.records.len());
        size_of::<DiskSummary>() + batches.sum::<usize>()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let disk = DiskSummary {
            segment: self.segment.0.into(),
            count: (self.batches.len() as u32).into(),
            before_seq: self.before.seq.0.into(),
            before_segment: self.before.end.segment.0.into(),
            before_slot: self.before.end.slot.into(),
            before_chain: self.before.chain,
            reserved: 0.into(),
        };
        out.extend_from_slice(disk.as_bytes());
        for batch in &self.batches {
            let item = DiskSummaryItem {
                slot: batch.slot.into(),
                header_slots: batch.header_slots.into(),
                body_slots: batch.body_slots.into(),
                records_len: (batch.records.len() as u32).into(),
                salt: batch.salt,
                reserved: 0.into(),
                chain: batch.chain,
            };
            out.extend_from_slice(item.as_bytes());
        }
        for batch in &self.batches {
            out.extend_from_slice(&batch.records);
        }
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Damage> {
        let (disk, rest) = DiskSummary::ref_from_prefix(body).map_err(|_| Damage::Truncated)?;
        let count = disk.count.get() as usize;
        let (items, mut records) = <[DiskSummaryItem]>::ref_from_prefix_with_elems(rest, count)
            .map_err(|_| Damage::OutOfRange("count"))?;
        let mut batches = Vec::with_capacity(count);
        for item in items {
            let len = item.records_len.get() as usize;
            let (own, behind) = records
                .split_at_checked(len)
                .ok_or(Damage::OutOfRange("records_len"))?;
            records = behind;
            if item.reserved.get() != 0 {
                return Err(Damage::NotZero);
            }
            batches.push(SummaryBatch {
                slot: item.slot.get(),
                header_slots: item.header_slots.get(),
                body_slots: item.body_slots.get(),
                salt: item.salt,
                chain: item.chain,
                records: own.to_vec(),
            });
        }
        if !records.is_empty() || disk.reserved.get() != 0 {
            return Err(Damage::NotZero);
        }
        let follows = |pair: &[SummaryBatch]| matches!(pair, [a, b] if a.end_slot() == b.slot);
        let is_whole = |batch: &SummaryBatch| batch.slot > 0 && batch.header_slots > 0;
        if !batches.windows(2).all(follows) || !batches.iter().all(is_whole) {
            return Err(Damage::Inconsistent(
                "the batches of a summary do not follow each other",
            ));
        }
        Ok(Self {
            segment: SegmentId(disk.segment.get()),
            before: Position {
                seq: Seq(disk.before_seq.get()),
                chain: disk.before_chain,
                end: SlotAddr {
                    segment: SegmentId(disk.before_segment.get()),
                    slot: disk.before_slot.get(),
                },
            },
            batches,
        })
    }
}

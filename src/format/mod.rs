//! The disk format: the only module that knows byte offsets.
//!
//! Each persisted object has an encoder that cannot fail and a decoder that trusts nothing:
//! magic, version, checksum, bounds and zero reserved bytes are checked, and nothing is
//! allocated by a declared length. `docs/format.md` says the same in prose, and a test compares
//! its tables with [`LAYOUT`].
#![deny(clippy::indexing_slicing)]

pub mod batch;
pub mod catalog;
pub mod entry;
pub mod layout;
pub mod node;
pub mod pack;
pub mod quota;
pub mod record;
pub mod scrub;
pub mod segment;
pub mod slots;
pub mod summary;
pub mod superblock;

/// All structs of the format.
pub const LAYOUT: &[layout::Struct] = &[
    superblock::DiskSuperblock::LAYOUT,
    segment::DiskSegmentHeader::LAYOUT,
    pack::DiskPackHeader::LAYOUT,
    pack::DiskPackPart::LAYOUT,
    batch::DiskBatchHeader::LAYOUT,
    record::RecordHeader::LAYOUT,
    record::DiskPages::LAYOUT,
    record::DiskPageDelta::LAYOUT,
    entry::DiskEntry::LAYOUT,
    record::DiskRange::LAYOUT,
    record::DiskPageRun::LAYOUT,
    catalog::DiskHead::LAYOUT,
    catalog::DiskLineage::LAYOUT,
    catalog::DiskKeyEpoch::LAYOUT,
    catalog::DiskSegment::LAYOUT,
    catalog::DiskSalt::LAYOUT,
    slots::DiskSlots::LAYOUT,
    slots::DiskSlotRun::LAYOUT,
    quota::DiskQuota::LAYOUT,
    pack::DiskPack::LAYOUT,
    record::DiskTable::LAYOUT,
    summary::DiskSummary::LAYOUT,
    summary::DiskSummaryItem::LAYOUT,
    node::NodeHeader::LAYOUT,
    node::LeafItem::LAYOUT,
    node::InnerItem::LAYOUT,
    node::DiskNodeRef::LAYOUT,
];

/// Whether all bytes are zero. It is asked of padding and of unused slots, more often than anything is decoded.
pub fn is_zero(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        // All are as the one before: one comparison of memory, where a loop looks at a byte at a time.
        [first, rest @ ..] => *first == 0 && bytes.starts_with(rest),
    }
}

#[cfg(test)]
mod tests;

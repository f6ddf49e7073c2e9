//! Quotas: how much a store may take.

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use crate::error::Damage;
use crate::format::layout::disk_struct;

disk_struct! {
    /// How much the store may take.
    pub struct DiskQuota = 24 {
        /// Most bytes of segments at which pages are still written and heads made; 0 for no bound.
        bytes: U64,
        /// Most volumes, snapshots and pins; 0 for no bound.
        heads: U64,
        /// Bytes of the disk that what makes the store grow leaves free; 0 for none.
        keep_free: U64,
    }
}

/// How much a store may take. By default there is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Most bytes of segments, 1 or more.
    pub bytes: Option<u64>,
    /// Most volumes, snapshots and pins together, 1 or more.
    pub heads: Option<u64>,
    /// Bytes of the disk that are left free: where a new segment would leave less, writes of pages
    /// and new heads get [`Error::NoSpace`](crate::Error::NoSpace). 1 or more.
    pub keep_free: Option<u64>,
}

impl Quota {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let disk = DiskQuota {
            bytes: self.bytes.unwrap_or(0).into(),
            heads: self.heads.unwrap_or(0).into(),
            keep_free: self.keep_free.unwrap_or(0).into(),
        };
        out.extend_from_slice(disk.as_bytes());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Damage> {
        let disk = DiskQuota::ref_from_bytes(body).map_err(|_| Damage::Truncated)?;
        let some = |bound: U64| (bound.get() != 0).then_some(bound.get());
        Ok(Self {
            bytes: some(disk.bytes),
            heads: some(disk.heads),
            keep_free: some(disk.keep_free),
        })
    }
}

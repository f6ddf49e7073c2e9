//! What a check gives.

use std::collections::BTreeSet;
use std::fmt;

use crate::check::finding::{Class, Finding};
use crate::check::image::Image;
use crate::check::lost::LostPages;
use crate::check::notes;
use crate::check::segments;
use crate::check::walk::Walk;
use crate::format::catalog::HeadKind;
use crate::format::quota::Quota;
use crate::units::Seq;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is wrong: the first 1000.
    pub findings: Vec<Finding>,
    /// How much more is wrong.
    pub more_findings: u64,
    /// Pages that a repair gave up before, the first 1000 runs: no fault of the store any more.
    pub lost: Vec<LostPages>,
    /// What is no fault of the store: quotas that are passed, files of it or of the KMS that others may read.
    pub notes: Vec<String>,
    /// Whether it was ended before the end. What was not looked at is not known.
    pub is_cancelled: bool,
    /// What was looked at.
    pub stats: Stats,
}

/// What a check looked at, and what it noted that is no fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Generation of the superblock that was used.
    pub generation: u64,
    /// The superblock was written by a holder of the store key, and so all that it proves. If
    /// `false`, the root was not authenticated: no KMS was given, or a finding says more.
    pub authenticated: bool,
    /// Tables could be read. If `false`, catalog and page tables were not checked.
    pub complete: bool,
    /// The store was closed cleanly, and nothing follows its superblock.
    pub clean: bool,
    /// Last batch of the log.
    pub last_seq: Seq,
    /// Last batch that the superblock says was durable.
    pub durable_through: Seq,
    /// Batches after the superblock.
    pub log_batches: u64,
    /// Bytes behind the end of the log are of batches that were never acknowledged.
    pub torn_tail: bool,
    /// Segments.
    pub segments: u64,
    /// Segment files that neither tables nor log know.
    pub unused_segments: u64,
    /// Packed files.
    pub packs: u64,
    /// Files that an interrupted creation or packing left.
    pub leftover_files: u64,
    /// Files of a segment's length that no segment is in.
    pub spares: u64,
    /// How much the store may take.
    pub quota: Quota,
    /// Bytes that its segments and packs take.
    pub used_bytes: u64,
    /// Volumes that are not deleted.
    pub volumes: u64,
    /// Snapshots that are not deleted.
    pub snapshots: u64,
    /// Pins that are not released.
    pub pins: u64,
    /// Deleted heads whose space was not reclaimed yet.
    pub tombstones: u64,
    /// Lineage epochs.
    pub lineage_epochs: u64,
    /// Key epochs.
    pub key_epochs: u64,
    /// Nodes of page tables, each counted once.
    pub nodes: u64,
    /// Pages with data that page tables and the log name, each counted once.
    pub pages: u64,
    /// Pages that a repair gave up.
    pub lost_pages: u64,
    /// Bytes of the pages with data.
    pub data_bytes: u64,
    /// Pages that were read and compared with their checksums.
    pub pages_read: u64,
    /// Of these, pages whose tag was right.
    pub pages_opened: u64,
    /// And pages that no key at hand opens.
    pub pages_locked: u64,
    /// Volumes and snapshots whose KMS key is not usable now.
    pub locked_heads: u64,
}

impl Report {
    /// Whether nothing is wrong, as far as it was looked at.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// The worst class among the findings that were kept.
    pub fn worst(&self) -> Option<Class> {
        self.findings.iter().map(|finding| finding.class).max()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        match (self.findings.len(), self.more_findings) {
            (0, _) => f.write_str("clean"),
            (count, 0) => write!(f, "{count} findings"),
            (count, more) => write!(f, "{count} findings, and {more} that are not shown"),
        }
    }
}

impl Stats {
    pub(super) fn of(image: &Image<'_>, files: segments::Counts) -> Self {
        let state = &image.state;
        let heads = |kind: HeadKind| {
            let heads = state.heads.values();
            let of_kind = heads.filter(|head| !head.is_deleted() && head.record.kind == kind);
            of_kind.count() as u64
        };
        let deleted = state.heads.values().filter(|head| head.is_deleted());
        Self {
            generation: image.superblock.generation,
            authenticated: image.authenticated,
            complete: image.complete,
            clean: image.superblock.clean && image.log_batches == 0,
            last_seq: image.end.seq,
            durable_through: image.superblock.durable_through,
            log_batches: image.log_batches,
            torn_tail: image.torn_tail,
            segments: state.segments.len() as u64,
            packs: state.in_pack.values().collect::<BTreeSet<_>>().len() as u64,
            unused_segments: files.unused_segments,
            leftover_files: files.leftover_files,
            spares: files.spares,
            quota: state.quota,
            used_bytes: notes::used_bytes(image),
            volumes: heads(HeadKind::Volume),
            snapshots: heads(HeadKind::Snapshot),
            pins: heads(HeadKind::Pin),
            tombstones: deleted.count() as u64,
            lineage_epochs: state.lineages.len() as u64,
            key_epochs: state.key_epochs.len() as u64,
            ..Self::default()
        }
    }

    pub(super) fn add_walk(&mut self, walk: &Walk<'_, '_, '_>, page_len: u32) {
        let counts = walk.counts;
        self.lost_pages = walk.lost.count;
        self.nodes = counts.nodes;
        self.pages = counts.pages;
        self.pages_read = counts.pages_read;
        self.pages_opened = counts.pages_opened;
        self.pages_locked = counts.pages_locked;
        self.data_bytes = counts.pages.saturating_mul(page_len.into());
    }
}

//! What a check looks at.

use crate::error::Kind;
use crate::kms::KeyService;
use crate::sync::Arc;
use crate::units::SlotAddr;

/// What a check looks at.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    kms: Option<Arc<dyn KeyService>>,
    depth: Depth,
    data: Option<Sample>,
    open_pages: bool,
    only: Option<(Kind, String)>,
    workers: usize,
}

/// How deep a check goes, apart from pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Depth {
    /// Superblocks, the headers of the log, the KMS's mark.
    Quick,
    /// Tables and page tables, too.
    #[default]
    Structure,
    /// The same, to look at and not to judge: of tables that are damaged, what is left.
    Salvage,
}

/// A share of all pages: which ones follows from the seed, so that each run can take others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Of a hundred pages so many are in it, more or less; 100 and more is all.
    pub percent: u8,
    /// Chooses them.
    pub seed: u64,
}

/// Neighbours that are in a sample together: reading them one by one takes as long.
const SAMPLE_SLOTS: u32 = 64;

impl Sample {
    /// All pages.
    pub const ALL: Self = Self {
        percent: 100,
        seed: 0,
    };

    /// Whether what is in a slot is in the sample.
    pub(super) fn has(self, at: SlotAddr) -> bool {
        let group = u64::from(at.segment.0) << 32 | u64::from(at.slot / SAMPLE_SLOTS);
        self.percent >= 100 || mixed(group ^ mixed(self.seed)) % 100 < u64::from(self.percent)
    }
}

/// Spreads a number over all bits (the finalizer of SplitMix64).
pub(super) fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl CheckOptions {
    /// Structure and metadata, without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the store key with a KMS, to tell what was written by the store from what is merely
    /// whole. Without one [`super::Stats::authenticated`] is `false`.
    pub fn kms(mut self, kms: Arc<dyn KeyService>) -> Self {
        self.kms = Some(kms);
        self
    }

    /// Looks only at the superblocks, at the headers of the log from the newest on, and at how far
    /// the KMS has seen the store.
    pub fn quick(mut self) -> Self {
        self.depth = Depth::Quick;
        self
    }

    /// Whether the ciphertext of every page in use is read and compared with its checksum.
    pub fn read_data(mut self, read_data: bool) -> Self {
        self.data = read_data.then_some(Sample::ALL);
        self
    }

    /// Reads the ciphertext of a share of the pages in use, and compares it with its checksum.
    pub fn sample_data(mut self, sample: Sample) -> Self {
        self.data = Some(sample);
        self
    }

    /// Unwraps the keys of all volumes and snapshots that the KMS gives, and checks the tags of the
    /// pages that are read (all, if nothing else is said). Those of others are counted as locked.
    /// Takes the KMS; without it nothing is opened.
    pub fn open_pages(mut self) -> Self {
        self.open_pages = true;
        self.data = self.data.or(Some(Sample::ALL));
        self
    }

    /// Walks the page table of one volume or snapshot only. What must be so in the store as a whole,
    /// like the set of live slots, is not compared then.
    pub fn only(mut self, kind: Kind, name: &str) -> Self {
        self.only = Some((kind, name.to_owned()));
        self
    }

    /// Threads that read and verify; 0, the default, does all on the caller's, in the same order each
    /// time.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// The same, of the structure of the whole store.
    pub(super) fn structure(&self) -> Self {
        Self {
            kms: self.kms.clone(),
            workers: self.workers,
            ..Self::default()
        }
    }

    /// The same, of the pages of the whole store; all, if none are read otherwise.
    pub(crate) fn pages(&self) -> Self {
        Self {
            data: self.data.or(Some(Sample::ALL)),
            ..self.structure()
        }
    }

    pub(super) fn key_service(&self) -> Option<&dyn KeyService> {
        self.kms.as_deref()
    }

    pub(super) fn depth(&self) -> Depth {
        self.depth
    }

    pub(super) fn data(&self) -> Option<Sample> {
        self.data
    }

    /// The KMS, if pages are to be opened.
    pub(super) fn page_keys(&self) -> Option<&dyn KeyService> {
        self.key_service().filter(|_| self.open_pages)
    }

    pub(super) fn only_head(&self) -> Option<(Kind, &str)> {
        let only = self.only.as_ref();
        only.map(|(kind, name)| (*kind, name.as_str()))
    }

    pub(super) fn worker_count(&self) -> usize {
        self.workers
    }
}

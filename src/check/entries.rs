//! The entries of page tables: births, places and bytes of pages.

use crate::check::claims::{Claim, Claimant};
use crate::check::codes;
use crate::check::files::Trouble;
use crate::check::walk::{Birth, Walk};
use crate::error::Damage;
use crate::format::entry::{DataEntry, Entry};
use crate::units::{KeyEpoch, LineageEpoch, PageNo, SlotAddr};

impl Walk<'_> {
    /// Checks an entry that a leaf holds.
    pub(super) fn entry(
        &mut self,
        page: PageNo,
        entry: &Entry,
        leaf: SlotAddr,
        lineage: Option<LineageEpoch>,
    ) {
        // Nothing keeps the key epoch of an explicit zero: it is not needed to read it.
        let is_known = self.image.state.lineage_of(entry.key_epoch()).is_some();
        if (is_known || matches!(entry, Entry::Data(_)))
            && let Some(born) = self.key_epoch_of(page, entry, leaf)
        {
            match self.birth(Some(born), lineage) {
                Birth::Fits => {}
                Birth::Newer => self.born_later(entry.key_epoch(), leaf, leaf),
                Birth::Elsewhere => self.born_elsewhere(page, entry.key_epoch(), leaf),
            }
        }
        if let Entry::Data(data) = entry
            && self.data(page, data, leaf)
            && self.read_data
        {
            self.bytes(page, data);
        }
    }

    /// The lineage epoch that an entry was born in.
    pub(super) fn key_epoch_of(
        &mut self,
        page: PageNo,
        entry: &Entry,
        holder: SlotAddr,
    ) -> Option<LineageEpoch> {
        let key_epoch = entry.key_epoch();
        let lineage = self.image.state.lineage_of(key_epoch);
        if lineage.is_none() {
            let message = format!("page {page} has key epoch {key_epoch}, which does not exist");
            self.findings
                .add(codes::ENTRY_KEY_EPOCH_UNKNOWN, holder, message);
        }
        lineage
    }

    /// Checks where an entry says its page is. `true` if it is the first to say so.
    pub(super) fn data(&mut self, page: PageNo, entry: &DataEntry, holder: SlotAddr) -> bool {
        let slots = self.image.superblock.geometry.page_slots();
        if !self.image.is_written(entry.at, slots) {
            let message = format!("page {page} should be at {}", entry.at);
            self.findings.add(codes::ENTRY_NOT_WRITTEN, holder, message);
            return false;
        }
        if self.image.state.salt(entry.at).is_none() {
            let message = format!("page {page} is there, but no salt");
            self.findings
                .add(codes::PAGE_SALT_MISSING, entry.at, message);
        }
        let claim = self.claim(entry.at, slots, Claimant::page(page, entry));
        if claim == Claim::New {
            self.counts.pages += 1;
        }
        claim == Claim::New
    }

    /// Checks the ciphertext of a page that a tree names.
    fn bytes(&mut self, page: PageNo, entry: &DataEntry) {
        self.counts.pages_read += 1;
        let slots = self.image.superblock.geometry.page_slots();
        let trouble = match self.image.files.read(entry.at, slots) {
            Ok(bytes) if crc32fast::hash(&bytes) == entry.crc => return,
            Ok(_) => Trouble::Damage(Damage::BadChecksum),
            Err(trouble) => trouble,
        };
        // Further findings are only counted, and to ask costs a look at every head.
        if self.findings.is_full() {
            self.findings.add(codes::PAGE_DAMAGED, entry.at, trouble);
            return;
        }
        // What the log has replaced in every head may be gone.
        let entry = Some(Entry::Data(*entry));
        let mut heads = self.image.state.heads.values();
        let user = heads.find(|head| {
            !head.is_deleted() && head.entry(&self.image.files, page).ok() == Some(entry)
        });
        if let (Some(head), Some(Entry::Data(entry))) = (user, entry) {
            let message = format!("page {page} of {}: {trouble}", head.describe());
            self.findings.add(codes::PAGE_DAMAGED, entry.at, message);
        }
    }

    pub(super) fn claim(&mut self, at: SlotAddr, count: u32, claimant: Claimant) -> Claim {
        self.in_use(at);
        let claim = self.claims.claim(at, count, claimant);
        let is_page = claimant.is_page();
        match claim {
            Claim::TakenByPage if is_page => {
                let message = "another page is said to be there, too";
                self.findings.add(codes::SLOT_CLAIMED_TWICE, at, message);
            }
            Claim::TakenByPage | Claim::TakenByMetadata => {
                let message = "a node or a batch header is there, too";
                self.findings
                    .add(codes::SLOT_OF_PAGE_AND_METADATA, at, message);
            }
            Claim::New | Claim::Same => {}
        }
        claim
    }

    pub(super) fn born_later(&mut self, key_epoch: KeyEpoch, at: SlotAddr, holder: SlotAddr) {
        let message = format!("key epoch {key_epoch} is newer than the node at {holder}");
        self.findings.add(codes::BIRTH_ORDER, at, message);
    }

    pub(super) fn born_elsewhere(&mut self, page: PageNo, key_epoch: KeyEpoch, at: SlotAddr) {
        let message = format!("page {page} has key epoch {key_epoch}, of another branch");
        self.findings.add(codes::ENTRY_OUTSIDE_LINEAGE, at, message);
    }
}

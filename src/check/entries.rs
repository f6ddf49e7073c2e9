//! The entries of page tables: births, places and bytes of pages.

use crate::check::claims::{Claim, Claimant};
use crate::check::codes;
use crate::check::data::{Bad, Outcome};
use crate::check::finding::Place;
use crate::check::state::Head;
use crate::check::walk::{Birth, Walk};
use crate::format::entry::{DataEntry, Entry};
use crate::units::{KeyEpoch, LineageEpoch, PageNo, SLOT_LEN, SlotAddr};

impl Walk<'_, '_, '_> {
    /// Checks an entry that a leaf holds.
    pub(super) fn entry(
        &mut self,
        page: PageNo,
        entry: &Entry,
        leaf: SlotAddr,
        lineage: Option<LineageEpoch>,
    ) {
        // Nothing keeps the key epoch of what has no contents: it is not needed to read it.
        let is_known = self.lineage_of(entry.key_epoch()).is_some();
        if (is_known || matches!(entry, Entry::Data(_)))
            && let Some(born) = self.key_epoch_of(page, entry, leaf)
        {
            match self.birth(Some(born), lineage) {
                Birth::Fits => {}
                Birth::Newer => self.born_later(entry.key_epoch(), leaf, leaf),
                Birth::Elsewhere => self.born_elsewhere(page, entry.key_epoch(), leaf),
            }
        }
        if let Entry::Lost { .. } = entry {
            self.lost.note(&self.head, page, 1);
        }
        if let Entry::Data(data) = entry
            && self.data(page, data, leaf)
            && self.reader.want(page, data)
        {
            self.read();
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
        let lineage = self.lineage_of(key_epoch);
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
        if !self.is_written(entry.at, slots) {
            if self.is_mapped(page, entry) {
                let message = format!("page {page} should be at {}", entry.at);
                self.findings.add(codes::ENTRY_NOT_WRITTEN, holder, message);
            }
            return false;
        }
        if self.is_missed(entry.at) && self.is_mapped(page, entry) {
            self.in_use(entry.at);
        }
        if !self.has_salt(entry.at) {
            let message = format!("page {page} is there, but no salt");
            self.findings
                .add(codes::PAGE_SALT_MISSING, entry.at, message);
        }
        let claim = self.claim(entry.at, slots, Claimant::page(page, entry));
        if claim == Claim::New {
            self.counts.pages += 1;
            self.live.entry(entry.key_epoch).or_default().pages += 1;
            self.watch.advance(u64::from(slots) * SLOT_LEN as u64);
        }
        claim == Claim::New
    }

    /// Whether any head has a page there. If not, the log has replaced it in all that had it, and what it took
    /// may be gone.
    fn is_mapped(&self, page: PageNo, entry: &DataEntry) -> bool {
        let lineage = self.image.state.lineage_of(entry.key_epoch);
        let may_have = |head: &&Head| self.birth(lineage, Some(head.record.lineage)) == Birth::Fits;
        let mut heads = self.image.state.heads.values().filter(may_have);
        heads.any(|head| head.maps(&self.image.files, page, entry))
    }

    /// Has the ciphertext of the pages that were noted checked.
    pub(super) fn read(&mut self) {
        if !self.watch.is_cancelled() {
            let outcome = self.reader.read();
            self.take_in(&outcome);
        }
    }

    /// The same, and waits until all that were noted are checked.
    pub(super) fn read_rest(&mut self) {
        self.read();
        while let Some(outcome) = self.reader.finish_one() {
            self.take_in(&outcome);
        }
    }

    fn take_in(&mut self, outcome: &Outcome) {
        self.counts.pages_read += outcome.read;
        self.counts.pages_opened += outcome.opened;
        self.counts.pages_locked += outcome.locked;
        for bad in &outcome.bad {
            self.report_page(bad);
        }
    }

    fn report_page(&mut self, bad: &Bad) {
        let (page, at) = (bad.page, bad.entry.at);
        let (code, what) = match &bad.trouble {
            Some(trouble) => {
                self.lost.note_damaged(page, &bad.entry);
                (codes::PAGE_DAMAGED, trouble.to_string())
            }
            None => (
                codes::PAGE_NOT_AUTHENTIC,
                "its tag does not match".to_owned(),
            ),
        };
        // Further findings are only counted, and to ask costs a look at every head.
        if self.findings.is_full() {
            self.findings.add(code, at, what);
            return;
        }
        // What the log has replaced in every head may be gone.
        let mut heads = self.image.state.heads.values();
        let user =
            heads.find(|head| !head.is_deleted() && head.maps(&self.image.files, page, &bad.entry));
        if let Some(head) = user {
            let message = format!("page {page} of {}: {what}", head.describe());
            let place = Place {
                head: Some(head.describe()),
                page: Some(page),
                ..at.into()
            };
            self.findings.add(code, place, message);
        }
    }

    pub(super) fn claim(&mut self, at: SlotAddr, count: u32, claimant: Claimant) -> Claim {
        if !claimant.is_page() {
            self.in_use(at);
        }
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

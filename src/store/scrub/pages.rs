//! Reading pages from their files and comparing them with what their entries say.

use crate::catalog::{Head, HeadKeys};
use crate::format::catalog::HeadKind;
use crate::format::entry::DataEntry;
use crate::format::scrub::{ScrubFault, ScrubFinding};
use crate::io::AlignedBuf;
use crate::segment::open_pages;
use crate::slots::SlotSet;
use crate::store::inner::{Inner, kind_of};
use crate::store::scrub::walk::what;
use crate::store::scrub::{ScrubStep, finding};
use crate::sync::Arc;
use crate::units::{PageNo, SlotAddr};

/// Most pages of one read.
const RUN_PAGES: usize = 128;

type Wanted = (PageNo, DataEntry);

/// What became of a page.
enum Read {
    Opened,
    /// Its checksum is right; it cannot be opened here.
    Locked,
    Bad(ScrubFault, String),
}

impl Inner {
    /// Reads pages of a head; gives the first slots of those that are not to be read again in this pass.
    pub(super) fn verify(
        &self,
        head: &Head,
        pages: Vec<Wanted>,
        step: &mut ScrubStep,
    ) -> Vec<SlotAddr> {
        if pages.is_empty() {
            return Vec::new();
        }
        let keys = self.scrub_keys(head);
        self.verify_with(head, keys.as_deref(), pages, step)
    }

    /// The same, with keys that were asked for a moment ago.
    pub(super) fn verify_with(
        &self,
        head: &Head,
        keys: Option<&HeadKeys>,
        mut pages: Vec<Wanted>,
        step: &mut ScrubStep,
    ) -> Vec<SlotAddr> {
        let page_slots = self.segments.geometry().page_slots();
        let page_len = self.page_len() as usize;
        pages.sort_unstable_by_key(|(_, entry)| entry.at);
        // Several pages of a head never have one slot, but then of a damaged node.
        pages.dedup_by_key(|(_, entry)| entry.at);
        let follows = |(_, a): &Wanted, (_, b): &Wanted| {
            a.at.segment == b.at.segment
                && a.at.slot + page_slots == b.at.slot
                && a.key_epoch == b.key_epoch
                && self.segments.salt(a.at) == self.segments.salt(b.at)
        };
        let mut read = Vec::new();
        let mut bytes = AlignedBuf::zeroed(RUN_PAGES * page_len);
        for run in pages
            .chunk_by(follows)
            .flat_map(|run| run.chunks(RUN_PAGES))
        {
            let run_len = run.len() * page_len;
            let buf = &mut bytes[..run_len];
            step.bytes += run_len as u64;
            if self.verify_run(head, keys, run, buf) {
                step.locked_bytes += if keys.is_none() { run_len as u64 } else { 0 };
                read.extend(run.iter().map(|(_, entry)| entry.at));
                continue;
            }
            for &(page, entry) in run {
                let buf = &mut bytes[..page_len];
                match self.verify_page(head, keys, page, &entry, buf) {
                    // What died meanwhile need not be there; what took its place is a page of its own. And a
                    // head that was deleted meanwhile opens nothing: who shares the page with it does.
                    Read::Bad(..) if !self.is_live_page(&entry) || !self.is_there(head) => continue,
                    Read::Bad(fault, message) => step.found.push(ScrubFinding {
                        at: Some(entry.at),
                        page: Some(page),
                        head: Some(self.describe(head)),
                        ..finding(fault, message)
                    }),
                    Read::Locked => step.locked_bytes += page_len as u64,
                    Read::Opened => {}
                }
                read.push(entry.at);
            }
        }
        read
    }

    /// Reads neighbours of one key epoch at once; whether all is well with all of them.
    fn verify_run(
        &self,
        head: &Head,
        keys: Option<&HeadKeys>,
        run: &[Wanted],
        buf: &mut [u8],
    ) -> bool {
        let (_, first) = &run[0];
        if self.segments.read_slots_directly(first.at, buf).is_err() {
            return false;
        }
        let page_len = self.page_len() as usize;
        let mut pages = run.iter().zip(buf.chunks_exact(page_len));
        if !pages.all(|((_, entry), bytes)| crc32fast::hash(bytes) == entry.crc) {
            return false;
        }
        let Some(keys) = keys else { return true };
        let Some(salt) = self.segments.salt(first.at) else {
            return false;
        };
        let unlock = || self.epoch_key(keys, head, first.key_epoch, first.at);
        let opener = keys.opener(first.key_epoch, salt, unlock);
        opener.is_ok_and(|opener| open_pages(&opener, run, buf).is_ok())
    }

    /// Reads a page, twice if it seems to be damaged: its file may just have been packed.
    fn verify_page(
        &self,
        head: &Head,
        keys: Option<&HeadKeys>,
        page: PageNo,
        entry: &DataEntry,
        buf: &mut [u8],
    ) -> Read {
        match self.try_page(head, keys, page, entry, buf) {
            Read::Bad(..) => self.try_page(head, keys, page, entry, buf),
            read => read,
        }
    }

    fn try_page(
        &self,
        head: &Head,
        keys: Option<&HeadKeys>,
        page: PageNo,
        entry: &DataEntry,
        buf: &mut [u8],
    ) -> Read {
        let damaged = |message: String| Read::Bad(ScrubFault::PageDamaged, message);
        if let Err(error) = self.segments.read_slots_directly(entry.at, buf) {
            return damaged(what(&error));
        }
        if crc32fast::hash(buf) != entry.crc {
            return damaged("its checksum does not match".to_owned());
        }
        let Some(keys) = keys else {
            return Read::Locked;
        };
        let Some(salt) = self.segments.salt(entry.at) else {
            return damaged("its salt is not known".to_owned());
        };
        let unlock = || self.epoch_key(keys, head, entry.key_epoch, entry.at);
        let opened = keys.opener(entry.key_epoch, salt, unlock);
        let forged = |message: String| Read::Bad(ScrubFault::PageForged, message);
        match opened.map(|opener| opener.open(page, entry, buf)) {
            Ok(Ok(())) => Read::Opened,
            Ok(Err(_)) => forged("its tag does not match".to_owned()),
            Err(error) => forged(format!("its key cannot be opened: {}", what(&error))),
        }
    }

    /// The keys of a head, if they may be used.
    pub(super) fn scrub_keys(&self, head: &Head) -> Option<Arc<HeadKeys>> {
        // Locked, deleted meanwhile, or its KMS is away: checksums need no key.
        self.keys(&self.runtime(head)).ok()
    }

    fn is_there(&self, head: &Head) -> bool {
        self.state.read().head(head.record.head).is_some()
    }

    fn is_live_page(&self, entry: &DataEntry) -> bool {
        let mut slots = SlotSet::default();
        slots.insert_run(entry.at, self.segments.geometry().page_slots());
        self.are_live(&slots)
    }

    /// Kind and name of a head.
    pub(super) fn describe(&self, head: &Head) -> String {
        let kind: HeadKind = head.record.kind;
        format!("{} {:?}", kind_of(kind), head.record.name)
    }
}

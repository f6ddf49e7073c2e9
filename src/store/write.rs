//! Changing pages: seal, append, show.

use std::ops::Range;

use crate::btree::PageTable;
use crate::catalog::{Changed, Head, discard, page_runs, set_page, set_range};
use crate::error::{Error, Result};
use crate::format::batch::{header_len, header_slots};
use crate::format::entry::Entry;
use crate::format::record::{PageDelta, PageRange, PageRun, Record};
use crate::io::AlignedBuf;
use crate::segment::{SealedPage, Shift, seal_pages};
use crate::store::inner::{Commit, Inner, Runtime};
use crate::store::reserve::{Purpose, nodes_of};
use crate::sync::MutexGuard;
use crate::units::{KeyEpoch, PageNo, SLOT_LEN, Seq, SlotAddr};
use crate::volume::{Piece, check_range, inner_pages, outer_pages, pieces};

/// Explicit zeroes take an item each in memory, so a batch makes only so many.
const ZERO_PAGES_MAX: u64 = 1 << 16;
/// What such an item counts as towards the next checkpoint, in bytes of log: as a page's.
const ZERO_PAGE_COST: u64 = 4096;

/// Most runs of pages that a batch says it clears: 64 KiB of records.
const RUNS_MAX: usize = 4096;
/// In short segments they take only this part of a batch: 1 in so many.
const RUNS_SHARE: usize = 8;

/// The contents that some pages are to have.
pub(super) struct NewPages<'a> {
    pub pages: Vec<PageNo>,
    /// Writes the contents of the page of that index into a zeroed buffer of a page's length.
    pub fill: &'a dyn Fn(usize, &mut [u8]),
    /// Where each page must be when it gets its new place: else it is left out.
    pub over: Option<&'a [SlotAddr]>,
}

/// What happens to whole pages without contents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clear {
    Zero,
    Discard,
    /// Only by a repair: their contents are damaged, and reading them is an error from now on.
    Lose,
}

impl Clear {
    /// Whether it may use the reserve: with it the store does not grow, and can get smaller.
    fn is_release(self) -> bool {
        matches!(self, Self::Discard | Self::Lose)
    }
}

/// Pages encrypted under the key epoch that was open then.
struct Sealed {
    key_epoch: KeyEpoch,
    salt: [u8; 12],
    /// The batch: zeroes where its header slots will be, then the pages.
    batch: AlignedBuf,
    pages: Vec<SealedPage>,
}

impl Sealed {
    /// Leaves only the pages that stay.
    fn retain(&mut self, stays: &[bool], page_len: usize) {
        let body = self.batch.len() - self.pages.len() * page_len;
        let pages = std::mem::take(&mut self.pages);
        let batch = std::mem::take(&mut self.batch);
        let count = stays.iter().filter(|&&stays| stays).count();
        let header_len = header_len(Record::pages_len(count));
        self.batch = AlignedBuf::zeroed(header_len + count * page_len);
        let both = pages.into_iter().zip(batch[body..].chunks_exact(page_len));
        let stay = both.zip(stays).filter(|(_, stays)| **stays);
        let places = self.batch[header_len..].chunks_exact_mut(page_len);
        for (((page, bytes), _), place) in stay.zip(places) {
            self.pages.push(page);
            place.copy_from_slice(bytes);
        }
    }

    /// Slots of the batch as it is.
    fn slots(&self) -> u32 {
        (self.batch.len() / SLOT_LEN) as u32
    }

    /// The pages, which take so many slots.
    fn body(&self, slots: u32) -> &[u8] {
        let len = slots as usize * SLOT_LEN;
        &self.batch[self.batch.len() - len..]
    }

    /// The batch with room for so many bytes of records.
    fn into_batch(mut self, records_len: usize) -> AlignedBuf {
        let has = header_len(Record::pages_len(self.pages.len()));
        let needs = header_len(records_len);
        if self.batch.is_empty() {
            self.batch = AlignedBuf::zeroed(needs);
        } else if needs > has {
            self.batch.prepend_zeroes(needs - has);
        }
        self.batch
    }
}

impl Inner {
    /// Writes bytes at any offset. Atomic up to the store's bound, else in chunks from the front.
    pub fn write(&self, runtime: &Runtime, buf: &[u8], offset: u64) -> Result<()> {
        self.writable()?;
        check_range(offset, buf.len() as u64, self.writable_len(runtime)?)?;
        self.counters.writes.add(1);
        self.counters.written_bytes.add(buf.len() as u64);
        let page_len = self.page_len();
        let chunk_len = self.atomic_pages() as u64 * u64::from(page_len);
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            // Chunks end on page boundaries, so only the first and the last page are partial.
            let end = (at / u64::from(page_len) * u64::from(page_len)).saturating_add(chunk_len);
            let len = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(buf.len() - done);
            let bytes = buf.get(done..done + len).expect("BUG: in bounds");
            self.write_chunk(runtime, bytes, at)?;
            self.flush_if_due()?;
            done += len;
        }
        self.checkpoint_if_due()
    }

    /// The length of a head that may be written. Who holds a head while it is changed keeps its old nodes in memory.
    pub fn writable_len(&self, runtime: &Runtime) -> Result<u64> {
        let head = self.head(runtime.head, runtime.kind)?;
        Runtime::check_writable(&head)?;
        Ok(head.record.len)
    }

    fn write_chunk(&self, runtime: &Runtime, bytes: &[u8], offset: u64) -> Result<()> {
        let page_len = self.page_len();
        let range = offset..offset + bytes.len() as u64;
        let _turn = runtime.locks.lock(outer_pages(&range, page_len));
        let pieces: Vec<Piece> = pieces(offset, bytes.len(), page_len).collect();
        let edges = self.old_edges(runtime, &pieces)?;
        let fill = |index: usize, page: &mut [u8]| {
            let piece = &pieces[index];
            if let Some((_, old)) = edges.iter().find(|(edge, _)| *edge == index) {
                page.copy_from_slice(old);
            }
            page[piece.in_page.clone()].copy_from_slice(&bytes[piece.in_range.clone()]);
        };
        let pages = pieces.iter().map(|piece| piece.page).collect();
        let new = NewPages {
            pages,
            fill: &fill,
            over: None,
        };
        self.change(runtime, new, None)
    }

    /// The old contents of pages that are written in part.
    fn old_edges(&self, runtime: &Runtime, pieces: &[Piece]) -> Result<Vec<(usize, Vec<u8>)>> {
        let page_len = self.page_len() as usize;
        let mut edges = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            if piece.in_page.len() < page_len {
                let mut page = vec![0; page_len];
                self.read(runtime, &mut page, piece.page.0 * page_len as u64)?;
                edges.push((index, page));
            }
        }
        Ok(edges)
    }

    /// Makes a range read as zeroes, by dropping its pages or by explicit zeroes. Pages that are
    /// covered in part are written, if anything is there.
    pub fn clear(&self, runtime: &Runtime, range: Range<u64>, clear: Clear) -> Result<()> {
        self.writable()?;
        let writable_len = self.writable_len(runtime)?;
        let len = range
            .end
            .checked_sub(range.start)
            .ok_or_else(|| Error::Invalid {
                what: "range",
                value: format!("{range:?}"),
                rule: "it must not end before it starts",
            })?;
        check_range(range.start, len, writable_len)?;
        self.counters.writes.add(1);
        let page_len = self.page_len();
        let _turn = runtime.locks.lock(outer_pages(&range, page_len));
        let inner = inner_pages(&range, page_len);
        let edges = self.zeroed_edges(runtime, &range, &inner)?;
        // In a very short segment a batch holds only one page: then one edge goes before.
        let alone = edges.len().saturating_sub(self.atomic_pages());
        let (before, edges) = edges.split_at(alone);
        for (page, bytes) in before {
            let fill = |_: usize, page: &mut [u8]| page.copy_from_slice(bytes);
            let new = NewPages {
                pages: vec![*page],
                fill: &fill,
                over: None,
            };
            self.change(runtime, new, None)?;
        }
        let fill = |index: usize, page: &mut [u8]| page.copy_from_slice(&edges[index].1);
        let pages: Vec<PageNo> = edges.iter().map(|(page, _)| *page).collect();
        let first = self.clear_chunk(runtime, clear, inner.clone())?;
        let rest = first.end..inner.end;
        let chunk = (first.start < first.end).then_some((clear, first));
        let new = NewPages {
            pages,
            fill: &fill,
            over: None,
        };
        self.change(runtime, new, chunk)?;
        self.checkpoint_if_due()?;
        self.clear_pages(runtime, clear, rest)
    }

    /// Clears whole pages, a part of them at a time. The caller has locked them.
    pub fn clear_pages(
        &self,
        runtime: &Runtime,
        clear: Clear,
        mut pages: Range<PageNo>,
    ) -> Result<()> {
        while pages.start < pages.end {
            let chunk = self.clear_chunk(runtime, clear, pages.clone())?;
            pages.start = chunk.end;
            let fill = |_: usize, _: &mut [u8]| {};
            let none = NewPages {
                pages: Vec::new(),
                fill: &fill,
                over: None,
            };
            self.change(runtime, none, Some((clear, chunk)))?;
            self.checkpoint_if_due()?;
        }
        Ok(())
    }

    /// The first of these pages, so many that one batch can say what was there. Their leaves are
    /// in memory afterwards.
    fn clear_chunk(
        &self,
        runtime: &Runtime,
        clear: Clear,
        mut pages: Range<PageNo>,
    ) -> Result<Range<PageNo>> {
        if clear != Clear::Discard {
            pages.end = pages.end.min(PageNo(pages.start.0 + ZERO_PAGES_MAX));
        }
        let (geometry, runs_max) = (self.segments.geometry(), self.runs_max());
        let tree = self.head(runtime.head, runtime.kind)?.tree;
        let mut runs = Vec::new();
        for item in tree.iter(&self.nodes, pages.clone()) {
            let (page, entry) = item?;
            if let Entry::Data(entry) = entry {
                PageRun::push(&mut runs, &entry, geometry.page_slots());
            }
            if runs.len() > runs_max {
                pages.end = page;
                break;
            }
        }
        Ok(pages)
    }

    /// The partial pages of a range with the range zeroed, where anything is mapped.
    fn zeroed_edges(
        &self,
        runtime: &Runtime,
        range: &Range<u64>,
        inner: &Range<PageNo>,
    ) -> Result<Vec<(PageNo, Vec<u8>)>> {
        let page_len = u64::from(self.page_len());
        let tree = self.head(runtime.head, runtime.kind)?.tree;
        let outer = outer_pages(range, self.page_len());
        let mut edges = Vec::new();
        let candidates = [outer.start.0, outer.end.0.saturating_sub(1)];
        let count = if candidates[0] == candidates[1] { 1 } else { 2 };
        for &page in candidates.iter().take(count) {
            let is_partial = outer.contains(&PageNo(page)) && !inner.contains(&PageNo(page));
            // Of a lost page reading says that nothing can be left of it.
            let has_contents = || {
                let entry = tree.get(&self.nodes, PageNo(page))?;
                let has = matches!(entry, Some(Entry::Data(_) | Entry::Lost { .. }));
                Ok::<bool, Error>(has)
            };
            if is_partial && has_contents()? {
                let mut bytes = vec![0; page_len as usize];
                self.read(runtime, &mut bytes, page * page_len)?;
                let start = range.start.saturating_sub(page * page_len);
                let end = (range.end - page * page_len).min(page_len);
                bytes[start as usize..end as usize].fill(0);
                edges.push((PageNo(page), bytes));
            }
        }
        Ok(edges)
    }

    /// One atomic change of a head's pages: some get contents, a range of others is cleared.
    ///
    /// Pages are sealed before they have a place in the order, and again if the key epoch is no
    /// longer the open one when they get it; so a call that fails has left nothing behind.
    pub fn change(
        &self,
        runtime: &Runtime,
        new: NewPages<'_>,
        clear: Option<(Clear, Range<PageNo>)>,
    ) -> Result<()> {
        if new.pages.is_empty() && clear.is_none() {
            return Ok(());
        }
        if !new.pages.is_empty() {
            self.ensure_epoch(runtime)?;
        }
        // Who is on the way to the disk is still at work: the processors are used meanwhile.
        let shift = self.crew.join(new.pages.len() * self.page_len() as usize);
        let mut sealed = self.seal(runtime, &new, &shift)?;
        self.load_leaves(runtime, &new.pages)?;
        let is_release = clear.as_ref().is_some_and(|(clear, _)| clear.is_release());
        if !is_release {
            self.make_room(sealed.slots())?;
        }
        let mut commit = self.commit_for_change(runtime, &new.pages, clear.as_ref())?;
        let head = self.head(runtime.head, runtime.kind)?;
        // What is damaged in a snapshot is lost there, too.
        if !matches!(clear, Some((Clear::Lose, _))) {
            Runtime::check_writable(&head)?;
        }
        let key_epoch = head.record.key_epoch;
        if sealed.key_epoch != key_epoch {
            sealed = self.seal(runtime, &new, &shift)?;
        }
        if let Some(over) = new.over {
            self.leave_out(&head, over, &mut sealed)?;
        }
        self.check_pages(&head, &sealed, clear.as_ref())?;
        let mut tree = head.tree.clone();
        let cleared = match clear {
            Some((clear, pages)) => Some((clear, self.range_of(&head, pages)?)),
            None => None,
        };
        let mut records = Vec::new();
        let page_count = sealed.pages.len();
        let body_slots = page_count as u32 * self.segments.geometry().page_slots();
        let cleared_something = match &cleared {
            Some((clear, range)) => self.clear_in(&mut tree, *clear, range, &mut records)?,
            None => false,
        };
        if !cleared_something && page_count == 0 {
            return Ok(());
        }
        let mut records_len = records.len();
        if page_count > 0 {
            records_len += Record::pages_len(page_count);
        }
        let salt = sealed.salt;
        let grown = commit.log.room_in_last(salt, records_len, body_slots);
        // The edges of a discard go through: with it the store can get smaller.
        if !is_release {
            let own_slots = grown.map_or_else(|| header_slots(records_len), |_| 0);
            self.check_quota(&commit, own_slots + body_slots)?;
        }
        let place = match grown {
            Some(place) => place,
            None => self.place(&mut commit, records_len, body_slots)?,
        };
        let at = place.last(body_slots);
        let (tree, deltas) = match cleared_something {
            false => self.set_or_leave(tree, &sealed, at)?,
            true => {
                let deltas = self.set_in(&mut tree, &sealed, at)?;
                (Some(tree), deltas)
            }
        };
        if !deltas.is_empty() {
            Record::encode_pages(runtime.head, &deltas, &mut records);
        }
        if grown.is_some() {
            self.grow_last(&mut commit, place, &records, sealed.body(body_slots))?;
        } else {
            let bytes = sealed.into_batch(records_len);
            self.append(&mut commit, place, salt, &records, bytes)?;
        }
        if let Some((Clear::Zero, range)) = &cleared {
            // A short record, but an item a page in memory until a checkpoint writes the nodes.
            commit.log_len += range.count * ZERO_PAGE_COST;
        }
        let gone = cleared.as_ref().map_or(&[][..], |(_, range)| &range.gone);
        let changed = Changed {
            tree,
            deltas: &deltas,
            gone,
        };
        commit.credit.add_records(records_len);
        // Or each node would seem to be somebody's, and be copied, not changed or gone.
        drop(head);
        self.install(&mut commit, runtime.head, changed);
        Ok(())
    }

    /// The commit lock, once there is a place for a change. A discard may use the reserve: with it
    /// the store can get smaller.
    fn commit_for_change(
        &self,
        runtime: &Runtime,
        pages: &[PageNo],
        clear: Option<&(Clear, Range<PageNo>)>,
    ) -> Result<MutexGuard<'_, Commit>> {
        let tree = self.head(runtime.head, runtime.kind)?.tree;
        let items_min = self.fanout.items_min();
        let nodes = |count, range| nodes_of(count, range, items_min, &tree);
        let written = match (pages.first(), pages.last()) {
            (Some(first), Some(last)) => nodes(pages.len() as u64, last.0 - first.0 + 1),
            _ => 0,
        };
        let (purpose, cleared, runs) = match clear {
            Some((Clear::Discard | Clear::Lose, _)) => (Purpose::Release, nodes(0, 0), RUNS_MAX),
            Some((Clear::Zero, pages)) => (
                Purpose::Growth,
                nodes(pages.end.0 - pages.start.0, pages.end.0 - pages.start.0),
                RUNS_MAX,
            ),
            None => (Purpose::Growth, 0, 0),
        };
        let runs = runs.min(self.runs_max());
        let records_len = Record::pages_len(pages.len()) + runs * PageRun::LEN;
        let body = pages.len() as u32 * self.segments.geometry().page_slots();
        self.commit_for(purpose, header_slots(records_len) + body, written + cleared)
    }

    /// Most runs of pages that a batch says it clears.
    fn runs_max(&self) -> usize {
        let geometry = self.segments.geometry();
        let batch_len = (geometry.segment_slots - 1) as usize * SLOT_LEN;
        RUNS_MAX.min(batch_len / RUNS_SHARE / PageRun::LEN)
    }

    /// A range of a head's pages, and which of them have contents.
    fn range_of(&self, head: &Head, pages: Range<PageNo>) -> Result<PageRange> {
        let page_slots = self.segments.geometry().page_slots();
        let context = self.context(SlotAddr::default(), Seq(0));
        Ok(PageRange {
            head: head.record.head,
            key_epoch: head.record.key_epoch,
            first: pages.start,
            count: pages.end.0 - pages.start.0,
            gone: page_runs(&head.tree, pages, page_slots, context)?,
        })
    }

    /// Reads the leaves that pages are in, so that nobody waits for that behind the commit lock.
    fn load_leaves(&self, runtime: &Runtime, pages: &[PageNo]) -> Result<()> {
        let tree = self.head(runtime.head, runtime.kind)?.tree;
        // A run of pages is in few leaves.
        let some = pages.iter().step_by(32).chain(pages.last());
        let some: Vec<PageNo> = some.copied().collect();
        tree.load(&self.nodes, &some)
    }

    /// Leaves out sealed pages whose old ones are not where they were: somebody else changed them.
    fn leave_out(&self, head: &Head, over: &[SlotAddr], sealed: &mut Sealed) -> Result<()> {
        let mut stays = Vec::with_capacity(over.len());
        for (page, at) in sealed.pages.iter().zip(over) {
            let entry = head.tree.get(&self.nodes, page.page)?;
            stays.push(matches!(entry, Some(Entry::Data(data)) if data.at == *at));
        }
        if stays.contains(&false) {
            sealed.retain(&stays, self.page_len() as usize);
        }
        Ok(())
    }

    /// The volume may have shrunk since the call was checked.
    fn check_pages(
        &self,
        head: &Head,
        sealed: &Sealed,
        clear: Option<&(Clear, Range<PageNo>)>,
    ) -> Result<()> {
        let end_of_pages = sealed.pages.last().map_or(0, |last| last.page.0 + 1);
        let end_of_clear = clear.map_or(0, |(_, pages)| pages.end.0);
        let end = end_of_pages.max(end_of_clear);
        check_range(
            0,
            end.saturating_mul(u64::from(self.page_len())),
            head.record.len,
        )
    }

    fn seal(&self, runtime: &Runtime, new: &NewPages<'_>, shift: &Shift<'_>) -> Result<Sealed> {
        if new.pages.is_empty() {
            let key_epoch = self.head(runtime.head, runtime.kind)?.record.key_epoch;
            let (salt, batch, pages) = (*self.salt.lock(), AlignedBuf::default(), Vec::new());
            return Ok(Sealed {
                key_epoch,
                salt,
                batch,
                pages,
            });
        }
        let page_len = self.page_len() as usize;
        let header_len = header_len(Record::pages_len(new.pages.len()));
        let mut batch = AlignedBuf::zeroed(header_len + new.pages.len() * page_len);
        let body = batch.get_mut(header_len..).expect("BUG: in bounds");
        for (index, page) in body.chunks_exact_mut(page_len).enumerate() {
            (new.fill)(index, page);
        }
        loop {
            let keys = self.keys(runtime)?;
            let head = self.head(runtime.head, runtime.kind)?;
            let key_epoch = head.record.key_epoch;
            let key = self.epoch_key(&keys, &head, key_epoch, SlotAddr::default())?;
            let Some(sealer) = keys.sealer(&key, || *self.salt.lock()) else {
                // A branch came just now: the head has another epoch. Or the keys were revoked.
                continue;
            };
            let (random, id) = (&*self.random, &key.random_id);
            match seal_pages(&sealer, id, &new.pages, body, random, shift) {
                Some(pages) => {
                    let salt = sealer.salt();
                    return Ok(Sealed {
                        key_epoch,
                        salt,
                        batch,
                        pages,
                    });
                }
                None => self.new_salt(),
            }
        }
    }

    /// Clears pages in a page table; adds the record if that changes anything.
    fn clear_in(
        &self,
        tree: &mut PageTable,
        clear: Clear,
        range: &PageRange,
        records: &mut Vec<u8>,
    ) -> Result<bool> {
        let context = self.context(SlotAddr::default(), Seq(0));
        let changed = match clear {
            Clear::Zero | Clear::Lose => {
                let key_epoch = range.key_epoch;
                let entry = match clear {
                    Clear::Lose => Entry::Lost { key_epoch },
                    _ => Entry::Zero { key_epoch },
                };
                set_range(tree, range, entry, context)?;
                true
            }
            Clear::Discard => discard(tree, range, context)?,
        };
        if changed {
            match clear {
                Clear::Zero => Record::Zeroes(range.clone()).encode(records),
                Clear::Discard => Record::Discard(range.clone()).encode(records),
                Clear::Lose => Record::Lost(range.clone()).encode(records),
            }
        }
        Ok(changed)
    }

    /// Sets pages in a copy of a head's table that is as the head has it; unless they can be set without
    /// fail in the head's own, once they are in the log: then no nodes are copied.
    fn set_or_leave(
        &self,
        mut tree: PageTable,
        sealed: &Sealed,
        body: SlotAddr,
    ) -> Result<(Option<PageTable>, Vec<PageDelta>)> {
        let pages: Vec<PageNo> = sealed.pages.iter().map(|page| page.page).collect();
        let Some(olds) = tree.settable(self.fanout, &pages) else {
            let deltas = self.set_in(&mut tree, sealed, body)?;
            return Ok((Some(tree), deltas));
        };
        let mut deltas = self.deltas(sealed, body);
        for (delta, old) in deltas.iter_mut().zip(olds) {
            set_old(delta, old);
        }
        Ok((None, deltas))
    }

    fn set_in(
        &self,
        tree: &mut PageTable,
        sealed: &Sealed,
        body: SlotAddr,
    ) -> Result<Vec<PageDelta>> {
        let mut deltas = self.deltas(sealed, body);
        for delta in &mut deltas {
            let context = self.context(delta.entry.at, Seq(0));
            let old = set_page(tree, delta, context)?;
            set_old(delta, old);
        }
        Ok(deltas)
    }

    /// What the pages are, but for what they were.
    fn deltas(&self, sealed: &Sealed, body: SlotAddr) -> Vec<PageDelta> {
        let page_slots = self.segments.geometry().page_slots();
        let slots = (body.slot..).step_by(page_slots as usize);
        let places = slots.map(|slot| SlotAddr { slot, ..body });
        let pages = sealed.pages.iter().zip(places);
        pages
            .map(|(page, at)| PageDelta {
                page: page.page,
                entry: page.entry(sealed.key_epoch, at),
                old_at: None,
                old_key_epoch: None,
            })
            .collect()
    }
}

/// Notes what a page was.
fn set_old(delta: &mut PageDelta, old: Option<Entry>) {
    delta.old_at = match &old {
        Some(Entry::Data(data)) => Some(data.at),
        _ => None,
    };
    delta.old_key_epoch = old.as_ref().map(Entry::key_epoch);
}

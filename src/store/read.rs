//! Reading pages: look up, copy out of the map, verify, use the copy.

use std::ops::Range;

use crate::btree::PageTable;
use crate::error::{Damage, Error, Result};
use crate::format::entry::{DataEntry, Entry};
use crate::segment::{Shift, open_pages};
use crate::store::inner::{Inner, Runtime, gone, kind_of};
use crate::units::{KeyEpoch, LineageEpoch, Location, PageNo};
use crate::volume::{Extents, Piece, check_range, outer_pages, pieces};

/// Most pages that are looked up before they are opened: so much memory it takes, whatever is read.
const WANTED_MAX: usize = 4096;

/// What reading needs of a head, as of one moment.
struct View {
    tree: PageTable,
    len: u64,
}

/// Whole pages of a range that are still to be opened, in order, and the runs that they are.
#[derive(Default)]
struct Wanted {
    pages: Vec<(PageNo, DataEntry)>,
    runs: Vec<Run>,
}

/// Whole pages that lie one behind the other, on disk as in the range that is read. So they are
/// of one batch: between two there are header slots.
struct Run {
    /// Which of the wanted pages they are.
    pages: Range<usize>,
    /// Where they begin in the range.
    start: usize,
}

impl Wanted {
    fn push(&mut self, page: PageNo, entry: &DataEntry, start: usize, page_slots: u32) {
        let count = self.pages.len();
        let goes_on = self.pages.last().is_some_and(|(last_page, last)| {
            last_page.0 + 1 == page.0
                && last.key_epoch == entry.key_epoch
                && last.at.segment == entry.at.segment
                && last.at.slot + page_slots == entry.at.slot
        });
        match self.runs.last_mut() {
            Some(run) if goes_on => run.pages.end = count + 1,
            _ => self.runs.push(Run {
                pages: count..count + 1,
                start,
            }),
        }
        self.pages.push((page, *entry));
    }

    /// Parts of the runs, each of at most so many pages, with the part of `buf` that each is to fill.
    fn stints<'a>(
        &'a self,
        mut buf: &'a mut [u8],
        page_len: usize,
        pages_max: usize,
    ) -> Vec<Stint<'a>> {
        let mut stints = Vec::with_capacity(self.runs.len());
        let mut at = 0;
        for run in &self.runs {
            let (_, rest) = buf.split_at_mut(run.start - at);
            let (into, rest) = rest.split_at_mut(run.pages.len() * page_len);
            at = run.start + into.len();
            buf = rest;
            let pages = self.pages[run.pages.clone()].chunks(pages_max);
            stints.extend(pages.zip(into.chunks_mut(pages_max.saturating_mul(page_len))));
        }
        stints
    }

    fn clear(&mut self) {
        self.pages.clear();
        self.runs.clear();
    }
}

/// Pages of a run, and the bytes that they fill.
type Stint<'a> = (&'a [(PageNo, DataEntry)], &'a mut [u8]);

impl Inner {
    /// Fills `buf` from `offset`. Every byte is verified before this returns.
    pub fn read(&self, runtime: &Runtime, buf: &mut [u8], offset: u64) -> Result<()> {
        self.counters.read(buf.len());
        // A page or a node can be reclaimed under a reader that looked it up before: so what is not
        // right is looked up once more before it is reported.
        match self.try_read(runtime, buf, offset) {
            Err(Error::Corrupt { .. }) => self.try_read(runtime, buf, offset),
            done => done,
        }
    }

    fn try_read(&self, runtime: &Runtime, buf: &mut [u8], offset: u64) -> Result<()> {
        let view = self.view(runtime)?;
        check_range(offset, buf.len() as u64, view.len)?;
        let page_len = self.page_len();
        let range = offset..offset + buf.len() as u64;
        let pages = outer_pages(&range, page_len);
        let mut pieces = pieces(offset, buf.len(), page_len);
        if pages.end.0 - pages.start.0 == 1 {
            let piece = pieces.next().expect("BUG: a page without a piece");
            let entry = view.tree.get(&self.nodes, piece.page)?;
            return self.read_piece(runtime, entry.as_ref(), &piece, buf);
        }
        let mut mapped = view.tree.iter(&self.nodes, pages);
        let mut next = mapped.next().transpose()?;
        let mut wanted = Wanted::default();
        let shift = self.crew.join(buf.len());
        for piece in pieces {
            let entry = next.filter(|(page, _)| *page == piece.page);
            let entry = entry.map(|(_, entry)| entry);
            match &entry {
                Some(Entry::Data(entry)) if piece.in_page.len() == page_len as usize => {
                    if wanted.pages.len() == WANTED_MAX {
                        self.open_wanted(runtime, &shift, &wanted, buf)?;
                        wanted.clear();
                    }
                    let page_slots = self.segments.geometry().page_slots();
                    wanted.push(piece.page, entry, piece.in_range.start, page_slots);
                }
                _ => self.read_piece(runtime, entry.as_ref(), &piece, buf)?,
            }
            if entry.is_some() {
                next = mapped.next().transpose()?;
            }
        }
        self.open_wanted(runtime, &shift, &wanted, buf)
    }

    /// What reading needs of a head, as it is now.
    fn view(&self, runtime: &Runtime) -> Result<View> {
        self.open()?;
        let state = self.state.read();
        let head = state.head(runtime.head);
        let head = head.ok_or_else(|| gone(runtime.kind, &format!("number {}", runtime.head)))?;
        Ok(View {
            tree: head.tree.clone(),
            len: head.record.len,
        })
    }

    /// Fills the piece's part of `buf` from its page, of which the table says `entry`.
    fn read_piece(
        &self,
        runtime: &Runtime,
        entry: Option<&Entry>,
        piece: &Piece,
        buf: &mut [u8],
    ) -> Result<()> {
        let into = &mut buf[piece.in_range.clone()];
        let entry = match entry {
            Some(Entry::Data(entry)) => entry,
            Some(Entry::Lost { .. }) => {
                let head = self.head(runtime.head, runtime.kind)?;
                return Err(Error::PageLost {
                    kind: kind_of(runtime.kind),
                    name: head.record.name,
                    page: piece.page,
                });
            }
            Some(Entry::Zero { .. }) | None => {
                into.fill(0);
                return Ok(());
            }
        };
        if piece.in_page.len() == self.page_len() as usize {
            return self.open_page(runtime, piece.page, entry, into);
        }
        let mut page = vec![0; self.page_len() as usize];
        self.open_page(runtime, piece.page, entry, &mut page)?;
        into.copy_from_slice(&page[piece.in_page.clone()]);
        Ok(())
    }

    fn open_page(
        &self,
        runtime: &Runtime,
        page: PageNo,
        entry: &DataEntry,
        buf: &mut [u8],
    ) -> Result<()> {
        self.open_pages(runtime, &[(page, *entry)], buf)
    }

    fn open_wanted(
        &self,
        runtime: &Runtime,
        shift: &Shift<'_>,
        wanted: &Wanted,
        buf: &mut [u8],
    ) -> Result<()> {
        let page_len = self.page_len() as usize;
        let pages_max = (shift.stint_len() / page_len).max(1);
        let stints = wanted.stints(buf, page_len, pages_max);
        shift.each(stints, |(pages, into)| {
            self.open_pages(runtime, pages, into)
        })
    }

    /// Copies the ciphertext of pages of one batch out and decrypts it in place. On an error `buf`
    /// is zeroed.
    fn open_pages(
        &self,
        runtime: &Runtime,
        pages: &[(PageNo, DataEntry)],
        buf: &mut [u8],
    ) -> Result<()> {
        let keys = self.keys(runtime)?;
        let (page, entry) = &pages[0];
        let salt = self.segments.copy_pages(entry.at, buf)?;
        let unknown = Damage::Inconsistent("its salt is not known");
        let salt = salt.ok_or_else(|| self.damaged(runtime, *page, entry, unknown))?;
        let unlock = || {
            let head = self.head(runtime.head, runtime.kind)?;
            self.epoch_key(&keys, &head, entry.key_epoch, entry.at)
        };
        let opener = keys.opener(entry.key_epoch, salt, unlock);
        let opened = opener.and_then(|opener| {
            let opened = open_pages(&opener, pages, buf);
            opened.map_err(|(page, entry, damage)| self.damaged(runtime, page, &entry, damage))
        });
        if opened.is_err() {
            buf.fill(0);
        }
        opened
    }

    /// The error for a page that is not what its entry says.
    fn damaged(&self, runtime: &Runtime, page: PageNo, entry: &DataEntry, damage: Damage) -> Error {
        let head = self.head(runtime.head, runtime.kind);
        let location = Location::Page {
            head: head.map_or_else(|_| String::new(), |head| head.record.name),
            page,
            at: entry.at,
        };
        Error::Corrupt { location, damage }
    }

    /// The extents of a range of a head, as of now.
    pub fn extents(&self, runtime: &Runtime, range: Range<u64>) -> Result<Extents<'_>> {
        let head = self.head_of(runtime)?;
        let len = range.end.saturating_sub(range.start);
        check_range(range.start, len, head.record.len)?;
        let pages = head
            .tree
            .iter(&self.nodes, outer_pages(&range, self.page_len()));
        let lineage = head.record.lineage;
        // Neighbours are of the same epoch as a rule, and an old one is many edges up.
        let mut known = None;
        let depth = move |key_epoch| match known {
            Some((known, depth)) if known == key_epoch => depth,
            _ => {
                let depth = self.depth(lineage, key_epoch);
                known = Some((key_epoch, depth));
                depth
            }
        };
        Ok(Extents::new(range, self.page_len(), pages, depth))
    }

    /// How many branches up a key epoch was current, from 1 on.
    fn depth(&self, lineage: LineageEpoch, key_epoch: KeyEpoch) -> u32 {
        let state = self.state.read();
        let birth = state.key_epoch(key_epoch).map(|epoch| epoch.lineage);
        birth
            .and_then(|birth| state.lineage().distance(lineage, birth))
            .map_or(1, |up| up + 1)
    }
}

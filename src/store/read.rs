//! Reading pages: look up, copy out of the map, verify, use the copy.

use std::ops::Range;

use crate::btree::PageTable;
use crate::error::{Damage, Error, Result};
use crate::format::entry::{DataEntry, Entry};
use crate::store::inner::{Inner, Runtime, gone};
use crate::units::{Location, PageNo};
use crate::volume::{Extents, Piece, check_range, outer_pages, pieces};

/// What reading needs of a head, as of one moment.
struct View {
    tree: PageTable,
    len: u64,
}

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
        for piece in pieces {
            let entry = next.filter(|(page, _)| *page == piece.page);
            let entry = entry.map(|(_, entry)| entry);
            self.read_piece(runtime, entry.as_ref(), &piece, buf)?;
            if entry.is_some() {
                next = mapped.next().transpose()?;
            }
        }
        Ok(())
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
        let Some(Entry::Data(entry)) = entry else {
            into.fill(0);
            return Ok(());
        };
        if piece.in_page.len() == self.page_len() as usize {
            return self.open_page(runtime, piece.page, entry, into);
        }
        let mut page = vec![0; self.page_len() as usize];
        self.open_page(runtime, piece.page, entry, &mut page)?;
        into.copy_from_slice(&page[piece.in_page.clone()]);
        Ok(())
    }

    /// Copies a page's ciphertext out and decrypts it in place. On an error `buf` is zeroed.
    fn open_page(
        &self,
        runtime: &Runtime,
        page: PageNo,
        entry: &DataEntry,
        buf: &mut [u8],
    ) -> Result<()> {
        let keys = self.keys(runtime)?;
        let salt = self.segments.copy_page(entry.at, buf)?;
        let unknown = Damage::Inconsistent("its salt is not known");
        let salt = salt.ok_or_else(|| self.damaged(runtime, page, entry, unknown))?;
        let unlock = || {
            let head = self.head(runtime.head, runtime.kind)?;
            self.epoch_key(&keys, &head, entry.key_epoch, entry.at)
        };
        let opener = keys.opener(entry.key_epoch, salt, unlock);
        let opened = opener.and_then(|opener| {
            let opened = opener.open(page, entry, buf);
            opened.map_err(|damage| self.damaged(runtime, page, entry, damage))
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
        let depth = move |key_epoch| {
            let state = self.state.read();
            let birth = state.key_epoch(key_epoch).map(|epoch| epoch.lineage);
            birth
                .and_then(|birth| state.lineage().distance(lineage, birth))
                .map_or(1, |up| up + 1)
        };
        Ok(Extents::new(range, self.page_len(), pages, depth))
    }
}

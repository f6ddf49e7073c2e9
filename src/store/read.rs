//! Reading pages: look up, copy out of the map, verify, use the copy.

use std::ops::Range;

use crate::catalog::{Head, HeadKeys};
use crate::error::{Damage, Error, Result};
use crate::format::entry::{DataEntry, Entry};
use crate::segment::open_page;
use crate::store::inner::{Inner, Runtime};
use crate::units::{Location, PageNo};
use crate::volume::{Extents, Piece, check_range, outer_pages, pieces};

impl Inner {
    /// Fills `buf` from `offset`. Every byte is verified before this returns.
    pub fn read(&self, runtime: &Runtime, buf: &mut [u8], offset: u64) -> Result<()> {
        // A page can be reclaimed under a reader that looked it up before: so a failed tag is
        // looked up once more before it is reported.
        match self.try_read(runtime, buf, offset) {
            Err(Error::Corrupt {
                location: Location::Page { .. },
                ..
            }) => self.try_read(runtime, buf, offset),
            done => done,
        }
    }

    fn try_read(&self, runtime: &Runtime, buf: &mut [u8], offset: u64) -> Result<()> {
        let head = self.head_of(runtime)?;
        check_range(offset, buf.len() as u64, head.record.len)?;
        buf.fill(0);
        let page_len = self.page_len();
        let range = offset..offset + buf.len() as u64;
        let mut pieces = pieces(offset, buf.len(), page_len);
        for mapped in head.tree.iter(&self.nodes, outer_pages(&range, page_len)) {
            let (page, entry) = mapped?;
            let Entry::Data(entry) = entry else { continue };
            let piece = pieces.find(|piece| piece.page == page);
            let piece = piece.expect("BUG: the tree gives the pages of the range in order");
            let keys = self.keys(runtime)?;
            self.read_piece(&head, &keys, &entry, &piece, buf)?;
        }
        Ok(())
    }

    fn read_piece(
        &self,
        head: &Head,
        keys: &HeadKeys,
        entry: &DataEntry,
        piece: &Piece,
        buf: &mut [u8],
    ) -> Result<()> {
        let into = &mut buf[piece.in_range.clone()];
        if piece.in_page.len() == self.page_len() as usize {
            return self.open_page(head, keys, piece.page, entry, into);
        }
        let mut page = vec![0; self.page_len() as usize];
        self.open_page(head, keys, piece.page, entry, &mut page)?;
        into.copy_from_slice(&page[piece.in_page.clone()]);
        Ok(())
    }

    /// Copies a page's ciphertext out and decrypts it in place. On an error `buf` is zeroed.
    fn open_page(
        &self,
        head: &Head,
        keys: &HeadKeys,
        page: PageNo,
        entry: &DataEntry,
        buf: &mut [u8],
    ) -> Result<()> {
        let damaged = |damage| Error::Corrupt {
            location: Location::Page {
                head: head.record.name.clone(),
                page,
                at: entry.at,
            },
            damage,
        };
        let key = self.epoch_key(keys, head, entry.key_epoch, entry.at)?;
        let salt = self.segments.salt_of(entry.at);
        let salt = salt.ok_or_else(|| damaged(Damage::Inconsistent("its salt is not known")))?;
        let opener = keys.opener(&key, salt);
        self.segments.copy_slots(entry.at, buf)?;
        open_page(&opener, &key.random_id, page, entry, buf).map_err(|damage| {
            buf.fill(0);
            damaged(damage)
        })
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

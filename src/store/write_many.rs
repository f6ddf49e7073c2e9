//! Several writes as one change: one place in the log, one turn at the commit lock.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::Result;
use crate::store::inner::{Inner, Runtime};
use crate::store::write::NewPages;
use crate::units::PageNo;
use crate::volume::{PagesLocked, Piece, check_range, pieces};

/// The pieces of a page that writes give it, in their order.
type Pieces<'a> = Vec<(Piece, &'a [u8])>;

impl Inner {
    /// Does writes in their order, as one change up to the atomic bound and else in chunks by page.
    pub fn write_many(&self, runtime: &Runtime, writes: &[(u64, &[u8])]) -> Result<()> {
        self.writable()?;
        let writable_len = self.writable_len(runtime)?;
        for (offset, bytes) in writes {
            check_range(*offset, bytes.len() as u64, writable_len)?;
        }
        let mut by_page: BTreeMap<PageNo, Pieces<'_>> = BTreeMap::new();
        for (offset, bytes) in writes {
            self.counters.writes.add(1);
            self.counters.written_bytes.add(bytes.len() as u64);
            for piece in pieces(*offset, bytes.len(), self.page_len()) {
                by_page.entry(piece.page).or_default().push((piece, bytes));
            }
        }
        let by_page: Vec<(PageNo, Pieces<'_>)> = by_page.into_iter().collect();
        for chunk in by_page.chunks(self.atomic_pages()) {
            self.write_pieces(runtime, chunk)?;
            self.flush_if_due()?;
        }
        self.checkpoint_if_due()
    }

    fn write_pieces(&self, runtime: &Runtime, chunk: &[(PageNo, Pieces<'_>)]) -> Result<()> {
        let page_len = self.page_len() as usize;
        let _turns = lock(runtime, chunk);
        let old: Vec<Option<Vec<u8>>> = chunk
            .iter()
            .map(|(page, pieces)| {
                if pieces
                    .iter()
                    .any(|(piece, _)| piece.in_page.len() == page_len)
                {
                    return Ok(None);
                }
                let mut bytes = vec![0; page_len];
                self.read(runtime, &mut bytes, page.0 * page_len as u64)?;
                Ok(Some(bytes))
            })
            .collect::<Result<_>>()?;
        let fill = |index: usize, page: &mut [u8]| {
            if let Some(old) = &old[index] {
                page.copy_from_slice(old);
            }
            for (piece, bytes) in &chunk[index].1 {
                page[piece.in_page.clone()].copy_from_slice(&bytes[piece.in_range.clone()]);
            }
        };
        let new = NewPages {
            pages: chunk.iter().map(|(page, _)| *page).collect(),
            fill: &fill,
            over: None,
        };
        self.change(runtime, new, None)
    }
}

/// Takes all pages of a chunk, from the least on: so of any two that want the same, none waits for the other
/// with what the other waits for.
fn lock<'a>(runtime: &'a Runtime, chunk: &[(PageNo, Pieces<'_>)]) -> Vec<PagesLocked<'a>> {
    let mut runs: Vec<Range<PageNo>> = Vec::new();
    for (page, _) in chunk {
        match runs.last_mut() {
            Some(run) if run.end == *page => run.end = PageNo(page.0 + 1),
            _ => runs.push(*page..PageNo(page.0 + 1)),
        }
    }
    runs.into_iter()
        .map(|run| runtime.locks.lock(run))
        .collect()
}

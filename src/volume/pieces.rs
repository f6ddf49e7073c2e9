//! Byte ranges of a volume as pages and pieces of pages.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::units::PageNo;

/// The part of a byte range that lies in one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The page.
    pub page: PageNo,
    /// The bytes of the page.
    pub in_page: Range<usize>,
    /// The same bytes, counted from the start of the range.
    pub in_range: Range<usize>,
}

/// Checks that a range of bytes lies in a volume.
pub fn check_range(offset: u64, len: u64, volume_len: u64) -> Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= volume_len => Ok(()),
        _ => Err(Error::OutOfBounds {
            offset,
            len,
            volume_len,
        }),
    }
}

/// The pieces of a byte range, in order.
pub fn pieces(offset: u64, len: usize, page_len: u32) -> impl Iterator<Item = Piece> {
    let page_len = page_len as usize;
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < len).then(|| {
            let at = offset + done as u64;
            let start = (at % page_len as u64) as usize;
            let count = (page_len - start).min(len - done);
            let piece = Piece {
                page: PageNo(at / page_len as u64),
                in_page: start..start + count,
                in_range: done..done + count,
            };
            done += count;
            piece
        })
    })
}

/// The pages that a byte range touches: none if it is empty, wherever it lies.
pub fn outer_pages(range: &Range<u64>, page_len: u32) -> Range<PageNo> {
    let page_len = u64::from(page_len);
    let first = range.start / page_len;
    let end = match range.is_empty() {
        true => first,
        false => range.end.div_ceil(page_len),
    };
    PageNo(first)..PageNo(end)
}

/// The pages that a byte range covers in full; empty if there are none.
pub fn inner_pages(range: &Range<u64>, page_len: u32) -> Range<PageNo> {
    let page_len = u64::from(page_len);
    let first = range.start.div_ceil(page_len);
    PageNo(first)..PageNo((range.end / page_len).max(first))
}

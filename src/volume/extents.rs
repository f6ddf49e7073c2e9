//! What a volume holds, range by range.

use std::iter::Peekable;
use std::ops::Range;

use crate::error::Result;
use crate::format::entry::Entry;
use crate::units::{KeyEpoch, PageNo};

/// A range of a volume that is of one kind and one age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// What is there.
    pub kind: ExtentKind,
    /// 0 for a hole; 1 for what was written since the last branch; one more for each branch
    /// between then and the write.
    pub depth: u32,
}

/// What a range holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Bytes that were written; or that were lost, so that who reads them is told.
    Data,
    /// Zeroes that were written as such; they take no space.
    Zero,
    /// Nothing: it reads as zeroes.
    Hole,
}

type MappedPages<'a> = Box<dyn Iterator<Item = Result<(PageNo, Entry)>> + 'a>;

/// The extents of a range, in order and without gaps; neighbours differ in kind or depth.
pub struct Extents<'a> {
    pages: Peekable<MappedPages<'a>>,
    depth: Box<dyn FnMut(KeyEpoch) -> u32 + 'a>,
    page_len: u64,
    next: u64,
    end: u64,
}

impl std::fmt::Debug for Extents<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extents")
            .field("next", &self.next)
            .field("end", &self.end)
            .finish()
    }
}

impl<'a> Extents<'a> {
    /// The extents of `range`, from the mapped pages that it touches, in order.
    pub fn new(
        range: Range<u64>,
        page_len: u32,
        pages: impl Iterator<Item = Result<(PageNo, Entry)>> + 'a,
        depth: impl FnMut(KeyEpoch) -> u32 + 'a,
    ) -> Self {
        let pages: MappedPages<'a> = Box::new(pages);
        Self {
            pages: pages.peekable(),
            depth: Box::new(depth),
            page_len: u64::from(page_len),
            next: range.start,
            end: range.end.max(range.start),
        }
    }

    /// The kind and depth at `self.next`, and where that page (or the hole) ends.
    fn step(&mut self) -> Result<(ExtentKind, u32, u64)> {
        let page = self.next / self.page_len;
        let page_end = (page + 1) * self.page_len;
        match self.pages.peek() {
            None => Ok((ExtentKind::Hole, 0, self.end)),
            Some(Ok((mapped, _))) if mapped.0 > page => {
                Ok((ExtentKind::Hole, 0, mapped.0 * self.page_len))
            }
            Some(_) => {
                let (_, entry) = self.pages.next().expect("BUG: it was peeked at")?;
                let kind = match entry {
                    Entry::Data(_) | Entry::Lost { .. } => ExtentKind::Data,
                    Entry::Zero { .. } => ExtentKind::Zero,
                };
                Ok((kind, (self.depth)(entry.key_epoch()), page_end))
            }
        }
    }

    /// Whether the page at `self.next` is mapped as given, without taking it.
    fn goes_on(&mut self, kind: ExtentKind, depth: u32) -> bool {
        let page = self.next / self.page_len;
        match self.pages.peek() {
            Some(Ok((mapped, entry))) if mapped.0 == page => {
                let same_kind = match entry {
                    Entry::Data(_) | Entry::Lost { .. } => kind == ExtentKind::Data,
                    Entry::Zero { .. } => kind == ExtentKind::Zero,
                };
                same_kind && (self.depth)(entry.key_epoch()) == depth
            }
            _ => false,
        }
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let offset = self.next;
        let (kind, depth, end) = match self.step() {
            Ok(step) => step,
            Err(error) => {
                self.next = self.end;
                return Some(Err(error));
            }
        };
        self.next = end;
        while self.next < self.end && self.goes_on(kind, depth) {
            self.pages.next();
            self.next += self.page_len;
        }
        let len = self.next.min(self.end) - offset;
        Some(Ok(Extent {
            offset,
            len,
            kind,
            depth,
        }))
    }
}

//! Block semantics on one page table: byte ranges as pages, extents, and who may change a page.
//!
//! Nothing here writes the log or asks for keys.

mod extents;
mod pieces;
mod ranges;
#[cfg(test)]
mod tests;

pub use extents::{Extent, ExtentKind, Extents};
pub use pieces::{Piece, check_range, inner_pages, outer_pages, pieces};
pub use ranges::{PageLocks, PagesLocked};

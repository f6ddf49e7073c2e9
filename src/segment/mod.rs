//! Segments: the files that slots are in, and the sealed-page read and write path.
//!
//! Invariants: a slot is written once in each life of a segment file; only this module seals and
//! opens pages; only it knows which file a virtual segment is in. It does not know what a batch is,
//! nor who can reach a page.

mod aside;
mod bulk;
mod crew;
mod file;
mod kept;
mod pack;
mod seal;
mod space;
mod spare;
mod table;

pub use bulk::BulkWriter;
pub use crew::{Crew, Shift};
pub use file::{Segment, Segments};
pub use seal::{EpochKey, PageOpener, SealedPage, open_pages, seal_pages};
pub use table::{FileId, Salt};

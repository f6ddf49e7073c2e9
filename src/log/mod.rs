//! The log: batches in one order, the superblocks that say where it starts, and rolling forward.
//!
//! Invariants: a batch names the one before by its keyed chain value; slots that may hold
//! acknowledged bytes are never written again; after a crash exactly a prefix of the log counts.
//! This module writes but never syncs: `store/commit.rs` orders that.
#![deny(clippy::indexing_slicing)]

mod append;
mod scan;
mod superblock;
mod tables;
#[cfg(test)]
mod tests;

pub use append::{LogWriter, Place};
pub use scan::{Scan, scan, unsettled};
pub use superblock::{Candidate, Superblocks};
pub use tables::{first_table_segment, load_tables, table_parts};

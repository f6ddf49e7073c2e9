//! The disk format: the only module that knows byte offsets.
//!
//! Each persisted object has an encoder that cannot fail and a decoder that trusts nothing:
//! magic, version, checksum, bounds and zero reserved bytes are checked, and nothing is
//! allocated by a declared length. `docs/format.md` says the same in prose, and a test compares
//! its tables with [`LAYOUT`].
#![deny(clippy::indexing_slicing)]

pub mod entry;
pub mod layout;
pub mod node;

//! offshoot: an encrypted block store with real copy-on-write volumes.

pub mod btree;
pub mod catalog;
pub mod crypto;
pub mod error;
pub mod format;
pub mod io;
pub mod kms;
pub mod lineage;
pub mod log;
pub mod segment;
pub mod store;
pub mod sync;
pub mod sys;
pub mod units;
pub mod volume;

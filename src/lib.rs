//! offshoot: an encrypted block store with real copy-on-write volumes.

pub mod check;
pub mod crypto;
pub mod error;
pub mod format;
pub mod io;
pub mod kms;
pub mod sync;
pub mod sys;
pub mod units;

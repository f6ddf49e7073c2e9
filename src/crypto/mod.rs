//! Keys, ciphers, nonces and hashes.
//!
//! Invariant: no pair of key and nonce seals twice. Secrets are types that wipe themselves and
//! never print their bytes. Nothing here knows what is sealed or where it lies: callers give the
//! associated data as bytes.

#[cfg(feature = "aws-lc-rs")]
mod aws_lc;
mod cipher;
mod hash;
mod key;
mod nonce;
mod stack;
#[cfg(test)]
mod tests;

pub use cipher::PAGE_CIPHER;
pub use hash::{hash, keyed_hash};
pub use key::{Label, Secret, WRAPPED_LEN, unwrap, wrap};
pub use nonce::{Opener, Sealer};

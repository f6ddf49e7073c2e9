//! BLAKE3, plain and keyed.

use crate::crypto::key::Secret;
use crate::crypto::stack::on_clean_stack;

/// The BLAKE3 hash of bytes.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    blake3::hash(bytes).into()
}

/// The keyed BLAKE3 hash of bytes.
pub fn keyed_hash(key: &Secret, bytes: &[u8]) -> [u8; 32] {
    // All at once: its chunks are hashed side by side then.
    on_clean_stack(|| blake3::keyed_hash(key.expose(), bytes).into())
}

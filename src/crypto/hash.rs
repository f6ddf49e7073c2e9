//! BLAKE3, plain and keyed.

use zeroize::Zeroize;

use crate::crypto::key::Secret;

/// The BLAKE3 hash of bytes.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    blake3::hash(bytes).into()
}

/// The keyed BLAKE3 hash of the parts, one after the other.
///
/// Nothing marks where a part ends: callers give parts of fixed length, or the length too.
pub fn keyed_hash(key: &Secret, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    for part in parts {
        hasher.update(part);
    }
    let hash = hasher.finalize().into();
    hasher.zeroize();
    hash
}

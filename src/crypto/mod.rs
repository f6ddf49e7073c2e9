//! Keys and ciphers (interface; see the modules).
/// A 256-bit secret.
pub struct Secret(#[allow(dead_code)] [u8; 32]);
/// BLAKE3.
pub fn hash(bytes: &[u8]) -> [u8; 32] { *blake3::hash(bytes).as_bytes() }

//! Keys and ciphers (interface; see the modules).
/// A 256-bit secret.
pub struct Secret(#[allow(dead_code)] [u8; 32]);

//! AES-256-GCM behind one trait, and the subkeys of XAES-256-GCM.

use std::fmt;

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::key::Secret;
use crate::crypto::stack::on_clean_stack;
use crate::error::Damage;

/// Length of a nonce in bytes.
pub const NONCE_LEN: usize = 12;
/// Length of an authentication tag in bytes.
pub const TAG_LEN: usize = 16;
/// Length of the salt of a subkey in bytes.
pub const SALT_LEN: usize = 12;

/// Seals and opens pages. Every backend gives the same bytes.
pub trait PageCipher: Send + Sync {
    /// Encrypts `buf` in place and gives the tag. A nonce seals once.
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN];

    /// Checks the tag and decrypts `buf` in place. If it is `BadTag`, `buf` is no plaintext.
    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Damage>;
}

/// The crate that seals and opens pages in this build. The bytes are the same with any.
pub const PAGE_CIPHER: &str = match cfg!(feature = "aws-lc-rs") {
    true => "aws-lc-rs",
    false => "aes-gcm",
};

/// The backend that seals and opens pages: the fastest that was built.
#[cfg(feature = "aws-lc-rs")]
pub type PageGcm = crate::crypto::aws_lc::AwsLcGcm;
/// The backend that seals and opens pages: the fastest that was built.
#[cfg(not(feature = "aws-lc-rs"))]
pub type PageGcm = Aes256Gcm;

/// AES-256-GCM of the `aes-gcm` crate: always there, and wraps keys. The key schedule is wiped when dropped.
pub struct Aes256Gcm(aes_gcm::Aes256Gcm);

impl Aes256Gcm {
    /// A cipher with that key.
    pub fn new(key: &Secret) -> Self {
        Self(aes_gcm::Aes256Gcm::new(key.expose().into()))
    }
}

impl fmt::Debug for Aes256Gcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes256Gcm(..)")
    }
}

impl PageCipher for Aes256Gcm {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
        self.0
            .encrypt_inout_detached(nonce.into(), aad, InOutBuf::from(buf))
            .expect("BUG: more bytes than one nonce can seal")
            .into()
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Damage> {
        self.0
            .decrypt_inout_detached(nonce.into(), aad, InOutBuf::from(buf), tag.into())
            .map_err(|_| Damage::BadTag)
    }
}

/// The subkey of a page key for a salt, as XAES-256-GCM (C2SP) derives it from the first half of
/// its nonce: NIST SP 800-108r1 in counter mode with CMAC.
pub fn subkey(page_key: &Secret, salt: &[u8; SALT_LEN]) -> Secret {
    on_clean_stack(|| derive_subkey(page_key, salt))
}

fn derive_subkey(page_key: &Secret, salt: &[u8; SALT_LEN]) -> Secret {
    let cipher = Aes256::new(page_key.expose().into());
    let mask = cmac_mask(&cipher);
    let mut bytes = Zeroizing::new([0; 32]);
    for (half, counter) in bytes.chunks_exact_mut(16).zip(1u8..) {
        let mut block = [0; 16];
        block[..4].copy_from_slice(&[0, counter, b'X', 0]);
        block[4..].copy_from_slice(salt);
        for (byte, mask) in block.iter_mut().zip(mask.iter()) {
            *byte ^= mask;
        }
        let mut block = aes::Block::from(block);
        cipher.encrypt_block(&mut block);
        half.copy_from_slice(&block);
        block.as_mut_slice().zeroize();
    }
    Secret::from_bytes(*bytes)
}

/// The first CMAC subkey: the encrypted zero block doubled in GF(2^128), without a branch on it.
fn cmac_mask(cipher: &Aes256) -> Zeroizing<[u8; 16]> {
    let mut block = aes::Block::default();
    cipher.encrypt_block(&mut block);
    let doubled = Zeroizing::new(u128::from_be_bytes(block.into()));
    let reduce = 0x87 * (*doubled >> 127);
    Zeroizing::new(((*doubled << 1) ^ reduce).to_be_bytes())
}

//! The backend of the crate `aws-lc-rs`: the same bytes as `aes-gcm` several times as fast.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::crypto::cipher::{NONCE_LEN, PageCipher, TAG_LEN};
use crate::crypto::key::Secret;
use crate::error::Damage;

/// AES-256-GCM of `aws-lc-rs`. The key schedule is in one heap place that AWS-LC's `free` wipes.
pub struct AwsLcGcm(LessSafeKey);

impl AwsLcGcm {
    /// A cipher with that key.
    pub fn new(key: &Secret) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key.expose());
        Self(LessSafeKey::new(
            key.expect("BUG: a secret is not as long as a key"),
        ))
    }
}

impl fmt::Debug for AwsLcGcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsLcGcm(..)")
    }
}

impl PageCipher for AwsLcGcm {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), buf)
            .expect("BUG: more bytes than one nonce can seal");
        let mut bytes = [0; TAG_LEN];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Damage> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        match self
            .0
            .open_in_place_separate_tag(nonce, Aad::from(aad), tag, buf)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(Damage::BadTag),
        }
    }
}

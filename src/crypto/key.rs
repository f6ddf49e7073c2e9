//! Secrets, the keys derived from them by label, and wrapping one under another.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::crypto::cipher::{Aes256Gcm, NONCE_LEN, PageCipher, TAG_LEN};
use crate::crypto::stack::on_clean_stack;
use crate::error::Damage;
use crate::source::Random;
use crate::sys::SecretBytes;

/// Length of a wrapped secret: nonce (12), ciphertext (32), tag (16).
pub const WRAPPED_LEN: usize = NONCE_LEN + 32 + TAG_LEN;

/// A 256-bit secret. It is wiped when dropped, prints nothing and is copied only on request.
///
/// The bytes stay in one place, so that moving a secret leaves no copy behind. They are not
/// swapped out where the system allows that.
pub struct Secret(SecretBytes);

/// What a derived key is for. Keys of different labels tell nothing about each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Label {
    /// Seals pages (by way of subkeys).
    Page,
    /// Wraps other keys.
    Wrap,
    /// Is published to commit to the secret: GCM alone does not.
    Commit,
    /// Chains the records of the log.
    Log,
    /// Authenticates superblocks.
    Superblock,
}

impl Label {
    fn text(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Wrap => "wrap",
            Self::Commit => "commit",
            Self::Log => "log",
            Self::Superblock => "superblock",
        }
    }
}

impl Secret {
    /// A new secret.
    pub fn random(random: &dyn Random) -> Self {
        let mut secret = Self::zeroed();
        random.fill(&mut secret.0[..]);
        secret
    }

    /// A secret of known bytes. The caller wipes its own copy.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let mut secret = Self::zeroed();
        secret.0.copy_from_slice(&bytes[..]);
        secret
    }

    /// The bytes. They are never printed, compared in variable time or kept elsewhere.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of that label: HKDF-SHA256 without salt, info "offshoot v0 " and the label's text.
    pub fn derive(&self, label: Label) -> Self {
        let mut derived = Self::zeroed();
        self.expand_for(label, &mut derived.0);
        derived
    }

    /// A public value that only this secret has, to check that an unwrapped key is the one meant.
    pub fn commitment(&self) -> [u8; 32] {
        let mut commitment = [0; 32];
        self.expand_for(Label::Commit, &mut commitment);
        commitment
    }

    /// A copy of the secret; not `Clone`, so that each copy is seen in the code.
    pub fn duplicate(&self) -> Self {
        let mut copy = Self::zeroed();
        copy.0.copy_from_slice(self.expose());
        copy
    }

    fn expand_for(&self, label: Label, out: &mut [u8; 32]) {
        let info = format!("offshoot v0 {}", label.text());
        on_clean_stack(|| expand(self.expose(), info.as_bytes(), out));
    }

    fn zeroed() -> Self {
        Self(SecretBytes::zeroed())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Wraps a secret under another with AES-256-GCM and a random nonce.
pub fn wrap(kek: &Secret, secret: &Secret, aad: &[u8], random: &dyn Random) -> [u8; WRAPPED_LEN] {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce);
    let mut wrapped = [0; WRAPPED_LEN];
    let (head, rest) = wrapped.split_at_mut(NONCE_LEN);
    let (body, tail) = rest.split_at_mut(32);
    head.copy_from_slice(&nonce);
    body.copy_from_slice(secret.expose());
    tail.copy_from_slice(&on_clean_stack(|| {
        Aes256Gcm::new(kek).seal(&nonce, aad, body)
    }));
    wrapped
}

/// Unwraps what [`wrap`] made. Any other key, associated data or bytes are `BadTag`.
pub fn unwrap(kek: &Secret, wrapped: &[u8; WRAPPED_LEN], aad: &[u8]) -> Result<Secret, Damage> {
    let (mut nonce, mut tag) = ([0; NONCE_LEN], [0; TAG_LEN]);
    let (head, rest) = wrapped.split_at(NONCE_LEN);
    let (body, tail) = rest.split_at(32);
    nonce.copy_from_slice(head);
    tag.copy_from_slice(tail);
    let mut secret = Secret::zeroed();
    secret.0.copy_from_slice(body);
    on_clean_stack(|| Aes256Gcm::new(kek).open(&nonce, aad, &mut secret.0[..], &tag))?;
    Ok(secret)
}

/// HKDF-SHA256 without salt.
pub(super) fn expand(secret: &[u8], info: &[u8], out: &mut [u8]) {
    Hkdf::<Sha256>::new(None, secret)
        .expand(info, out)
        .expect("BUG: more bytes than HKDF can give");
}

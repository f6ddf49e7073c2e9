//! Nonces: who may seal under a subkey, and with what.
//!
//! Invariant: a pair of subkey and nonce seals at most once. The salt of a subkey is drawn anew
//! by whoever seals; a salt that was read from somewhere only opens. The counter runs over the
//! subkey's life, so one process cannot repeat; the random half keeps two forks of a live machine
//! apart. Nothing that is read back from a store decides a nonce.

use crate::crypto::cipher::{NONCE_LEN, PageCipher, PageGcm, SALT_LEN, TAG_LEN, subkey};
use crate::crypto::key::Secret;
use crate::error::Damage;
use crate::source::Random;
use crate::sync::{AtomicU64, Ordering};

/// Seals under one subkey. Half the counter's range: far from the end, and far below where GCM
/// becomes weak with 4 KiB pages.
pub const SEALS_MAX: u32 = 1 << 31;

/// Seals under one subkey: owns the subkey and its counter, and is not `Clone`.
#[derive(Debug)]
pub struct Sealer {
    cipher: PageGcm,
    salt: [u8; SALT_LEN],
    next: AtomicU64,
}

/// Nonces reserved for one batch: 8 random bytes and a range of counters.
///
/// Not `Clone`. It remembers which of its nonces have sealed: a second seal with one index, an
/// index outside the range, or a range of another sealer is a bug, and panics before it seals.
#[derive(Debug)]
pub struct NonceRange {
    salt: [u8; SALT_LEN],
    prefix: [u8; 8],
    first: u32,
    pub(super) count: u32,
    used: Vec<AtomicU64>,
}

impl Sealer {
    /// A sealer for a page key. `salt` must be fresh random bytes: never one that was read.
    pub fn new(page_key: &Secret, salt: [u8; SALT_LEN]) -> Self {
        let cipher = PageGcm::new(&subkey(page_key, &salt));
        Self {
            cipher,
            salt,
            next: AtomicU64::new(0),
        }
    }

    /// The salt, which the first batch sealed here carries.
    pub fn salt(&self) -> [u8; SALT_LEN] {
        self.salt
    }

    /// Takes `count` nonces that nobody else gets, and draws their random bytes. `None` if the
    /// subkey has sealed enough: then the caller makes a sealer with a new salt. Costs a bit of
    /// memory a nonce.
    pub fn reserve(&self, count: u32, random: &dyn Random) -> Option<NonceRange> {
        let take = |next: u64| {
            next.checked_add(count.into())
                .filter(|&end| end <= SEALS_MAX.into())
        };
        let first = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()?;
        let mut prefix = [0; 8];
        random.fill(&mut prefix);
        Some(NonceRange {
            salt: self.salt,
            prefix,
            first: u32::try_from(first).expect("BUG: the counter passed its bound"),
            count,
            used: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Encrypts `buf` in place with the nonce of that index, and gives nonce and tag.
    ///
    /// # Panics
    ///
    /// If the index has sealed before or is not in the range, or the range is another sealer's.
    pub fn seal(
        &self,
        range: &NonceRange,
        index: u32,
        aad: &[u8],
        buf: &mut [u8],
    ) -> ([u8; NONCE_LEN], [u8; TAG_LEN]) {
        assert!(range.salt == self.salt, "BUG: the nonces of another sealer");
        let nonce = range.take(index);
        (nonce, self.cipher.seal(&nonce, aad, buf))
    }
}

impl NonceRange {
    /// The nonce of an index: the random bytes, then the counter (little-endian). Once only.
    fn take(&self, index: u32) -> [u8; NONCE_LEN] {
        assert!(index < self.count, "BUG: a nonce outside its range");
        let (word, bit) = (index as usize / 64, 1 << (index % 64));
        let before = self.used[word].fetch_or(bit, Ordering::Relaxed);
        assert!(before & bit == 0, "BUG: a nonce would seal twice");
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.prefix);
        nonce[8..].copy_from_slice(&(self.first + index).to_le_bytes());
        nonce
    }
}

/// Opens what was sealed under one subkey.
#[derive(Debug)]
pub struct Opener(PageGcm);

impl Opener {
    /// An opener for a page key and the salt that the sealed bytes carry.
    pub fn new(page_key: &Secret, salt: [u8; SALT_LEN]) -> Self {
        Self(PageGcm::new(&subkey(page_key, &salt)))
    }

    /// Checks the tag and decrypts `buf` in place. If it is `BadTag`, `buf` is no plaintext.
    pub fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Damage> {
        self.0.open(nonce, aad, buf, tag)
    }
}

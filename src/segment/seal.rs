//! Sealing and opening pages.

use std::convert::Infallible;

use crate::crypto::{Label, Opener, Sealer, Secret};
use crate::error::Damage;
use crate::format::entry::{DataEntry, page_aad};
use crate::segment::crew::Shift;
use crate::segment::table::Salt;
use crate::source::Random;
use crate::units::{KeyEpoch, PageNo, SlotAddr};

/// An unlocked key epoch: what its pages are bound to, and the keys derived from its own.
#[derive(Debug)]
pub struct EpochKey {
    /// The epoch.
    pub key_epoch: KeyEpoch,
    /// Random id that its pages are bound to.
    pub random_id: [u8; 16],
    /// The epoch key itself.
    pub secret: Secret,
    /// Seals pages, by way of subkeys.
    pub page: Secret,
    /// Wraps keys of epochs above.
    pub wrap: Secret,
}

/// What a page entry will say of a sealed page once it has a place.
#[derive(Clone, Copy, Debug)]
pub struct SealedPage {
    /// The page.
    pub page: PageNo,
    crc: u32,
    nonce: [u8; 12],
    tag: [u8; 16],
}

/// Opens pages of one key epoch that were sealed under one salt.
#[derive(Debug)]
pub struct PageOpener {
    random_id: [u8; 16],
    opener: Opener,
}

impl EpochKey {
    /// Derives the keys of an epoch.
    pub fn new(key_epoch: KeyEpoch, random_id: [u8; 16], secret: Secret) -> Self {
        let page = secret.derive(Label::Page);
        let wrap = secret.derive(Label::Wrap);
        Self {
            key_epoch,
            random_id,
            secret,
            page,
            wrap,
        }
    }
}

impl SealedPage {
    /// A page that is still to be sealed.
    fn new(page: PageNo) -> Self {
        Self {
            page,
            crc: 0,
            nonce: [0; 12],
            tag: [0; 16],
        }
    }

    /// The entry of the page at its place.
    pub fn entry(&self, key_epoch: KeyEpoch, at: SlotAddr) -> DataEntry {
        DataEntry {
            at,
            key_epoch,
            crc: self.crc,
            nonce: self.nonce,
            tag: self.tag,
        }
    }
}

/// Encrypts pages in place, one after another in `body`.
///
/// `None` if the sealer has sealed enough: draw a new salt.
pub fn seal_pages(
    sealer: &Sealer,
    random_id: &[u8; 16],
    pages: &[PageNo],
    body: &mut [u8],
    random: &dyn Random,
    shift: &Shift<'_>,
) -> Option<Vec<SealedPage>> {
    let range = sealer.reserve(pages.len() as u32, random)?;
    let page_len = body.len() / pages.len();
    let mut sealed: Vec<SealedPage> = pages.iter().map(|page| SealedPage::new(*page)).collect();
    let count = (shift.stint_len() / page_len).max(1);
    let bodies = body.chunks_mut(count.saturating_mul(page_len));
    let stints = sealed.chunks_mut(count).zip(bodies).enumerate().collect();
    let seal = |(stint, (sealed, body)): (usize, (&mut [SealedPage], &mut [u8]))| {
        for (index, (page, bytes)) in sealed.iter_mut().zip(body.chunks_mut(page_len)).enumerate() {
            let aad = page_aad(random_id, page.page);
            let index = (stint * count + index) as u32;
            (page.nonce, page.tag) = sealer.seal(&range, index, &aad, bytes);
            page.crc = crc32fast::hash(bytes);
        }
        Ok::<_, Infallible>(())
    };
    let Ok(()) = shift.each(stints, seal);
    Some(sealed)
}

/// Decrypts pages in place, one after another in `buf`. The first page whose tag is wrong is the error.
pub fn open_pages(
    opener: &PageOpener,
    pages: &[(PageNo, DataEntry)],
    buf: &mut [u8],
) -> Result<(), (PageNo, DataEntry, Damage)> {
    let page_len = buf.len() / pages.len();
    let mut pages = pages.iter().zip(buf.chunks_exact_mut(page_len));
    pages.try_for_each(|((page, entry), bytes)| {
        let opened = opener.open(*page, entry, bytes);
        opened.map_err(|damage| (*page, *entry, damage))
    })
}

impl PageOpener {
    /// An opener for pages of an epoch that were sealed under a salt.
    pub fn new(key: &EpochKey, salt: Salt) -> Self {
        Self {
            random_id: key.random_id,
            opener: Opener::new(&key.page, salt),
        }
    }

    /// Decrypts a page in place; on an error `buf` holds nothing of use.
    pub fn open(&self, page: PageNo, entry: &DataEntry, buf: &mut [u8]) -> Result<(), Damage> {
        let aad = page_aad(&self.random_id, page);
        self.opener.open(&entry.nonce, &aad, buf, &entry.tag)
    }
}

#[cfg(test)]
mod tests;

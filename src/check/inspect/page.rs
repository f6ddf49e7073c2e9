//! A page of a volume or snapshot, and all that is known of it without its key.

use crate::check::files::Trouble;
use crate::check::image::Image;
use crate::check::inspect::{Loaded, Problem, find_head, load};
use crate::check::lock_shared;
use crate::check::state::Head;
use crate::error::{Error, Kind, Result};
use crate::format::entry::{DataEntry, Entry};
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::{HeadId, KeyEpoch, LineageEpoch, Location, PageNo, SlotAddr};

/// A page.
#[derive(Clone, Debug)]
pub struct PageView {
    /// The head.
    pub head: HeadId,
    /// The page.
    pub page: PageNo,
    /// The log says so; the page table on disk does not know it yet.
    pub from_log: bool,
    /// What it is.
    pub state: PageState,
    /// The nodes of the page table on the way to it, the root first.
    pub path: Vec<SlotAddr>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// What a page is.
#[derive(Clone, Debug)]
pub enum PageState {
    /// Nothing: it reads as zeroes.
    Unmapped,
    /// It was set to zeroes.
    Zero {
        /// The key epoch that was open then.
        key_epoch: KeyEpoch,
        /// The lineage epoch it was born in, if the key epoch is known.
        lineage: Option<LineageEpoch>,
    },
    /// It was damaged, and a repair gave its contents up: reading it is an error.
    Lost {
        /// The key epoch that was open then.
        key_epoch: KeyEpoch,
        /// The lineage epoch it was born in, if the key epoch is known.
        lineage: Option<LineageEpoch>,
    },
    /// It has ciphertext.
    Data(PageData),
}

/// Where the ciphertext of a page is, and what proves it.
#[derive(Clone, Debug)]
pub struct PageData {
    /// Its first slot.
    pub at: SlotAddr,
    /// The key epoch that it is sealed under.
    pub key_epoch: KeyEpoch,
    /// The lineage epoch it was born in, if the key epoch is known.
    pub lineage: Option<LineageEpoch>,
    /// The salt of its subkey, if it is known.
    pub salt: Option<[u8; 12]>,
    /// Its nonce.
    pub nonce: [u8; 12],
    /// Its tag.
    pub tag: [u8; 16],
    /// CRC-32 of the ciphertext.
    pub crc: u32,
    /// Why the ciphertext is not what was written, if so.
    pub damage: Option<String>,
}

/// Looks a page up.
pub fn page(
    disk: &dyn Disk,
    kms: Option<&dyn KeyService>,
    kind: Kind,
    name: &str,
    page: PageNo,
) -> Result<PageView> {
    let _guard = lock_shared(disk)?;
    let Loaded { image, problems } = load(disk, kms)?;
    let head = find_head(&image, kind, name)?;
    let page_len = u64::from(image.superblock.geometry.page_len);
    if page.0 >= head.record.len / page_len {
        return Err(Error::OutOfBounds {
            offset: page.0.saturating_mul(page_len),
            len: page_len,
            volume_len: head.record.len,
        });
    }
    let mut path = Vec::new();
    let entry = head
        .entry_by(&image.files, page, &mut |at| path.push(at))
        .map_err(|trouble| unreadable(head, page, path.last(), trouble))?;
    Ok(PageView {
        head: head.record.head,
        page,
        path,
        problems,
        from_log: head.spans.get(page).is_some(),
        state: match entry {
            None => PageState::Unmapped,
            Some(Entry::Zero { key_epoch }) => PageState::Zero {
                key_epoch,
                lineage: image.state.lineage_of(key_epoch),
            },
            Some(Entry::Lost { key_epoch }) => PageState::Lost {
                key_epoch,
                lineage: image.state.lineage_of(key_epoch),
            },
            Some(Entry::Data(data)) => PageState::Data(view(&image, &data)),
        },
    })
}

/// The error of a page whose entry cannot be found, for the node at `at` cannot be read.
fn unreadable(head: &Head, page: PageNo, at: Option<&SlotAddr>, trouble: Trouble) -> Error {
    let location = Location::Page {
        head: head.record.name.clone(),
        page,
        at: at.copied().unwrap_or_default(),
    };
    trouble.at(location)
}

fn view(image: &Image<'_>, data: &DataEntry) -> PageData {
    let slots = image.superblock.geometry.page_slots();
    let damage = match image.files.read(data.at, slots) {
        Ok(bytes) if crc32fast::hash(&bytes) == data.crc => None,
        Ok(_) => Some("its checksum does not match".to_owned()),
        Err(trouble) => Some(trouble.to_string()),
    };
    PageData {
        at: data.at,
        key_epoch: data.key_epoch,
        lineage: image.state.lineage_of(data.key_epoch),
        salt: image.state.salt(data.at),
        nonce: data.nonce,
        tag: data.tag,
        crc: data.crc,
        damage,
    }
}

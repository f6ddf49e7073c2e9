//! The bytes of the files `keys`, `aliases`, `heads` and `mark-*`; `docs/kms-format.md` describes them too.
//!
//! Numbers are little-endian. Bytes named `zero` are zero, and so are bytes behind a text that is
//! shorter than its field: a reader refuses anything else. Nothing here touches a file.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::Damage;
use crate::format::is_zero;

/// The only format version so far.
pub(super) const VERSION: u32 = 0;
/// Where the CRC-32 lies in each header and in each record of `heads`.
const CRC_AT: usize = 12;

/// The start of each binary file.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Prefix {
    /// `offskeys`, `offsalia`, `offshead` or `offsmark`.
    pub magic: [u8; 8],
    /// [`VERSION`]. Where everything else is may differ between versions.
    pub version: U32,
    /// CRC-32 (IEEE) of the file with this field taken as zero; in `heads` only of the header.
    pub crc: U32,
    /// The random id of this KMS, the same in all its files.
    pub kms: [u8; 16],
}

/// The start of `keys`; the records follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct KeysHeader {
    /// Magic `offskeys`.
    pub prefix: Prefix,
    /// When the KMS was made: milliseconds since 1970-01-01 UTC.
    pub created_at_ms: U64,
    /// How many records follow.
    pub count: U32,
    /// Length of the region's label, 1 to 63.
    pub region_len: u8,
    /// Zero.
    pub zero: [u8; 3],
    /// The region's label: ASCII letters, digits, hyphens.
    pub region: [u8; 64],
    /// Zero.
    pub zero_end: [u8; 16],
}

/// One version of one KMS key. Versions of a key follow each other, from 1.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct KeyRecord {
    /// The key's id, the same in all its versions.
    pub id: [u8; 16],
    /// The version, from 1.
    pub version: U32,
    /// [`KEY_ENABLED`] and the like, the same in all its versions.
    pub state: u8,
    /// Length of the region's label.
    pub region_len: u8,
    /// Zero.
    pub zero: [u8; 2],
    /// When this version was made: milliseconds since 1970-01-01 UTC.
    pub created_at_ms: U64,
    /// The region the key belongs to: that of the header.
    pub region: [u8; 64],
    /// The account the key belongs to: 12 ASCII digits.
    pub account: [u8; 12],
    /// When a key that is pending deletion or deleted is to be, or was: seconds since 1970-01-01
    /// UTC, the same in all its versions. Else zero.
    pub deletion_at_s: U32,
    /// The secret itself; zero in a key that is deleted.
    pub material: [u8; 32],
}

/// State of a key that works.
pub(super) const KEY_ENABLED: u8 = 1;
/// State of a key that is switched off.
pub(super) const KEY_DISABLED: u8 = 2;
/// State of a key that waits to be deleted.
pub(super) const KEY_PENDING: u8 = 3;
/// State of a key whose secret was destroyed.
pub(super) const KEY_DELETED: u8 = 4;

/// The start of `aliases`; the records follow, in ascending order of their names.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct AliasesHeader {
    /// Magic `offsalia`.
    pub prefix: Prefix,
    /// How many records follow.
    pub count: U32,
    /// Zero.
    pub zero: [u8; 28],
}

/// One alias.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct AliasRecord {
    /// The key it stands for.
    pub key: [u8; 16],
    /// Length of the name, 1 to 250.
    pub name_len: u8,
    /// The name without `alias/`: ASCII letters, digits, `/`, `_`, `-`.
    pub name: [u8; 255],
}

/// The first 512 bytes of `heads`; the slots follow, 512 bytes each.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct HeadsHeader {
    /// Magic `offshead`.
    pub prefix: Prefix,
    /// How many slots there are. The file is never shorter, and what lies behind means nothing.
    pub slots: U32,
    /// Zero.
    pub zero: [u8; 476],
}

/// A slot of `heads` that holds a head key. A free slot, and one whose key is destroyed, is all
/// zeroes. A slot is one sector: it is written whole.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct HeadRecord {
    /// [`HEAD_POOLED`] or [`HEAD_CLAIMED`].
    pub state: u8,
    /// Zero.
    pub zero: [u8; 3],
    /// The version of the KMS key that wraps it, from 1.
    pub key_version: U32,
    /// Zero.
    pub zero_middle: [u8; 4],
    /// CRC-32 (IEEE) of the record with this field taken as zero.
    pub crc: U32,
    /// The head key's id.
    pub id: [u8; 16],
    /// The KMS key that wraps it.
    pub key: [u8; 16],
    /// The store it is for.
    pub store: [u8; 16],
    /// The head key's commitment: what its secret derives for the label `commit`.
    pub commitment: [u8; 32],
    /// The secret wrapped: nonce (12), ciphertext (32), tag (16); AES-256-GCM. The associated
    /// data is `offshoot v0 head key`, the store (16) and the head key's id (16).
    pub wrapped: [u8; 60],
    /// Zero.
    pub zero_end: [u8; 356],
}

/// The file of a store's mark: one sector, written whole.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct MarkRecord {
    /// Magic `offsmark`.
    pub prefix: Prefix,
    /// The store.
    pub store: [u8; 16],
    /// Sequence number of a durable batch.
    pub seq: U64,
    /// Its chain value.
    pub chain: [u8; 32],
    /// The first key epoch that was begun after the store was last set back; 0 if it never was.
    pub first_key_epoch: U32,
    /// Zero.
    pub zero: [u8; 420],
}

/// Made, and named by no durable record of the store as far as the KMS was told.
pub(super) const HEAD_POOLED: u8 = 1;
/// Named by a durable record of the store.
pub(super) const HEAD_CLAIMED: u8 = 2;

const _: () = assert!(size_of::<Prefix>() == 32);
const _: () = assert!(size_of::<KeysHeader>() == 128);
const _: () = assert!(size_of::<KeyRecord>() == 144);
const _: () = assert!(size_of::<AliasesHeader>() == 64);
const _: () = assert!(size_of::<AliasRecord>() == 272);
const _: () = assert!(size_of::<HeadsHeader>() == 512);
const _: () = assert!(size_of::<HeadRecord>() == 512);
const _: () = assert!(size_of::<MarkRecord>() == 512);

impl Prefix {
    /// A prefix whose checksum [`put_crc`] sets.
    pub(super) fn new(magic: [u8; 8], kms: [u8; 16]) -> Self {
        Self {
            magic,
            version: U32::new(VERSION),
            crc: U32::new(0),
            kms,
        }
    }

    /// Checks the start of `bytes` and their checksum. The version comes before the checksum,
    /// so that a newer file is called newer.
    pub(super) fn check(bytes: &[u8], magic: [u8; 8]) -> Result<Self, Damage> {
        let (prefix, _) = Self::read_from_prefix(bytes).map_err(|_| Damage::Truncated)?;
        if prefix.magic != magic {
            return Err(Damage::BadMagic);
        }
        if prefix.version.get() != VERSION {
            return Err(Damage::BadVersion(prefix.version.get()));
        }
        check_crc(bytes)?;
        Ok(prefix)
    }
}

/// Sets the checksum of a file, header or record.
pub(super) fn put_crc(bytes: &mut [u8]) {
    let crc = crc(bytes);
    if let Some(field) = bytes.get_mut(CRC_AT..CRC_AT + 4) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Checks the checksum of a file, header or record.
pub(super) fn check_crc(bytes: &[u8]) -> Result<(), Damage> {
    match bytes.get(CRC_AT..CRC_AT + 4) {
        None => Err(Damage::Truncated),
        Some(field) if *field == crc(bytes).to_le_bytes() => Ok(()),
        Some(_) => Err(Damage::BadChecksum),
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..CRC_AT).unwrap_or_default());
    hasher.update(&[0; 4]);
    hasher.update(bytes.get(CRC_AT + 4..).unwrap_or_default());
    hasher.finalize()
}

/// Refuses bytes that are not zero.
pub(super) fn check_zero(bytes: &[u8]) -> Result<(), Damage> {
    match is_zero(bytes) {
        true => Ok(()),
        false => Err(Damage::NotZero),
    }
}

/// The text of that length in a field; what is behind it must be zero.
pub(super) fn text(field: &[u8], len: u8) -> Result<&str, Damage> {
    let (text, rest) = field
        .split_at_checked(len.into())
        .ok_or(Damage::OutOfRange("text length"))?;
    check_zero(rest)?;
    std::str::from_utf8(text).map_err(|_| Damage::OutOfRange("text"))
}

/// Puts a text into a field of zeroes and gives its length. The caller has checked the length.
pub(super) fn put_text(field: &mut [u8], text: &str) -> u8 {
    let len = u8::try_from(text.len()).expect("BUG: a text too long for its field");
    field[..text.len()].copy_from_slice(text.as_bytes());
    len
}

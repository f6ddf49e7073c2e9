//! The keys and aliases, and how they lie in the files of these names.

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};
use zeroize::Zeroizing;

use crate::crypto::Secret;
use crate::error::{Damage, Error, Result};
use crate::file_kms::records::{
    AliasRecord, AliasesHeader, KEY_ENABLED, KeyRecord, KeysHeader, Prefix, check_zero, put_crc,
    put_text, text,
};
use crate::file_kms::reference::{is_alias, is_region};
use crate::units::{KeyId, KeyState};

const KEYS_MAGIC: [u8; 8] = *b"offskeys";
const ALIASES_MAGIC: [u8; 8] = *b"offsalia";
/// Most records of either file; a bound for readers, far from what one person needs.
pub(super) const RECORDS_MAX: usize = 10_000;
/// The longest either file can be.
pub(super) const LEN_MAX: u64 =
    (size_of::<KeysHeader>() + RECORDS_MAX * size_of::<AliasRecord>()) as u64;

/// The contents of `keys`.
#[derive(Debug)]
pub(super) struct KeyRing {
    pub kms: [u8; 16],
    pub region: String,
    pub created_at_ms: u64,
    pub keys: Vec<Key>,
}

/// A KMS key.
#[derive(Debug)]
pub(super) struct Key {
    pub id: KeyId,
    pub account: String,
    /// Version 1 first; never empty.
    pub versions: Vec<KeyVersion>,
}

/// A version of a KMS key.
#[derive(Debug)]
pub(super) struct KeyVersion {
    pub created_at_ms: u64,
    pub material: Secret,
}

/// The contents of `aliases`.
pub(super) type Aliases = BTreeMap<String, KeyId>;

impl KeyRing {
    /// The key of that id, or the error that it is missing.
    pub(super) fn key(&self, id: &KeyId) -> Result<&Key> {
        let missing = || Error::KeyUnavailable {
            key: id.to_string(),
            state: KeyState::Missing,
        };
        self.keys
            .iter()
            .find(|key| key.id == *id)
            .ok_or_else(missing)
    }

    /// The bytes of `keys`.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let count = self
            .keys
            .iter()
            .map(|key| key.versions.len())
            .sum::<usize>();
        let len = size_of::<KeysHeader>() + count * size_of::<KeyRecord>();
        // As long as it will be from the start: growing would leave keys behind in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(len));
        let mut header = KeysHeader::new_zeroed();
        header.prefix = Prefix::new(KEYS_MAGIC, self.kms);
        header.created_at_ms = U64::new(self.created_at_ms);
        header.count = U32::new(number(count));
        header.region_len = put_text(&mut header.region, &self.region);
        bytes.extend_from_slice(header.as_bytes());
        for key in &self.keys {
            for (version, index) in key.versions.iter().zip(1..) {
                let at = bytes.len();
                bytes.resize(at + size_of::<KeyRecord>(), 0);
                let record = KeyRecord::mut_from_bytes(&mut bytes[at..])
                    .expect("BUG: a record of another size");
                record.id = key.id.0;
                record.version = U32::new(index);
                record.state = KEY_ENABLED;
                record.region_len = put_text(&mut record.region, &self.region);
                record.created_at_ms = U64::new(version.created_at_ms);
                put_text(&mut record.account, &key.account);
                record.material.copy_from_slice(version.material.expose());
            }
        }
        put_crc(&mut bytes);
        bytes
    }

    /// Reads the bytes of `keys`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let prefix = Prefix::check(bytes, KEYS_MAGIC)?;
        let (header, rest) = KeysHeader::ref_from_prefix(bytes).map_err(|_| Damage::Truncated)?;
        check_zero(&[&header.zero[..], &header.zero_end].concat())?;
        let region = text(&header.region, header.region_len)?;
        if !is_region(region) {
            return Err(Damage::OutOfRange("region"));
        }
        let records = records::<KeyRecord>(rest, header.count)?;
        let mut ring = Self {
            kms: prefix.kms,
            region: region.to_owned(),
            created_at_ms: header.created_at_ms.get(),
            keys: Vec::new(),
        };
        let mut ids = BTreeSet::new();
        for record in records {
            ring.add(record, &mut ids)?;
        }
        Ok(ring)
    }

    fn add(&mut self, record: &KeyRecord, ids: &mut BTreeSet<KeyId>) -> Result<(), Damage> {
        check_zero(&[&record.zero[..], &record.zero_end].concat())?;
        if record.state != KEY_ENABLED {
            return Err(Damage::OutOfRange("key state"));
        }
        if text(&record.region, record.region_len)? != self.region {
            return Err(Damage::Inconsistent("a key belongs to another region"));
        }
        if !record.account.iter().all(u8::is_ascii_digit) {
            return Err(Damage::OutOfRange("account"));
        }
        let id = KeyId(record.id);
        let account = text(&record.account, 12)?.to_owned();
        if ids.insert(id) {
            self.keys.push(Key {
                id,
                account,
                versions: Vec::new(),
            });
        }
        let key = self
            .keys
            .last_mut()
            .ok_or(Damage::OutOfRange("key version"))?;
        let version = number(key.versions.len()).checked_add(1);
        if key.id != id || version != Some(record.version.get()) {
            return Err(Damage::Inconsistent(
                "the versions of a key are out of order",
            ));
        }
        let material = Secret::from_bytes(record.material);
        key.versions.push(KeyVersion {
            created_at_ms: record.created_at_ms.get(),
            material,
        });
        Ok(())
    }
}

impl Key {
    /// The newest version, with its number.
    pub(super) fn newest(&self) -> (u32, &Secret) {
        let newest = self.versions.last().expect("BUG: a key without a version");
        (number(self.versions.len()), &newest.material)
    }

    /// A version by its number.
    pub(super) fn version(&self, version: u32) -> Option<&Secret> {
        let index = usize::try_from(version.checked_sub(1)?).ok()?;
        self.versions.get(index).map(|version| &version.material)
    }
}

/// The bytes of `aliases`.
pub(super) fn encode_aliases(aliases: &Aliases, kms: [u8; 16]) -> Vec<u8> {
    let mut header = AliasesHeader::new_zeroed();
    header.prefix = Prefix::new(ALIASES_MAGIC, kms);
    header.count = U32::new(number(aliases.len()));
    let mut bytes = header.as_bytes().to_vec();
    for (name, key) in aliases {
        let mut record = AliasRecord::new_zeroed();
        record.key = key.0;
        record.name_len = put_text(&mut record.name, name);
        bytes.extend_from_slice(record.as_bytes());
    }
    put_crc(&mut bytes);
    bytes
}

/// Reads the bytes of `aliases` of the KMS of that id.
pub(super) fn decode_aliases(bytes: &[u8], kms: [u8; 16]) -> Result<Aliases, Damage> {
    let prefix = Prefix::check(bytes, ALIASES_MAGIC)?;
    if prefix.kms != kms {
        return Err(Damage::WrongIdentity);
    }
    let (header, rest) = AliasesHeader::ref_from_prefix(bytes).map_err(|_| Damage::Truncated)?;
    check_zero(&header.zero)?;
    let mut aliases = Aliases::new();
    for record in records::<AliasRecord>(rest, header.count)? {
        let name = text(&record.name, record.name_len)?;
        if !is_alias(name) {
            return Err(Damage::OutOfRange("alias"));
        }
        if aliases
            .last_key_value()
            .is_some_and(|(last, _)| last.as_str() >= name)
        {
            return Err(Damage::Inconsistent("the aliases are out of order"));
        }
        aliases.insert(name.to_owned(), KeyId(record.key));
    }
    Ok(aliases)
}

/// The records behind a header: exactly as many as it says.
fn records<T>(bytes: &[u8], count: U32) -> Result<&[T], Damage>
where
    T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    let records = <[T]>::ref_from_bytes(bytes).map_err(|_| Damage::Truncated)?;
    if usize::try_from(count.get()) != Ok(records.len()) || records.len() > RECORDS_MAX {
        return Err(Damage::OutOfRange("record count"));
    }
    Ok(records)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("BUG: more records than the limit")
}

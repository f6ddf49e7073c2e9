//! The keys and aliases, and how they lie in the files of these names.

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};
use zeroize::Zeroizing;

use crate::crypto::Secret;
use crate::error::{Damage, Error, Result};
use crate::file_kms::records::{
    AliasRecord, AliasesHeader, KEY_DELETED, KEY_DISABLED, KEY_ENABLED, KEY_PENDING, KeyRecord,
    KeysHeader, Prefix, check_zero, put_crc, put_text, text,
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
    pub status: Status,
    /// Version 1 first; never empty.
    pub versions: Vec<KeyVersion>,
}

/// How a key stands, as its records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Enabled,
    Disabled,
    /// Deleted as soon as the clock shows this: seconds since 1970-01-01 UTC.
    PendingDeletion {
        at_s: u32,
    },
    /// Its secrets are zeroes.
    Deleted {
        at_s: u32,
    },
}

/// A key that is enabled: the only way to its secrets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usable<'a>(&'a Key);

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

    /// The same, to change it.
    pub(super) fn key_mut(&mut self, id: &KeyId) -> Result<&mut Key> {
        let missing = || Error::KeyUnavailable {
            key: id.to_string(),
            state: KeyState::Missing,
        };
        let found = self.keys.iter_mut().find(|key| key.id == *id);
        found.ok_or_else(missing)
    }

    /// The key of that id, if it does its work now (in milliseconds since 1970-01-01 UTC).
    pub(super) fn usable(&self, id: &KeyId, now_ms: u64) -> Result<Usable<'_>> {
        let key = self.key(id)?;
        match key.status.state(now_ms) {
            KeyState::Enabled => Ok(Usable(key)),
            state => Err(Error::KeyUnavailable {
                key: id.to_string(),
                state,
            }),
        }
    }

    /// How many records the keys take.
    pub(super) fn record_count(&self) -> usize {
        self.keys.iter().map(|key| key.versions.len()).sum()
    }

    /// The bytes of `keys`.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let count = self.record_count();
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
                let (state, deletion_at_s) = key.status.encode();
                record.state = state;
                record.deletion_at_s = U32::new(deletion_at_s);
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
        check_zero(&record.zero)?;
        let status = Status::decode(record)?;
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
                status,
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
        if key.status != status {
            return Err(Damage::Inconsistent(
                "the versions of a key differ in state",
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
    /// The number of the newest version.
    pub(super) fn newest(&self) -> u32 {
        number(self.versions.len())
    }

    /// Makes its secrets zeroes: only the fact that there was a key stays.
    pub(super) fn destroy(&mut self, at_s: u32) {
        self.status = Status::Deleted { at_s };
        for version in &mut self.versions {
            version.material = Secret::from_bytes([0; 32]);
        }
    }
}

impl<'a> Usable<'a> {
    pub(super) fn id(&self) -> KeyId {
        self.0.id
    }

    /// The newest version, with its number: the one that wraps.
    pub(super) fn newest(&self) -> (u32, &'a Secret) {
        let newest = self.0.versions.last();
        let newest = newest.expect("BUG: a key without a version");
        (self.0.newest(), &newest.material)
    }

    /// A version by its number.
    pub(super) fn version(&self, version: u32) -> Option<&'a Secret> {
        let index = usize::try_from(version.checked_sub(1)?).ok()?;
        self.0.versions.get(index).map(|version| &version.material)
    }
}

impl Status {
    /// The state at a time (in milliseconds since 1970-01-01 UTC).
    pub(super) fn state(self, now_ms: u64) -> KeyState {
        match self {
            Self::Enabled => KeyState::Enabled,
            Self::Disabled => KeyState::Disabled,
            Self::PendingDeletion { .. } if self.is_due(now_ms) => KeyState::Deleted,
            Self::PendingDeletion { .. } => KeyState::PendingDeletion,
            Self::Deleted { .. } => KeyState::Deleted,
        }
    }

    /// Whether its secrets are still there and must not be.
    pub(super) fn is_due(self, now_ms: u64) -> bool {
        matches!(self, Self::PendingDeletion { at_s } if now_ms / 1000 >= u64::from(at_s))
    }

    /// When it is to be deleted, or was: seconds since 1970-01-01 UTC.
    pub(super) fn deletion_at_s(self) -> Option<u32> {
        match self {
            Self::Enabled | Self::Disabled => None,
            Self::PendingDeletion { at_s } | Self::Deleted { at_s } => Some(at_s),
        }
    }

    fn encode(self) -> (u8, u32) {
        let state = match self {
            Self::Enabled => KEY_ENABLED,
            Self::Disabled => KEY_DISABLED,
            Self::PendingDeletion { .. } => KEY_PENDING,
            Self::Deleted { .. } => KEY_DELETED,
        };
        (state, self.deletion_at_s().unwrap_or(0))
    }

    fn decode(record: &KeyRecord) -> Result<Self, Damage> {
        let at_s = record.deletion_at_s.get();
        match (record.state, at_s) {
            (KEY_ENABLED, 0) => Ok(Self::Enabled),
            (KEY_DISABLED, 0) => Ok(Self::Disabled),
            (KEY_PENDING, 1..) => Ok(Self::PendingDeletion { at_s }),
            (KEY_DELETED, 1..) if record.material == [0; 32] => Ok(Self::Deleted { at_s }),
            (KEY_DELETED, 1..) => Err(Damage::NotZero),
            (KEY_ENABLED..=KEY_DELETED, _) => Err(Damage::OutOfRange("deletion date")),
            _ => Err(Damage::OutOfRange("key state")),
        }
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

//! The file `heads`: slots of one sector each.
//!
//! Invariant: a slot is written only by who holds the lock.

use std::io;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::error::{Damage, Error, Result};
use crate::file_kms::files::Files;
use crate::file_kms::records::{
    HEAD_CLAIMED, HEAD_POOLED, HeadRecord, HeadsHeader, Prefix, check_crc, check_zero, put_crc,
};
use crate::io::{Access, BLOCK_LEN, DiskFile, publish, read_medium};
use crate::sync::Arc;

const NAME: &str = "heads";
const MAGIC: [u8; 8] = *b"offshead";
const SLOT_LEN: usize = size_of::<HeadRecord>();
/// Slots of a new file, and the least by which it grows.
const SLOTS_MIN: u32 = 64;
/// Length of a new file.
pub(super) const EMPTY_LEN: u64 = SLOT_LEN as u64 * (SLOTS_MIN as u64 + 1);
/// Most slots: 2 GiB of them.
const SLOTS_MAX: u32 = 1 << 22;
/// Slots read at a time.
const SCAN_SLOTS: u32 = 128;

/// What a slot holds.
pub(super) enum Slot {
    Free,
    Used(Box<HeadRecord>),
    Damaged(Damage),
}

/// The open file.
pub(super) struct Heads<'a> {
    files: &'a Files,
    file: Arc<dyn DiskFile>,
    header: HeadsHeader,
}

/// The bytes of a new file.
pub(super) fn encode_empty(kms: [u8; 16]) -> Vec<u8> {
    let mut bytes = header(kms, SLOTS_MIN).as_bytes().to_vec();
    bytes.resize(SLOT_LEN * (SLOTS_MIN as usize + 1), 0);
    bytes
}

/// Whether the bytes of a file are those of a new one.
pub(super) fn is_empty(bytes: &[u8]) -> bool {
    Prefix::read_from_prefix(bytes).is_ok_and(|(prefix, _)| bytes == encode_empty(prefix.kms))
}

fn header(kms: [u8; 16], slots: u32) -> HeadsHeader {
    let mut header = HeadsHeader::new_zeroed();
    header.prefix = Prefix::new(MAGIC, kms);
    header.slots = U32::new(slots);
    put_crc(header.as_mut_bytes());
    header
}

fn offset(slot: u32) -> u64 {
    (u64::from(slot) + 1) * SLOT_LEN as u64
}

impl<'a> Heads<'a> {
    /// Opens the file of the KMS of that id.
    pub(super) fn open(files: &'a Files, kms: [u8; 16], access: Access) -> Result<Self> {
        let file = files.open(NAME, access)?;
        let mut bytes = [0; SLOT_LEN];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|source| files.error("read", NAME, source))?;
        let header = decode_header(&bytes, kms).map_err(|damage| files.damage(NAME, damage))?;
        let len = file
            .len()
            .map_err(|source| files.error("read", NAME, source))?;
        if len < offset(header.slots.get()) {
            return Err(files.damage(NAME, Damage::Truncated));
        }
        Ok(Self {
            files,
            file,
            header,
        })
    }

    /// Reads a slot.
    pub(super) fn read(&self, slot: u32) -> Result<Slot> {
        let mut bytes = [0; SLOT_LEN];
        self.fill(&mut bytes, slot)?;
        Ok(decode(&bytes))
    }

    /// Reads all slots from `first`, in order.
    pub(super) fn scan(&self, first: u32, mut each: impl FnMut(u32, Slot)) -> Result<()> {
        let mut slot = first;
        let mut bytes = vec![0; SCAN_SLOTS as usize * SLOT_LEN];
        while slot < self.header.slots.get() {
            let count = (self.header.slots.get() - slot).min(SCAN_SLOTS);
            let chunk = &mut bytes[..count as usize * SLOT_LEN];
            self.fill(chunk, slot)?;
            for bytes in chunk.chunks_exact(SLOT_LEN) {
                each(slot, decode(bytes));
                slot += 1;
            }
        }
        Ok(())
    }

    /// Writes records and makes them durable with one sync; all of them even if they are there
    /// already, since what one reads may be what another process could not make durable.
    pub(super) fn put(&self, records: &mut [(u32, HeadRecord)]) -> Result<()> {
        for (_, record) in records.iter_mut() {
            put_crc(record.as_mut_bytes());
        }
        self.write(
            records
                .iter()
                .map(|(slot, record)| (*slot, record.as_bytes())),
        )
    }

    /// Writes one record; it is durable with the next `put`.
    pub(super) fn note(&self, slot: u32, record: &mut HeadRecord) -> Result<()> {
        put_crc(record.as_mut_bytes());
        let written = self.file.write_all_at(record.as_bytes(), offset(slot));
        written.map_err(|source| self.files.write_error(NAME, SLOT_LEN as u64, source))
    }

    /// Overwrites slots with zeroes, durably.
    pub(super) fn destroy(&self, slots: &[u32]) -> Result<()> {
        self.write(slots.iter().map(|&slot| (slot, &[0; SLOT_LEN][..])))
    }

    /// Which of the slots are not known to be zeroes on the medium, whatever the cache shows: those that are not, and those
    /// that cannot be read there.
    pub(super) fn not_zero_on_medium(&self, slots: &[u32]) -> Vec<u32> {
        let mut slots = slots.to_vec();
        slots.sort_unstable();
        let block_of = |slot: u32| offset(slot) / BLOCK_LEN as u64;
        let mut block = vec![0; BLOCK_LEN];
        let mut found = Vec::new();
        for here in slots.chunk_by(|one, next| block_of(*one) == block_of(*next)) {
            let start = here.first().map_or(0, |slot| block_of(*slot)) * BLOCK_LEN as u64;
            let is_read = read_medium(&*self.files.0, NAME, &mut block, start).is_ok();
            let is_zero = |slot: u32| {
                let at = (offset(slot) - start) as usize;
                let bytes = block.get(at..at + SLOT_LEN);
                is_read && bytes.is_some_and(|bytes| check_zero(bytes).is_ok())
            };
            found.extend(here.iter().filter(|slot| !is_zero(**slot)));
        }
        found
    }

    /// Writes to slots, one by one: of a longer write a power loss may spoil a sector that is neither what it was nor what was
    /// written. The header goes with every batch: a growth that its process could not finish is
    /// finished here, before anything counts on the new slots.
    fn write<'b>(&self, slots: impl Iterator<Item = (u32, &'b [u8])>) -> Result<()> {
        let fail = |source| self.files.write_error(NAME, SLOT_LEN as u64, source);
        for (slot, bytes) in slots {
            self.file.write_all_at(bytes, offset(slot)).map_err(fail)?;
        }
        publish::write_durable(&*self.file, self.header.as_bytes(), 0).map_err(fail)
    }

    /// Adds free slots. Durable before the header counts them; [`Heads::write`] writes that.
    pub(super) fn grow(&mut self) -> Result<()> {
        let slots = self.header.slots.get();
        let more = (slots / 4).max(SLOTS_MIN).min(SLOTS_MAX - slots);
        if more == 0 {
            return Err(Error::LimitExceeded {
                limit: "head keys",
                max: SLOTS_MAX.into(),
            });
        }
        let zeroes = vec![0; more as usize * SLOT_LEN];
        // Who could not make them durable before may have left blocks that never are (`docs/decisions/0015`). Where holes
        // cannot be made that does not happen.
        let end = (offset(slots) + zeroes.len() as u64).next_multiple_of(BLOCK_LEN as u64);
        match self.file.punch(offset(slots), end - offset(slots)) {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                return Err(self.files.write_error(NAME, zeroes.len() as u64, error));
            }
            _ => {}
        }
        publish::write_durable(&*self.file, &zeroes, offset(slots))
            .map_err(|source| self.files.write_error(NAME, zeroes.len() as u64, source))?;
        self.header = header(self.header.prefix.kms, slots + more);
        Ok(())
    }

    fn fill(&self, bytes: &mut [u8], slot: u32) -> Result<()> {
        let result = self.file.read_exact_at(bytes, offset(slot));
        result.map_err(|source| self.files.error("read", NAME, source))
    }

    /// How many slots there are.
    pub(super) fn slot_count(&self) -> u32 {
        self.header.slots.get()
    }

    /// Damage found in this file.
    pub(super) fn damage(&self, damage: Damage) -> Error {
        self.files.damage(NAME, damage)
    }
}

fn decode_header(bytes: &[u8; SLOT_LEN], kms: [u8; 16]) -> Result<HeadsHeader, Damage> {
    let prefix = Prefix::check(bytes, MAGIC)?;
    let header = HeadsHeader::read_from_bytes(bytes).map_err(|_| Damage::Truncated)?;
    check_zero(&header.zero)?;
    if prefix.kms != kms {
        return Err(Damage::WrongIdentity);
    }
    match header.slots.get() {
        0..=SLOTS_MAX => Ok(header),
        _ => Err(Damage::OutOfRange("slot count")),
    }
}

fn decode(bytes: &[u8]) -> Slot {
    if check_zero(bytes).is_ok() {
        return Slot::Free;
    }
    match decode_record(bytes) {
        Ok(record) => Slot::Used(Box::new(record)),
        Err(damage) => Slot::Damaged(damage),
    }
}

fn decode_record(bytes: &[u8]) -> Result<HeadRecord, Damage> {
    let record = HeadRecord::read_from_bytes(bytes).map_err(|_| Damage::Truncated)?;
    check_crc(bytes)?;
    check_zero(&[&record.zero[..], &record.zero_middle, &record.zero_end].concat())?;
    match (record.state, record.key_version.get()) {
        (HEAD_POOLED | HEAD_CLAIMED, 1..) => Ok(record),
        (HEAD_POOLED | HEAD_CLAIMED, 0) => Err(Damage::OutOfRange("key version")),
        _ => Err(Damage::OutOfRange("head key state")),
    }
}

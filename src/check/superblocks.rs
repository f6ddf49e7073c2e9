//! The four superblock slots, and which of them speaks for the store.

use crate::check::codes;
use crate::check::files::{Files, Trouble, slot_offset};
use crate::check::finding::Findings;
use crate::check::generations::{compare, consistency};
use crate::check::keys::{Keys, open_keys};
use crate::error::{Damage, Error, Kind, Result};
use crate::format::is_zero;
use crate::format::superblock::{FORMAT_VERSION, Superblock};
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::Location;

/// The files, by mirror.
pub(super) const FILES: [&str; 2] = ["superblock-a", "superblock-b"];

/// A copy of a superblock: a slot of one of the files.
#[derive(Clone, Debug)]
pub(super) struct SlotCopy {
    pub mirror: u32,
    pub slot: u32,
    pub bytes: Vec<u8>,
    pub state: SlotState,
}

#[derive(Clone, Debug)]
pub(super) enum SlotState {
    /// All zeroes.
    Unwritten,
    Bad(Trouble),
    Good(Box<Superblock>),
}

/// The superblock to go by, and the one before it.
#[derive(Debug)]
pub(super) struct Chosen {
    pub newest: Superblock,
    pub older: Option<Superblock>,
    pub keys: Option<Keys>,
    /// The newest was written by a holder of the store key.
    pub authenticated: bool,
}

impl SlotCopy {
    /// The superblock, if it is whole.
    pub fn good(&self) -> Option<&Superblock> {
        match &self.state {
            SlotState::Good(superblock) => Some(superblock),
            _ => None,
        }
    }

    /// Where it is, for messages.
    pub fn location(&self) -> String {
        let name = FILES.get(self.mirror as usize).unwrap_or(&"?");
        format!("file {name} slot {}", self.slot)
    }
}

/// Reads all four slots.
pub(super) fn read_slots(disk: &dyn Disk, files: &Files<'_>) -> Result<Vec<SlotCopy>> {
    if !FILES.iter().any(|name| files.has(name)) {
        return Err(Error::NotAStore {
            kind: Kind::Store,
            location: Location::Directory(disk.describe()),
        });
    }
    let mut copies = Vec::new();
    for (mirror, name) in (0..).zip(FILES) {
        for slot in 0..2 {
            let (bytes, state) = match files.read_medium(name, slot, 1) {
                Ok(bytes) => {
                    let state = decode(&bytes, mirror);
                    (bytes, state)
                }
                Err(trouble) => (Vec::new(), SlotState::Bad(trouble)),
            };
            if let SlotState::Bad(Trouble::Damage(Damage::BadVersion(found))) = state {
                // Its checksum is right, so a newer program wrote it; ours must not go by an
                // older superblock then.
                return Err(Error::UnsupportedVersion {
                    location: Location::File(name.to_owned()),
                    found,
                    known: FORMAT_VERSION,
                });
            }
            copies.push(SlotCopy {
                mirror,
                slot,
                bytes,
                state,
            });
        }
    }
    Ok(copies)
}

fn decode(bytes: &[u8], mirror: u32) -> SlotState {
    if is_zero(bytes) {
        return SlotState::Unwritten;
    }
    match Superblock::decode(bytes, mirror) {
        Ok(superblock) => SlotState::Good(Box::new(superblock)),
        Err(damage) => SlotState::Bad(damage.into()),
    }
}

/// Chooses the superblock to go by; `None` if there is none.
pub(super) fn choose(
    disk: &dyn Disk,
    files: &Files<'_>,
    kms: Option<&dyn KeyService>,
    findings: &mut Findings,
) -> Result<Option<Chosen>> {
    let mut copies = read_slots(disk, files)?;
    for name in FILES {
        if files.len(name).is_ok_and(|len| len != slot_offset(2)) {
            findings.add(
                codes::SUPERBLOCK_FILE_LENGTH,
                format!("file {name}"),
                "its length is not 8192 bytes",
            );
        }
    }
    for copy in &mut copies {
        if let Some(superblock) = copy.good()
            && superblock.generation % 2 != u64::from(copy.slot)
        {
            let message = format!("generation {} has the other slot", superblock.generation);
            findings.add(codes::SUPERBLOCK_WRONG_SLOT, copy.location(), message);
            copy.state = SlotState::Bad(Damage::WrongIdentity.into());
        }
    }
    let mut by_age: Vec<_> = copies.iter().filter_map(SlotCopy::good).collect();
    by_age.sort_by_key(|superblock| std::cmp::Reverse(superblock.generation));
    let keys = match kms {
        Some(kms) => open_keys(kms, &by_age, findings)?,
        None => None,
    };
    let authenticated = keys
        .as_ref()
        .is_some_and(|keys| authenticate(&mut copies, keys, findings));
    let newest = copies
        .iter()
        .filter_map(SlotCopy::good)
        .max_by_key(|superblock| superblock.generation)
        .cloned();
    let Some(newest) = newest else {
        let message = "no slot of either file holds a superblock";
        findings.add(codes::SUPERBLOCK_NONE, FILES.join(", "), message);
        return Ok(None);
    };
    let older = compare(&copies, &newest, findings);
    consistency(&newest, older.as_ref(), findings);
    Ok(Some(Chosen {
        newest,
        older,
        keys,
        authenticated,
    }))
}

/// Drops the copies that no holder of the key wrote. If that is all of them, they are all there
/// is to go by: then it says `false`.
fn authenticate(copies: &mut [SlotCopy], keys: &Keys, findings: &mut Findings) -> bool {
    let mut forged = Vec::new();
    for (index, copy) in copies.iter().enumerate() {
        if copy.good().is_some() && !Superblock::is_authentic(&copy.bytes, &keys.superblock) {
            let message = "its keyed hash does not match";
            findings.add(codes::SUPERBLOCK_NOT_AUTHENTIC, copy.location(), message);
            forged.push(index);
        }
    }
    let good = copies.iter().filter(|copy| copy.good().is_some()).count();
    if forged.len() == good {
        return false;
    }
    for index in forged {
        if let Some(copy) = copies.get_mut(index) {
            copy.state = SlotState::Bad(Damage::BadTag.into());
        }
    }
    true
}

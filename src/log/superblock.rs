//! The two superblock files.

use std::io;

use crate::crypto::Secret;
use crate::error::{Damage, Error, Kind, Result};
use crate::format::is_zero;
use crate::format::superblock::{FORMAT_VERSION, Superblock};
use crate::io::{Access, Disk, DiskFile, publish, read_medium};
use crate::sync::Arc;
use crate::units::{Location, SLOT_LEN, SlotAddr};

/// The names of the mirrors.
const NAMES: [&str; 2] = ["superblock-a", "superblock-b"];

/// The superblock files, open.
#[derive(Debug)]
pub struct Superblocks {
    /// A mirror that is gone stays gone until fsck repairs it.
    files: [Option<Arc<dyn DiskFile>>; 2],
}

/// A superblock that was found, and the slot it was found in.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What it says.
    pub superblock: Superblock,
    slot: Vec<u8>,
}

/// A copy of a superblock that is not there, or not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostCopy {
    /// The file that it should be in.
    pub file: &'static str,
    /// The slot there.
    pub slot: u32,
    /// It is one of the superblock before the newest.
    pub older: bool,
}

impl Candidate {
    /// Where a recovery from it begins to read the log.
    pub fn log_start(&self) -> SlotAddr {
        self.superblock.position.end
    }

    /// Whether somebody with the store key wrote it.
    pub fn is_authentic(&self, key: &Secret) -> bool {
        Superblock::is_authentic(&self.slot, key)
    }
}

impl Superblocks {
    /// Makes the files of a new store, durable before this returns.
    pub fn create(disk: &dyn Disk, superblock: &Superblock, key: &Secret) -> Result<Self> {
        let make = |mirror: u32, name: &str| {
            let mut contents = vec![0; 2 * SLOT_LEN];
            let slot = superblock.encode(mirror, key);
            for (to, from) in contents
                .iter_mut()
                .skip(offset(superblock) as usize)
                .zip(slot)
            {
                *to = from;
            }
            publish::publish(disk, name, contents.len() as u64, &contents)
                .map_err(|source| failed("create", name, source, disk))
        };
        let [a, b] = NAMES;
        let file_b = make(1, b)?;
        let file_a = make(0, a)?;
        Ok(Self {
            files: [Some(file_a), Some(file_b)],
        })
    }

    /// How many of the two files the directory has.
    pub fn count(disk: &dyn Disk) -> Result<usize> {
        match disk.list() {
            Ok(names) => Ok(names
                .iter()
                .filter(|name| NAMES.contains(&name.as_str()))
                .count()),
            Err(source) => {
                let location = Location::Directory(disk.describe());
                Err(Error::Io {
                    op: "list",
                    location,
                    source,
                })
            }
        }
    }

    /// Opens the files and reads what is valid in them, the newest generation first: from the medium, since
    /// the cache may have what a checkpoint failed to make durable, and the log may go on from that.
    pub fn open(disk: &dyn Disk, access: Access) -> Result<(Self, Vec<Candidate>)> {
        let mut files = [None, None];
        let mut found = Vec::new();
        let mut worst = None;
        for ((mirror, name), open) in (0..).zip(NAMES).zip(&mut files) {
            let file = match disk.open(name, access) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    worst = worst.or(Some(Damage::Missing));
                    continue;
                }
                Err(error) => return Err(failed("open", name, error, disk)),
            };
            for index in 0..2 {
                let mut slot = vec![0; SLOT_LEN];
                let read = match read_medium(disk, name, &mut slot, index * SLOT_LEN as u64) {
                    Ok(()) => Superblock::decode(&slot, mirror),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        Err(Damage::Truncated)
                    }
                    Err(error) => return Err(failed("read", name, error, disk)),
                };
                match read {
                    Ok(superblock) if superblock.generation % 2 == index => {
                        found.push(Candidate { superblock, slot });
                    }
                    // Whoever wrote it knew more than all older ones say, so they do not count.
                    Err(Damage::BadVersion(found)) => {
                        return Err(Error::UnsupportedVersion {
                            location: Location::File(name.to_owned()),
                            found,
                            known: FORMAT_VERSION,
                        });
                    }
                    Ok(_) => worst = worst.or(Some(Damage::WrongIdentity)),
                    // An unused slot is not what is wrong with the file.
                    Err(Damage::BadMagic) if is_zero(&slot) => {}
                    Err(damage) => worst = Some(damage),
                }
            }
            *open = Some(file);
        }
        found.sort_by_key(|candidate| std::cmp::Reverse(candidate.superblock.generation));
        let location = || Location::File(NAMES.join(" and "));
        if found.is_empty() {
            return Err(match worst {
                _ if files.iter().all(Option::is_none) => Error::NotAStore {
                    kind: Kind::Store,
                    location: Location::Directory(disk.describe()),
                },
                damage => Error::Corrupt {
                    location: location(),
                    damage: damage.unwrap_or(Damage::BadMagic),
                },
            });
        }
        Ok((Self { files }, found))
    }

    /// The copies of superblock `generation` and of the one before that are not there, each with its place and
    /// what is wrong with it. Nobody may write any meanwhile.
    pub fn lost_copies(disk: &dyn Disk, generation: u64, key: &Secret) -> Vec<(LostCopy, Damage)> {
        let mut lost = Vec::new();
        let copies = (0..).zip(NAMES);
        let mut unwritten = 0;
        for ((mirror, file), older) in copies.flat_map(|it| [(it, false), (it, true)]) {
            let Some(expected) = generation.checked_sub(older.into()) else {
                continue;
            };
            let slot = (expected % 2) as u32;
            let copy = LostCopy { file, slot, older };
            let read = read_copy(disk, &copy);
            unwritten += u64::from(older && read.as_ref().is_ok_and(|bytes| is_zero(bytes)));
            let whole = read.and_then(|bytes| check_copy(&bytes, mirror, expected, key));
            lost.extend(whole.err().map(|damage| (copy, damage)));
        }
        // Before the second superblock of a store there is none before the newest.
        if unwritten == NAMES.len() as u64 {
            lost.retain(|(copy, _)| !copy.older);
        }
        lost
    }

    /// Replaces files that are not there, or not of two slots, by such that hold what those held.
    /// Durable on return. Where no superblock is left nothing is made.
    pub fn mend_files(disk: &dyn Disk) -> Result<()> {
        Self::open(disk, Access::Read)?;
        for name in NAMES {
            let mut slots = vec![0; 2 * SLOT_LEN];
            match disk.open(name, Access::Read) {
                Ok(file) => {
                    let len = file.len().map_err(|e| failed("read", name, e, disk))?;
                    if len == slots.len() as u64 {
                        continue;
                    }
                    let there = len.min(slots.len() as u64) as usize;
                    let there = slots.get_mut(..there).unwrap_or_default();
                    let read = file.read_exact_at(there, 0);
                    read.map_err(|error| failed("read", name, error, disk))?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("open", name, error, disk)),
            }
            publish::publish(disk, name, slots.len() as u64, &slots)
                .map_err(|source| failed("create", name, source, disk))?;
        }
        Ok(())
    }

    /// Writes one mirror of a superblock. It counts once the returned file is synced.
    pub fn write(
        &self,
        mirror: usize,
        superblock: &Superblock,
        key: &Secret,
    ) -> io::Result<Option<&Arc<dyn DiskFile>>> {
        let Some(file) = self.files.get(mirror).and_then(Option::as_ref) else {
            return Ok(None);
        };
        file.write_all_at(&superblock.encode(mirror as u32, key), offset(superblock))?;
        Ok(Some(file))
    }

    /// The files, for whoever orders the syncs.
    pub fn files(&self) -> impl Iterator<Item = &Arc<dyn DiskFile>> {
        self.files.iter().flatten()
    }
}

fn read_copy(disk: &dyn Disk, copy: &LostCopy) -> Result<Vec<u8>, Damage> {
    let mut bytes = vec![0; SLOT_LEN];
    let offset = u64::from(copy.slot) * SLOT_LEN as u64;
    let read = read_medium(disk, copy.file, &mut bytes, offset);
    read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Damage::Missing,
        io::ErrorKind::UnexpectedEof => Damage::Truncated,
        _ => Damage::Inconsistent("it cannot be read"),
    })?;
    Ok(bytes)
}

fn check_copy(bytes: &[u8], mirror: u32, generation: u64, key: &Secret) -> Result<(), Damage> {
    let superblock = Superblock::decode(bytes, mirror)?;
    if superblock.generation != generation {
        return Err(Damage::WrongIdentity);
    }
    match Superblock::is_authentic(bytes, key) {
        true => Ok(()),
        false => Err(Damage::BadTag),
    }
}

fn offset(superblock: &Superblock) -> u64 {
    superblock.generation % 2 * SLOT_LEN as u64
}

fn failed(op: &'static str, name: &str, source: io::Error, disk: &dyn Disk) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull => Error::NoSpace {
            need: 2 * SLOT_LEN as u64,
            free: disk.free_len().unwrap_or(0),
        },
        _ => Error::Io {
            op,
            location: Location::File(name.to_owned()),
            source,
        },
    }
}

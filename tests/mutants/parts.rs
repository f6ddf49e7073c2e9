//! Slots and files zeroed, swapped, doubled, replaced by older ones, cut, lost, and taken from another store; key
//! services that are older than the store, and the reverse.

use std::collections::BTreeMap;

use offshoot::KeyService;
use offshoot::io::Disk;
use offshoot::io::sim::{SimMachine, SimRandom};

use offshoot_torture::nonces::{SLOT_LEN, overwrite};
use offshoot_torture::rig::Host;

use crate::judge::{Verdict, judge};
use crate::many::{Sample, try_all};
use crate::subject::{Subject, files, foreign, subjects, superblocks};

/// A slot of a file, by the file's place in the list of all.
type At = (usize, usize);

/// A change of a store.
#[derive(Clone, Copy, Debug)]
enum Change {
    Fill(At, u8),
    /// The first becomes what the second is.
    Copy(At, At),
    Swap(At, At),
    /// What was there in an earlier state of the machine.
    Past(At, usize),
    /// What is there in another store.
    Foreign(At),
    /// So many sectors remain.
    Cut(usize, usize),
    /// So many sectors more, of zeroes.
    Longer(usize, usize),
    Gone(usize),
    SwapFiles(usize, usize),
    PastFile(usize, usize),
    ForeignFile(usize),
    PastSuperblocks(usize),
    ForeignSuperblocks,
    OldStore(usize),
    OldKms(usize),
}

const SUPERBLOCKS: [&str; 2] = ["superblock-a", "superblock-b"];

/// A subject with its files at hand.
struct Victim<'a> {
    subject: &'a Subject,
    files: Vec<(String, Vec<u8>)>,
    past: Vec<BTreeMap<String, Vec<u8>>>,
    foreign: BTreeMap<String, Vec<u8>>,
}

impl<'a> Victim<'a> {
    fn new(subject: &'a Subject) -> Self {
        Self {
            subject,
            files: subject.files(),
            past: subject
                .past
                .iter()
                .map(|machine| files(machine).into_iter().collect())
                .collect(),
            foreign: files(foreign()).into_iter().collect(),
        }
    }

    fn slot(&self, (file, slot): At) -> &[u8] {
        slot_of(&self.files[file].1, slot).unwrap()
    }

    fn put(&self, machine: &SimMachine, (file, slot): At, bytes: &[u8]) {
        let name = &self.files[file].0;
        // It may be gone already, by another change.
        if machine.dir("store").list().unwrap().contains(name) {
            overwrite(machine, name, (slot * SLOT_LEN) as u64, bytes);
        }
    }

    fn put_file(&self, machine: &SimMachine, file: usize, bytes: Option<&[u8]>) {
        put_file(machine, &self.files[file].0, bytes);
    }

    fn apply(&self, machine: SimMachine, change: Change) -> SimMachine {
        let name = |file: usize| self.files[file].0.as_str();
        match change {
            Change::Fill(at, byte) => self.put(&machine, at, &[byte; SLOT_LEN]),
            Change::Copy(to, from) => self.put(&machine, to, self.slot(from)),
            Change::Swap(a, b) => {
                self.put(&machine, a, self.slot(b));
                self.put(&machine, b, self.slot(a));
            }
            Change::Past(at, past) => {
                let old = self.past[past]
                    .get(name(at.0))
                    .and_then(|bytes| slot_of(bytes, at.1));
                if let Some(old) = old {
                    self.put(&machine, at, old);
                }
            }
            Change::Foreign(at) => {
                if let Some(bytes) = self
                    .foreign
                    .get(name(at.0))
                    .and_then(|it| slot_of(it, at.1))
                {
                    self.put(&machine, at, bytes);
                }
            }
            Change::Cut(file, sectors) => {
                let bytes = &self.files[file].1;
                self.put_file(&machine, file, Some(&bytes[..sectors * 512]));
            }
            Change::Longer(file, sectors) => {
                let mut bytes = self.files[file].1.clone();
                bytes.resize(bytes.len() + sectors * 512, 0);
                self.put_file(&machine, file, Some(&bytes));
            }
            Change::Gone(file) => self.put_file(&machine, file, None),
            Change::SwapFiles(a, b) => {
                self.put_file(&machine, a, Some(&self.files[b].1));
                self.put_file(&machine, b, Some(&self.files[a].1));
            }
            Change::PastFile(file, past) => {
                let old = self.past[past].get(name(file));
                self.put_file(&machine, file, old.map(Vec::as_slice));
            }
            Change::ForeignFile(file) => {
                let other = self.foreign.get(name(file));
                self.put_file(&machine, file, other.map(Vec::as_slice));
            }
            Change::PastSuperblocks(past) => {
                SUPERBLOCKS
                    .iter()
                    .for_each(|name| put_file(&machine, name, Some(&self.past[past][*name])));
            }
            Change::ForeignSuperblocks => {
                SUPERBLOCKS
                    .iter()
                    .for_each(|name| put_file(&machine, name, Some(&self.foreign[*name])));
            }
            Change::OldStore(past) => return with_store_of(&machine, &self.subject.past[past]),
            Change::OldKms(past) => return with_store_of(&self.subject.past[past], &machine),
        }
        machine
    }

    /// All changes of one thing, in order.
    fn all(&self) -> Vec<Change> {
        let (mut all, slots) = (Vec::new(), self.slots());
        for &at in &slots {
            all.extend([
                Change::Fill(at, 0),
                Change::Fill(at, 0xFF),
                Change::Foreign(at),
            ]);
            all.extend((0..self.past.len()).map(|past| Change::Past(at, past)));
            all.extend(
                slots
                    .iter()
                    .filter(|other| **other != at)
                    .map(|other| Change::Copy(at, *other)),
            );
            all.extend(
                slots
                    .iter()
                    .filter(|other| **other > at)
                    .map(|other| Change::Swap(at, *other)),
            );
        }
        for (file, (_, bytes)) in self.files.iter().enumerate() {
            all.extend((0..bytes.len() / 512).map(|sectors| Change::Cut(file, sectors)));
            all.extend([1, 8, 64].map(|sectors| Change::Longer(file, sectors)));
            all.extend([Change::Gone(file), Change::ForeignFile(file)]);
            all.extend((file + 1..self.files.len()).map(|other| Change::SwapFiles(file, other)));
            all.extend((0..self.past.len()).map(|past| Change::PastFile(file, past)));
        }
        for past in 0..self.past.len() {
            all.extend([
                Change::PastSuperblocks(past),
                Change::OldStore(past),
                Change::OldKms(past),
            ]);
        }
        all.push(Change::ForeignSuperblocks);
        all
    }

    /// All slots; of spares, in which everything means nothing, only the first.
    fn slots(&self) -> Vec<At> {
        let files = self.files.iter().enumerate();
        let slots = files.flat_map(|(file, (name, bytes))| {
            let count = if name.starts_with("spare-") {
                1
            } else {
                bytes.len() / SLOT_LEN
            };
            (0..count).map(move |slot| (file, slot))
        });
        slots.collect()
    }

    fn judge(&self, changes: &[Change]) -> Result<Option<Verdict>, String> {
        let fork = self.subject.machine.kill();
        let machine = changes
            .iter()
            .fold(fork, |machine, &change| self.apply(machine, change));
        // Older superblocks lead to the same end as long as the log since then is there: nothing is lost, nothing wrong.
        let is_older_root = changes
            .iter()
            .any(|change| matches!(change, Change::PastSuperblocks(_)));
        let is_kms = changes
            .iter()
            .any(|change| matches!(change, Change::OldKms(_)));
        let Some(is_unused) = self.compare(&machine) else {
            if !is_kms {
                return Ok(None);
            }
            return judge(&machine, &self.subject.model, &[])
                .map(Some)
                .map_err(|why| self.tell(changes, &why));
        };
        // Witnesses may be gone with what they are witnesses of.
        let cut = self.subject.cut_after(&machine, mark(&machine));
        let verdict = judge(&machine, &self.subject.model, &cut);
        let verdict = verdict.and_then(|verdict| match verdict {
            Verdict::Harmless if !is_unused && !is_older_root => Err("nobody notices".to_owned()),
            verdict => Ok(Some(verdict)),
        });
        verdict.map_err(|why| self.tell(changes, &why))
    }

    /// Whether all that differs from the subject is unused; `None` if nothing does.
    fn compare(&self, machine: &SimMachine) -> Option<bool> {
        let after: BTreeMap<_, _> = files(machine).into_iter().collect();
        let before: BTreeMap<_, _> = self.files.iter().cloned().collect();
        let mut is_unused = None;
        for name in before.keys().chain(after.keys()) {
            let (old, new) = (before.get(name), after.get(name));
            if old == new {
                continue;
            }
            let len = old.map_or(0, Vec::len).max(new.map_or(0, Vec::len));
            for slot in 0..len.div_ceil(SLOT_LEN) {
                let part = |bytes: Option<&Vec<u8>>| {
                    let rest = bytes.and_then(|bytes| bytes.get(slot * SLOT_LEN..));
                    rest.map(|rest| rest[..rest.len().min(SLOT_LEN)].to_vec())
                };
                if part(old) != part(new) {
                    let unused = self.subject.is_unused(name, slot * SLOT_LEN);
                    is_unused = Some(is_unused.unwrap_or(true) && unused);
                }
            }
            // Only the length of an empty file.
            is_unused = is_unused.or(Some(self.subject.is_unused(name, 0)));
        }
        is_unused
    }

    fn tell(&self, changes: &[Change], why: &str) -> String {
        let names: Vec<_> = self.files.iter().map(|(name, _)| name).collect();
        let first = changes.iter().map(|change| format!("{change:?}"));
        let files = changes.iter().flat_map(|change| match *change {
            Change::Fill((a, _), _) | Change::Past((a, _), _) | Change::Foreign((a, _)) => vec![a],
            Change::Copy((a, _), (b, _))
            | Change::Swap((a, _), (b, _))
            | Change::SwapFiles(a, b) => vec![a, b],
            Change::Cut(a, _) | Change::Longer(a, _) | Change::Gone(a) | Change::PastFile(a, _) => {
                vec![a]
            }
            Change::ForeignFile(a) => vec![a],
            _ => vec![],
        });
        let files: Vec<_> = files.map(|file| names[file]).collect();
        format!(
            "{}: {:?} {files:?}: {why}",
            self.subject.name,
            first.collect::<Vec<_>>()
        )
    }
}

fn slot_of(bytes: &[u8], slot: usize) -> Option<&[u8]> {
    bytes.get(slot * SLOT_LEN..(slot + 1) * SLOT_LEN)
}

fn put_file(machine: &SimMachine, name: &str, bytes: Option<&[u8]>) {
    put_file_in(&machine.dir("store"), name, bytes);
}

fn put_file_in(directory: &dyn Disk, name: &str, bytes: Option<&[u8]>) {
    // It may be gone already, by another change.
    let _ = directory.remove(name);
    if let Some(bytes) = bytes {
        let file = directory.create(name, bytes.len() as u64).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }
}

/// A machine with the key service of one and the store of another.
fn with_store_of(kms: &SimMachine, store: &SimMachine) -> SimMachine {
    let machine = kms.kill();
    let directory = machine.dir("store");
    for name in directory.list().unwrap() {
        directory.remove(&name).unwrap();
    }
    for (name, bytes) in files(store) {
        put_file_in(&directory, &name, Some(&bytes));
    }
    machine
}

/// How far the key service of a machine has seen the store.
fn mark(machine: &SimMachine) -> u64 {
    let Some(superblock) = superblocks(machine).into_iter().next() else {
        return 0;
    };
    let kms = Host::new(machine, 3).open_kms().unwrap();
    let mark = kms.mark(superblock.store_id).unwrap();
    mark.map_or(0, |mark| mark.seq.0)
}

#[test]
fn a_moved_old_cut_lost_or_foreign_part_is_found_or_harmless() {
    let victims: Vec<_> = subjects().iter().map(Victim::new).collect();
    let each = victims.iter().enumerate();
    let all: Vec<_> = each
        .flat_map(|(n, victim)| victim.all().into_iter().map(move |it| (n, it)))
        .collect();
    let sample = Sample::from_env("OFFSHOOT_PARTS", 1_500);
    let report = try_all(sample.of(&all), |&(victim, change)| {
        victims[victim].judge(&[change])
    });
    println!("{} of {} parts: {report}", sample.of(&all).len(), all.len());
    report.assert(2);
}

#[test]
fn changes_of_several_parts_are_found_or_harmless() {
    let victims: Vec<_> = subjects().iter().map(Victim::new).collect();
    let all: Vec<_> = victims.iter().map(Victim::all).collect();
    let sample = Sample::from_env("OFFSHOOT_SEVERAL", 1_000);
    let seeds: Vec<u64> = (0..100_000).collect();
    let report = try_all(sample.of(&seeds), |&seed| {
        let random = SimRandom::new(seed << 20 | 77);
        let victim = random.below(victims.len());
        let count = 2 + random.below(3);
        let changes: Vec<_> = (0..count)
            .map(|_| all[victim][random.below(all[victim].len())])
            .collect();
        victims[victim]
            .judge(&changes)
            .map_err(|why| format!("seed {seed}: {why}"))
    });
    println!("{} of several parts: {report}", sample.of(&seeds).len());
    report.assert(2);
}

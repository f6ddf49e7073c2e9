//! The stores that are changed: small, written by the engine, with one of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use offshoot::check::inspect;
use offshoot::format::pack::{PackIndex, pack_of_file};
use offshoot::format::record::{Record, Records};
use offshoot::format::segment::segment_file_name;
use offshoot::format::superblock::{Superblock, TableRef};
use offshoot::io::Disk;
use offshoot::io::sim::SimMachine;
use offshoot::{Quota, Seq, SlotAddr};

use offshoot_torture::model::{Action, Kind, Model, PAGE_SECTORS, PAGES};
use offshoot_torture::nonces::{SLOT_LEN, batches, file_bytes, last_batch};
use offshoot_torture::rig::{Host, Process};

/// A store that is changed.
#[derive(Debug)]
pub struct Subject {
    pub name: &'static str,
    /// Never changed: mutants are made of a fork.
    pub machine: SimMachine,
    /// What it holds.
    pub model: Model,
    /// What it may hold when the end of its log is damaged: states after batches that nothing says were durable.
    pub cut: Vec<Model>,
    /// What it held after which batch.
    states: Vec<(Seq, Model)>,
    /// The same machine at earlier times.
    pub past: Vec<SimMachine>,
    /// Slots of segment files and packs in which no change may go unnoticed.
    in_use: BTreeSet<(String, usize)>,
}

impl Subject {
    /// All files of the store, with what is in them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        files(&self.machine)
    }

    /// What the store may hold when more of it was changed, with what that says was durable, and a mark of the KMS.
    pub fn cut_after(&self, machine: &SimMachine, mark: u64) -> Vec<Model> {
        let durable = durable_through(machine).max(Seq(mark));
        let cut = self.states.iter().filter(|(seq, _)| *seq >= durable);
        cut.map(|(_, model)| model.clone()).collect()
    }

    /// Whether a change of that byte may change nothing: nobody reads it, or it means nothing.
    pub fn is_unused(&self, file: &str, offset: usize) -> bool {
        match file.split_once('-') {
            Some(("segment" | "pack", _)) => {
                let place = (file.to_owned(), offset / SLOT_LEN);
                !self.in_use.contains(&place)
            }
            Some(("spare", _)) => true,
            _ => file == "lock",
        }
    }
}

/// All files of the store on a machine, with what is in them.
pub fn files(machine: &SimMachine) -> Vec<(String, Vec<u8>)> {
    let names = machine.dir("store").list().unwrap();
    let file = |name: String| {
        let bytes = file_bytes(machine, &name);
        (name, bytes)
    };
    names.into_iter().map(file).collect()
}

/// A store that was closed, the same with more changes and not closed, and one that never had a checkpoint.
pub fn subjects() -> &'static [Subject; 3] {
    static SUBJECTS: OnceLock<[Subject; 3]> = OnceLock::new();
    SUBJECTS.get_or_init(|| {
        let mut making = Making::new(41);
        making.act_all(&everything());
        making.process.take().unwrap().store.close().unwrap();
        let closed = making.subject("closed", true);
        making.process = Some(Host::new(&making.machine, 42).open().unwrap());
        making.act_all(&more());
        making.process = None;
        let open = making.subject("left open", false);
        let mut making = Making::new(43);
        making.act_all(&young());
        making.process = None;
        [closed, open, making.subject("never checkpointed", false)]
    })
}

/// A store of other contents and another id.
pub fn foreign() -> &'static SimMachine {
    static FOREIGN: OnceLock<SimMachine> = OnceLock::new();
    FOREIGN.get_or_init(|| {
        let mut making = Making::new(99);
        making.act_all(&everything());
        making.process.take().unwrap().store.close().unwrap();
        making.machine.kill()
    })
}

struct Making {
    machine: SimMachine,
    process: Option<Process>,
    model: Model,
    /// What the store held after which batch.
    states: Vec<(Seq, Model)>,
    past: Vec<SimMachine>,
}

impl Making {
    fn new(seed: u64) -> Self {
        let machine = SimMachine::new();
        let process = Some(Host::new(&machine, seed).create().unwrap());
        Self {
            machine,
            process,
            model: Model::default(),
            states: vec![(Seq(0), Model::default())],
            past: Vec::new(),
        }
    }

    fn act_all(&mut self, actions: &[Action]) {
        for action in actions {
            let process = self.process.as_ref().unwrap();
            process
                .act(action)
                .unwrap_or_else(|error| panic!("{action:?}: {error}"));
            if *action == Action::Compact {
                let quota = Quota {
                    heads: Some(50),
                    ..Quota::default()
                };
                process.store.set_quota(quota).unwrap();
            }
            self.model = self.model.after(action);
            let last = last_batch(&self.machine).unwrap().header.seq;
            self.states.retain(|(seq, _)| *seq < last);
            self.states.push((last, self.model.clone()));
            if action.is_durable() {
                self.past.push(self.machine.kill());
            }
        }
    }

    fn subject(&self, name: &'static str, is_closed: bool) -> Subject {
        let machine = self.machine.kill();
        let durable = durable_through(&machine);
        let cut = self
            .states
            .iter()
            .filter(|(seq, _)| *seq >= durable && !is_closed);
        let total: usize = files(&machine).iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(total <= 1 << 20, "{name} takes {total} bytes");
        Subject {
            name,
            model: self.model.clone(),
            cut: cut.map(|(_, model)| model.clone()).collect(),
            states: self.states.clone(),
            past: self.past.iter().map(SimMachine::kill).collect(),
            in_use: in_use(&machine, &self.model),
            machine,
        }
    }
}

fn write(name: &str, first: u64, count: u64, number: u32) -> Action {
    Action::Write {
        name: name.to_owned(),
        sectors: first * PAGE_SECTORS..(first + count) * PAGE_SECTORS,
        number,
    }
}

fn branch(from: (Kind, &str), to: (Kind, &str), other_key: bool) -> Action {
    let head = |(kind, name): (Kind, &str)| (kind, name.to_owned());
    Action::Branch {
        from: head(from),
        to: head(to),
        other_key,
    }
}

fn delete(kind: Kind, name: &str) -> Action {
    let name = name.to_owned();
    Action::Delete { kind, name }
}

fn create(name: &str) -> Action {
    Action::Create {
        name: name.to_owned(),
    }
}

/// One of everything: heads of all kinds, deleted ones, packs, spares, a quota, several key epochs.
fn everything() -> Vec<Action> {
    use Kind::{Pin, Snapshot, Volume};
    let v0 = (Volume, "v0");
    vec![
        create("v0"),
        write("v0", 0, 8, 1),
        branch(v0, (Snapshot, "s1"), false),
        write("v0", 1, 2, 2),
        branch(v0, (Volume, "c2"), true),
        Action::Checkpoint,
        write("c2", 0, 12, 3),
        write("v0", 6, 3, 4),
        branch((Snapshot, "s1"), (Volume, "c3"), false),
        write("c3", 2, 3, 5),
        branch((Volume, "c3"), (Pin, "p4"), false),
        delete(Volume, "c2"),
        Action::Checkpoint,
        write("c3", 4, 2, 6),
        create("d5"),
        write("d5", 0, 3, 7),
        Action::Erase {
            kind: Volume,
            name: "d5".to_owned(),
        },
        Action::Checkpoint,
        Action::Rekey {
            name: "c3".to_owned(),
        },
        Action::Checkpoint,
        Action::Checkpoint,
        Action::Compact,
        Action::Zero {
            name: "v0".to_owned(),
            sectors: 40..56,
        },
        branch(v0, (Snapshot, "s6"), false),
        branch((Snapshot, "s6"), (Volume, "c7"), true),
        write("c7", 9, 2, 8),
        delete(Snapshot, "s6"),
        Action::Checkpoint,
        Action::Checkpoint,
        Action::Compact,
        write("v0", 0, 1, 9),
    ]
}

/// Changes that no checkpoint knows of, the last ones not known to be durable.
fn more() -> Vec<Action> {
    use Kind::{Snapshot, Volume};
    vec![
        write("v0", 3, 2, 11),
        Action::Flush,
        branch((Volume, "v0"), (Snapshot, "s8"), false),
        write("c7", 1, 3, 12),
        Action::Discard {
            name: "c3".to_owned(),
            sectors: 16..40,
        },
        create("d9"),
        delete(Volume, "d9"),
        write("v0", 5, 1, 13),
        Action::Flush,
        write("c3", 8, 2, 14),
        Action::Flush,
    ]
}

fn young() -> Vec<Action> {
    use Kind::{Snapshot, Volume};
    vec![
        create("v0"),
        // As many at once as one batch has room for, so that there is no state between.
        write("v0", 0, 4, 20),
        write("v0", 4, 4, 21),
        Action::Flush,
        branch((Volume, "v0"), (Snapshot, "s1"), false),
        write("v0", 4, 4, 22),
        branch((Volume, "v0"), (Volume, "c2"), true),
        write("c2", 0, 2, 23),
        Action::Flush,
        write("c2", 1, 2, 24),
        Action::Flush,
    ]
}

/// The superblocks that decode, newest first, each once.
pub fn superblocks(machine: &SimMachine) -> Vec<Superblock> {
    let (mut found, files) = (Vec::<Superblock>::new(), files(machine));
    for (mirror, name) in (0..).zip(["superblock-a", "superblock-b"]) {
        let (_, bytes) = match files.iter().find(|(file, _)| file == name) {
            Some(file) => file,
            None => continue,
        };
        let slots = bytes.chunks(SLOT_LEN);
        found.extend(slots.filter_map(|slot| Superblock::decode(slot, mirror).ok()));
    }
    found.sort_by_key(|superblock| std::cmp::Reverse(superblock.generation));
    found.dedup_by_key(|superblock| superblock.generation);
    found
}

/// The last batch that anything in the store says was durable.
fn durable_through(machine: &SimMachine) -> Seq {
    let said = batches(machine)
        .into_iter()
        .map(|batch| batch.header.durable_through);
    let superblocks = superblocks(machine).into_iter();
    let said = said.chain(superblocks.map(|superblock| superblock.durable_through));
    said.max().unwrap_or_default()
}

/// The slots that a reader needs: the pages and nodes of all heads, the tables of both superblocks, the header slots
/// of the log since the older one, whole batches since the newest one; and the headers of the files they are in.
fn in_use(machine: &SimMachine, model: &Model) -> BTreeSet<(String, usize)> {
    let (disk, mut slots) = (machine.dir("store"), BTreeSet::new());
    for (kind, name) in model.heads.keys() {
        let kind = match kind {
            Kind::Volume => offshoot::Kind::Volume,
            Kind::Snapshot => offshoot::Kind::Snapshot,
            Kind::Pin => offshoot::Kind::Pin,
        };
        for page in 0..PAGES {
            let view = inspect::page(&disk, None, kind, name, offshoot::PageNo(page)).unwrap();
            if let inspect::PageState::Data(data) = view.state {
                slots.insert(data.at);
            }
        }
        let tree = inspect::tree(&disk, None, kind, name).unwrap();
        let levels = tree.levels.iter().flat_map(|level| &level.nodes);
        slots.extend(levels.map(|node| node.at));
    }
    let superblocks = superblocks(machine);
    let (newest, oldest) = (
        superblocks[0].position.seq,
        superblocks.last().unwrap().position.seq,
    );
    let all = batches(machine);
    let mut add = |batch: &offshoot::format::batch::BatchHead, end: u32| {
        let at = batch.header.at;
        slots.extend((at.slot..end).map(|slot| SlotAddr { slot, ..at }));
    };
    for batch in &all {
        if batch.header.seq > newest {
            add(batch, batch.end().slot);
        } else if batch.header.seq > oldest {
            add(batch, batch.body().slot);
        }
    }
    for superblock in &superblocks {
        let mut next = superblock.tables;
        while let Some(TableRef { at, .. }) = next {
            let batch = all.iter().find(|batch| batch.header.at == at).unwrap();
            add(batch, batch.body().slot);
            next = match Records::new(&batch.records).next() {
                Some(Ok(Record::Table { previous, .. })) => previous,
                other => panic!("{other:?}"),
            };
        }
    }
    let places = places(machine);
    let mut found = BTreeSet::new();
    for at in slots {
        let (file, slot) = match places.get(&at) {
            Some((file, slot)) => (file.clone(), *slot),
            None => (segment_file_name(at.segment), at.slot as usize),
        };
        found.insert((file.clone(), 0));
        found.insert((file, slot));
    }
    found
}

/// Where slots are that are in packs.
fn places(machine: &SimMachine) -> BTreeMap<SlotAddr, (String, usize)> {
    let mut places = BTreeMap::new();
    for (name, bytes) in files(machine) {
        if pack_of_file(&name).is_none() {
            continue;
        }
        let count =
            PackIndex::peek(&bytes[..SLOT_LEN], (bytes.len() / SLOT_LEN) as u32).unwrap() as usize;
        let index = PackIndex::decode(&bytes[..count * SLOT_LEN]).unwrap();
        let slots = index.parts.iter().flat_map(|part| {
            let slots = part.runs.iter().cloned().flatten();
            slots.map(|slot| SlotAddr {
                segment: part.segment,
                slot,
            })
        });
        places.extend(slots.zip((count..).map(|slot| (name.clone(), slot))));
    }
    places
}

//! What a store should hold: volumes and snapshots by name, a number for each sector.
//!
//! A sector of number 0 is zeroes, any other is that number over and over. So a store is compared
//! byte by byte, and a difference says which write it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use offshoot::{Error, KeyState, Result, Store};

/// Unit of all changes, in bytes; a page has eight.
pub const SECTOR: u64 = 512;
/// Sectors of a page.
pub const PAGE_SECTORS: u64 = 8;
/// Pages of every volume: with fan-out 3 its tree has three levels.
pub const PAGES: u64 = 12;
/// Bytes of every volume.
pub const VOLUME_LEN: u64 = PAGES * PAGE_SECTORS * SECTOR;
/// Stands for a sector of which the key is gone.
pub const DARK: u32 = u32::MAX;

/// Whether a name is a volume's, a snapshot's or a pin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Volume,
    Snapshot,
    Pin,
}

/// All that a store holds.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Model {
    pub heads: BTreeMap<(Kind, String), Vec<u32>>,
}

/// One call that changes a store or makes it durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Create {
        name: String,
    },
    Write {
        name: String,
        sectors: Range<u64>,
        number: u32,
    },
    /// A write that is durable when it returns.
    WriteThrough {
        name: String,
        sectors: Range<u64>,
        number: u32,
    },
    Discard {
        name: String,
        sectors: Range<u64>,
    },
    Zero {
        name: String,
        sectors: Range<u64>,
    },
    Branch {
        from: (Kind, String),
        to: (Kind, String),
        other_key: bool,
    },
    Delete {
        kind: Kind,
        name: String,
    },
    Rename {
        name: String,
        to: String,
    },
    /// Deletes several at once.
    DeleteAll {
        heads: Vec<(Kind, String)>,
    },
    /// Deletes one and destroys its keys.
    Erase {
        kind: Kind,
        name: String,
    },
    /// Seals all pages again.
    Rekey {
        name: String,
    },
    /// Gives back all space that can be.
    Compact,
    Flush,
    Checkpoint,
    Reopen,
    /// The KMS keys of the store and of most heads get a new version.
    Rotate,
    /// The KMS key of most heads is disabled and enabled again.
    OffAndOn,
    /// All that is outdated is wrapped again, and one volume under another key.
    Rewrap {
        name: String,
        other_key: bool,
    },
}

impl Action {
    /// Whether all is durable once the call has returned.
    pub fn is_durable(&self) -> bool {
        !matches!(
            self,
            Self::Write { .. }
                | Self::Discard { .. }
                | Self::Zero { .. }
                // What the KMS does, no store knows of.
                | Self::Rotate
                | Self::OffAndOn
        )
    }
}

impl Model {
    /// What the store holds after the call. A call on what is not there changes nothing.
    pub fn after(&self, action: &Action) -> Self {
        let mut next = self.clone();
        match action {
            Action::Create { name } => next.put(Kind::Volume, name, vec![0; sectors_in_volume()]),
            Action::Write {
                name,
                sectors,
                number,
            }
            | Action::WriteThrough {
                name,
                sectors,
                number,
            } => next.fill(name, sectors, *number),
            Action::Discard { name, sectors } | Action::Zero { name, sectors } => {
                next.fill(name, sectors, 0);
            }
            Action::Branch { from, to, .. } => {
                if let Some(contents) = self.heads.get(from) {
                    next.put(to.0, &to.1, contents.clone());
                }
            }
            Action::Delete { kind, name } => {
                next.heads.remove(&(*kind, name.clone()));
            }
            Action::Rename { name, to } => {
                if let Some(contents) = next.heads.remove(&(Kind::Volume, name.clone())) {
                    next.put(Kind::Volume, to, contents);
                }
            }
            Action::Erase { kind, name } => {
                next.heads.remove(&(*kind, name.clone()));
            }
            Action::DeleteAll { heads } => heads.iter().for_each(|head| {
                next.heads.remove(head);
            }),
            Action::Rekey { .. }
            | Action::Compact
            | Action::Flush
            | Action::Checkpoint
            | Action::Reopen => {}
            Action::Rotate | Action::OffAndOn | Action::Rewrap { .. } => {}
        }
        next
    }

    /// What the store may also hold while the call goes on: what is being erased is there, but its
    /// key is not.
    fn between(&self, action: &Action) -> Option<Self> {
        let Action::Erase { kind, name } = action else {
            return None;
        };
        let mut next = self.clone();
        let head = next.heads.get_mut(&(*kind, name.clone()))?;
        head.fill(DARK);
        Some(next)
    }

    /// A head of which the key is gone.
    pub fn dark(&self) -> Option<(Kind, String)> {
        let mut dark = self
            .heads
            .iter()
            .filter(|(_, contents)| contents.contains(&DARK));
        dark.next().map(|(head, _)| head.clone())
    }

    /// Whether the key of a head is gone.
    pub fn is_dark(&self, head: &(Kind, String)) -> bool {
        let contents = self.heads.get(head);
        contents.is_some_and(|contents| contents.contains(&DARK))
    }

    /// The oldest head of a kind that holds more than zeroes.
    pub fn filled(&self, kind: Kind) -> Option<String> {
        let is_filled = |name: &&str| {
            let contents = &self.heads[&(kind, (*name).to_owned())];
            contents.iter().any(|&number| number > 0)
        };
        let names = self.names(kind);
        names.into_iter().find(is_filled).map(str::to_owned)
    }

    /// The names of one kind that can be read, in the order in which they were made (they end in a number).
    pub fn names(&self, kind: Kind) -> Vec<&str> {
        let of_kind = self
            .heads
            .iter()
            .filter(|((found, _), contents)| *found == kind && !contents.contains(&DARK));
        let mut names: Vec<_> = of_kind.map(|((_, name), _)| name.as_str()).collect();
        names.sort_by_key(|name| (name.len(), name[1..].to_owned()));
        names
    }

    /// Reads a whole store.
    pub fn read(store: &Store) -> Result<Self, String> {
        let mut model = Self::default();
        let fail = |name: &str, error: offshoot::Error| format!("{name} cannot be read: {error}");
        let mut bytes = vec![0; VOLUME_LEN as usize];
        for info in store.volumes() {
            let volume = store.volume(&info.name).map_err(|e| fail(&info.name, e))?;
            check_len(&info.name, info.len)?;
            let read = volume.read_exact_at(&mut bytes, 0);
            let found = contents(&info.name, &bytes, read)?;
            model.put(Kind::Volume, &info.name, found);
        }
        for info in store.snapshots() {
            let snapshot = store
                .snapshot(&info.name)
                .map_err(|e| fail(&info.name, e))?;
            check_len(&info.name, info.len)?;
            let read = snapshot.read_exact_at(&mut bytes, 0);
            let found = contents(&info.name, &bytes, read)?;
            model.put(Kind::Snapshot, &info.name, found);
        }
        for info in store.pins() {
            let pin = store.pin(&info.name).map_err(|e| fail(&info.name, e))?;
            check_len(&info.name, info.len)?;
            let read = pin.read_exact_at(&mut bytes, 0);
            let found = contents(&info.name, &bytes, read)?;
            model.put(Kind::Pin, &info.name, found);
        }
        let listed = store.volumes().len() + store.snapshots().len() + store.pins().len();
        if model.heads.len() != listed {
            return Err("a name is there twice".to_owned());
        }
        Ok(model)
    }

    fn put(&mut self, kind: Kind, name: &str, contents: Vec<u32>) {
        self.heads.insert((kind, name.to_owned()), contents);
    }

    fn fill(&mut self, name: &str, sectors: &Range<u64>, number: u32) {
        if let Some(contents) = self.heads.get_mut(&(Kind::Volume, name.to_owned())) {
            contents[sectors.start as usize..sectors.end as usize].fill(number);
        }
    }
}

/// The bytes of so many sectors of a number.
pub fn bytes_of(number: u32, sectors: u64) -> Vec<u8> {
    number.to_le_bytes().repeat((sectors * SECTOR / 4) as usize)
}

fn sectors_in_volume() -> usize {
    (VOLUME_LEN / SECTOR) as usize
}

/// What was read, or that the key for it is gone.
fn contents(name: &str, bytes: &[u8], read: Result<()>) -> Result<Vec<u32>, String> {
    match read {
        Ok(()) => numbers(name, bytes),
        Err(Error::KeyUnavailable {
            state: KeyState::Missing,
            ..
        }) => Ok(vec![DARK; sectors_in_volume()]),
        Err(error) => Err(format!("{name} cannot be read: {error}")),
    }
}

fn check_len(name: &str, len: u64) -> Result<(), String> {
    match len {
        VOLUME_LEN => Ok(()),
        _ => Err(format!("{name} has {len} bytes")),
    }
}

fn numbers(name: &str, bytes: &[u8]) -> Result<Vec<u32>, String> {
    let sectors = bytes.chunks_exact(SECTOR as usize).enumerate();
    sectors
        .map(|(index, sector)| {
            let first = &sector[..4];
            match sector.chunks_exact(4).all(|word| word == first) {
                true => Ok(u32::from_le_bytes([first[0], first[1], first[2], first[3]])),
                false => Err(format!("sector {index} of {name} holds what nobody wrote")),
            }
        })
        .collect()
}

impl fmt::Debug for Model {
    /// Names, and runs of sectors of one number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = |contents: &[u32]| {
            let chunks = contents.chunk_by(|a, b| a == b);
            let texts: Vec<_> = chunks
                .map(|run| format!("{}x{}", run[0], run.len()))
                .collect();
            texts.join(" ")
        };
        f.debug_map()
            .entries(
                self.heads
                    .iter()
                    .map(|((_, name), contents)| (name, runs(contents))),
            )
            .finish()
    }
}

/// What a store may hold now, and what a crash now may leave, as calls succeed and fail.
///
/// While no call fails both are easy: the model after the last call, and the models since the
/// last acknowledgement. A call that failed may have happened or not.
#[derive(Clone, Debug)]
pub struct Tracker {
    current: Vec<Model>,
    possible: Vec<Model>,
}

impl Tracker {
    pub fn new(model: Model) -> Self {
        Self {
            current: vec![model.clone()],
            possible: vec![model],
        }
    }

    /// The newest state.
    pub fn newest(&self) -> &Model {
        self.current.last().expect("there is always one")
    }

    /// What a crash may leave now.
    pub fn possible(&self) -> &[Model] {
        &self.possible
    }

    /// From now until it returns, the call may have happened or not.
    pub fn start(&mut self, action: &Action) {
        let after = self.current.iter().map(|model| model.after(action));
        // Keys are gone at once, whatever of the log is durable.
        let between = self
            .possible
            .iter()
            .filter_map(|model| model.between(action));
        let more = after.chain(between).collect();
        add(&mut self.possible, more);
    }

    /// The call has returned.
    pub fn succeed(&mut self, action: &Action) {
        for model in &mut self.current {
            *model = model.after(action);
        }
        if action.is_durable() {
            self.acknowledge();
        }
    }

    /// The call has failed.
    pub fn fail(&mut self, action: &Action) {
        let after: Vec<_> = self
            .current
            .iter()
            .flat_map(|model| [Some(model.after(action)), model.between(action)])
            .flatten()
            .collect();
        add(&mut self.current, after);
    }

    /// All calls that have returned are durable.
    pub fn acknowledge(&mut self) {
        self.possible.clone_from(&self.current);
    }
}

fn add(models: &mut Vec<Model>, more: Vec<Model>) {
    for model in more {
        if !models.contains(&model) {
            models.push(model);
        }
    }
}

/// The names that a store must not know any more.
pub fn gone(before: &[Model], now: &Model) -> BTreeSet<(Kind, String)> {
    let all = before.iter().flat_map(|model| model.heads.keys().cloned());
    all.filter(|key| !now.heads.contains_key(key)).collect()
}

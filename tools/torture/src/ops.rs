//! The operations on a store and on its keys, the sequences of them that are run, and the two
//! stores they start from.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use offshoot::io::sim::SimMachine;

use crate::model::{Action, Kind, Model, PAGE_SECTORS, PAGES};
use crate::nonces::{Slot, batches, last_batch, slots_of};
use crate::rig::{Host, SEGMENT_SLOTS};

/// An operation; what it works on depends on where in a sequence it stands and on what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Write,
    WriteTwo,
    Flush,
    Discard,
    Snapshot,
    Clone,
    Delete,
    Checkpoint,
    Reopen,
    Rotate,
    OffAndOn,
    Rewrap,
    DeleteAll,
    Erase,
    Rekey,
    Compact,
    Pin,
    Unpin,
    WriteThrough,
}

/// Those that everything is made of: of these all sequences are tried.
pub const OPS: [Op; 9] = [
    Op::Write,
    Op::WriteTwo,
    Op::Flush,
    Op::Discard,
    Op::Snapshot,
    Op::Clone,
    Op::Delete,
    Op::Checkpoint,
    Op::Reopen,
];

/// Those on KMS keys.
pub const KEY_OPS: [Op; 3] = [Op::Rotate, Op::OffAndOn, Op::Rewrap];

/// Those of which all sequences of three are tried where there is time for it: with a write that is durable when it
/// returns, a key that is rotated, one that is switched off, and space that is given back.
pub const PROOF_OPS: [Op; 13] = [
    Op::Write,
    Op::WriteTwo,
    Op::Flush,
    Op::Discard,
    Op::Snapshot,
    Op::Clone,
    Op::Delete,
    Op::Checkpoint,
    Op::Reopen,
    Op::WriteThrough,
    Op::Rotate,
    Op::OffAndOn,
    Op::Compact,
];

/// All sequences of one to three of these: 2,379.
pub fn proof_sequences() -> Vec<Vec<Op>> {
    let longer = |shorter: &[Vec<Op>]| -> Vec<Vec<Op>> {
        let then = |ops: &Vec<Op>| PROOF_OPS.map(|op| [ops.as_slice(), &[op]].concat());
        shorter.iter().flat_map(then).collect()
    };
    let singles = longer(&[Vec::new()]);
    let pairs = longer(&singles);
    let triples = longer(&pairs);
    [singles, pairs, triples].concat()
}

/// Sequences in which a key changes: alone, before or after any operation, and between two on the
/// store.
pub fn key_sequences() -> Vec<Vec<Op>> {
    let all = || OPS.into_iter().chain(KEY_OPS);
    let mut sequences: Vec<_> = KEY_OPS.iter().map(|&key| vec![key]).collect();
    for key in KEY_OPS {
        sequences.extend(all().map(|after| vec![key, after]));
        sequences.extend(OPS.map(|before| vec![before, key]));
        for before in OPS {
            let afters = [Op::Write, Op::Clone, Op::Checkpoint, Op::Reopen];
            sequences.extend(afters.map(|after| vec![before, key, after]));
        }
    }
    sequences
}

/// Those that give back, hold and destroy: tried between and after the others.
pub const MORE_OPS: [Op; 6] = [
    Op::DeleteAll,
    Op::Erase,
    Op::Rekey,
    Op::Compact,
    Op::Pin,
    Op::Unpin,
];

/// What a full disk has left: less than a segment.
pub const ROOM_LEN: u64 = 28_000;

/// What makes something to give back before, and what comes after.
const BEFORE: [Op; 4] = [Op::Write, Op::Snapshot, Op::Clone, Op::Delete];
const AFTER: [Op; 3] = [Op::Write, Op::Checkpoint, Op::Reopen];

/// Sequences with one or two of the other operations.
pub fn more_sequences() -> Vec<Vec<Op>> {
    let mut all = Vec::new();
    for more in MORE_OPS {
        all.extend(BEFORE.map(|before| vec![before, more]));
        for after in AFTER {
            all.extend(BEFORE.map(|before| vec![before, more, after]));
        }
        all.extend(MORE_OPS.map(|then| vec![Op::Clone, more, then]));
    }
    all
}

/// The sequences of three operations. With their prefixes they are all 819 of one to three.
pub fn sequences() -> Vec<[Op; 3]> {
    let pairs = OPS.into_iter().flat_map(|a| OPS.map(|b| [a, b]));
    pairs.flat_map(|[a, b]| OPS.map(|c| [a, b, c])).collect()
}

impl Op {
    /// The call that it is as the `step`-th operation on a store that holds this.
    ///
    /// Writes go to the oldest and the newest volume in turn, so both sides of a clone are
    /// written. A source is deleted before its clones. Where no volume is left, one is made.
    pub fn action(self, step: u32, model: &Model) -> Action {
        let volumes = model.names(Kind::Volume);
        let snapshots = model.names(Kind::Snapshot);
        let target = match step % 2 {
            0 => volumes.last(),
            _ => volumes.first(),
        };
        if let (Self::Erase, Some((kind, name))) = (self, model.dark()) {
            // The last one was cut off: this one ends it.
            return Action::Erase { kind, name };
        }
        let Some(target) = target.map(|name| (*name).to_owned()) else {
            return match self {
                Self::Rotate => Action::Rotate,
                Self::OffAndOn => Action::OffAndOn,
                Self::Flush => Action::Flush,
                Self::Checkpoint => Action::Checkpoint,
                Self::Compact => Action::Compact,
                Self::Reopen => Action::Reopen,
                Self::Delete if !snapshots.is_empty() => Action::Delete {
                    kind: Kind::Snapshot,
                    name: snapshots[0].to_owned(),
                },
                _ => Action::Create {
                    name: format!("w{step}"),
                },
            };
        };
        let step_at = u64::from(step);
        let pages = |first: u64, count: u64| first * PAGE_SECTORS..(first + count) * PAGE_SECTORS;
        let branch = |from, to, other_key| Action::Branch {
            from,
            to,
            other_key,
        };
        match self {
            Self::Write => {
                let sectors = pages((step_at * 5 + 1) % PAGES, 1);
                Action::Write {
                    name: target,
                    sectors,
                    number: 1000 + step,
                }
            }
            Self::WriteThrough => {
                let sectors = pages((step_at * 7 + 3) % PAGES, 1);
                Action::WriteThrough {
                    name: target,
                    sectors,
                    number: 3000 + step,
                }
            }
            Self::WriteTwo => {
                let sectors = pages((step_at * 4 + 2) % (PAGES - 1), 2);
                Action::Write {
                    name: target,
                    sectors,
                    number: 2000 + step,
                }
            }
            Self::Flush => Action::Flush,
            Self::Discard => {
                let whole = pages(step_at * 2 % (PAGES - 4), 4);
                Action::Discard {
                    name: target,
                    sectors: whole.start + 3..whole.end - 2,
                }
            }
            Self::Snapshot => {
                let to = (Kind::Snapshot, format!("s{step}"));
                branch((Kind::Volume, target), to, false)
            }
            Self::Clone => {
                let from = match snapshots.last() {
                    Some(snapshot) if step % 2 == 1 => (Kind::Snapshot, (*snapshot).to_owned()),
                    _ => (Kind::Volume, target),
                };
                branch(from, (Kind::Volume, format!("c{step}")), step % 2 == 1)
            }
            Self::Delete => match (volumes.as_slice(), snapshots.as_slice()) {
                ([oldest, _, ..], _) => Action::Delete {
                    kind: Kind::Volume,
                    name: (*oldest).to_owned(),
                },
                (_, [oldest, ..]) if step.is_multiple_of(2) => Action::Delete {
                    kind: Kind::Snapshot,
                    name: (*oldest).to_owned(),
                },
                _ => Action::Delete {
                    kind: Kind::Volume,
                    name: target,
                },
            },
            Self::Checkpoint => Action::Checkpoint,
            Self::Reopen => Action::Reopen,
            Self::Rotate => Action::Rotate,
            Self::OffAndOn => Action::OffAndOn,
            Self::Rewrap => Action::Rewrap {
                name: target,
                other_key: step.is_multiple_of(2),
            },
            Self::DeleteAll => {
                let volume = (Kind::Volume, volumes[0].to_owned());
                let snapshots = snapshots
                    .iter()
                    .map(|name| (Kind::Snapshot, (*name).to_owned()));
                Action::DeleteAll {
                    heads: [volume].into_iter().chain(snapshots).collect(),
                }
            }
            // Where there is nothing to read, nobody could tell whether the key is gone.
            Self::Erase => match model.filled(Kind::Snapshot) {
                Some(name) if step % 2 == 1 => Action::Erase {
                    kind: Kind::Snapshot,
                    name,
                },
                _ => match model.filled(Kind::Volume) {
                    Some(name) => Action::Erase {
                        kind: Kind::Volume,
                        name,
                    },
                    None => Action::Flush,
                },
            },
            Self::Rekey => Action::Rekey { name: target },
            Self::Compact => Action::Compact,
            Self::Pin => branch(
                (Kind::Volume, target),
                (Kind::Pin, format!("p{step}")),
                false,
            ),
            Self::Unpin => match model.names(Kind::Pin).first() {
                Some(name) => Action::Delete {
                    kind: Kind::Pin,
                    name: (*name).to_owned(),
                },
                None => Action::Flush,
            },
        }
    }
}

/// A machine with a store that was closed cleanly, and what it holds.
#[derive(Debug)]
pub struct Start {
    pub name: &'static str,
    /// Never changed: runs begin on a fork.
    pub machine: SimMachine,
    pub model: Model,
    pub acknowledged: BTreeSet<Slot>,
}

/// A fresh small store with one volume, and one where the log is a slot before its segment's end.
pub fn starts() -> &'static [Start; 2] {
    static STARTS: OnceLock<[Start; 2]> = OnceLock::new();
    STARTS.get_or_init(|| {
        let fresh = make("fresh", 1, 0);
        let full = (1..30).map(|more| make("full", 2, more));
        let mut full = full.filter(|start| end_slot(start) == SEGMENT_SLOTS - 1);
        [
            fresh,
            full.next()
                .expect("some number of batches ends a slot before the end"),
        ]
    })
}

/// A store a slot before its segment's end, on a disk that has room for one more segment and then for nothing but lines
/// of the key service.
pub fn nearly_full() -> &'static Start {
    static START: OnceLock<Start> = OnceLock::new();
    START.get_or_init(|| {
        let start = &starts()[1];
        let machine = start.machine.kill();
        machine.set_free_len(ROOM_LEN + u64::from(SEGMENT_SLOTS) * 4096);
        Start {
            name: "nearly full",
            machine,
            model: start.model.clone(),
            acknowledged: start.acknowledged.clone(),
        }
    })
}

fn end_slot(start: &Start) -> u32 {
    last_batch(&start.machine).map_or(0, |batch| batch.end().slot)
}

/// A store of one volume with some pages, one of them written again and again.
fn make(name: &'static str, seed: u64, more: u32) -> Start {
    let machine = SimMachine::new();
    let process = Host::new(&machine, seed).create().unwrap();
    let mut model = Model::default();
    let write = |first: u64, count: u64, number: u32| Action::Write {
        name: "v0".to_owned(),
        sectors: first * PAGE_SECTORS..(first + count) * PAGE_SECTORS,
        number,
    };
    let mut actions = vec![
        Action::Create {
            name: "v0".to_owned(),
        },
        write(0, 4, 1),
        write(6, 2, 2),
    ];
    if more > 0 {
        // So that one leaf and what is above it are all that the last checkpoint writes: with more it fills a segment.
        actions.push(Action::Checkpoint);
    }
    for number in 0..more {
        actions.push(Action::Zero {
            name: "v0".to_owned(),
            sectors: 48..56,
        });
        if number % 3 == 0 {
            actions.push(write(6, 1, 10 + number));
        }
    }
    for action in &actions {
        process.act(action).unwrap();
        model = model.after(action);
    }
    process.store.close().unwrap();
    let acknowledged = slots_of(&batches(&machine)).collect();
    Start {
        name,
        machine: machine.kill(),
        model,
        acknowledged,
    }
}

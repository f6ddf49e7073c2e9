//! A write that comes in the middle of another call, while that one waits for a sync.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use offshoot::io::sim::{Crash, SimMachine};

use crate::log::write;
use offshoot_torture::model::{Action, Kind, Model};
use offshoot_torture::nonces::{Nonces, last_batch};
use offshoot_torture::ops::{Start, starts};
use offshoot_torture::oracle::{Case, check};
use offshoot_torture::rig::{Host, SEGMENT_SLOTS};

/// The calls that sync.
fn calls() -> [Option<Action>; 6] {
    let volume = |name: &str| (Kind::Volume, name.to_owned());
    let branch = Action::Branch {
        from: volume("v0"),
        to: volume("c1"),
        other_key: false,
    };
    let rename = Action::Rename {
        name: "c0".to_owned(),
        to: "r0".to_owned(),
    };
    let delete = Action::Delete {
        kind: Kind::Volume,
        name: "c0".to_owned(),
    };
    // The last one is a close.
    [
        Some(Action::Flush),
        Some(Action::Checkpoint),
        Some(branch),
        Some(rename),
        Some(delete),
        None,
    ]
}

/// What a hook has seen and done.
#[derive(Default)]
struct Between {
    barriers: u32,
    /// Whether the write in the middle was made.
    wrote: bool,
    machines: Vec<SimMachine>,
}

/// A machine that may have crashed, and whether the call had returned.
type Ends = Vec<(SimMachine, bool)>;

/// Makes a call on a store with an unsynced write; at its `n`-th barrier another write is made.
/// Gives the machines at that and all later barriers and at the end, and all models in order:
/// before, after the first write, the call, the second write. `None` if there are fewer barriers
/// or if the write finds no room in its segment: it must not sync.
fn interleave(start: &Start, call: Option<&Action>, n: u32) -> Option<(Ends, [Model; 4])> {
    let machine = start.machine.kill();
    let process = Host::new(&machine, 31).open().unwrap();
    let (volume, clone) = (Kind::Volume, "c0".to_owned());
    let prepare = Action::Branch {
        from: (volume, "v0".to_owned()),
        to: (volume, clone),
        other_key: false,
    };
    // The write in the middle must find a reserve that is large enough: making a spare syncs.
    let many = write(0, 12, 500);
    for action in [&many, &Action::Checkpoint, &prepare] {
        process.act(action).unwrap();
    }
    let before = start.model.after(&many).after(&prepare);
    process.act(&write(1, 1, 501)).unwrap();
    let first = before.after(&write(1, 1, 501));
    let during = call.map_or_else(|| first.clone(), |call| first.after(call));
    let second = during.after(&write(2, 1, 502));
    let shared = Arc::new(Mutex::new(Between::default()));
    let (hook, live) = (shared.clone(), machine.clone());
    let target = process.store.volume("v0").unwrap();
    machine.on_barrier(move |copy| {
        let mut between = hook.lock().unwrap();
        between.barriers += 1;
        let room = last_batch(copy).is_some_and(|last| last.end().slot + 2 <= SEGMENT_SLOTS);
        if between.barriers == n && room {
            let bytes = offshoot_torture::model::bytes_of(502, 8);
            between.wrote = target.write_all_at(&bytes, 2 * 4096).is_ok();
        }
        if between.wrote {
            between.machines.push(live.kill());
        }
    });
    match call {
        Some(action) => process.act(action).unwrap(),
        None => process.store.clone().close().unwrap(),
    }
    machine.clear_hooks();
    let between = std::mem::take(&mut *shared.lock().unwrap());
    if !between.wrote {
        return None;
    }
    let mut ends: Ends = between
        .machines
        .into_iter()
        .map(|machine| (machine, false))
        .collect();
    ends.push((machine.kill(), true));
    Some((ends, [before, first, during, second]))
}

#[test]
fn a_write_in_the_middle_of_another_calls_sync_breaks_no_rule() {
    let nonces = Arc::new(Nonces::default());
    let (mut runs, mut states) = (0, 0u64);
    for start in starts() {
        for call in calls() {
            for n in 1..40 {
                let Some((ends, models)) = interleave(start, call.as_ref(), n) else {
                    continue;
                };
                runs += 1;
                for (machine, returned) in ends {
                    let possible = if returned { &models[2..] } else { &models[..] };
                    let points = machine.crash_points();
                    let few = points.iter().step_by(points.len().div_ceil(8));
                    let all_but = points.iter().filter(|crash| is_all_but(crash));
                    for crash in few.chain(all_but) {
                        states += 1;
                        let case = Case {
                            possible,
                            acknowledged: &Default::default(),
                            nonces: &nonces,
                            seed: 1 << 58 | states << 8,
                        };
                        check(&machine.power_loss(crash), &case)
                            .unwrap_or_else(|why| panic!("{call:?}, {n}, {crash:?}: {why}"));
                    }
                }
            }
        }
    }
    assert!(runs >= 12 && states > 300, "{runs} runs, {states} states");
}

/// Planted, a flush that did not wait was caught by no other test.
#[test]
fn a_flush_beside_another_ones_sync_returns_when_that_is_done() {
    let start = &starts()[0];
    let machine = start.machine.kill();
    let process = Host::new(&machine, 33).open().unwrap();
    process.act(&write(1, 1, 501)).unwrap();
    let expected = start.model.after(&write(1, 1, 501));
    let (syncs, is_syncing) = mpsc::channel();
    let (let_go, may_go_on) = mpsc::channel::<()>();
    machine.on_barrier(move |_| {
        let _ = syncs.send(());
        // Whoever syncs after the first one does not wait: the other end is gone by then.
        let _ = may_go_on.recv();
    });
    let after = std::thread::scope(|scope| {
        let first = scope.spawn(|| process.store.flush());
        is_syncing.recv().unwrap();
        let (ended, has_ended) = mpsc::channel();
        let (store, live) = (process.store.clone(), machine.clone());
        let second = scope.spawn(move || {
            store.flush().unwrap();
            // The moment from which a power loss may take nothing of it.
            let _ = ended.send(live.power_loss(&Crash::NONE_KEPT));
        });
        let early = has_ended.recv_timeout(Duration::from_millis(300));
        drop(let_go);
        first.join().unwrap().unwrap();
        second.join().unwrap();
        early.or_else(|_| has_ended.recv()).unwrap()
    });
    let found = Host::new(&after, 34).open().unwrap().read();
    assert_eq!(found.unwrap(), expected);
}

fn is_all_but(crash: &Crash) -> bool {
    matches!(crash.writes, offshoot::io::sim::WriteChoice::AllBut(_)) && crash.names == 0
}

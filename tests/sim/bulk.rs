//! Batches so large that they go past the page cache: what crashes and failed writes leave.

use std::sync::Arc;

use offshoot::io::fault::{Class, Failure, FaultDisk, Faults, Times};
use offshoot::io::sim::{Crash, SimMachine};
use offshoot::{Error, FileKms, Machine, Options, Store, Volume};

use offshoot_torture::rig::{Dice, Host, clock};

const LEN: usize = 3 << 20;
/// Writes: offset and length in KiB, and whether a flush follows.
const SCRIPT: [(usize, usize, bool); 9] = [
    (0, 900, false),
    (300, 8, false),
    (200, 600, true),
    (1000, 1004, false),
    (1000, 4, true),
    (100, 256, false),
    (1500, 300, false),
    (0, 3000, false),
    (40, 700, true),
];

/// Contents, and how many of the writes must be durable.
struct Progress {
    /// After each atomic piece.
    states: Vec<Vec<u8>>,
    durable: usize,
}

fn open(machine: &SimMachine, seed: u64) -> (Faults, Store, Volume) {
    let disk = FaultDisk::new(Arc::new(machine.dir("store")));
    let faults = disk.faults();
    let on = Machine {
        disk: Arc::new(disk),
        clock: clock(),
        random: Dice::new(seed),
    };
    let kms = FileKms::open_on(Arc::new(machine.dir("kms")), clock(), Dice::new(seed + 1)).unwrap();
    let key = kms.key("alias/default").unwrap().id;
    let options = Options::new().segment_len(4 << 20).workers(0);
    if let Ok(store) = options.open_on(on.clone(), Arc::new(kms.clone())) {
        let volume = store.volume("v").unwrap();
        return (faults, store, volume);
    }
    let store = options.create_on(on, Arc::new(kms)).unwrap();
    let volume = store.create_volume("v", LEN as u64, &key).unwrap();
    (faults, store, volume)
}

fn new_machine() -> SimMachine {
    let machine = SimMachine::new();
    Host::new(&machine, 1).create_kms().unwrap();
    machine
}

fn contents(volume: &Volume) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    volume.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

impl Progress {
    fn new() -> Self {
        Self {
            states: vec![vec![0; LEN]],
            durable: 0,
        }
    }

    /// Notes a write, in the pieces that are atomic.
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let (mut done, piece) = (0, 1 << 20);
        while done < bytes.len() {
            let end = bytes.len().min(done + piece);
            let mut state = self.states.last().unwrap().clone();
            state[offset + done..offset + end].copy_from_slice(&bytes[done..end]);
            self.states.push(state);
            done = end;
        }
    }

    /// The store on a machine is at one of the states that are allowed.
    fn check(&self, machine: &SimMachine, what: &str) {
        let (_, _store, volume) = open(machine, 77);
        let found = contents(&volume);
        let at = self.states.iter().rposition(|state| *state == found);
        let at = at.unwrap_or_else(|| panic!("{what}: no state of the history"));
        assert!(at >= self.durable, "{what}: {at} of {}", self.durable);
    }
}

/// Runs the script until something fails; `then` is called after each call that did not.
fn run(
    volume: &Volume,
    progress: &mut Progress,
    mut then: impl FnMut(&Progress),
) -> offshoot::Result<()> {
    for (number, (offset, len, flush)) in (1..).zip(SCRIPT) {
        let bytes = vec![number; len << 10];
        progress.write(offset << 10, &bytes);
        volume.write_all_at(&bytes, (offset << 10) as u64)?;
        then(progress);
        if flush {
            volume.flush()?;
            progress.durable = progress.states.len() - 1;
            then(progress);
        }
    }
    Ok(())
}

#[test]
fn bulk_writes_leave_a_prefix_with_all_that_was_flushed_after_every_crash() {
    let machine = new_machine();
    let (_, _store, volume) = open(&machine, 5);
    let (mut progress, mut seed, mut crashes) = (Progress::new(), 0, 0);
    run(&volume, &mut progress, |progress| {
        progress.check(&machine.kill(), "a kill");
        progress.check(&machine.power_loss(&Crash::NONE_KEPT), "a power loss");
        for _ in 0..6 {
            seed += 1;
            let lost = machine.power_loss(&machine.sampled_crash(seed));
            progress.check(&lost, &format!("crash {seed}"));
            crashes += 1;
        }
    })
    .unwrap();
    assert_eq!(contents(&volume), *progress.states.last().unwrap());
    assert!(crashes >= 6 * SCRIPT.len(), "{crashes}");
}

#[test]
fn a_bulk_write_that_fails_poisons_and_takes_nothing_that_was_flushed() {
    let mut poisoned = 0;
    for n in 1.. {
        let machine = new_machine();
        let (faults, store, volume) = open(&machine, 5);
        faults.count_only(Class::Write);
        faults.fail_nth(n, Failure::Os(5), Times::Once);
        let mut progress = Progress::new();
        let Err(error) = run(&volume, &mut progress, |_| {}) else {
            break;
        };
        if matches!(error, Error::Io { op: "create", .. }) {
            // A new segment could not be made: nothing was changed.
            volume.flush().unwrap();
            continue;
        }
        poisoned += 1;
        assert!(matches!(error, Error::Io { op: "write", .. }), "{error:?}");
        assert!(matches!(volume.flush(), Err(Error::Poisoned)));
        let again = volume.write_all_at(&[1; 1 << 19], 0);
        assert!(matches!(again, Err(Error::Poisoned)), "{again:?}");
        let read = contents(&volume);
        assert!(progress.states.contains(&read), "reads go on");
        drop((volume, store));
        progress.check(&machine.kill(), "a kill");
        progress.check(&machine.power_loss(&Crash::NONE_KEPT), "a power loss");
    }
    assert!(poisoned >= SCRIPT.len());
}

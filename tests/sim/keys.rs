//! The rules of keys and nonces, each a test of the name that the design gives it.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use offshoot::format::record::{Record, Records};
use offshoot::io::Access;
use offshoot::io::Disk;
use offshoot::io::fault::{Class, Failure, FaultDisk, Times};
use offshoot::io::sim::{Crash, SimMachine};
use offshoot::{
    Context, FileKms, KeyEpoch, KeyService, Machine, Mark, Random, ResourceId, Seq, StoreId,
};

use crate::log::write;
use offshoot_torture::model::{Action, Kind, Model};
use offshoot_torture::nonces::{Nonces, batches};
use offshoot_torture::ops::starts;
use offshoot_torture::rig::{Dice, Host, Watch, clock, options};

/// A machine with copies of all files of another, as `cp` makes them.
fn copy(machine: &SimMachine) -> SimMachine {
    let to = SimMachine::new();
    for directory in ["store", "kms"] {
        let (from, to) = (machine.dir(directory), to.dir(directory));
        for name in from.list().unwrap() {
            let file = from.open(&name, Access::Read).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let copy = to.create(&name, bytes.len() as u64).unwrap();
            copy.write_all_at(&bytes, 0).unwrap();
            copy.sync().unwrap();
        }
        to.sync_names().unwrap();
    }
    to
}

/// The ids of head keys in the KMS in a state: a sector each, state first, as docs/format.md says.
fn heads_in(machine: &SimMachine, state: u8) -> HashSet<Vec<u8>> {
    let file = machine.dir("kms").open("heads", Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let records = bytes.chunks_exact(512).skip(1);
    let those = records.filter(|record| record[0] == state);
    those.map(|record| record[16..32].to_vec()).collect()
}

fn pooled(machine: &SimMachine) -> HashSet<Vec<u8>> {
    heads_in(machine, 1)
}

fn claimed(machine: &SimMachine) -> HashSet<Vec<u8>> {
    heads_in(machine, 2)
}

/// Planted, keys that were kept were noticed by nobody: no crash shows it, but what a lost process sealed under one of
/// them would be sealed again under the same.
#[test]
fn head_keys_that_nobody_claimed_are_destroyed_after_a_crash_and_never_used() {
    for start in starts() {
        let machine = start.machine.kill();
        let process = Host::new(&machine, 91).open().unwrap();
        let create = |name: &str| Action::Create {
            name: name.to_owned(),
        };
        process.act(&create("x1")).unwrap();
        let left = pooled(&machine);
        assert!(left.len() > 1, "a pool is filled at once");
        drop(process);
        let machine = machine.kill();
        let process = Host::new(&machine, 92).open().unwrap();
        assert_eq!(pooled(&machine), HashSet::new(), "{}", start.name);
        process.act(&create("x2")).unwrap();
        assert!(pooled(&machine).is_disjoint(&left));
        drop(process);
        let dark = machine.power_loss(&Crash::NONE_KEPT);
        assert!(pooled(&dark).is_disjoint(&left), "durably");
    }
}

/// The lines of use before a line that is synced are durable with it, also after a sync that failed and left them in the
/// cache as if they were: a hole before a synced line would look like a change of the audit.
#[test]
fn a_failed_sync_leaves_no_hole_in_the_audit() {
    for number in 1..20 {
        let machine = starts()[0].machine.kill();
        let disk = FaultDisk::new(Arc::new(machine.dir("kms")));
        let faults = disk.faults();
        let open =
            |disk: Arc<dyn Disk>, seed| FileKms::open_on(disk, clock(), Dice::new(seed)).unwrap();
        let kms = open(Arc::new(disk), number);
        let context = Context {
            store: StoreId([7; 16]),
            resource: ResourceId([8; 16]),
            purpose: "store-key",
        };
        let key = kms.create_key(None).unwrap().id;
        for _ in 0..30 + number {
            kms.generate(&key, &context).unwrap();
        }
        faults.count_only(Class::Sync);
        faults.fail_nth(1 + number % 2, Failure::Os(5), Times::Once);
        kms.disable_key(&key.to_string()).unwrap_err();
        // The same process tries again, or another one does.
        let kms = match number % 3 {
            0 => kms,
            _ => open(Arc::new(machine.dir("kms")), 100 + number),
        };
        kms.disable_key(&key.to_string()).unwrap();
        let dark = machine.power_loss(&Crash::NONE_KEPT);
        let report = open(Arc::new(dark.dir("kms")), 200 + number)
            .audit(|_| ())
            .unwrap();
        assert_eq!(report.broken_at, None, "case {number}: {report:?}");
        assert!(report.lines > 30, "case {number}: {report:?}");
    }
}

/// A failed sync can leave the zeroes over a key in the cache alone.
#[test]
fn a_key_whose_destruction_was_not_durable_is_destroyed_again() {
    let mut failed = 0;
    for number in 0..60u64 {
        let machine = starts()[0].machine.kill();
        let disk = FaultDisk::new(Arc::new(machine.dir("kms")));
        let faults = disk.faults();
        let mut host = Host::new(&machine, 20 + number);
        host.kms = Arc::new(disk);
        let process = host.open().unwrap();
        let create = Action::Create {
            name: "x1".to_owned(),
        };
        process.act(&create).unwrap();
        let (kind, name) = (Kind::Volume, "x1".to_owned());
        let erase = Action::Erase { kind, name };
        // Which writes a failed sync loses depends on what was before.
        for more in 0..number / 6 {
            process.act(&write(5, 1, 50 + more as u32)).unwrap();
            process.act(&Action::Checkpoint).unwrap();
        }
        let before = claimed(&machine);
        faults.count_only(Class::Sync);
        faults.fail_nth(1 + number % 6, Failure::Os(5), Times::Once);
        if process.act(&erase).is_err() {
            failed += 1;
            process.act(&erase).unwrap();
        }
        drop(process);
        let after = claimed(&machine);
        assert_eq!(before.difference(&after).count(), 1, "case {number}");
        let dark = machine.power_loss(&Crash::NONE_KEPT);
        assert_eq!(claimed(&dark), after, "case {number}: a key is back");
    }
    assert!(failed > 10, "{failed} erasures failed");
}

#[test]
fn a_mark_that_is_there_already_is_made_durable() {
    for number in 1..16 {
        let machine = starts()[0].machine.kill();
        let disk = FaultDisk::new(Arc::new(machine.dir("kms")));
        let faults = disk.faults();
        let open =
            |disk: Arc<dyn Disk>| FileKms::open_on(disk, clock(), Dice::new(number)).unwrap();
        let (kms, store) = (open(Arc::new(disk)), StoreId([7; 16]));
        let mark = |seq| Mark {
            seq: Seq(seq),
            chain: [seq as u8; 32],
            first_key_epoch: KeyEpoch(1),
        };
        // Which writes a failed sync loses depends on what was before.
        for seq in 1..=number {
            kms.raise_mark(store, &mark(seq)).unwrap();
        }
        let last = mark(number + 1);
        faults.count_only(Class::Sync);
        faults.fail_nth(1, Failure::Os(5), Times::Once);
        kms.raise_mark(store, &last).unwrap_err();
        let kms = open(Arc::new(machine.dir("kms")));
        kms.raise_mark(store, &last).unwrap();
        let dark = open(Arc::new(machine.power_loss(&Crash::NONE_KEPT).dir("kms")));
        assert_eq!(dark.mark(store).unwrap(), Some(last), "case {number}");
    }
}

#[test]
fn nonces_never_repeat() {
    let nonces = Arc::new(Nonces::default());
    let (mut seed, mut salts) = (0, HashSet::new());
    // Opens, writes the same pages as everybody else, and ends without a close.
    let mut go_on = |machine: &SimMachine, number: u32| {
        seed += 1;
        let watch = Watch::on(machine, Default::default(), &nonces);
        let before = batches(machine);
        salts.extend(before.iter().map(|batch| batch.header.salt));
        let process = Host::new(machine, seed).open().unwrap();
        for page in [1, 2, 1, 5] {
            process
                .act(&write(page, 2, number * 10 + page as u32))
                .unwrap();
        }
        process.store.flush().unwrap();
        let clone = (Kind::Volume, format!("c{number}"));
        let from = (Kind::Volume, "v0".to_owned());
        process
            .act(&Action::Branch {
                from,
                to: clone,
                other_key: false,
            })
            .unwrap();
        process.act(&write(1, 1, number * 10 + 9)).unwrap();
        watch.check().unwrap();
        // Not even the salt is one that anybody else has used, nor one that was read.
        let is_old = |chain| before.iter().any(|batch| batch.chain == chain);
        let all = batches(machine);
        let own = all.iter().filter(|batch| !is_old(batch.chain));
        let own: HashSet<_> = own.map(|batch| batch.header.salt).collect();
        assert!(!own.is_empty() && own.is_disjoint(&salts));
        salts.extend(own);
    };
    for start in starts() {
        let backup = copy(&start.machine);
        let mut machine = start.machine.kill();
        for round in 0..6 {
            go_on(&machine, 100 + round);
            // A crash that keeps nothing, everything, or a part.
            let crash = match round % 3 {
                0 => Crash::NONE_KEPT,
                1 => Crash::ALL_KEPT,
                _ => machine.sampled_crash(u64::from(round)),
            };
            let lost = machine.power_loss(&crash);
            // The copied directory and the original both go on.
            go_on(&copy(&lost), 200 + round);
            go_on(&lost.kill(), 300 + round);
            machine = lost;
        }
        // The backup, restored twice.
        go_on(&copy(&backup), 400);
        go_on(&backup, 400);
    }
    assert!(nonces.count() > 200, "{}", nonces.count());
}

/// Randomness that does something right before it is used for nonces: between the moment when a
/// call has looked at the state of the store and the moment when it gets its place in the log.
struct Trap {
    dice: Arc<Dice>,
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trap")
    }
}

impl Random for Trap {
    fn fill(&self, buf: &mut [u8]) {
        if buf.len() == 8 {
            let then = self.then.lock().unwrap().take();
            if let Some(then) = then {
                then();
            }
        }
        self.dice.fill(buf);
    }
}

/// The key epochs that pages were sealed under, and the open ones of `v0`, in the write order.
fn epochs(machine: &SimMachine) -> (Vec<KeyEpoch>, Vec<KeyEpoch>) {
    let (mut pages, mut open) = (Vec::new(), Vec::new());
    let mut all = batches(machine);
    all.sort_by_key(|batch| batch.header.seq);
    for record in all.iter().flat_map(|batch| Records::new(&batch.records)) {
        match record.unwrap() {
            Record::Pages { deltas, .. } => {
                pages.extend(deltas.iter().map(|delta| delta.entry.key_epoch));
            }
            Record::Head(head) if head.name == "v0" => open.push(head.key_epoch),
            _ => {}
        }
    }
    (pages, open)
}

#[test]
fn sequence_before_sealing() {
    let start = &starts()[0];
    let machine = start.machine.kill();
    let nonces = Arc::new(Nonces::default());
    let watch = Watch::on(&machine, start.acknowledged.clone(), &nonces);
    let trap = Arc::new(Trap {
        dice: Dice::new(5),
        then: Mutex::default(),
    });
    let kms = FileKms::open_on(Arc::new(machine.dir("kms")), clock(), trap.dice.clone()).unwrap();
    let key = kms.key("alias/default").unwrap().id;
    let disk = Arc::new(machine.dir("store"));
    let host = Machine {
        disk,
        clock: clock(),
        random: trap.clone(),
    };
    let store = options().open_on(host, Arc::new(kms)).unwrap();
    let volume = store.volume("v0").unwrap();
    let mut model = start.model.clone();
    for (number, changed) in [(1u32, true), (2, true), (3, false), (4, true)] {
        if changed {
            // The open epoch has pages, so a branch must split it.
            volume
                .write_all_at(&offshoot_torture::model::bytes_of(number, 8), 3 * 4096)
                .unwrap();
            model = model.after(&write(3, 1, number));
        }
        let clone = (Kind::Volume, format!("c{number}"));
        let from = (Kind::Volume, "v0".to_owned());
        let (source, name) = (volume.clone(), clone.1.clone());
        *trap.then.lock().unwrap() = Some(Box::new(move || {
            source.create_clone(&name, &key).unwrap();
        }));
        volume
            .write_all_at(&offshoot_torture::model::bytes_of(number + 50, 16), 4096)
            .unwrap();
        assert!(
            trap.then.lock().unwrap().is_none(),
            "the clone came between"
        );
        model = model.after(&Action::Branch {
            from,
            to: clone,
            other_key: false,
        });
        model = model.after(&write(1, 2, number + 50));
        assert_eq!(Model::read(&store).unwrap(), model);
        let (pages, open) = epochs(&machine);
        assert_eq!(
            pages.last(),
            open.last(),
            "sealed under the epoch open after the branch"
        );
        if changed {
            assert_ne!(
                open[open.len() - 1],
                open[open.len() - 2],
                "the branch split the epoch"
            );
        }
    }
    watch.check().unwrap();
    // A call that fails leaves no gap.
    machine.set_free_len(0);
    let mut refused = 0;
    for number in 60..70 {
        match volume.write_all_at(&offshoot_torture::model::bytes_of(number, 40), 4096) {
            Ok(()) => model = model.after(&write(1, 5, number)),
            Err(error) => {
                assert!(
                    matches!(error, offshoot::Error::NoSpace { .. }),
                    "{error:?}"
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    machine.set_free_len(1 << 30);
    volume
        .write_all_at(&offshoot_torture::model::bytes_of(70, 8), 0)
        .unwrap();
    model = model.after(&write(0, 1, 70));
    store.flush().unwrap();
    drop((volume, store));
    let mut numbers: Vec<_> = batches(&machine)
        .iter()
        .map(|batch| batch.header.seq.0)
        .collect();
    numbers.sort_unstable();
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{numbers:?}"
    );
    let dark = machine.power_loss(&Crash::NONE_KEPT);
    assert_eq!(Host::new(&dark, 6).open().unwrap().read().unwrap(), model);
}

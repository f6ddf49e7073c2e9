use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use super::*;
use crate::io::{Access, AlignedBuf, Disk, DiskFile, Lock};
use crate::source::{Clock, Random};

type Tree = BTreeMap<String, Vec<u8>>;

fn machine() -> (SimMachine, SimDisk) {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    (machine, disk)
}

/// A file that is durable, name and all.
fn durable(disk: &SimDisk, name: &str, len: u64) -> Arc<dyn DiskFile> {
    let file = disk.create(name, len).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    file
}

fn read(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn tree(machine: &SimMachine) -> Tree {
    let disk = machine.dir("d");
    disk.list()
        .unwrap()
        .into_iter()
        .map(|name| (name.clone(), read(&disk, &name)))
        .collect()
}

/// All states that a power loss can leave.
fn after_power_loss(machine: &SimMachine) -> BTreeSet<Tree> {
    machine
        .crash_points()
        .iter()
        .map(|crash| tree(&machine.power_loss(crash)))
        .collect()
}

/// First byte of each sector of a file in all those states.
fn sectors_after(machine: &SimMachine, name: &str) -> BTreeSet<Vec<u8>> {
    let first = |bytes: &[u8]| bytes.chunks(512).map(|sector| sector[0]).collect();
    after_power_loss(machine)
        .iter()
        .map(|tree| first(&tree[name]))
        .collect()
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    result.err().expect("this must fail").kind()
}

#[test]
fn a_synced_write_survives_every_crash() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 2048);
    file.write_all_at(&[1; 2048], 0).unwrap();
    file.sync().unwrap();
    assert_eq!(machine.crash_points(), [Crash::NONE_KEPT]);
    assert_eq!(sectors_after(&machine, "f"), [vec![1; 4]].into());
}

#[test]
fn unsynced_writes_appear_as_a_prefix_or_all_but_one() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 1536);
    for sector in 0..3 {
        file.write_all_at(&[1; 512], sector * 512).unwrap();
    }
    let expected = [
        [0, 0, 0],
        [1, 0, 0],
        [1, 1, 0],
        [1, 1, 1],
        [0, 1, 1],
        [1, 0, 1],
    ]
    .map(Vec::from);
    assert_eq!(sectors_after(&machine, "f"), expected.into());
}

#[test]
fn a_torn_write_keeps_its_first_its_last_or_some_sectors() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 2048);
    file.write_all_at(&[1; 2048], 0).unwrap();
    let seen = sectors_after(&machine, "f");
    let tears = [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [0, 1, 1, 1],
        [0, 0, 1, 1],
        [0, 0, 0, 1],
    ];
    for expected in [[0; 4], [1; 4]].into_iter().chain(tears) {
        assert!(seen.contains(expected.as_slice()), "{expected:?}");
    }
    let subsets: BTreeSet<_> = (0..200)
        .map(|seed| WriteChoice::Torn {
            write: 0,
            sectors: Sectors::Seeded(seed),
        })
        .map(|writes| {
            read(
                &machine.power_loss(&Crash { writes, names: 0 }).dir("d"),
                "f",
            )
        })
        .collect();
    assert_eq!(subsets.len(), 16);
}

#[test]
fn a_sector_is_never_torn_and_a_tear_follows_the_sectors_of_the_file() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 1024);
    file.write_all_at(&[1; 300], 100).unwrap();
    assert_eq!(after_power_loss(&machine).len(), 2);
    file.sync().unwrap();
    file.write_all_at(&[2; 4], 510).unwrap();
    let seen: BTreeSet<_> = after_power_loss(&machine)
        .iter()
        .map(|tree| (tree["f"][509..515]).to_vec())
        .collect();
    let expected = [
        [0, 0, 0, 0, 0, 0],
        [0, 2, 2, 0, 0, 0],
        [0, 0, 0, 2, 2, 0],
        [0, 2, 2, 2, 2, 0],
    ];
    assert_eq!(seen, expected.map(Vec::from).into());
}

#[test]
fn only_the_file_that_was_synced_is_durable_and_order_is_kept_over_files() {
    let (machine, disk) = machine();
    let (f, g) = (
        durable(&disk, "f", 512),
        durable(&machine.dir("e"), "g", 512),
    );
    f.write_all_at(&[1; 512], 0).unwrap();
    g.write_all_at(&[1; 512], 0).unwrap();
    let states = |machine: &SimMachine| -> BTreeSet<(u8, u8)> {
        let after = |crash| machine.power_loss(crash);
        let first = |machine: SimMachine| {
            (
                read(&machine.dir("d"), "f")[0],
                read(&machine.dir("e"), "g")[0],
            )
        };
        machine
            .crash_points()
            .iter()
            .map(|crash| first(after(crash)))
            .collect()
    };
    // Of two writes, all but one includes the later one alone.
    assert_eq!(states(&machine), [(0, 0), (1, 0), (1, 1), (0, 1)].into());
    let prefix = Crash {
        writes: WriteChoice::Prefix(1),
        names: 0,
    };
    assert_eq!(read(&machine.power_loss(&prefix).dir("d"), "f")[0], 1);
    g.sync().unwrap();
    assert_eq!(states(&machine), [(0, 1), (1, 1)].into());
    f.sync().unwrap();
    // The order is that of the writes, not of the files.
    g.write_all_at(&[2; 512], 0).unwrap();
    f.write_all_at(&[2; 512], 0).unwrap();
    let after = machine.power_loss(&prefix);
    assert_eq!(
        (read(&after.dir("d"), "f")[0], read(&after.dir("e"), "g")[0]),
        (1, 2)
    );
}

#[test]
fn writes_between_two_syncs_do_not_become_durable_by_an_earlier_sync() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 512);
    file.write_all_at(&[1; 512], 0).unwrap();
    file.sync().unwrap();
    file.write_all_at(&[2; 512], 0).unwrap();
    assert_eq!(sectors_after(&machine, "f"), [vec![1], vec![2]].into());
    assert_eq!(machine.pending_write_count(), 1);
}

#[test]
fn a_kept_write_past_the_end_makes_the_file_longer() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 0);
    file.write_all_at(&[1; 512], 512).unwrap();
    let states: Vec<_> = after_power_loss(&machine)
        .into_iter()
        .map(|tree| tree["f"].clone())
        .collect();
    assert_eq!(states, [vec![], [vec![0; 512], vec![1; 512]].concat()]);
    file.sync().unwrap();
    assert_eq!(
        read(&machine.power_loss(&Crash::NONE_KEPT).dir("d"), "f").len(),
        1024
    );
}

#[test]
fn a_synced_file_can_lose_its_unsynced_name() {
    let (machine, disk) = machine();
    let file = disk.create("f", 512).unwrap();
    file.write_all_at(&[1; 512], 0).unwrap();
    file.sync().unwrap();
    let states = after_power_loss(&machine);
    assert_eq!(
        states,
        [Tree::new(), Tree::from([("f".into(), vec![1; 512])])].into()
    );
    disk.sync_names().unwrap();
    assert_eq!(after_power_loss(&machine).len(), 1);
}

#[test]
fn a_durable_name_can_have_zeroes_of_the_created_length() {
    let (machine, disk) = machine();
    let file = disk.create("f", 1024).unwrap();
    file.write_all_at(&[1; 512], 0).unwrap();
    disk.sync_names().unwrap();
    assert_eq!(
        sectors_after(&machine, "f"),
        [vec![0, 0], vec![1, 0]].into()
    );
}

#[test]
fn names_come_back_as_a_prefix_and_a_rename_is_atomic() {
    let (machine, disk) = machine();
    for (name, byte) in [("a", 1), ("b", 2)] {
        let file = durable(&disk, name, 1);
        file.write_all_at(&[byte], 0).unwrap();
        file.sync().unwrap();
    }
    disk.rename("a", "b").unwrap();
    disk.create("c", 0).unwrap();
    disk.remove("b").unwrap();
    let tree = |names: &[(&str, &[u8])]| -> Tree {
        names
            .iter()
            .map(|(name, bytes)| (name.to_string(), bytes.to_vec()))
            .collect()
    };
    let expected = [
        tree(&[("a", &[1]), ("b", &[2])]),
        tree(&[("b", &[1])]),
        tree(&[("b", &[1]), ("c", &[])]),
        tree(&[("c", &[])]),
    ];
    assert_eq!(after_power_loss(&machine), expected.into());
}

#[test]
fn a_sync_of_names_covers_its_own_directory_only() {
    let (machine, disk) = machine();
    disk.create("f", 0).unwrap();
    machine.dir("e").create("g", 0).unwrap();
    assert_eq!(machine.pending_name_count(), 2);
    machine.dir("e").sync_names().unwrap();
    let after = machine.power_loss(&Crash::NONE_KEPT);
    assert!(after.dir("d").list().unwrap().is_empty());
    assert_eq!(after.dir("e").list().unwrap(), ["g"]);
    let after = machine.power_loss(&Crash::ALL_KEPT);
    assert_eq!(after.dir("d").list().unwrap(), ["f"]);
}

#[test]
fn a_kill_keeps_all_readable_but_durable_only_by_a_sync() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 512);
    let _lock = disk.lock("f", Lock::Exclusive).unwrap();
    file.write_all_at(&[1; 512], 0).unwrap();
    disk.create("g", 0).unwrap();
    let killed = machine.kill();
    assert_eq!(tree(&killed), tree(&machine));
    assert_eq!(killed.fingerprint(), machine.fingerprint());
    assert_eq!(killed.crash_points(), machine.crash_points());
    let disk = killed.dir("d");
    disk.lock("f", Lock::Exclusive).unwrap();
    assert_eq!(
        read(&killed.power_loss(&Crash::NONE_KEPT).dir("d"), "f")[0],
        0
    );
    disk.open("f", Access::Read).unwrap().sync().unwrap();
    let after = killed.power_loss(&Crash::NONE_KEPT);
    assert_eq!(tree(&after), Tree::from([("f".into(), vec![1; 512])]));
    // The machine that was not killed knows nothing of it.
    assert_eq!(
        read(&machine.power_loss(&Crash::NONE_KEPT).dir("d"), "f")[0],
        0
    );
    file.write_all_at(&[9; 512], 0).unwrap();
    assert_eq!(read(&disk, "f")[0], 1);
}

#[test]
fn nothing_is_pending_after_a_power_loss() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 512);
    file.write_all_at(&[1; 512], 0).unwrap();
    disk.create("g", 0).unwrap();
    let after = machine.power_loss(&Crash::ALL_KEPT);
    assert_eq!(after.crash_points(), [Crash::NONE_KEPT]);
    assert_eq!(tree(&after), tree(&machine));
}

#[test]
fn writes_to_a_file_that_no_crash_can_show_are_no_choice() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 512);
    disk.remove("f").unwrap();
    file.write_all_at(&[1; 512], 0).unwrap();
    assert_eq!(machine.pending_write_count(), 1);
    disk.sync_names().unwrap();
    assert_eq!(machine.crash_points(), [Crash::NONE_KEPT]);
    // The open file still works.
    let mut buf = [0];
    file.map().unwrap().copy_out(&mut buf, 511).unwrap();
    assert_eq!(buf, [1]);
    file.sync().unwrap();
}

#[test]
fn every_sampled_crash_is_allowed_and_many_differ() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 1024);
    for (byte, at) in [(1, 0), (2, 0), (3, 512)] {
        file.write_all_at(&[byte; 512], at).unwrap();
    }
    file.write_all_at(&[4; 1024], 0).unwrap();
    disk.create("g", 1).unwrap();
    let allowed = after_power_loss(&machine);
    let mut sampled = BTreeSet::new();
    for seed in 0..500 {
        let crash = machine.sampled_crash(seed);
        assert_eq!(crash, machine.sampled_crash(seed));
        sampled.insert(tree(&machine.power_loss(&crash)));
    }
    assert_eq!(sampled, allowed);
}

/// What power losses that choose all apart leave, and how often one choice is made.
fn after_losses_apart(machine: &SimMachine, unit: Unit) -> BTreeSet<Tree> {
    let losses = (0..2000).map(|seed| {
        let writes = WriteChoice::Apart { seed, unit };
        let crash = Crash { writes, names: 0 };
        let after = tree(&machine.power_loss(&crash));
        assert_eq!(after, tree(&machine.power_loss(&crash)), "equal seeds");
        after
    });
    losses.collect()
}

#[test]
fn apart_each_sector_is_what_it_was_or_what_any_later_write_made_it() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 1024);
    file.write_all_at(&[1; 1024], 0).unwrap();
    file.write_all_at(&[2; 1024], 0).unwrap();
    let first = |tree: &Tree| [tree["f"][0], tree["f"][512]];
    let found: BTreeSet<_> = after_losses_apart(&machine, Unit::Sector)
        .iter()
        .map(first)
        .collect();
    let expected = (0..3).flat_map(|a| (0..3).map(move |b| [a, b]));
    assert_eq!(found, expected.collect());
    let blocks: BTreeSet<_> = after_losses_apart(&machine, Unit::Block)
        .iter()
        .map(first)
        .collect();
    assert_eq!(blocks, [[0, 0], [1, 1], [2, 2]].into());
}

#[test]
fn apart_a_sector_may_be_spoilt_but_not_the_only_one_of_a_write() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 1536);
    file.write_all_at(&[1; 1024], 0).unwrap();
    file.write_all_at(&[2; 512], 1024).unwrap();
    let is_spoilt = |sector: &[u8]| sector.iter().any(|byte| *byte != sector[0]);
    let found = after_losses_apart(&machine, Unit::SpoiltSector);
    assert!(found.iter().any(|tree| is_spoilt(&tree["f"][..512])));
    assert!(found.iter().any(|tree| is_spoilt(&tree["f"][512..1024])));
    assert!(!found.iter().any(|tree| is_spoilt(&tree["f"][1024..])));
}

#[test]
fn apart_any_names_are_kept_and_a_file_that_was_never_synced_has_any_length() {
    let (machine, disk) = machine();
    durable(&disk, "a", 1);
    disk.rename("a", "b").unwrap();
    disk.create("c", 100).unwrap();
    let found = after_losses_apart(&machine, Unit::Sector);
    let names: BTreeSet<Vec<&str>> = found
        .iter()
        .map(|tree| tree.keys().map(String::as_str).collect())
        .collect();
    let expected = [vec!["a"], vec!["b"], vec!["a", "c"], vec!["b", "c"]];
    assert_eq!(names, expected.into());
    let lens: BTreeSet<_> = found
        .iter()
        .filter_map(|tree| Some(tree.get("c")?.len()))
        .collect();
    assert!(lens.len() > 50 && lens.contains(&0) && lens.contains(&100));
    assert!(
        found
            .iter()
            .all(|tree| tree.values().all(|it| it.len() <= 100))
    );
}

#[test]
fn apart_a_rename_that_is_kept_is_of_the_file_that_was_renamed() {
    let (machine, disk) = machine();
    let write = |byte: u8| {
        let file = disk.create("tmp", 8).unwrap();
        file.write_all_at(&[byte; 8], 0).unwrap();
        file
    };
    write(1);
    disk.remove("tmp").unwrap();
    write(2).sync().unwrap();
    disk.rename("tmp", "f").unwrap();
    let found = after_losses_apart(&machine, Unit::Sector);
    let contents: BTreeSet<_> = found.iter().map(|tree| tree.get("f").cloned()).collect();
    assert_eq!(contents, [None, Some(vec![2; 8])].into());
}

#[test]
fn apart_a_file_may_have_grown_without_what_was_written_there() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 512);
    file.write_all_at(&[1; 1024], 512).unwrap();
    let first = |tree: &Tree| -> Vec<u8> { tree["f"][512..].chunks(512).map(|it| it[0]).collect() };
    let found: BTreeSet<_> = after_losses_apart(&machine, Unit::Sector)
        .iter()
        .map(first)
        .collect();
    let expected: [Vec<u8>; 5] = [vec![], vec![1], vec![0, 0], vec![0, 1], vec![1, 0]];
    assert!(expected.iter().all(|it| found.contains(it)), "{found:?}");
    assert!(found.contains(&vec![1, 1]));
}

#[test]
fn a_write_may_be_kept_alone() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 3);
    for (byte, at) in [(1, 0), (2, 1), (3, 2)] {
        file.write_all_at(&[byte], at).unwrap();
    }
    let writes = WriteChoice::Only(1);
    let after = machine.power_loss(&Crash { writes, names: 0 });
    assert_eq!(read(&after.dir("d"), "f"), [0, 2, 0]);
    let sampled = (0..200).map(|seed| machine.sampled_crash_apart(seed).writes);
    let sampled: Vec<_> = sampled.collect();
    let has = |choice: fn(&WriteChoice) -> bool| sampled.iter().any(choice);
    assert!(has(|choice| matches!(choice, WriteChoice::Only(_))));
    assert!(has(|choice| matches!(
        choice,
        WriteChoice::Apart {
            unit: Unit::Sector,
            ..
        }
    )));
    assert!(has(|choice| matches!(
        choice,
        WriteChoice::Apart {
            unit: Unit::Block,
            ..
        }
    )));
    assert!(has(|choice| matches!(
        choice,
        WriteChoice::Apart {
            unit: Unit::SpoiltSector,
            ..
        }
    )));
}

#[test]
fn a_large_write_is_torn_in_few_ways_only() {
    let (machine, disk) = machine();
    let file = durable(&disk, "f", 1 << 20);
    file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
    assert_eq!(machine.crash_points().len(), 2 + 11);
    assert_eq!(after_power_loss(&machine).len(), 2 + 11);
}

#[test]
fn space_runs_out_and_comes_back() {
    let (machine, disk) = machine();
    machine.set_free_len(1000);
    assert_eq!(kind(disk.create("f", 1001)), ErrorKind::StorageFull);
    assert!(disk.list().unwrap().is_empty());
    let file = disk.create("f", 600).unwrap();
    file.write_all_at(&[1; 600], 0).unwrap();
    file.write_all_at(&[1; 400], 600).unwrap();
    assert_eq!(kind(file.write_all_at(&[1], 1000)), ErrorKind::StorageFull);
    assert_eq!(disk.free_len().unwrap(), 0);
    assert_eq!(
        machine
            .power_loss(&Crash::NONE_KEPT)
            .dir("d")
            .free_len()
            .unwrap(),
        1000
    );
    disk.sync_names().unwrap();
    assert_eq!(
        machine
            .power_loss(&Crash::NONE_KEPT)
            .dir("d")
            .free_len()
            .unwrap(),
        400
    );
    disk.remove("f").unwrap();
    assert_eq!(disk.free_len().unwrap(), 1000);
}

#[test]
fn bad_calls_are_errors() {
    let (_, disk) = machine();
    let file = disk.create("f", 4).unwrap();
    assert_eq!(kind(disk.create("f", 4)), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create("../f", 4)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.create("g", u64::MAX)), ErrorKind::FileTooLarge);
    assert_eq!(kind(disk.open("g", Access::Read)), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename("g", "f")), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove("g")), ErrorKind::NotFound);
    assert_eq!(
        kind(file.read_exact_at(&mut [0; 2], 3)),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(
        kind(file.read_exact_at(&mut [0; 2], u64::MAX)),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(
        kind(file.write_all_at(&[0; 2], u64::MAX)),
        ErrorKind::FileTooLarge
    );
    assert!(
        disk.open("f", Access::Read)
            .unwrap()
            .write_all_at(&[0], 0)
            .is_err()
    );
    disk.rename("f", "f").unwrap();
    assert_eq!(disk.list().unwrap(), ["f"]);
}

#[test]
fn a_map_shows_writes_at_once_and_ends_where_it_ended() {
    let (_, disk) = machine();
    let file = disk.create("f", 4).unwrap();
    let map = file.map().unwrap();
    file.write_all_at(b"abcdef", 0).unwrap();
    let mut buf = [0; 3];
    map.copy_out(&mut buf, 1).unwrap();
    assert_eq!(&buf, b"bcd");
    assert_eq!(kind(map.copy_out(&mut buf, 2)), ErrorKind::UnexpectedEof);
    assert_eq!(
        kind(map.copy_out(&mut buf, u64::MAX)),
        ErrorKind::UnexpectedEof
    );
}

#[test]
fn a_lock_has_one_owner_or_several_sharers() {
    let (machine, disk) = machine();
    let exclusive = disk.lock("lock", Lock::Exclusive).unwrap();
    assert_eq!(
        kind(machine.dir("d").lock("lock", Lock::Shared)),
        ErrorKind::WouldBlock
    );
    assert!(disk.lock_owner("lock").is_some());
    drop(exclusive);
    assert_eq!(disk.lock_owner("lock"), None);
    let first = disk.lock("lock", Lock::Shared).unwrap();
    let second = disk.lock("lock", Lock::Shared).unwrap();
    drop(first);
    assert_eq!(
        kind(disk.lock("lock", Lock::Exclusive)),
        ErrorKind::WouldBlock
    );
    drop(second);
    disk.lock("lock", Lock::Exclusive).unwrap();
}

#[test]
fn a_dropped_sync_says_ok_and_does_nothing() {
    for lie in [Lie::Nth(3), Lie::Always] {
        let (machine, disk) = machine();
        let file = durable(&disk, "f", 512);
        machine.drop_syncs(lie);
        file.write_all_at(&[1; 512], 0).unwrap();
        file.sync().unwrap();
        assert_eq!(machine.sync_count(), 3);
        assert_eq!(
            read(&machine.power_loss(&Crash::NONE_KEPT).dir("d"), "f")[0],
            0,
            "{lie:?}"
        );
        file.sync().unwrap();
        let honest = lie != Lie::Always;
        let after = machine.power_loss(&Crash::NONE_KEPT).dir("d");
        assert_eq!(read(&after, "f")[0] == 1, honest, "{lie:?}");
    }
}

#[test]
fn hooks_see_what_is_pending_before_each_sync_and_every_write() {
    let (machine, disk) = machine();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (at_barrier, at_write) = (Arc::clone(&seen), Arc::clone(&seen));
    machine.on_barrier(move |machine| {
        let pending = (machine.pending_write_count(), machine.pending_name_count());
        at_barrier.lock().push(format!("{pending:?}"));
    });
    machine.on_write(move |event| {
        at_write.lock().push(format!(
            "{} {} {}",
            event.directory, event.name, event.offset
        ));
    });
    let file = disk.create("f", 10).unwrap();
    disk.rename("f", "g").unwrap();
    file.write_all_at(b"x", 7).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    machine.clear_hooks();
    file.sync().unwrap();
    assert_eq!(*seen.lock(), ["d g 7", "(1, 2)", "(0, 2)"]);
    let expected = Counts {
        writes: 1,
        written_bytes: 1,
        syncs: 2,
        name_syncs: 1,
    };
    assert_eq!(machine.counts(), expected);
}

#[test]
fn equal_states_have_equal_fingerprints_whatever_their_history() {
    let (one, disk) = machine();
    let file = durable(&disk, "f", 8192);
    let (two, disk) = machine();
    let other = durable(&disk, "x", 8192);
    assert_ne!(one.fingerprint(), two.fingerprint());
    disk.rename("x", "f").unwrap();
    assert_ne!(one.fingerprint(), two.fingerprint());
    disk.sync_names().unwrap();
    assert_eq!(one.fingerprint(), two.fingerprint());
    file.write_all_at(&[0; 10], 5000).unwrap();
    file.sync().unwrap();
    assert_eq!(one.fingerprint(), two.fingerprint());
    other.write_all_at(&[1], 8191).unwrap();
    assert_ne!(one.fingerprint(), two.fingerprint());
    other.write_all_at(&[0], 8191).unwrap();
    assert_eq!(one.fingerprint(), two.fingerprint());
}

#[test]
fn time_and_randomness_repeat() {
    let clock = SimClock::new(5);
    assert_eq!([clock.now_ms(), clock.now_ms()], [5, 6]);
    clock.set(3);
    assert_eq!(clock.now_ms(), 3);
    let bytes = |seed| {
        let random = SimRandom::new(seed);
        let mut bytes = [[0; 16]; 2];
        bytes.iter_mut().for_each(|part| random.fill(part));
        bytes
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
    assert_ne!(bytes(1)[0], bytes(1)[1]);
}

#[test]
fn a_hole_reads_as_zeroes_takes_no_space_and_may_come_back_with_a_crash() {
    let (machine, disk) = machine();
    machine.set_free_len(8 * 4096);
    let file = durable(&disk, "f", 4 * 4096);
    file.write_all_at(&[7; 4 * 4096], 0).unwrap();
    file.sync().unwrap();
    let free = || disk.free_len().unwrap();
    assert_eq!(
        (free(), disk.allocated_len("f").unwrap()),
        (4 * 4096, 4 * 4096)
    );
    file.punch(4096, 2 * 4096).unwrap();
    assert_eq!(file.len().unwrap(), 4 * 4096);
    assert_eq!(
        (free(), disk.allocated_len("f").unwrap()),
        (6 * 4096, 2 * 4096)
    );
    let bytes = read(&disk, "f");
    assert!(
        bytes[..4096]
            .iter()
            .chain(&bytes[3 * 4096..])
            .all(|&b| b == 7)
    );
    assert!(bytes[4096..3 * 4096].iter().all(|&b| b == 0));
    // Each sector of it may be punched or not.
    let states = sectors_after(&machine, "f");
    assert!(states.len() > 16 && states.iter().all(|s| s[0] == 7 && s[24] == 7));
    let lost = machine.power_loss(&Crash::NONE_KEPT).dir("d");
    assert_eq!(lost.allocated_len("f").unwrap(), 4 * 4096);
    assert_eq!(lost.free_len().unwrap(), 4 * 4096);
    file.sync().unwrap();
    assert_eq!(after_power_loss(&machine).len(), 1);
    let kept = machine.power_loss(&Crash::NONE_KEPT).dir("d");
    assert_eq!(
        (kept.free_len().unwrap(), read(&kept, "f")),
        (6 * 4096, bytes)
    );
    // Writing there takes space again.
    machine.set_free_len(4096);
    assert_eq!(
        kind(file.write_all_at(&[1; 2 * 4096], 4096)),
        ErrorKind::StorageFull
    );
    file.write_all_at(&[1; 4096], 4096).unwrap();
    assert_eq!((free(), disk.allocated_len("f").unwrap()), (0, 3 * 4096));
    // A part of a chunk becomes zeroes and gives nothing back; past the end there is nothing.
    file.punch(100, 50).unwrap();
    file.punch(4 * 4096, 4096).unwrap();
    assert_eq!(
        (free(), read(&disk, "f")[100..160].to_vec()),
        (0, [vec![0; 50], vec![7; 10]].concat())
    );
    disk.remove("f").unwrap();
    assert_eq!(free(), 3 * 4096);
    let reader = disk
        .create("g", 4096)
        .and_then(|_| disk.open("g", Access::Read));
    assert!(reader.unwrap().punch(0, 4096).is_err());
    assert!(disk.allocated_len("none").is_err());
}

#[test]
fn holes_that_are_filled_take_space_again_and_may_be_back_after_a_crash() {
    let (machine, disk) = machine();
    machine.set_free_len(8 * 4096);
    let file = durable(&disk, "f", 4 * 4096);
    file.write_all_at(&[7; 4 * 4096], 0).unwrap();
    file.punch(4096, 4096).unwrap();
    file.punch(2 * 4096, 4096).unwrap();
    file.sync().unwrap();
    let bytes = read(&disk, "f");
    machine.set_free_len(3 * 4096);
    assert_eq!(kind(file.fill_holes(6 * 4096)), ErrorKind::StorageFull);
    assert_eq!(
        (file.len().unwrap(), disk.free_len().unwrap()),
        (4 * 4096, 3 * 4096)
    );
    file.fill_holes(2 * 4096).unwrap();
    assert_eq!(disk.allocated_len("f").unwrap(), 3 * 4096);
    file.fill_holes(5 * 4096).unwrap();
    assert_eq!(
        (file.len().unwrap(), disk.free_len().unwrap()),
        (5 * 4096, 0)
    );
    assert_eq!(disk.allocated_len("f").unwrap(), 5 * 4096);
    assert_eq!(read(&disk, "f"), [bytes, vec![0; 4096]].concat());
    let lost = machine.power_loss(&Crash::NONE_KEPT).dir("d");
    assert_eq!(lost.allocated_len("f").unwrap(), 2 * 4096);
    file.sync().unwrap();
    let kept = machine.power_loss(&Crash::NONE_KEPT).dir("d");
    assert_eq!(kept.allocated_len("f").unwrap(), 5 * 4096);
    let reader = disk.open("f", Access::Read).unwrap();
    assert!(reader.fill_holes(4096).is_err());
}

#[test]
fn a_bulk_handle_writes_whole_blocks_only_and_no_more_durably() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let file = durable(&disk, "f", 8192);
    let bulk = disk.open("f", Access::Bulk).unwrap();
    let mut buf = AlignedBuf::zeroed(8192);
    buf.fill(1);
    for (bytes, offset) in [(&buf[1..4097], 0), (&buf[..100], 0), (&buf[..4096], 512)] {
        assert_eq!(
            kind(bulk.write_all_at(bytes, offset)),
            ErrorKind::InvalidInput
        );
    }
    bulk.write_all_at(&buf[..4096], 4096).unwrap();
    assert_eq!(read(&disk, "f")[4096..], buf[..4096]);
    assert!(sectors_after(&machine, "f").len() > 1);
    file.sync().unwrap();
    assert_eq!(sectors_after(&machine, "f").len(), 1);
}

#[test]
fn what_a_failed_sync_loses_is_read_until_the_power_is_lost_and_never_synced() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let file = durable(&disk, "f", 64 * 4096);
    file.write_all_at(&[0; 64 * 4096], 0).unwrap();
    file.sync().unwrap();
    for block in 0..64 {
        file.write_all_at(&[1; 4096], block * 4096).unwrap();
    }
    file.punch(0, 4096).unwrap();
    let medium = |disk: &SimDisk| {
        let mut bytes = AlignedBuf::zeroed(64 * 4096);
        let file = disk.open("f", Access::Medium).unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes.to_vec()
    };
    let shown = read(&disk, "f");
    assert_eq!(medium(&disk), shown, "nothing is lost yet");
    file.lose_unsynced();
    assert_eq!(read(&disk, "f"), shown, "the cache still has it");
    let left = medium(&disk);
    let lost = |bytes: &[u8]| bytes.chunks(4096).filter(|block| block[0] == 0).count() - 1;
    assert!((10..54).contains(&lost(&left)), "{} of 63", lost(&left));
    file.sync().unwrap();
    assert_eq!(medium(&disk), left);
    assert_eq!(medium(&machine.kill().dir("d")), left);
    assert_eq!(read(&machine.kill().dir("d"), "f"), shown);
    let dark = machine.power_loss(&Crash::NONE_KEPT).dir("d");
    assert_eq!(read(&dark, "f"), left, "a sync does not bring it back");
    // What is written again is as good as new.
    file.write_all_at(&shown, 0).unwrap();
    file.sync().unwrap();
    assert_eq!(medium(&disk), shown);
}

/// The older write is made durable, and not what the cache has in its place.
#[test]
fn a_lost_write_over_one_that_is_pending_does_not_come_back() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    let file = durable(&disk, "f", 64 * 4096);
    file.write_all_at(&[0; 64 * 4096], 0).unwrap();
    file.sync().unwrap();
    for value in [1, 2] {
        for block in 0..64 {
            file.write_all_at(&[value; 4096], block * 4096).unwrap();
        }
    }
    file.lose_unsynced();
    let mut left = AlignedBuf::zeroed(64 * 4096);
    let medium = disk.open("f", Access::Medium).unwrap();
    medium.read_exact_at(&mut left, 0).unwrap();
    let older = left.chunks(4096).filter(|block| block[0] == 1).count();
    assert!((5..30).contains(&older), "{older} of 64");
    file.sync().unwrap();
    let dark = machine.power_loss(&Crash::NONE_KEPT).dir("d");
    assert_eq!(read(&dark, "f"), left.to_vec());
}

/// As under ext4: `docs/decisions/0015`.
#[test]
fn what_a_failed_sync_loses_of_blocks_never_written_is_lost_again_unless_the_cache_lets_go_of_them()
{
    let medium = |disk: &SimDisk| {
        let mut bytes = AlignedBuf::zeroed(64 * 4096);
        let file = disk.open("f", Access::Medium).unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes.to_vec()
    };
    let lost = |bytes: &[u8], value| bytes.chunks(4096).filter(|b| b[0] != value).count();
    type Way = fn(&SimDisk, &dyn DiskFile, &[u8]);
    let nothing: Way = |_, file, again| file.write_all_at(again, 0).unwrap();
    let punched: Way = |_, file, again| {
        file.punch(0, 64 * 4096).unwrap();
        file.write_all_at(again, 0).unwrap();
    };
    let direct: Way = |disk, _, again| {
        let mut bytes = AlignedBuf::zeroed(again.len());
        bytes.copy_from_slice(again);
        let file = disk.open("f", Access::Bulk).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    };
    let dropped: Way = |_, file, again| {
        file.drop_cache();
        file.write_all_at(again, 0).unwrap();
    };
    for (way, helps) in [
        (nothing, false),
        (punched, true),
        (direct, true),
        (dropped, true),
    ] {
        let machine = SimMachine::new();
        let disk = machine.dir("d");
        let file = durable(&disk, "f", 64 * 4096);
        // Two writes of a block are lost together, if one is.
        for half in 0..128 {
            file.write_all_at(&[1; 2048], half * 2048).unwrap();
        }
        file.lose_unsynced();
        let first = lost(&medium(&disk), 1);
        assert!((33..64).contains(&first), "{first} of 64");
        assert!(medium(&disk).chunks(4096).all(|b| b[0] == b[4095]));
        way(&disk, &*file, &[2; 64 * 4096]);
        file.sync().unwrap();
        let machine = machine.kill();
        let disk = machine.dir("d");
        assert_eq!(lost(&read(&disk, "f"), 2), 0, "the cache has it");
        let left = medium(&disk);
        assert_eq!(lost(&left, 2), if helps { 0 } else { first });
        let dark = machine.power_loss(&Crash::NONE_KEPT).dir("d");
        assert_eq!(read(&dark, "f"), left);
        disk.open("f", Access::Read).unwrap().drop_cache();
        assert_eq!(read(&disk, "f"), left);
    }
}

#[test]
fn the_medium_is_read_in_whole_blocks_and_not_written() {
    let machine = SimMachine::new();
    let disk = machine.dir("d");
    drop(durable(&disk, "f", 8192));
    let file = disk.open("f", Access::Medium).unwrap();
    let mut buf = AlignedBuf::zeroed(8192);
    for (range, offset) in [(1..4097, 0), (0..100, 0), (0..4096, 512)] {
        let read = file.read_exact_at(&mut buf[range], offset);
        assert_eq!(kind(read), ErrorKind::InvalidInput);
    }
    file.read_exact_at(&mut buf, 0).unwrap();
    assert!(file.write_all_at(&buf, 0).is_err());
    assert!(file.punch(0, 4096).is_err());
}

//! Clones and snapshots: what they share, what they cost, and what they outlive.

use std::collections::{HashMap, HashSet};

use offshoot::format::catalog::{HeadKind, RootSource};
use offshoot::format::record::Record;
use offshoot::{
    Error, ExtentKind, HeadId, HeadState, Options, SlotAddr, Snapshot, SnapshotType, Store, Volume,
};

use crate::fixture::{Fixture, Log, PAGE, Rng, Sim, kinds, page, page_byte, page_bytes};

/// A page that holds a text, then zeroes.
fn text_page(text: &str) -> Vec<u8> {
    let mut bytes = page(0);
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

fn texts(volume: &Volume) -> Vec<String> {
    let count = volume.len().unwrap() / PAGE;
    let text = |number| {
        let mut bytes = page(1);
        volume.read_exact_at(&mut bytes, number * PAGE).unwrap();
        let len = bytes.iter().position(|&byte| byte == 0).unwrap();
        assert!(bytes[len..].iter().all(|&byte| byte == 0));
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    (0..count).map(text).collect()
}

/// Where the pages just written are.
fn places(log: &Log) -> Vec<SlotAddr> {
    log.take_pages()
        .iter()
        .map(|(_, delta)| delta.entry.at)
        .collect()
}

/// Where the pages of a volume were, found out by writing them all anew.
fn places_before(volume: &Volume, log: &Log) -> Vec<Option<SlotAddr>> {
    log.take();
    for number in 0..volume.len().unwrap() / PAGE {
        volume.write_all_at(&page(0xFF), number * PAGE).unwrap();
    }
    log.take_pages()
        .iter()
        .map(|(_, delta)| delta.old_at)
        .collect()
}

/// The example of "Understanding the copy-on-write protocol" (seed 000, lines 64 to 76): cluster
/// A with pages 1 to 4, its clone B, then a change of page 1 in A and one of page 4 in B.
#[test]
fn the_worked_example_of_four_pages_comes_out_page_by_page() {
    let sim = Sim::new(1);
    let store = sim.create();
    let log = sim.watch();
    let a = store.create_volume("a", 4 * PAGE, &sim.key).unwrap();
    for (name, number) in ["1", "2", "3", "4"].iter().zip(0..) {
        a.write_all_at(&text_page(name), number * PAGE).unwrap();
    }
    let original = places(&log);
    assert_eq!(original.len(), 4);

    // "When the clone is created, no data is copied."
    let b = a.create_clone("b", &sim.key).unwrap();
    let made = log.take();
    assert_eq!(made.len(), 1, "a clone is one batch");
    assert_eq!((made[0].len, made[0].head.header.body_slots), (PAGE, 0));
    let head_of = |name: &str| {
        let mut heads = made[0].records.iter().filter_map(|record| match record {
            Record::Head(head) if head.name == name => Some(head.clone()),
            _ => None,
        });
        heads.next_back().unwrap()
    };
    assert_eq!(head_of("b").root, RootSource::CopyOf(head_of("a").head));
    assert_eq!(head_of("a").root, RootSource::Keep);
    assert_eq!(texts(&a), ["1", "2", "3", "4"]);
    assert_eq!(texts(&b), ["1", "2", "3", "4"]);
    assert_eq!(kinds(&a), [(ExtentKind::Data, 2); 4]);
    assert_eq!(kinds(&b), [(ExtentKind::Data, 2); 4]);

    // "Instead of writing to the original page 1, Aurora creates a new page 1[A]."
    a.write_all_at(&text_page("1[A]"), 0).unwrap();
    let [new_1] = places(&log)[..] else {
        panic!("one new page")
    };
    assert_eq!(texts(&a), ["1[A]", "2", "3", "4"]);
    assert_eq!(texts(&b), ["1", "2", "3", "4"]);

    // "The clone now points to pages 1, 2, 3, and to page 4[B]."
    b.write_all_at(&text_page("4[B]"), 3 * PAGE).unwrap();
    let [new_4] = places(&log)[..] else {
        panic!("one new page")
    };
    assert_eq!(texts(&a), ["1[A]", "2", "3", "4"]);
    assert_eq!(texts(&b), ["1", "2", "3", "4[B]"]);
    let (own, shared) = ((ExtentKind::Data, 1), (ExtentKind::Data, 2));
    assert_eq!(kinds(&a), [own, shared, shared, shared]);
    assert_eq!(kinds(&b), [shared, shared, shared, own]);

    // The physical pages of both sides are exactly these, in the same segments.
    let set = |pages: [SlotAddr; 4]| pages.map(Some).to_vec();
    let [p1, p2, p3, p4] = original[..] else {
        panic!("four pages")
    };
    assert_eq!(places_before(&a, &log), set([new_1, p2, p3, p4]));
    assert_eq!(places_before(&b, &log), set([p1, p2, p3, new_4]));
}

#[test]
fn a_clone_moves_no_page_data_and_adds_one_small_batch() {
    let sim = Sim::with(2, Options::new().workers(0));
    let store = sim.create();
    let a = store.create_volume("a", 1 << 30, &sim.key).unwrap();
    for piece in 0..32 {
        a.write_all_at(&vec![piece as u8 + 1; 1 << 20], piece << 25)
            .unwrap();
    }
    store.checkpoint().unwrap();
    for name in ["b", "c", "d"] {
        let (before, kms_before) = (sim.disks.counts(), sim.vault.counts());
        let segments = store.info().unwrap().segment_count;
        let log = sim.watch();
        let clone = a.create_clone(name, &sim.key).unwrap();
        let (after, kms_after) = (sim.disks.counts(), sim.vault.counts());
        let batches = log.take();
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].head.header.body_slots, 0, "no page bytes");
        assert_eq!(after.writes - before.writes, 1);
        assert_eq!(after.written_bytes - before.written_bytes, PAGE);
        assert_eq!(after.syncs - before.syncs, 1, "one sync makes it durable");
        assert!(kms_after.written_bytes - kms_before.written_bytes < 1 << 16);
        assert_eq!(store.info().unwrap().segment_count, segments);
        assert_eq!(clone.usage().unwrap().exclusive_bytes, 0);
        assert_eq!(clone.usage().unwrap().referenced_bytes, 32 << 20);
        assert_eq!(page_byte(&clone, (31 << 25) / PAGE), 32);
    }
}

#[test]
fn each_page_written_on_either_side_takes_one_new_page_and_no_more() {
    for page_len in [4096, 16384] {
        let sim = Sim::with(
            3,
            Options::new()
                .segment_len(4 << 20)
                .page_len(page_len)
                .workers(0),
        );
        let page_len = u64::from(page_len);
        let store = sim.create();
        let a = store.create_volume("a", 100 * page_len, &sim.key).unwrap();
        a.write_all_at(&vec![1; 100 * page_len as usize], 0)
            .unwrap();
        let b = a.create_clone("b", &sim.key).unwrap();
        let log = sim.watch();
        let mut rng = Rng(3);
        let mut by_a = HashSet::new();
        for (side, count) in [(&a, 7_usize), (&b, 23)] {
            let mut numbers: Vec<u64> = (0..100).collect();
            for _ in 0..count {
                let number = numbers.swap_remove(rng.index(numbers.len()));
                match count {
                    7 => by_a.insert(number),
                    _ => by_a.remove(&number),
                };
                // A part of a page takes a page, like all of it.
                let len = 1 + rng.below(page_len) as usize;
                side.write_all_at(&vec![2; len], number * page_len).unwrap();
            }
            let slots: u64 = log.take().iter().map(|batch| batch.len / PAGE).sum();
            let pages = count as u64 * page_len / PAGE;
            assert!((pages..=pages + 1).contains(&slots), "with a header or not");
            // Beside these, what the other side let go of and this one has.
            let left = if count == 7 { 0 } else { by_a.len() };
            assert_eq!(
                side.usage().unwrap().exclusive_bytes,
                (count + left) as u64 * page_len
            );
        }
    }
}

#[test]
fn a_chain_of_clones_diverges_at_every_link() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let mut volumes = vec![store.create_volume("v0", 8 * PAGE, &fixture.key).unwrap()];
    let mut models = vec![vec![0_u8; 8]];
    volumes[0]
        .write_all_at(&vec![100; 8 * PAGE as usize], 0)
        .unwrap();
    models[0].fill(100);
    for depth in 1..=5 {
        let clone = volumes[depth - 1]
            .create_clone(&format!("v{depth}"), &fixture.key)
            .unwrap();
        volumes.push(clone);
        models.push(models[depth - 1].clone());
        for (number, volume) in volumes.iter().enumerate() {
            let (at, byte) = ((depth + number) % 8, (10 * depth + number) as u8);
            volume.write_all_at(&page(byte), at as u64 * PAGE).unwrap();
            models[number][at] = byte;
        }
        for (volume, model) in volumes.iter().zip(&models) {
            assert_eq!(page_bytes(volume, 8), *model);
        }
    }
    drop((volumes, store));
    let store = fixture.open();
    for (number, model) in models.iter().enumerate() {
        assert_eq!(
            page_bytes(&store.volume(&format!("v{number}")).unwrap(), 8),
            *model
        );
    }
}

#[test]
fn one_source_has_many_clones_that_differ() {
    let sim = Sim::new(4);
    let store = sim.create();
    let source = store.create_volume("source", 4 * PAGE, &sim.key).unwrap();
    source.write_all_at(&page(200), 0).unwrap();
    let clones: Vec<Volume> = (0..30)
        .map(|number| {
            let clone = source
                .create_clone(&format!("c{number}"), &sim.key)
                .unwrap();
            clone.write_all_at(&page(number), PAGE).unwrap();
            source.write_all_at(&page(number + 100), 2 * PAGE).unwrap();
            clone
        })
        .collect();
    for (number, clone) in (0..).zip(&clones) {
        let third = if number == 0 { 0 } else { number + 99 };
        assert_eq!(page_bytes(clone, 4), [200, number, third, 0]);
    }
    assert_eq!(page_bytes(&source, 4), [200, 0, 129, 0]);
}

/// Source first, the snapshot in the middle first, and all others.
#[test]
fn every_delete_order() {
    let names = ["a", "s", "b", "c", "d"];
    let mut orders = vec![vec![]];
    for _ in names {
        let longer = orders.iter().flat_map(|order: &Vec<usize>| {
            let rest = (0..names.len()).filter(|index| !order.contains(index));
            rest.map(|index| [order.as_slice(), &[index]].concat())
                .collect::<Vec<_>>()
        });
        orders = longer.collect();
    }
    assert_eq!(orders.len(), 120);
    for (number, order) in orders.iter().enumerate() {
        let sim = Sim::with(
            5,
            Options::new().segment_len(64 * PAGE).fanout(3).workers(0),
        );
        let mut store = sim.create();
        // a <- s <- c <- d, a <- b.
        let a = store.create_volume("a", 6 * PAGE, &sim.key).unwrap();
        a.write_all_at(&vec![1; 6 * PAGE as usize], 0).unwrap();
        let s = a.create_snapshot("s").unwrap();
        a.write_all_at(&page(2), 0).unwrap();
        let b = a.create_clone("b", &sim.key).unwrap();
        b.write_all_at(&page(3), PAGE).unwrap();
        let c = s.create_clone("c", &sim.key).unwrap();
        c.write_all_at(&page(4), 2 * PAGE).unwrap();
        let d = c.create_clone("d", &sim.key).unwrap();
        d.write_all_at(&page(5), 3 * PAGE).unwrap();
        c.discard(4 * PAGE..5 * PAGE).unwrap();
        drop((a, s, b, c, d));
        let expected = HashMap::from([
            ("a", [2, 1, 1, 1, 1, 1]),
            ("s", [1, 1, 1, 1, 1, 1]),
            ("b", [2, 3, 1, 1, 1, 1]),
            ("c", [1, 1, 4, 1, 0, 1]),
            ("d", [1, 1, 4, 5, 1, 1]),
        ]);
        for (deleted, &index) in order.iter().enumerate() {
            match names[index] {
                "s" => store.snapshot("s").unwrap().delete().unwrap(),
                name => store.volume(name).unwrap().delete().unwrap(),
            }
            match (number + deleted) % 3 {
                0 => {
                    store.close().unwrap();
                    store = sim.open();
                }
                1 => store.checkpoint().unwrap(),
                _ => {}
            }
            for &left in &order[deleted + 1..] {
                let name = names[left];
                let found = match name {
                    "s" => snapshot_bytes(&store.snapshot("s").unwrap(), 6),
                    name => page_bytes(&store.volume(name).unwrap(), 6),
                };
                assert_eq!(found, expected[name], "{name} in the order {order:?}");
            }
        }
        assert_eq!((store.volumes().len(), store.snapshots().len()), (0, 0));
    }
}

fn snapshot_bytes(snapshot: &Snapshot, count: u64) -> Vec<u8> {
    let byte = |number| {
        let mut bytes = page(0xEE);
        snapshot.read_exact_at(&mut bytes, number * PAGE).unwrap();
        assert!(bytes.iter().all(|&byte| byte == bytes[0]));
        bytes[0]
    };
    (0..count).map(byte).collect()
}

/// 10,000 clones of a volume in which nothing changes, and of such clones, are all one branch
/// away from what they share.
#[test]
fn idle_clones_stay_flat() {
    let sim = Sim::with(6, Options::new().workers(0));
    let store = sim.create();
    let source = store.create_volume("source", 4 * PAGE, &sim.key).unwrap();
    source.write_all_at(&page(1), 0).unwrap();
    let mut rng = Rng(6);
    let (mut some, log) = (vec![source.clone()], sim.watch());
    for number in 0..10_000 {
        let of = rng.index(some.len());
        let clone = some[of]
            .create_clone(&format!("c{number}"), &sim.key)
            .unwrap();
        let depth = clone
            .extents(0..PAGE)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .depth;
        assert_eq!(depth, 2, "clone {number}");
        if some.len() < 100 {
            some.push(clone);
        }
    }
    let mut parents = HashMap::new();
    for batch in log.take() {
        assert_eq!(batch.len, PAGE);
        for record in batch.records {
            if let Record::Lineage(epoch) = record {
                *parents.entry(epoch.beside.is_some()).or_insert(0) += 1;
            }
        }
    }
    // The first clone split the source's epoch; all clones are one more child each beside it.
    assert_eq!(parents, HashMap::from([(false, 1), (true, 10_000)]));
    assert_eq!(kinds(&source)[0], (ExtentKind::Data, 2));
    drop((some, source));
    store.close().unwrap();
    let store = sim.open();
    assert_eq!(store.volumes().len(), 10_001);
    for number in [0, 1, 5_000, 9_999] {
        let clone = store.volume(&format!("c{number}")).unwrap();
        assert_eq!(kinds(&clone)[0], (ExtentKind::Data, 2));
        assert_eq!(page_byte(&clone, 0), 1);
    }
}

#[test]
fn the_first_clone_gives_source_and_clone_one_group_for_ever() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let source = store.create_volume("source", PAGE, &fixture.key).unwrap();
    let group = |volume: &Volume| volume.info().unwrap().group_id;
    source.create_snapshot("s").unwrap();
    assert_eq!(group(&source), None, "a snapshot is no clone");
    let first = source.create_clone("first", &fixture.key).unwrap();
    let id = group(&source);
    assert!(id.is_some());
    assert_eq!(group(&first), id);
    let second = source.create_clone("second", &fixture.key).unwrap();
    let of_clone = first.create_clone("of-clone", &fixture.key).unwrap();
    assert_eq!((group(&second), group(&of_clone)), (id, id));
    let other = store.create_volume("other", PAGE, &fixture.key).unwrap();
    let of_other = other.create_clone("of-other", &fixture.key).unwrap();
    assert_ne!(group(&of_other), id, "another family is another group");
    for clone in [first, second, of_clone] {
        clone.delete().unwrap();
    }
    assert_eq!(group(&source), id, "it stays when all clones are gone");
    drop((source, other, of_other));
    store.close().unwrap();
    let source = fixture.open().volume("source").unwrap();
    assert_eq!(group(&source), id);
    assert_eq!(
        group(&source.create_clone("third", &fixture.key).unwrap()),
        id
    );
}

#[test]
fn a_clone_starts_from_the_newest_state_and_makes_it_durable() {
    for seed in 0..30 {
        let sim = Sim::new(7);
        let store = sim.create();
        let source = store.create_volume("source", 4 * PAGE, &sim.key).unwrap();
        source.write_all_at(&page(1), 0).unwrap();
        source.flush().unwrap();
        // Returned but not flushed: the clone has it. Not called yet: it does not.
        source.write_all_at(&page(2), PAGE).unwrap();
        let clone = source.create_clone("clone", &sim.key).unwrap();
        source.write_all_at(&page(3), 2 * PAGE).unwrap();
        assert_eq!(page_bytes(&clone, 4), [1, 2, 0, 0]);
        let after = sim.disks.power_loss(&sim.disks.sampled_crash(seed));
        let after = sim.on(after, sim.vault.kill());
        let store = after.open();
        assert_eq!(
            page_bytes(&store.volume("clone").unwrap(), 4),
            [1, 2, 0, 0],
            "seed {seed}"
        );
        assert_eq!(
            page_bytes(&store.volume("source").unwrap(), 2),
            [1, 2],
            "seed {seed}"
        );
    }
}

#[test]
fn a_thousand_overwrites_leave_the_shared_page_on_disk_as_it_was() {
    let sim = Sim::new(8);
    let store = sim.create();
    let source = store.create_volume("source", 4 * PAGE, &sim.key).unwrap();
    let log = sim.watch();
    source.write_all_at(&page(7), PAGE).unwrap();
    let [at] = places(&log)[..] else {
        panic!("one page")
    };
    let clone = source.create_clone("clone", &sim.key).unwrap();
    let before = sim.raw_slots(at, 1);
    for number in 0..1_000_u32 {
        source.write_all_at(&page(number as u8), PAGE).unwrap();
    }
    let pages = places(&log);
    assert_eq!(pages.len(), 1_000);
    assert!(!pages.contains(&at), "nothing was written in its place");
    assert_eq!(sim.raw_slots(at, 1), before);
    assert_eq!(page_byte(&clone, 1), 7);
    assert_eq!(page_byte(&source, 1), 999_u32 as u8);
    store.close().unwrap();
    let store = sim.open();
    assert_eq!(page_byte(&store.volume("clone").unwrap(), 1), 7);
    assert_eq!(sim.raw_slots(at, 1), before);
}

#[test]
fn a_rename_keeps_the_resource_id_and_what_hangs_on_it() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store
        .create_volume("before", 2 * PAGE, &fixture.key)
        .unwrap();
    volume.write_all_at(&page(3), 0).unwrap();
    let clone = volume.create_clone("clone", &fixture.key).unwrap();
    let id = volume.info().unwrap().id;
    volume.rename("After").unwrap();
    assert_eq!(
        (volume.name().unwrap().as_str(), volume.info().unwrap().id),
        ("after", id)
    );
    assert!(matches!(
        store.volume("before"),
        Err(Error::NotFound { .. })
    ));
    // The old name is free, and what takes it is something else.
    let other = store.create_volume("before", PAGE, &fixture.key).unwrap();
    assert_ne!(other.info().unwrap().id, id);
    drop((volume, other, clone));
    store.close().unwrap();
    let store = fixture.open();
    let volume = store.volume("after").unwrap();
    assert_eq!((volume.info().unwrap().id, page_byte(&volume, 0)), (id, 3));
    assert_eq!(
        store.volume("clone").unwrap().info().unwrap().origin_id,
        Some(id)
    );
}

#[test]
fn a_snapshot_stays_as_it_was_taken() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("v", 4 * PAGE, &fixture.key).unwrap();
    volume.write_all_at(&vec![1; 4 * PAGE as usize], 0).unwrap();
    let taken = volume.create_snapshot("s").unwrap();
    let info = taken.info().unwrap();
    assert_eq!(info.state, HeadState::Available);
    assert_eq!(
        (info.volume_id, info.len),
        (volume.info().unwrap().id, 4 * PAGE)
    );
    volume.write_all_at(&page(2), 0).unwrap();
    volume.discard(PAGE..2 * PAGE).unwrap();
    volume.resize(3 * PAGE).unwrap();
    assert_eq!(snapshot_bytes(&taken, 4), [1; 4]);
    let again = taken.create_snapshot("s2").unwrap();
    taken.delete().unwrap();
    assert_eq!(snapshot_bytes(&again, 4), [1; 4]);
    assert_eq!(again.info().unwrap().volume_id, info.id);
    volume.delete().unwrap();
    drop((again, store));
    let store = fixture.open();
    assert_eq!(snapshot_bytes(&store.snapshot("S2").unwrap(), 4), [1; 4]);
}

#[test]
fn a_snapshot_keeps_its_type_and_a_copy_of_either_is_manual() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let volume = store.create_volume("v", PAGE, &fixture.key).unwrap();
    let nightly = volume.create_automated_snapshot("nightly").unwrap();
    let monday = volume.create_snapshot("monday").unwrap();
    nightly.create_snapshot("nightly-copy").unwrap();
    monday.create_snapshot("monday-copy").unwrap();
    let types = |store: &Store| {
        let all = store.snapshots().into_iter();
        all.map(|it| (it.name, it.snapshot_type))
            .collect::<Vec<_>>()
    };
    let expected = [
        ("nightly", SnapshotType::Automated),
        ("monday", SnapshotType::Manual),
        ("nightly-copy", SnapshotType::Manual),
        ("monday-copy", SnapshotType::Manual),
    ];
    let expected = expected.map(|(name, of)| (name.to_owned(), of));
    assert_eq!(types(&store), expected);
    drop((volume, nightly, monday, store));
    let store = fixture.open();
    assert_eq!(types(&store), expected, "after a crash");
    store.close().unwrap();
    assert_eq!(types(&fixture.open()), expected, "after a clean close");
}

#[test]
fn snapshots_have_names_of_their_own_and_each_is_there_once() {
    let sim = Sim::new(9);
    let store = sim.create();
    let volume = store.create_volume("same", PAGE, &sim.key).unwrap();
    let long = format!("s{}", "x".repeat(254));
    let taken = volume.create_snapshot("same").unwrap();
    for name in ["same", "SAME"] {
        for result in [volume.create_snapshot(name), taken.create_snapshot(name)] {
            assert!(matches!(result, Err(Error::AlreadyExists { .. })));
        }
    }
    volume.create_snapshot(&long).unwrap();
    assert!(matches!(
        volume.create_snapshot(&format!("{long}x")),
        Err(Error::Invalid { .. })
    ));
    store.close().unwrap();
    let names: Vec<_> = sim
        .open()
        .snapshots()
        .into_iter()
        .map(|taken| taken.name)
        .collect();
    assert_eq!(names, ["same".to_owned(), long]);
}

#[test]
fn heads_of_both_kinds_number_on_and_are_never_one_another() {
    let sim = Sim::new(10);
    let store = sim.create();
    let log = sim.watch();
    let volume = store.create_volume("v", PAGE, &sim.key).unwrap();
    volume
        .create_clone("gone", &sim.key)
        .unwrap()
        .delete()
        .unwrap();
    drop(volume);
    store.close().unwrap();
    let store = sim.open();
    let volume = store.volume("v").unwrap();
    volume.create_snapshot("s").unwrap();
    volume.create_clone("gone", &sim.key).unwrap();
    let mut seen: HashMap<HeadId, (HeadKind, offshoot::ResourceId)> = HashMap::new();
    for record in log.take().into_iter().flat_map(|batch| batch.records) {
        if let Record::Head(head) = record {
            let this = (head.kind, head.resource_id);
            assert_eq!(*seen.entry(head.head).or_insert(this), this);
        }
    }
    assert_eq!(seen.len(), 4);
}

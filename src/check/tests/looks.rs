//! Looking at what is damaged, at what slots are used for, and at slots as they are.

use crate::check::inspect::{
    FileKind, Problem, RawPlace, catalog, heatmap, keys, lineage, log, occupancy, page, raw, tree,
};
use crate::error::{Error, Kind};
use crate::file_kms::FileKms;
use crate::io::Disk;
use crate::io::sim::{SimClock, SimMachine, SimRandom};
use crate::sync::Arc;
use crate::units::{PageNo, SLOT_LEN, SegmentId, Seq, SlotAddr};

use super::damage::{read_file, ruin, write_at};
use super::store;
use super::store::TestKms;

/// A KMS that gives no key of the store.
fn refusing() -> FileKms {
    let (clock, random) = (SimClock::new(1), SimRandom::new(1));
    let disk = Arc::new(SimMachine::new().dir("kms"));
    FileKms::create_on(disk, "local", Arc::new(clock), Arc::new(random)).unwrap()
}

fn places(problems: &[Problem]) -> Vec<&str> {
    problems
        .iter()
        .map(|problem| problem.place.as_str())
        .collect()
}

#[test]
fn with_one_set_of_tables_damaged_the_other_and_the_log_show_all() {
    let whole = catalog(&store(), Some(&TestKms)).unwrap();
    assert!(whole.complete && whole.problems.is_empty());
    let disk = store();
    ruin(&disk, 1, 18);
    let view = catalog(&disk, Some(&TestKms)).unwrap();
    // The log is cut off at the tables, and goes on behind them.
    assert_eq!(places(&view.problems)[0], "segment 1 slot 18");
    assert_eq!(view.problems[0].code, Some("OF-0401 table-damaged"));
    assert_eq!(view.seq, whole.seq);
    let names = |view: &crate::check::inspect::CatalogView| {
        let heads = view.lineage.heads.iter();
        heads.map(|head| head.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&view), names(&whole));
}

#[test]
fn with_all_tables_damaged_what_is_left_of_them_and_the_log_is_shown() {
    let disk = store();
    for slot in [8, 18] {
        ruin(&disk, 1, slot);
    }
    let view = catalog(&disk, None).unwrap();
    assert!(!view.complete);
    assert_eq!(
        places(&view.problems),
        ["segment 1 slot 18", "segment 1 slot 8"]
    );
    let names: Vec<_> = view
        .lineage
        .heads
        .iter()
        .map(|head| head.name.as_str())
        .collect();
    assert!(names.contains(&"snap"), "it is in the log: {names:?}");
    assert!(!keys(&disk, None).unwrap().problems.is_empty());
    assert!(!lineage(&disk, None).unwrap().problems.is_empty());
    // What is not there may be in what is lost.
    let error = tree(&disk, None, Kind::Volume, "none").unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let shown = log(&disk, None, Seq(0), 1000).unwrap();
    assert!(shown.batches.len() > 5 && shown.end.is_some());
}

#[test]
fn a_damaged_node_is_named_and_what_is_beside_it_is_shown() {
    let disk = store();
    // Node "a", a leaf of "db": its pages are not known any more.
    ruin(&disk, 1, 15);
    let error = page(&disk, None, Kind::Volume, "db", PageNo(0)).unwrap_err();
    assert!(error.to_string().contains("segment 1 slot 15"), "{error}");
    // The log, and the other leaf, say what they say.
    let by_log = page(&disk, None, Kind::Volume, "db", PageNo(2)).unwrap();
    assert!(by_log.from_log && by_log.path.is_empty());
    let beside = page(&disk, None, Kind::Snapshot, "snap", PageNo(100)).unwrap();
    assert_eq!(beside.path.len(), 2);
    let view = occupancy(&disk, None, SegmentId(1)).unwrap();
    assert_eq!(places(&view.problems), ["segment 1 slot 15"]);
    assert!(
        view.slots.waiting > 0,
        "its pages are live by the tables: {view:?}"
    );
    let map = heatmap(&disk, None, 0).unwrap();
    assert_eq!(places(&map.problems), ["segment 1 slot 15"]);
}

#[test]
fn nothing_that_is_shown_needs_a_key() {
    let disk = store();
    let open = catalog(&disk, Some(&TestKms)).unwrap();
    let view = catalog(&disk, Some(&refusing())).unwrap();
    assert!(!view.authenticated && open.authenticated);
    assert_eq!(view.lineage.heads.len(), open.lineage.heads.len());
    assert_eq!(places(&view.problems), ["the KMS"]);
    assert_eq!(
        places(&log(&disk, Some(&refusing()), Seq(0), 9).unwrap().problems),
        ["the KMS"]
    );
    page(&disk, Some(&refusing()), Kind::Volume, "db", PageNo(0)).unwrap();
    tree(&disk, Some(&refusing()), Kind::Snapshot, "snap").unwrap();
    assert_eq!(keys(&disk, Some(&refusing())).unwrap().heads.len(), 3);
    heatmap(&disk, Some(&refusing()), 0).unwrap();
    occupancy(&disk, Some(&refusing()), SegmentId(2)).unwrap();
}

#[test]
fn slots_of_a_segment_are_counted_by_use_and_owner() {
    let disk = store();
    let view = occupancy(&disk, None, SegmentId(1)).unwrap();
    assert_eq!(view.file.as_deref(), Some("segment-00000001"));
    let slots = &view.slots;
    let all = slots.header + slots.pages + slots.nodes + slots.log;
    assert_eq!(all + slots.waiting + slots.dead + slots.free, 24);
    // Pages 0, 1, 2 of batch 2 and 1, 100 of batch 7; nodes "old", "a", "b", "top".
    assert_eq!((slots.header, slots.pages, slots.nodes), (1, 5, 4));
    // Headers of batches 4 to 11, kept for the older superblock, and of the ones before.
    assert_eq!((slots.log, slots.free), (8, 3));
    assert_eq!(slots.dead + slots.waiting, 3);
    let owner = |name: &str| view.owners.iter().find(|owner| owner.name == name).unwrap();
    // "db" and "snap" have one root: 3 nodes, pages 0, 1, 2, 100. "clone" has "old" with 0, 1, 2.
    assert_eq!((owner("db").slots, owner("db").exclusive), (7, 0));
    assert_eq!((owner("snap").slots, owner("snap").exclusive), (7, 0));
    assert_eq!(owner("clone").slots, 4);
    assert!(owner("clone").exclusive >= 1, "its root is its own");
    assert!(view.owners.iter().all(|owner| owner.name != "gone"));
    assert!(slots.shared >= 7, "{slots:?}");
}

#[test]
fn a_map_has_all_slots_of_all_files_in_cells_of_any_length() {
    let disk = store();
    for cell_slots in [0, 16, 20, 1000] {
        let map = heatmap(&disk, None, cell_slots).unwrap();
        assert_eq!(map.files.len(), 2);
        assert!(map.files.iter().all(|file| file.kind == FileKind::Segment));
        for file in &map.files {
            let slots: u64 = file.cells.iter().map(|cell| count(&cell.slots)).sum();
            assert_eq!((slots, count(&file.total)), (24, 24), "{}", file.name);
        }
        let cells = map.files[0].cells.len();
        assert_eq!(
            cells,
            if cell_slots == 16 || cell_slots == 20 {
                2
            } else {
                1
            }
        );
        assert_eq!(map.files[0].newest, Some(Seq(11)));
        assert_eq!(map.files[1].newest, Some(map.seq));
    }
}

fn count(slots: &crate::check::inspect::SlotCounts) -> u64 {
    let live = slots.header + slots.pages + slots.nodes + slots.log;
    live + slots.waiting + slots.dead + slots.free
}

#[test]
fn raw_slots_say_what_they_look_like_and_what_is_wrong() {
    let disk = store();
    let at = |slot| {
        let segment = SegmentId(1);
        RawPlace::Address(SlotAddr { segment, slot })
    };
    let look = |slot: u32| raw(&disk, &at(slot), 1).unwrap().slots.remove(0);
    for (slot, expected) in [
        (0, "segment_header"),
        (1, "batch_header"),
        (3, "other"),
        (7, "node"),
        (22, "zeroes"),
    ] {
        let shown = look(slot);
        assert_eq!((shown.slot, shown.looks_like), (slot, expected));
        assert_eq!(shown.problem, None, "{slot}");
        assert_eq!(shown.bytes.len(), SLOT_LEN);
        assert_eq!(shown.fields.is_empty(), matches!(slot, 3 | 22));
    }
    let seq = look(1).fields.into_iter().find(|field| field.name == "seq");
    assert_eq!(seq.unwrap().bytes, 1_u64.to_le_bytes());
    let superblock = raw(&disk, &RawPlace::File("superblock-b".to_owned(), 1), 1).unwrap();
    assert_eq!(superblock.slots[0].looks_like, "superblock");
    assert_eq!(superblock.slots[0].problem, None);
    // Damage, and the end of the file.
    write_at(&disk, "segment-00000001", SLOT_LEN + 300, b"x");
    write_at(&disk, "segment-00000001", 7 * SLOT_LEN + 300, b"x");
    for slot in [1, 7] {
        let problem = look(slot).problem.unwrap();
        assert!(problem.contains("checksum"), "{slot}: {problem}");
    }
    let tail = raw(&disk, &at(20), 1024).unwrap();
    assert_eq!((tail.slots.len(), tail.missing), (4, 1020));
    for place in [at(24), at(u32::MAX), RawPlace::File("none".to_owned(), 0)] {
        raw(&disk, &place, 1).unwrap_err();
    }
    for name in ["..", "a/b", ""] {
        raw(&disk, &RawPlace::File(name.to_owned(), 0), 1).unwrap_err();
    }
}

#[test]
fn looking_changes_nothing() {
    let disk = store();
    let names = disk.list().unwrap();
    let before: Vec<_> = names.iter().map(|name| read_file(&disk, name)).collect();
    heatmap(&disk, Some(&TestKms), 0).unwrap();
    occupancy(&disk, Some(&TestKms), SegmentId(1)).unwrap();
    catalog(&disk, Some(&refusing())).unwrap();
    assert_eq!(disk.list().unwrap(), names);
    let after: Vec<_> = names.iter().map(|name| read_file(&disk, name)).collect();
    assert!(before == after);
}

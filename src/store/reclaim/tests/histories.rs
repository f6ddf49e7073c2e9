//! Histories of writes, clones, deletes and reclaim.

use super::*;

#[test]
fn compaction_keeps_every_page_and_gives_the_rest_back() {
    let region = Region::new();
    let store = region.open();
    let contents = churned(&store);
    let before = store.0.segments.allocated().unwrap();
    let done = reclaim(&store, Goal::Compact);
    assert!(done.dropped_files > 0 && done.packs > 0, "{done:?}");
    let after = store.0.segments.allocated().unwrap();
    assert!(after < before);
    assert_reads(&store, &contents, "after compaction");
    let stats = store.stats().unwrap();
    assert_eq!(
        (stats.packs, stats.freed_bytes),
        (done.packs, done.freed_bytes)
    );
    assert!(stats.open_segments <= 4);
    let report = region.fsck_open();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.stats.packs, region.files("pack-").len() as u64);
    // By the log alone, and then by tables.
    drop(store);
    for when in ["by the log", "by tables"] {
        let store = region.open();
        assert_reads(&store, &contents, when);
        store.checkpoint().unwrap();
        store.close().unwrap();
        let report = region.fsck();
        assert!(report.is_clean(), "{when}: {report}");
        assert!(report.stats.packs > 0);
    }
    // The close moved on what is kept as log; after that nothing is left to be won.
    let store = region.open();
    reclaim(&store, Goal::Compact);
    let again = reclaim(&store, Goal::Compact);
    assert_eq!(again, Progress::default());
}

#[test]
fn packs_are_packed_again_and_dropped_when_they_are_dead() {
    let region = Region::new();
    let store = region.open();
    let mut contents = churned(&store);
    for round in 0..6 {
        let first = region.files("pack-");
        for page in (0..PAGES).filter(|page| page % 3 != round % 3) {
            write(&store, &mut contents, page, 1, 30 + round as u8);
        }
        settle(&store, &mut contents);
        reclaim(&store, Goal::Compact);
        assert_reads(&store, &contents, "after a round");
        assert_ne!(region.files("pack-"), first, "round {round}");
    }
    write(&store, &mut contents, 0, PAGES, 90);
    settle(&store, &mut contents);
    // The nodes of the older checkpoint are still needed once.
    settle(&store, &mut contents);
    let done = reclaim(&store, Goal::Target);
    assert!(done.dropped_files > 0 && done.moved_bytes == 0);
    let live = live(&store.0);
    let salts = store.0.segments.salts();
    let protected = store.0.first_protected().unwrap();
    let is_needed = |id| id >= protected || live.count_in(id) > 0;
    let stale = salts.iter().find(|(at, _)| !is_needed(at.segment));
    assert_eq!(stale, None, "a salt of a segment that is gone");
    assert_reads(&store, &contents, "at the end");
    drop(store);
    assert_reads(&region.open(), &contents, "opened again");
}

#[test]
fn sequential_overwrites_discards_and_deleted_clones_move_nothing() {
    let region = Region::new();
    let store = region.open();
    let mut contents = Contents::new();
    for round in 1..6 {
        write(&store, &mut contents, 0, PAGES, round);
        let clone = store.volume("v").unwrap();
        let clone = clone.create_clone("c", &region.key).unwrap();
        clone.write_all_at(&vec![7; 30 * SLOT_LEN], 0).unwrap();
        clone.delete().unwrap();
        settle(&store, &mut contents);
    }
    store.volume("v").unwrap().discard(0..40 * PAGE).unwrap();
    contents.extend((0..40).map(|page| (page, 0)));
    for byte in [9, 10, 11] {
        write(&store, &mut contents, 63, 1, byte);
        store.checkpoint().unwrap();
    }
    let done = reclaim(&store, Goal::Target);
    assert_eq!((done.packs, done.moved_bytes), (0, 0));
    assert!(done.dropped_files > 0 && done.punched_runs > 0, "{done:?}");
    assert_reads(&store, &contents, "at the end");
    store.close().unwrap();
    let report = region.fsck();
    assert!(report.is_clean(), "{report}");
    // What was punched is not punched again, also by another process. (The close moved on what
    // is kept as log.)
    reclaim(&region.open(), Goal::Target);
    let store = region.open();
    assert_eq!(reclaim(&store, Goal::Target).punched_runs, 0);
}

#[test]
fn below_its_target_a_store_keeps_dead_segments_to_write_them_again_until_somebody_asks() {
    let region = Region::new();
    let store = region.open();
    let mut contents = Contents::new();
    for round in 1..6 {
        write(&store, &mut contents, 0, PAGES, round);
        settle(&store, &mut contents);
    }
    let segments = &store.0.segments;
    let done = reclaim(&store, Goal::Calm);
    assert!(done.dropped_files > 0, "{done:?}");
    let kept = segments.spare_count();
    assert!(kept > segments.reserve() + 1, "{kept} spares");
    write(&store, &mut contents, 0, PAGES, 7);
    assert!(segments.spare_count() < kept);
    assert_reads(&store, &contents, "in files that were used before");
    settle(&store, &mut contents);
    reclaim(&store, Goal::Target);
    assert_eq!(segments.spare_count(), segments.reserve() + 1);
    assert_eq!(region.files("spare-").len(), segments.spare_count());
    assert_reads(&store, &contents, "at the end");
    drop(store);
    assert_reads(&region.open(), &contents, "opened again");
}

/// Volumes and snapshots with all their bytes.
type Heads = BTreeMap<String, Vec<u8>>;

fn act(store: &Store, key: &KeyId, heads: &mut Heads, random: &SimRandom, number: usize) {
    let names: Vec<String> = heads.keys().cloned().collect();
    let name = names[random.below(names.len())].clone();
    let is_volume = name.starts_with('v');
    let page = random.below(PAGES as usize);
    let count = 1 + random.below((PAGES as usize - page).min(12));
    let range = page * SLOT_LEN..(page + count) * SLOT_LEN;
    match random.below(12) {
        0..=6 if is_volume => {
            let bytes = vec![number as u8 | 1; range.len()];
            let volume = store.volume(&name).unwrap();
            volume.write_all_at(&bytes, range.start as u64).unwrap();
            heads.get_mut(&name).unwrap()[range].copy_from_slice(&bytes);
        }
        7 if is_volume => {
            let volume = store.volume(&name).unwrap();
            let bytes = range.start as u64..range.end as u64;
            volume.discard(bytes).unwrap();
            heads.get_mut(&name).unwrap()[range].fill(0);
        }
        8 if heads.len() < 5 => {
            let clone = format!("v{number}");
            match is_volume {
                true => store.volume(&name).unwrap().create_clone(&clone, key),
                false => store.snapshot(&name).unwrap().create_clone(&clone, key),
            }
            .unwrap();
            heads.insert(clone, heads[&name].clone());
        }
        9 if is_volume && heads.len() < 5 => {
            let snapshot = format!("s{number}");
            let volume = store.volume(&name).unwrap();
            volume.create_snapshot(&snapshot).unwrap();
            heads.insert(snapshot, heads[&name].clone());
        }
        10 if heads.len() > 2 && name != "v" => {
            match is_volume {
                true => store.volume(&name).unwrap().delete().unwrap(),
                false => store.snapshot(&name).unwrap().delete().unwrap(),
            }
            heads.remove(&name);
        }
        _ => store.checkpoint().unwrap(),
    }
}

fn assert_heads(store: &Store, heads: &Heads, when: &str) {
    for (name, bytes) in heads {
        let mut found = vec![0; bytes.len()];
        let read = match name.starts_with('v') {
            true => store.volume(name).unwrap().read_exact_at(&mut found, 0),
            false => store.snapshot(name).unwrap().read_exact_at(&mut found, 0),
        };
        read.unwrap_or_else(|error| panic!("{when}: {name}: {error}"));
        assert!(found == *bytes, "{when}: {name}");
    }
}

#[test]
fn every_head_reads_right_whatever_is_reclaimed_in_between() {
    let mut packs = 0;
    for seed in 0..6 {
        let region = Region::new();
        let random = SimRandom::new(seed);
        let mut heads = Heads::from([("v".to_owned(), vec![0; (PAGES * PAGE) as usize])]);
        for round in 0..6 {
            let store = region.open();
            for number in 0..60 {
                let number = round * 60 + number;
                act(&store, &region.key, &mut heads, &random, number);
                if random.below(4) == 0 {
                    let goals = [Goal::Target, Goal::Calm, Goal::Ahead, Goal::Compact];
                    let goal = goals[random.below(goals.len())];
                    // By what the checkpoints on disk reach, or as the thread of the store does.
                    let done = match random.below(2) {
                        0 => step(&store, goal),
                        _ => store.0.reclaim_some(goal),
                    };
                    packs += done.unwrap().packs;
                }
            }
            let when = format!("seed {seed} round {round}");
            assert_heads(&store, &heads, &when);
            match round % 2 {
                0 => store.close().unwrap(),
                _ => drop(store),
            }
            let report = region.fsck();
            assert!(report.is_clean(), "{when}: {report}");
        }
    }
    assert!(packs > 20, "{packs}");
}

//! A repair mends what follows from the rest, leaves the rest, and can be cut off anywhere.

use crate::check::inspect::{self, PageState};
use crate::check::{CheckOptions, LostPages, Report, check};
use crate::error::{Error, Kind, Result};
use crate::file_kms::FileKms;
use crate::format::segment::segment_file_name;
use crate::io::sim::{SimClock, SimDisk, SimMachine, SimRandom};
use crate::io::{Access, Disk};
use crate::slots::SlotSet;
use crate::store::{Machine, Options, Repaired, Store};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use crate::units::{PageNo, SLOT_LEN, SegmentId, SlotAddr};

const PAGE: u64 = SLOT_LEN as u64;
const PAGES: usize = 30;

/// A machine with a closed store: a volume `v`, a snapshot of it, and changes after that.
struct Region {
    machine: SimMachine,
    kms: FileKms,
    seed: Arc<AtomicU64>,
}

impl Region {
    fn new() -> Self {
        let (machine, seed) = (SimMachine::new(), Arc::new(AtomicU64::new(1)));
        let dir: Arc<dyn Disk> = Arc::new(machine.dir("kms"));
        let on = sources(&seed);
        let kms = FileKms::create_on(dir, "local", on.0, on.1).unwrap();
        kms.create_key(Some("alias/offshoot-store")).unwrap();
        let key = kms.create_key(Some("alias/default")).unwrap().id;
        let region = Self { machine, kms, seed };
        let kms = Arc::new(region.kms.clone());
        let store = options().create_on(region.on(), kms).unwrap();
        let volume = store.create_volume("v", PAGES as u64 * PAGE, &key).unwrap();
        volume.write_all_at(&contents(1), 0).unwrap();
        store.checkpoint().unwrap();
        volume.create_snapshot("s").unwrap();
        volume.write_all_at(&contents(2), 0).unwrap();
        store.checkpoint().unwrap();
        store.close().unwrap();
        region
    }

    fn with(&self, machine: SimMachine) -> Self {
        let dir: Arc<dyn Disk> = Arc::new(machine.dir("kms"));
        let on = sources(&self.seed);
        Self {
            kms: FileKms::open_on(dir, on.0, on.1).unwrap(),
            machine,
            seed: self.seed.clone(),
        }
    }

    fn disk(&self) -> SimDisk {
        self.machine.dir("store")
    }

    fn on(&self) -> Machine {
        let (clock, random) = sources(&self.seed);
        Machine {
            disk: Arc::new(self.disk()),
            clock,
            random,
        }
    }

    fn open(&self) -> Store {
        let kms = Arc::new(self.kms.clone());
        options().open_on(self.on(), kms).unwrap()
    }

    fn fsck(&self) -> Report {
        let options = CheckOptions::new().kms(Arc::new(self.kms.clone()));
        check(&self.disk(), &options.read_data(true)).unwrap()
    }

    fn repair(&self) -> Repaired {
        let kms = Arc::new(self.kms.clone());
        let check = CheckOptions::new().read_data(true);
        options().repair_on(self.on(), kms, &check).unwrap()
    }

    /// Fails unless all pages read as they were written.
    fn assert_reads(&self, when: &str) {
        let store = self.open();
        let mut bytes = contents(0);
        let volume = store.volume("v").unwrap();
        volume.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == contents(2), "{when}");
        let snapshot = store.snapshot("s").unwrap();
        snapshot.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == contents(1), "{when}");
        store.close().unwrap();
    }

    /// Makes the tables count other slots as live.
    fn count_live(&self, change: impl Fn(&mut SlotSet)) {
        let store = self.open();
        let mut live = store.0.state.read().space().live().clone();
        change(&mut live);
        assert!(store.0.state.write().space_mut().mend(&live));
        store.0.force_checkpoint().unwrap();
        store.close().unwrap();
    }
}

fn sources(seed: &AtomicU64) -> (Arc<SimClock>, Arc<SimRandom>) {
    let seed = seed.fetch_add(1, Ordering::SeqCst);
    (
        Arc::new(SimClock::new(1000)),
        Arc::new(SimRandom::new(seed)),
    )
}

fn options() -> Options {
    let options = Options::new().segment_len(40 * PAGE).workers(0);
    options.fanout(3)
}

fn contents(seed: u8) -> Vec<u8> {
    let page = |index: usize| vec![seed.wrapping_mul(50).wrapping_add(index as u8); SLOT_LEN];
    (0..PAGES).flat_map(page).collect()
}

fn overwrite(disk: &SimDisk, name: &str, offset: u64, bytes: &[u8]) {
    let file = disk.open(name, Access::ReadWrite).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn shorten(disk: &SimDisk, name: &str, len: u64) {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; len.min(file.len().unwrap()) as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    disk.remove(name).unwrap();
    let file = disk.create(name, len).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
}

type Damage = (&'static str, &'static str, fn(&Region));

/// What can be repaired, and the code that it is found by.
const REPAIRABLE: &[Damage] = &[
    ("slot 0 of mirror a", "OF-010", |region| {
        overwrite(&region.disk(), "superblock-a", 0, &[7; SLOT_LEN]);
    }),
    ("slot 1 of mirror b", "OF-010", |region| {
        overwrite(&region.disk(), "superblock-b", PAGE, &[0; SLOT_LEN]);
    }),
    ("mirror a", "OF-010", |region| {
        region.disk().remove("superblock-a").unwrap();
    }),
    ("a short mirror b", "OF-0108", |region| {
        shorten(&region.disk(), "superblock-b", PAGE + 100);
    }),
    ("a long mirror a", "OF-0108", |region| {
        overwrite(&region.disk(), "superblock-a", 2 * PAGE, &[1; 10]);
    }),
    ("the newest superblock", "OF-010", |region| {
        for name in ["superblock-a", "superblock-b"] {
            let newest = newest_slot(region);
            overwrite(&region.disk(), name, newest * PAGE, &[0; SLOT_LEN]);
        }
    }),
    ("slots that nothing names", "OF-0517", |region| {
        region.count_live(|live| {
            let segment = SegmentId(1);
            live.insert_run(SlotAddr { segment, slot: 1 }, 3);
        });
    }),
    ("slots that are named and not live", "OF-0516", |region| {
        region.count_live(|live| {
            let some: Vec<_> = live.iter().step_by(3).collect();
            some.into_iter().for_each(|at| {
                live.remove(at);
            });
        });
    }),
];

fn newest_slot(region: &Region) -> u64 {
    region.fsck().stats.generation % 2
}

fn codes(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn what_follows_from_the_rest_is_mended_once_and_for_all() {
    for (what, code, damage) in REPAIRABLE {
        let region = Region::new();
        assert!(region.fsck().is_clean(), "{}", region.fsck());
        damage(&region);
        let found = region.fsck();
        // Of a superblock that is gone in both copies nothing is left to be missed.
        if *what != "the newest superblock" {
            assert!(
                codes(&found).iter().any(|it| it.starts_with(code)),
                "{what}: {found}"
            );
        }
        let repaired = region.repair();
        assert_eq!(codes(&repaired.found), codes(&found), "{what}");
        assert_eq!(repaired.is_changed, !found.is_clean(), "{what}");
        assert!(repaired.left.is_clean(), "{what}: {}", repaired.left);
        let again = region.repair();
        assert!(!again.is_changed && again.found.is_clean(), "{what}");
        region.assert_reads(what);
        assert!(region.fsck().is_clean(), "{what}");
    }
}

/// Each crash in a repair that keeps some of what was written since the last sync, and no more; every third, or
/// with `OFFSHOOT_CUTS=all` each.
#[test]
fn a_repair_that_is_cut_off_anywhere_can_be_done_again() {
    let step = match std::env::var_os("OFFSHOOT_CUTS") {
        Some(_) => 1,
        None => 3,
    };
    let mut cut = 0;
    let pages: Damage = ("pages", "OF-0514", damage_pages);
    for (what, _, damage) in REPAIRABLE.iter().chain([&pages]) {
        let region = Region::new();
        damage(&region);
        let states = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&states);
        region.machine.on_barrier(move |machine| {
            for crash in machine.crash_points().iter().step_by(step) {
                seen.lock().push(machine.power_loss(crash));
            }
        });
        region.repair();
        region.machine.clear_hooks();
        for machine in std::mem::take(&mut *states.lock()) {
            cut += 1;
            let crashed = region.with(machine);
            let repaired = crashed.repair();
            assert!(repaired.left.is_clean(), "{what}: {}", repaired.left);
            match *what {
                "pages" => assert_all_lost(&crashed.open()),
                _ => crashed.assert_reads(what),
            }
        }
    }
    assert!(cut > 200, "{cut}");
}

/// Where a page of a head is.
fn place(region: &Region, kind: Kind, name: &str, page: u64) -> SlotAddr {
    let page = inspect::page(&region.disk(), None, kind, name, PageNo(page));
    match page.unwrap().state {
        PageState::Data(data) => data.at,
        state => panic!("a page that was written has data, not {state:?}"),
    }
}

fn damage_slot(region: &Region, at: SlotAddr) {
    let (name, offset) = (segment_file_name(at.segment), u64::from(at.slot) * PAGE);
    overwrite(&region.disk(), &name, offset, &[9; 8]);
    // A crash does not undo what media did.
    let file = region.disk().open(&name, Access::Read).unwrap();
    file.sync().unwrap();
}

/// Two pages in a row of the volume, and one that the snapshot and a clone of it share.
fn damage_pages(region: &Region) {
    let store = region.open();
    let key = region.kms.key("alias/default").unwrap().id;
    let clone = store
        .snapshot("s")
        .unwrap()
        .create_clone("c", &key)
        .unwrap();
    clone.write_all_at(&[77; SLOT_LEN], 0).unwrap();
    drop(clone);
    store.checkpoint().unwrap();
    store.close().unwrap();
    for page in [4, 5] {
        damage_slot(region, place(region, Kind::Volume, "v", page));
    }
    damage_slot(region, place(region, Kind::Snapshot, "s", 9));
}

fn read_page(store: &Store, (kind, name): (Kind, &str), page: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0xee; SLOT_LEN];
    match kind {
        Kind::Volume => store.volume(name)?.read_exact_at(&mut bytes, page * PAGE),
        _ => store.snapshot(name)?.read_exact_at(&mut bytes, page * PAGE),
    }?;
    Ok(bytes)
}

/// Fails unless just these pages of a head say that they are lost, and the others are as they were written.
fn assert_lost(store: &Store, head: (Kind, &str), seed: u8, lost: &[u64]) {
    for page in 0..PAGES as u64 {
        match read_page(store, head, page) {
            Ok(bytes) => {
                let seed = if head.1 == "c" && page == 0 {
                    None
                } else {
                    Some(seed)
                };
                let expected = seed.map_or(77, |seed| contents(seed)[page as usize * SLOT_LEN]);
                assert_eq!(bytes, [expected; SLOT_LEN], "page {page} of {head:?}");
                assert!(!lost.contains(&page), "page {page} of {head:?}");
            }
            Err(Error::PageLost {
                name, page: found, ..
            }) => {
                assert_eq!((name.as_str(), found), (head.1, PageNo(page)));
                assert!(lost.contains(&page), "page {page} of {head:?}");
            }
            Err(error) => panic!("page {page} of {head:?}: {error}"),
        }
    }
}

fn assert_all_lost(store: &Store) {
    assert_lost(store, (Kind::Volume, "v"), 2, &[4, 5]);
    assert_lost(store, (Kind::Snapshot, "s"), 1, &[9]);
    assert_lost(store, (Kind::Volume, "c"), 1, &[9]);
}

#[test]
fn a_page_that_was_only_looked_at_stays_and_answers_with_an_error() {
    let region = Region::new();
    damage_pages(&region);
    let kms = Arc::new(region.kms.clone());
    // Without reading pages none is known to be damaged.
    let check = CheckOptions::new();
    let repaired = options().repair_on(region.on(), kms, &check).unwrap();
    assert!(!repaired.is_changed && repaired.left.is_clean());
    let store = region.open();
    let error = read_page(&store, (Kind::Volume, "v"), 4).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(read_page(&store, (Kind::Volume, "v"), 6).unwrap()[0], 106);
}

#[test]
fn damaged_pages_become_listed_ones_that_are_errors_in_all_that_share_them() {
    let region = Region::new();
    damage_pages(&region);
    let repaired = region.repair();
    assert!(repaired.is_changed);
    assert_eq!(codes(&repaired.found), ["OF-0514 page-damaged"; 3]);
    for report in [repaired.left, region.repair().found] {
        assert!(report.is_clean(), "{report}");
        let lost = |head: &str, first, count| LostPages {
            head: head.to_owned(),
            first: PageNo(first),
            count,
        };
        let mut found = report.lost.clone();
        found.sort_by(|a, b| a.head.cmp(&b.head));
        let c = lost("volume \"c\"", 9, 1);
        let s = lost("snapshot \"s\"", 9, 1);
        assert_eq!(found, [s, c, lost("volume \"v\"", 4, 2)]);
        assert_eq!(report.stats.lost_pages, 4);
    }
    let page = inspect::page(&region.disk(), None, Kind::Volume, "v", PageNo(4));
    assert!(matches!(page.unwrap().state, PageState::Lost { .. }));
    let store = region.open();
    assert_all_lost(&store);
    // What is made of them shares them, too.
    store.volume("v").unwrap().create_snapshot("t").unwrap();
    assert_lost(&store, (Kind::Snapshot, "t"), 2, &[4, 5]);
    store.close().unwrap();
    assert_all_lost(&region.open());
}

#[test]
fn a_lost_page_is_good_again_once_all_of_it_is_written_or_discarded() {
    let region = Region::new();
    damage_pages(&region);
    region.repair();
    let store = region.open();
    let volume = store.volume("v").unwrap();
    for at in [4 * PAGE, 4 * PAGE + 100] {
        let error = volume.write_all_at(&[1; 100], at).unwrap_err();
        assert!(matches!(error, Error::PageLost { .. }), "{error}");
        let error = volume.write_zeroes(at..at + 100).unwrap_err();
        assert!(matches!(error, Error::PageLost { .. }), "{error}");
    }
    volume.write_all_at(&[5; SLOT_LEN], 4 * PAGE).unwrap();
    volume.discard(5 * PAGE..6 * PAGE).unwrap();
    let clone = store.volume("c").unwrap();
    clone.write_zeroes(9 * PAGE..10 * PAGE).unwrap();
    let is = |store: &Store| {
        assert_eq!(
            read_page(store, (Kind::Volume, "v"), 4).unwrap(),
            [5; SLOT_LEN]
        );
        assert_eq!(
            read_page(store, (Kind::Volume, "v"), 5).unwrap(),
            [0; SLOT_LEN]
        );
        assert_eq!(
            read_page(store, (Kind::Volume, "c"), 9).unwrap(),
            [0; SLOT_LEN]
        );
        // The snapshot is as it was.
        assert_lost(store, (Kind::Snapshot, "s"), 1, &[9]);
    };
    is(&store);
    drop((volume, clone));
    // By the log as by the tables.
    store.flush().unwrap();
    drop(store);
    assert!(region.fsck().is_clean(), "{}", region.fsck());
    let store = region.open();
    is(&store);
    store.checkpoint().unwrap();
    is(&store);
    store.snapshot("s").unwrap().delete().unwrap();
    store.close().unwrap();
    let report = region.fsck();
    assert!(report.is_clean() && report.lost.is_empty(), "{report}");
}

/// The nodes of a volume's page table, the root first.
fn nodes(region: &Region, name: &str) -> Vec<SlotAddr> {
    let tree = inspect::tree(&region.disk(), None, Kind::Volume, name).unwrap();
    let nodes = tree.levels.iter().flat_map(|level| &level.nodes);
    nodes.map(|node| node.at).collect()
}

/// Fails unless just these pages of the volume are errors, to read and to write, and all others are what they were.
fn assert_only_errors_at(store: &Store, below: &[u64]) {
    let volume = store.volume("v").unwrap();
    for page in 0..PAGES as u64 {
        let read = read_page(store, (Kind::Volume, "v"), page);
        let written = volume.write_all_at(&[9; 100], page * PAGE);
        if below.contains(&page) {
            for result in [
                read.map(drop),
                written,
                volume.discard(page * PAGE..(page + 1) * PAGE),
            ] {
                assert!(
                    matches!(result, Err(Error::Corrupt { .. })),
                    "page {page}: {result:?}"
                );
            }
            continue;
        }
        let mut expected = vec![contents(2)[page as usize * SLOT_LEN]; SLOT_LEN];
        if let Ok(bytes) = &read
            && bytes[0] == 9
        {
            expected[..100].fill(9);
        }
        assert!(read.unwrap() == expected, "page {page}");
        written.unwrap();
    }
}

#[test]
fn a_damaged_node_stays_and_all_below_it_is_an_error() {
    let count = nodes(&Region::new(), "v").len();
    assert!(count > 10, "{count}");
    for index in 0..count {
        let region = Region::new();
        let node = nodes(&region, "v")[index];
        let is_below = |&page: &u64| {
            let view = inspect::page(&region.disk(), None, Kind::Volume, "v", PageNo(page));
            view.unwrap().path.contains(&node)
        };
        let below: Vec<_> = (0..PAGES as u64).filter(is_below).collect();
        assert!(!below.is_empty());
        damage_slot(&region, node);
        for _ in 0..2 {
            let repaired = region.repair();
            assert_eq!(codes(&repaired.left), ["OF-0501 node-damaged"], "{node}");
            let store = region.open();
            assert_only_errors_at(&store, &below);
            assert_lost(&store, (Kind::Snapshot, "s"), 1, &[]);
            store.close().unwrap();
        }
    }
}

#[test]
fn pages_that_a_damaged_log_holds_are_lost_too() {
    let region = Region::new();
    let store = region.open();
    let volume = store.volume("v").unwrap();
    volume.write_all_at(&[3; SLOT_LEN], 7 * PAGE).unwrap();
    volume.flush().unwrap();
    volume.write_all_at(&[3; SLOT_LEN], 8 * PAGE).unwrap();
    volume.flush().unwrap();
    drop((volume, store));
    damage_slot(&region, place(&region, Kind::Volume, "v", 7));
    let repaired = region.repair();
    assert_eq!(codes(&repaired.found), ["OF-0302 batch-page-damaged"]);
    assert!(repaired.left.is_clean(), "{}", repaired.left);
    let store = region.open();
    let error = read_page(&store, (Kind::Volume, "v"), 7).unwrap_err();
    assert!(matches!(error, Error::PageLost { .. }), "{error}");
    assert_eq!(
        read_page(&store, (Kind::Volume, "v"), 8).unwrap(),
        [3; SLOT_LEN]
    );
}

#[test]
fn a_store_that_somebody_has_open_is_not_repaired() {
    let region = Region::new();
    region.disk().remove("superblock-a").unwrap();
    let store = region.open();
    let kms = Arc::new(region.kms.clone());
    let error = options().repair_on(region.on(), kms, &CheckOptions::new());
    assert!(matches!(error.unwrap_err(), Error::Locked { .. }));
    store.close().unwrap();
    assert!(region.repair().left.is_clean());
}

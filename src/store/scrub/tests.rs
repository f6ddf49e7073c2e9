//! A scrub finds what is damaged under an open store, once, and changes nothing but its own record.

use std::io::ErrorKind;

use crate::btree::{Found, PageTable};
use crate::check::{CODES, CheckOptions, Report, check};
use crate::error::Error;
use crate::file_kms::FileKms;
use crate::format::entry::{DataEntry, Entry};
use crate::format::node::NodeRef;
use crate::format::scrub::{SCRUB_FILE, ScrubFault, ScrubFinding};
use crate::format::segment::segment_file_name;
use crate::io::fault::{Class, FaultDisk, Times};
use crate::io::sim::{SimClock, SimDisk, SimMachine, SimRandom};
use crate::io::{Access, Disk};
use crate::store::scrub::ScrubStep;
use crate::store::{Machine, Options, ScrubOptions, Store};
use crate::sync::Arc;
use crate::units::{KeyId, PageNo, SLOT_LEN, SlotAddr};

const PAGE: u64 = SLOT_LEN as u64;
/// Several steps' worth.
const PAGES: u64 = 1500;

struct Region {
    machine: SimMachine,
    kms: FileKms,
    key: KeyId,
    opens: u64,
}

fn options() -> Options {
    Options::new().fanout(8).workers(0).segment_len(1 << 20)
}

fn contents(seed: u64, count: u64) -> Vec<u8> {
    let byte = |index: u64| (index.wrapping_mul(seed * 2 + 1) >> 4) as u8;
    (0..count * PAGE).map(byte).collect()
}

impl Region {
    /// With a volume `v`, a snapshot and a clone of it, and changes to both volumes after that.
    fn new() -> (Self, Store) {
        let machine = SimMachine::new();
        let (clock, random) = sources(1);
        let disk = Arc::new(machine.dir("kms"));
        let kms = FileKms::create_on(disk, "local", clock, random).unwrap();
        kms.create_key(Some("alias/offshoot-store")).unwrap();
        let key = kms.create_key(Some("alias/default")).unwrap().id;
        let region = Self {
            machine,
            kms,
            key,
            opens: 1,
        };
        let (clock, random) = sources(2);
        let on = Machine {
            disk: Arc::new(region.disk()),
            clock,
            random,
        };
        let store = options()
            .create_on(on, Arc::new(region.kms.clone()))
            .unwrap();
        let volume = store.create_volume("v", PAGES * PAGE, &key).unwrap();
        volume.write_all_at(&contents(1, PAGES), 0).unwrap();
        volume.create_snapshot("s").unwrap();
        let clone = volume.create_clone("c", &key).unwrap();
        clone.write_all_at(&contents(2, 10), 100 * PAGE).unwrap();
        volume.write_all_at(&contents(3, 10), 200 * PAGE).unwrap();
        store.checkpoint().unwrap();
        (region, store)
    }

    fn disk(&self) -> SimDisk {
        self.machine.dir("store")
    }

    fn open(&mut self) -> Store {
        self.open_on(Arc::new(self.disk()))
    }

    fn open_on(&mut self, disk: Arc<dyn Disk>) -> Store {
        self.opens += 2;
        let (clock, random) = sources(self.opens);
        let on = Machine {
            disk,
            clock,
            random,
        };
        options().open_on(on, Arc::new(self.kms.clone())).unwrap()
    }

    fn fsck(&self) -> Report {
        let options = CheckOptions::new().kms(Arc::new(self.kms.clone()));
        check(&self.disk(), &options.read_data(true)).unwrap()
    }

    fn flip(&self, name: &str, offset: u64) {
        let file = self.disk().open(name, Access::ReadWrite).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
    }

    fn flip_slot(&self, at: SlotAddr) {
        self.flip(
            &segment_file_name(at.segment),
            u64::from(at.slot) * PAGE + 99,
        );
    }

    /// All files and what is in them, but for the record of scrubs.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let names = self.disk().list().unwrap().into_iter();
        let names = names.filter(|name| name != SCRUB_FILE);
        let read = |name: String| {
            let file = self.disk().open(&name, Access::Read).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            (name, bytes)
        };
        names.map(read).collect()
    }
}

fn sources(seed: u64) -> (Arc<SimClock>, Arc<SimRandom>) {
    let clock = SimClock::new(1000 * seed);
    (Arc::new(clock), Arc::new(SimRandom::new(seed)))
}

fn tree(store: &Store, name: &str) -> PageTable {
    let state = store.0.state.read();
    let mut heads = state.heads();
    let found = heads.find(|head| head.record.name == name).unwrap();
    found.tree.clone()
}

/// Where a page of a head is.
fn entry(store: &Store, name: &str, page: u64) -> DataEntry {
    let found = tree(store, name).get(&store.0.nodes, PageNo(page)).unwrap();
    match found {
        Some(Entry::Data(data)) => data,
        other => panic!("{other:?}"),
    }
}

/// The leaves of a head, in the order of their places.
fn leaves(store: &Store, name: &str) -> Vec<NodeRef> {
    let mut leaves = Vec::new();
    let mut found = |found| match found {
        Found::Node(node) if node.level == 0 => leaves.push(node),
        _ => {}
    };
    let tree = tree(store, name);
    tree.visit_own(&store.0.nodes, &mut |_| true, &mut found)
        .unwrap();
    leaves
}

fn live_bytes(store: &Store) -> u64 {
    store.0.state.read().space().live().len() * PAGE
}

/// Scrubs to the end; gives the sum of all steps.
fn scrub(store: &Store, options: &ScrubOptions) -> ScrubStep {
    let mut scrub = store.scrub(options).unwrap();
    let mut all = ScrubStep::default();
    for step in scrub.by_ref() {
        let step = step.unwrap();
        all.bytes += step.bytes;
        all.locked_bytes += step.locked_bytes;
        all.found.extend(step.found);
    }
    assert!(scrub.unsaved().is_none(), "{:?}", scrub.unsaved());
    all
}

fn faults(found: &[ScrubFinding]) -> Vec<ScrubFault> {
    let mut faults: Vec<_> = found.iter().map(|found| found.fault).collect();
    faults.sort_by_key(|fault| fault.code());
    faults
}

#[test]
fn a_pass_reads_all_that_is_live_once_however_many_heads_share_it() {
    let (region, store) = Region::new();
    let live = live_bytes(&store);
    let all = scrub(&store, &ScrubOptions::new());
    assert_eq!(all.found, []);
    assert_eq!(all.locked_bytes, 0);
    // Nodes on the way to where a step goes on are read again.
    assert!(
        all.bytes >= live && all.bytes < live + live / 10,
        "{live} {all:?}"
    );
    let state = store.scrub_state().unwrap();
    assert!(state.ended_at_ms.is_some() && !state.is_under_way);
    store.close().unwrap();
    let report = region.fsck();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn what_is_damaged_under_an_open_store_is_found_and_left_as_it_is() {
    let (mut region, store) = Region::new();
    let page = entry(&store, "s", 7);
    region.flip_slot(page.at);
    let leaf = *leaves(&store, "v").last().unwrap();
    region.flip_slot(leaf.at);
    let generation = store.info().unwrap().generation;
    region.flip("superblock-b", generation % 2 * PAGE + 50);
    let files = region.files();
    let all = scrub(&store, &ScrubOptions::new());
    let expected = [
        ScrubFault::SuperblockCopyLost,
        ScrubFault::NodeDamaged,
        ScrubFault::PageDamaged,
    ];
    assert_eq!(faults(&all.found), expected);
    assert!(region.files() == files, "a scrub repairs nothing");
    let of_page = all
        .found
        .iter()
        .find(|it| it.fault == ScrubFault::PageDamaged);
    let of_page = of_page.unwrap();
    assert_eq!((of_page.at, of_page.page), (Some(page.at), Some(PageNo(7))));
    assert!(
        of_page.head.as_deref() == Some("volume \"v\""),
        "{of_page:?}"
    );
    let mut bytes = [0; SLOT_LEN];
    let volume = store.volume("v").unwrap();
    let error = volume.read_exact_at(&mut bytes, 7 * PAGE).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    volume.read_exact_at(&mut bytes, 9 * PAGE).unwrap();
    // It is known after the store was opened again, and found once more and not twice.
    drop((volume, store));
    let store = region.open();
    let known = store.scrub_state().unwrap().findings;
    assert_eq!(faults(&known), expected);
    scrub(&store, &ScrubOptions::new().restart());
    let again = store.scrub_state().unwrap().findings;
    assert!(
        again.len() == 3 || again.len() == 2,
        "the superblock may be written anew: {again:?}"
    );
    let of_page = again
        .iter()
        .find(|it| it.fault == ScrubFault::PageDamaged)
        .unwrap();
    assert!(of_page.first_at_ms < of_page.last_at_ms && of_page.pass == 2);
}

#[test]
fn a_store_that_was_just_made_has_one_superblock_and_lacks_none() {
    let (region, _store) = Region::new();
    let machine = SimMachine::new();
    let (clock, random) = sources(9);
    let on = Machine {
        disk: Arc::new(machine.dir("new")),
        clock,
        random,
    };
    let store = options()
        .create_on(on, Arc::new(region.kms.clone()))
        .unwrap();
    assert_eq!(scrub(&store, &ScrubOptions::new()).found, []);
    let file = machine.dir("new").open("superblock-a", Access::ReadWrite);
    let generation = store.info().unwrap().generation;
    let at = generation % 2 * PAGE;
    file.unwrap().write_all_at(&[0; SLOT_LEN], at).unwrap();
    let all = scrub(&store, &ScrubOptions::new());
    assert_eq!(faults(&all.found), [ScrubFault::SuperblockCopyLost]);
}

#[test]
fn damaged_tables_are_found() {
    let (region, store) = Region::new();
    let tables = store.0.checkpoint.lock().superblock.tables.unwrap();
    region.flip_slot(tables.at);
    let all = scrub(&store, &ScrubOptions::new());
    assert_eq!(faults(&all.found), [ScrubFault::TableDamaged]);
    assert_eq!(all.found[0].at, Some(tables.at));
}

#[test]
fn a_finding_goes_when_what_was_damaged_is_gone() {
    let (region, store) = Region::new();
    region.flip_slot(entry(&store, "c", 100).at);
    scrub(&store, &ScrubOptions::new());
    assert_eq!(store.scrub_state().unwrap().findings.len(), 1);
    // A scrub of something else says nothing of it.
    let id = store.volume("v").unwrap().info().unwrap().id;
    scrub(&store, &ScrubOptions::new().only(id));
    assert_eq!(store.scrub_state().unwrap().findings.len(), 1);
    store.volume("c").unwrap().delete().unwrap();
    store.compact(|_| true).unwrap();
    scrub(&store, &ScrubOptions::new());
    assert_eq!(store.scrub_state().unwrap().findings, []);
}

#[test]
fn only_what_is_asked_for_is_read() {
    let (region, store) = Region::new();
    region.flip_slot(entry(&store, "v", 200).at);
    let id = store.volume("c").unwrap().info().unwrap().id;
    let all = scrub(&store, &ScrubOptions::new().only(id));
    assert_eq!(all.found, []);
    assert!(all.bytes > PAGES * PAGE && all.bytes < live_bytes(&store) * 11 / 10);
    let none = crate::units::ResourceId([9; 16]);
    let error = store.scrub(&ScrubOptions::new().only(none)).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[test]
fn a_pass_that_was_interrupted_goes_on_where_it_was() {
    let (mut region, store) = Region::new();
    region.flip_slot(entry(&store, "s", 3).at);
    let live = live_bytes(&store);
    let mut first = store.scrub(&ScrubOptions::new()).unwrap();
    let mut done = 0;
    for _ in 0..2 {
        done += first.next().unwrap().unwrap().bytes;
    }
    first.save().unwrap();
    assert!(done > live / 4 && done < live * 3 / 4, "{done} of {live}");
    drop((first, store));
    let store = region.open();
    assert!(store.scrub_state().unwrap().is_under_way);
    let mut second = store.scrub(&ScrubOptions::new()).unwrap();
    let mut bytes = 0;
    let mut last = 0;
    for step in second.by_ref() {
        let step = step.unwrap();
        bytes += step.bytes;
        last = step.done_bytes;
    }
    assert!(
        bytes < live - done * 3 / 4,
        "{bytes} after {done} of {live}"
    );
    assert!(last >= live, "{last} of {live}");
    assert_eq!(second.found().count(), 1, "what was found before is found");
    drop(second);
    let state = store.scrub_state().unwrap();
    assert_eq!(state.findings.len(), 1);
    assert!(!state.is_under_way);
    // Begun anew, all is read.
    let mut third = store.scrub(&ScrubOptions::new()).unwrap();
    third.next().unwrap().unwrap();
    third.save().unwrap();
    drop(third);
    let all = scrub(&store, &ScrubOptions::new().restart());
    assert!(all.bytes >= live_bytes(&store));
}

#[test]
fn one_scrub_at_a_time_and_none_of_a_store_that_is_only_read() {
    let (region, store) = Region::new();
    let first = store.scrub(&ScrubOptions::new()).unwrap();
    let error = store.scrub(&ScrubOptions::new()).unwrap_err();
    assert!(matches!(error, Error::InvalidState { .. }), "{error}");
    drop(first);
    drop(store.scrub(&ScrubOptions::new()).unwrap());
    store.close().unwrap();
    let (clock, random) = sources(50);
    let on = Machine {
        disk: Arc::new(region.disk()),
        clock,
        random,
    };
    let kms = Arc::new(region.kms.clone());
    let store = options().read_only(true).open_on(on, kms).unwrap();
    let error = store.scrub(&ScrubOptions::new()).unwrap_err();
    assert!(matches!(error, Error::ReadOnly), "{error}");
    store.scrub_state().unwrap();
}

#[test]
fn pages_under_a_locked_key_are_compared_with_their_checksums() {
    let (mut region, store) = Region::new();
    store.close().unwrap();
    region.kms.disable_key(&region.key.to_string()).unwrap();
    let store = region.open();
    region.flip_slot(entry(&store, "s", 7).at);
    let all = scrub(&store, &ScrubOptions::new());
    assert_eq!(faults(&all.found), [ScrubFault::PageDamaged]);
    assert_eq!(all.locked_bytes, (PAGES + 20 - 1) * PAGE);
}

#[test]
fn a_page_that_is_whole_and_not_the_stores_is_found_by_its_tag() {
    let (_region, store) = Region::new();
    let state = store.0.state.read().clone();
    let head = state.heads().find(|head| head.record.name == "v").unwrap();
    let whole = entry(&store, "v", 5);
    let forged = DataEntry {
        tag: [1; 16],
        ..whole
    };
    let look = |entry| {
        let mut step = ScrubStep::default();
        let read = store.0.verify(head, vec![(PageNo(5), entry)], &mut step);
        assert_eq!(read, [whole.at]);
        faults(&step.found)
    };
    assert_eq!(look(whole), []);
    assert_eq!(look(forged), [ScrubFault::PageForged]);
}

#[test]
fn a_scrub_that_cannot_be_written_down_goes_on() {
    let (mut region, store) = Region::new();
    store.close().unwrap();
    let disk = FaultDisk::new(Arc::new(region.disk()));
    let disk_faults = disk.faults();
    let store = region.open_on(Arc::new(disk));
    region.flip_slot(entry(&store, "s", 7).at);
    let mut scrub = store.scrub(&ScrubOptions::new()).unwrap();
    disk_faults.count_only(Class::Create);
    disk_faults.fail_nth(1, ErrorKind::StorageFull, Times::ForGood);
    let found: usize = scrub.by_ref().map(|step| step.unwrap().found.len()).sum();
    assert_eq!(found, 1);
    let unsaved = scrub.unsaved().expect("the disk is full");
    assert!(matches!(unsaved, Error::NoSpace { .. }), "{unsaved}");
    disk_faults.heal();
    let volume = store.volume("v").unwrap();
    volume.write_all_at(&[1], 0).unwrap();
    store.flush().unwrap();
    assert_eq!(store.scrub_state().unwrap().findings, []);
    scrub.save().unwrap();
    assert_eq!(store.scrub_state().unwrap().findings.len(), 1);
}

#[test]
fn what_the_disk_cannot_read_is_found_and_poisons_nothing() {
    let (mut region, store) = Region::new();
    store.close().unwrap();
    let disk = FaultDisk::new(Arc::new(region.disk()));
    let disk_faults = disk.faults();
    let store = region.open_on(Arc::new(disk));
    let mut scrub_one = store.scrub(&ScrubOptions::new()).unwrap();
    scrub_one.next().unwrap().unwrap();
    disk_faults.count_only(Class::Read);
    disk_faults.fail_nth(1, ErrorKind::Other, Times::ForGood);
    let step = scrub_one.next().unwrap().unwrap();
    disk_faults.heal();
    assert!(!step.found.is_empty());
    let cannot = |found: &ScrubFinding| found.message.contains("cannot be read");
    assert!(step.found.iter().all(cannot), "{:?}", step.found);
    drop(scrub_one);
    let volume = store.volume("v").unwrap();
    volume.write_all_at(&[1], 0).unwrap();
    volume.flush().unwrap();
    scrub(&store, &ScrubOptions::new().restart());
    assert_eq!(store.scrub_state().unwrap().findings, []);
}

#[test]
fn changes_deletes_and_reclaim_during_a_pass_are_no_damage() {
    let (region, store) = Region::new();
    let volume = store.volume("v").unwrap();
    let mut scrub = store.scrub(&ScrubOptions::new()).unwrap();
    let (mut number, mut steps) = (0, 0);
    for step in scrub.by_ref() {
        assert_eq!(step.unwrap().found, []);
        steps += 1;
        for _ in 0..40 {
            number += 1;
            let page = number * 389 % PAGES;
            volume
                .write_all_at(&contents(number, 3), page.min(PAGES - 3) * PAGE)
                .unwrap();
        }
        match steps {
            1 => store.volume("c").unwrap().delete().unwrap(),
            2 => store.snapshot("s").unwrap().delete().unwrap(),
            _ => drop(
                volume
                    .create_clone(&format!("c{number}"), &region.key)
                    .unwrap(),
            ),
        }
        store.compact(|_| true).unwrap();
        if steps > 20 {
            break;
        }
    }
    assert!(steps > 3, "{steps}");
    drop((scrub, volume));
    assert_eq!(store.scrub_state().unwrap().findings, []);
    store.close().unwrap();
    let report = region.fsck();
    assert!(report.is_clean(), "{report}");
}

/// A scrub that has a head's keys already when it is deleted and removed.
#[test]
fn a_page_shared_with_a_head_that_goes_meanwhile_is_left_to_those_that_stay() {
    let (region, store) = Region::new();
    let volume = store.volume("v").unwrap();
    let gone = volume.create_clone("gone", &region.key).unwrap();
    // It has a key epoch of its own now, by way of which it opens what it shares.
    gone.write_all_at(&contents(5, 4), 0).unwrap();
    let inner = &store.0;
    let head = {
        let state = inner.state.read();
        let mut heads = state.heads();
        heads
            .find(|head| head.record.name == "gone")
            .unwrap()
            .clone()
    };
    let keys = inner.scrub_keys(&head);
    let pages: Vec<_> = (10..20)
        .map(|page| (PageNo(page), entry(&store, "gone", page)))
        .collect();
    gone.delete().unwrap();
    inner.remove_deleted().unwrap();
    store.checkpoint().unwrap();
    let mut step = ScrubStep::default();
    let read = inner.verify_with(&head, keys.as_deref(), pages, &mut step);
    assert_eq!(step.found, []);
    // They are read by way of `v` later.
    assert_eq!(read, []);
    assert_eq!(scrub(&store, &ScrubOptions::new()).found, []);
}

#[test]
fn a_damaged_record_of_scrubs_is_found_by_fsck_and_replaced_by_the_next() {
    let (mut region, store) = Region::new();
    scrub(&store, &ScrubOptions::new());
    store.close().unwrap();
    assert!(region.fsck().is_clean());
    region.flip(SCRUB_FILE, 20);
    let report = region.fsck();
    let codes: Vec<_> = report.findings.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["OF-0213 scrub-record"]);
    let store = region.open();
    assert_eq!(store.scrub_state().unwrap(), Default::default());
    scrub(&store, &ScrubOptions::new());
    store.close().unwrap();
    assert!(region.fsck().is_clean());
}

#[test]
fn every_fault_has_a_code_of_fsck() {
    for fault in ScrubFault::all() {
        assert!(
            CODES.iter().any(|code| code.code == fault.code()),
            "{fault:?}"
        );
    }
}

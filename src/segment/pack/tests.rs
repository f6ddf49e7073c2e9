use std::collections::BTreeMap;

use proptest::prelude::{prop, proptest};

use super::Pack;
use crate::error::Damage;
use crate::format::pack::{PackIndex, PackPart, PackRecord};
use crate::io::Disk;
use crate::io::sim::SimMachine;
use crate::units::{PackId, SLOT_LEN, SegmentId, StoreId};

const STORE: StoreId = StoreId([1; 16]);
const SLOTS: u32 = 300;

fn index(sets: &[Vec<bool>]) -> PackIndex {
    let part = |(number, set): (u32, &Vec<bool>)| {
        let mut runs: Vec<std::ops::Range<u32>> = Vec::new();
        for (slot, _) in (1..).zip(set).filter(|(_, is_in)| **is_in) {
            match runs.last_mut() {
                Some(run) if run.end == slot => run.end += 1,
                _ => runs.push(slot..slot + 1),
            }
        }
        let segment = SegmentId(number);
        (!runs.is_empty()).then_some(PackPart { segment, runs })
    };
    PackIndex {
        pack: PackId(3),
        store_id: STORE,
        segment_slots: SLOTS,
        parts: (1..).zip(sets).filter_map(part).collect(),
    }
}

fn open(index: &PackIndex) -> Pack {
    let disk = SimMachine::new().dir("store");
    let file = disk.create("pack", 1).unwrap();
    let map = file.map().unwrap();
    Pack::new(index, file, map)
}

proptest! {
    #[test]
    fn a_slot_is_where_those_before_it_end(
        sets in prop::collection::vec(prop::collection::vec(prop::bool::weighted(0.6), 0..290), 1..4),
    ) {
        let index = index(&sets);
        if index.parts.is_empty() {
            return Ok(());
        }
        let decoded = PackIndex::decode(&index.encode()).unwrap();
        assert_eq!(decoded, index);
        let pack = open(&index);
        let mut place = index.index_slots();
        for part in &index.parts {
            let mut places = BTreeMap::new();
            for slot in part.runs.iter().cloned().flatten() {
                places.insert(slot, place);
                place += 1;
            }
            for slot in 0..SLOTS + 70 {
                let expected = places.get(&slot).copied();
                assert_eq!(pack.place(part.segment, slot, 1), expected);
                let both = expected.filter(|_| places.contains_key(&(slot + 1)));
                assert_eq!(pack.place(part.segment, slot, 2), both);
            }
            let runs = pack.runs(part.segment).into_iter();
            let runs = runs.map(|(run, place)| {
                assert_eq!(places[&run.start], place);
                run
            });
            assert_eq!(runs.collect::<Vec<_>>(), part.runs);
        }
        assert_eq!(place, index.slot_count());
        assert_eq!(pack.place(SegmentId(9), 1, 1), None);
    }
}

#[test]
fn a_pack_that_is_not_the_recorded_one_is_not_opened() {
    let disk = SimMachine::new().dir("store");
    let index = index(&[vec![true; 4], vec![false, true, true]]);
    let record = index.record();
    let bytes = index.encode();
    let file = disk.create("pack", u64::from(record.slot_count) * SLOT_LEN as u64);
    let file = file.unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    let open =
        |record: &PackRecord, store| Pack::open(&disk, "pack", record, store, SLOTS).unwrap();
    assert_eq!(open(&record, STORE).unwrap().id(), PackId(3));
    let refused = |result: Result<Pack, Damage>| result.unwrap_err();
    assert_eq!(
        refused(open(&record, StoreId([2; 16]))),
        Damage::WrongIdentity
    );
    let (mut number, mut hash, mut segments) = (record.clone(), record.clone(), record.clone());
    number.pack = PackId(4);
    hash.index_hash[3] ^= 1;
    segments.segments = vec![SegmentId(1)];
    for other in [number, hash, segments] {
        assert_eq!(refused(open(&other, STORE)), Damage::BadHash);
    }
    let mut longer = record.clone();
    longer.slot_count += 1;
    assert_eq!(refused(open(&longer, STORE)), Damage::Truncated);
    for offset in [0, 9, 40, 70, bytes.len() as u64 - 1] {
        file.write_all_at(&[0x55], offset).unwrap();
        assert!(open(&record, STORE).is_err(), "byte {offset}");
        let old = bytes[offset as usize];
        file.write_all_at(&[old], offset).unwrap();
    }
    assert!(open(&record, STORE).is_ok());
    assert!(Pack::open(&disk, "none", &record, STORE, SLOTS).is_err());
}

//! Damage to bytes that were acknowledged: an error with its place, never other data.

use offshoot::format::batch::{BatchHead, header_slots};
use offshoot::format::record::{Record, Records};
use offshoot::format::segment::segment_file_name;
use offshoot::io::Disk;
use offshoot::io::sim::SimMachine;
use offshoot::{Damage, Error, Secret, SlotAddr};

use crate::log::write;
use offshoot_torture::model::{Action, Kind, Model, PAGE_SECTORS, SECTOR};
use offshoot_torture::nonces::{SLOT_LEN, batches, file_bytes, overwrite, segments};
use offshoot_torture::ops::starts;
use offshoot_torture::rig::{Host, Process};

fn file_of(at: SlotAddr) -> String {
    segment_file_name(at.segment)
}

fn slot_bytes(machine: &SimMachine, at: SlotAddr) -> Vec<u8> {
    file_bytes(machine, &file_of(at))[at.slot as usize * SLOT_LEN..][..SLOT_LEN].to_vec()
}

fn put_slot(machine: &SimMachine, at: SlotAddr, bytes: &[u8]) {
    overwrite(
        machine,
        &file_of(at),
        u64::from(at.slot) * SLOT_LEN as u64,
        bytes,
    );
}

/// Where the pages of a batch are, with their numbers.
fn pages_of(batch: &BatchHead) -> Vec<(u64, SlotAddr)> {
    let records = Records::new(&batch.records).filter_map(|record| match record {
        Ok(Record::Pages { deltas, .. }) => Some(deltas),
        _ => None,
    });
    records
        .flatten()
        .map(|delta| (delta.page.0, delta.entry.at))
        .collect()
}

/// Reads all pages one by one: each is what the model says or an error that blames the bytes.
/// Gives the number of errors.
fn read_each_page(process: &Process, model: &Model, what: &str) -> usize {
    let mut errors = 0;
    assert_eq!(
        process.store.volumes().len(),
        model.names(Kind::Volume).len(),
        "{what}"
    );
    for ((kind, name), contents) in &model.heads {
        for (page, expected) in contents.chunks(PAGE_SECTORS as usize).enumerate() {
            let (mut bytes, offset) = (vec![0xEE; SLOT_LEN], (page * SLOT_LEN) as u64);
            let read = match kind {
                Kind::Volume => process
                    .store
                    .volume(name)
                    .unwrap()
                    .read_exact_at(&mut bytes, offset),
                Kind::Snapshot => process
                    .store
                    .snapshot(name)
                    .unwrap()
                    .read_exact_at(&mut bytes, offset),
                Kind::Pin => process
                    .store
                    .pin(name)
                    .unwrap()
                    .read_exact_at(&mut bytes, offset),
            };
            match read {
                Ok(()) => {
                    let numbers = bytes.chunks(SECTOR as usize).map(|sector| {
                        u32::from_le_bytes([sector[0], sector[1], sector[2], sector[3]])
                    });
                    assert!(
                        numbers.eq(expected.iter().copied()),
                        "{what}: page {page} of {name}"
                    );
                }
                Err(Error::Corrupt { .. }) => errors += 1,
                Err(error) => panic!("{what}: page {page} of {name}: {error:?}"),
            }
        }
    }
    errors
}

/// Opens a damaged store and reads all of it: errors, or what the model says.
fn never_wrong(machine: &SimMachine, model: &Model, what: &str) -> usize {
    match Host::new(machine, 99).open() {
        Ok(process) => read_each_page(&process, model, what),
        Err(Error::Corrupt { .. }) => 1,
        Err(error) => panic!("{what}: {error:?}"),
    }
}

/// A store whose log, and so its later batches, says what was durable; not closed.
fn acknowledged_store() -> (SimMachine, Model) {
    let start = &starts()[0];
    let machine = start.machine.kill();
    let process = Host::new(&machine, 61).open().unwrap();
    let mut model = start.model.clone();
    let actions = [
        write(1, 1, 61),
        write(5, 2, 62),
        Action::Flush,
        write(8, 1, 63),
        Action::Flush,
    ];
    for action in actions {
        process.act(&action).unwrap();
        model = model.after(&action);
    }
    (machine.kill(), model)
}

#[test]
fn damage_at_or_before_what_was_durable_is_never_a_shorter_log() {
    let (machine, model) = acknowledged_store();
    let (mut flips, mut errors) = (0, 0);
    let all = batches(&machine);
    let last = all.iter().map(|batch| batch.header.seq).max().unwrap();
    let before = all.iter().filter(|batch| batch.header.seq < last);
    for batch in before {
        let (at, end) = (batch.header.at, batch.end());
        for offset in (at.slot as usize * SLOT_LEN..end.slot as usize * SLOT_LEN).step_by(97) {
            let machine = machine.kill();
            let old = file_bytes(&machine, &file_of(at))[offset];
            overwrite(&machine, &file_of(at), offset as u64, &[!old]);
            flips += 1;
            let what = format!("byte {offset} of {}", file_of(at));
            errors += usize::from(never_wrong(&machine, &model, &what) > 0);
        }
    }
    assert!(flips > 500 && errors > 100, "{flips} flips, {errors} seen");
}

#[test]
fn damage_after_the_last_witness_is_a_torn_tail() {
    let (machine, _) = acknowledged_store();
    let last = offshoot_torture::nonces::last_batch(&machine).unwrap();
    put_slot(&machine, last.header.at, &[0xAA; SLOT_LEN]);
    let model = Host::new(&machine, 62).open().unwrap().read().unwrap();
    let start = &starts()[0].model;
    assert_eq!(model, start.after(&write(1, 1, 61)).after(&write(5, 2, 62)));
    // Once a checkpoint has said so, it was durable.
    let (machine, _) = acknowledged_store();
    let process = Host::new(&machine, 63).open().unwrap();
    process.store.checkpoint().unwrap();
    process.act(&write(2, 1, 64)).unwrap();
    process.store.close().unwrap();
    let last = offshoot_torture::nonces::last_batch(&machine).unwrap();
    put_slot(&machine, last.header.at, &[0xAA; SLOT_LEN]);
    let opened = Host::new(&machine, 64).open();
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
}

#[test]
fn swap_replay_cut_detected() {
    let start = &starts()[0];
    let machine = start.machine.kill();
    let process = Host::new(&machine, 71).open().unwrap();
    let mut model = start.model.clone();
    let mut nodes = Vec::new();
    for number in 71..75 {
        for action in [
            write(1, 2, number),
            write(7, 1, number + 100),
            Action::Checkpoint,
        ] {
            process.act(&action).unwrap();
            model = model.after(&action);
        }
        nodes.push(node_slots(&machine));
    }
    process.store.close().unwrap();
    let all = batches(&machine);
    let pages: Vec<_> = all.iter().flat_map(pages_of).collect();
    let mut errors = 0;
    // Each page in the place of each other: swapped, or an older one replayed.
    for (page, at) in &pages {
        for (other, from) in pages.iter().filter(|(_, from)| from != at) {
            let machine = machine.kill();
            put_slot(&machine, *at, &slot_bytes(&machine, *from));
            let what = format!("page {other} of {from} at page {page} of {at}");
            errors += never_wrong(&machine, &model, &what);
        }
    }
    // Each node of a checkpoint in the place of each of another.
    for at in nodes.iter().flatten() {
        for from in nodes.iter().flatten().filter(|from| *from != at) {
            let machine = machine.kill();
            put_slot(&machine, *at, &slot_bytes(&machine, *from));
            errors += never_wrong(&machine, &model, &format!("the node of {from} at {at}"));
        }
    }
    assert!(errors > 100, "{errors}");
    // Each segment cut at each sector, and gone: no other data, and no shorter log. A segment of
    // which nothing is in use any more is not missed.
    let mut missed = 0;
    let names = segments(&machine);
    for (_, name) in &names {
        let bytes = file_bytes(&machine, name);
        for len in (0..bytes.len()).step_by(512) {
            let machine = machine.kill();
            let directory = machine.dir("store");
            directory.remove(name).unwrap();
            let cut = directory.create(name, len as u64).unwrap();
            cut.write_all_at(&bytes[..len], 0).unwrap();
            never_wrong(&machine, &model, &format!("{name} of {len} bytes"));
        }
        let machine = machine.kill();
        machine.dir("store").remove(name).unwrap();
        missed += usize::from(never_wrong(&machine, &model, &format!("no {name}")) > 0);
    }
    assert!(missed >= 2, "{missed} of {} segments", names.len());
}

#[test]
fn a_forged_table_is_refused() {
    let start = &starts()[0];
    let superblock = crate::superblocks::superblocks(&start.machine)
        .into_iter()
        .max_by_key(|superblock| superblock.generation)
        .unwrap();
    let at = superblock.tables.unwrap().at;
    let all = batches(&start.machine);
    let table = all.iter().find(|batch| batch.header.at == at).unwrap();
    // The volume is given another name, and the checksum is made right.
    let mut records = Vec::new();
    let mut renamed = 0;
    for record in Records::new(&table.records) {
        let mut record = record.unwrap();
        if let Record::Head(head) = &mut record {
            head.name = "w0".to_owned();
            renamed += 1;
        }
        record.encode(&mut records);
    }
    assert_eq!(renamed, 1);
    let mut slots = vec![0; header_slots(records.len()) as usize * SLOT_LEN];
    table
        .header
        .encode(&records, &mut slots, &Secret::from_bytes([7; 32]));
    let machine = start.machine.kill();
    overwrite(
        &machine,
        &file_of(at),
        u64::from(at.slot) * SLOT_LEN as u64,
        &slots,
    );
    let opened = Host::new(&machine, 91).open();
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
}

fn node_slots(machine: &SimMachine) -> Vec<SlotAddr> {
    let all = batches(machine);
    let with_nodes = all.iter().filter(|batch| {
        Records::new(&batch.records).any(|record| matches!(record, Ok(Record::Nodes(_))))
    });
    let slots = with_nodes.flat_map(|batch| {
        let (body, end) = (batch.body(), batch.end());
        (body.slot..end.slot).map(move |slot| SlotAddr { slot, ..body })
    });
    slots.collect()
}

#[test]
fn a_damaged_page_says_which_page_it_is() {
    let (machine, _) = acknowledged_store();
    let process = Host::new(&machine, 81).open().unwrap();
    process.store.close().unwrap();
    let all = batches(&machine);
    let (page, at) = all.iter().flat_map(pages_of).last().unwrap();
    let mut bytes = slot_bytes(&machine, at);
    bytes[100] ^= 1;
    put_slot(&machine, at, &bytes);
    let process = Host::new(&machine, 82).open().unwrap();
    let volume = process.store.volume("v0").unwrap();
    let error = volume
        .read_exact_at(&mut [0; 10], page * 4096 + 7)
        .unwrap_err();
    let Error::Corrupt { location, damage } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*damage, Damage::BadTag);
    let text = location.to_string();
    assert!(
        text.contains("v0") && text.contains(&page.to_string()),
        "{text}"
    );
}

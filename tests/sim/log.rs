//! The rules of the log, each a test of the name that the design gives it.

use std::sync::Arc;

use offshoot::check::{self, CheckOptions};
use offshoot::format::batch::{BatchHead, BatchHeader, header_slots};
use offshoot::format::record::{Record, Records};
use offshoot::format::segment::{SegmentHeader, segment_file_name};
use offshoot::io::fault::{Class, Failure, FaultDisk, Times};
use offshoot::io::sim::{Crash, Lie, SimMachine, WriteChoice};
use offshoot::{Secret, Seq, SlotAddr};

use crate::campaign::captures;
use crate::superblocks::superblocks;
use offshoot_torture::model::{Action, Model, PAGE_SECTORS};
use offshoot_torture::nonces::{
    Nonces, SLOT_LEN, batches, file_bytes, last_batch, overwrite, segments, slots_of,
};
use offshoot_torture::ops::{OPS, Op, starts};
use offshoot_torture::oracle::{case_of, check};
use offshoot_torture::rig::{Host, Process, SEGMENT_SLOTS, Watch};
use offshoot_torture::run::Planted;

pub fn write(first: u64, count: u64, number: u32) -> Action {
    let sectors = first * PAGE_SECTORS..(first + count) * PAGE_SECTORS;
    Action::Write {
        name: "v0".to_owned(),
        sectors,
        number,
    }
}

pub fn read(machine: &SimMachine, seed: u64) -> Model {
    Host::new(machine, seed).open().unwrap().read().unwrap()
}

pub fn act(process: &Process, model: &mut Model, action: &Action) {
    process.act(action).unwrap();
    *model = model.after(action);
}

/// A fork of the first start, open.
pub fn opened() -> (SimMachine, Process, Model) {
    let machine = starts()[0].machine.kill();
    let process = Host::new(&machine, 11).open().unwrap();
    (machine, process, starts()[0].model.clone())
}

#[test]
fn recovery_syncs_what_it_accepts() {
    let show_flush_lose = |lie: Lie| {
        let (machine, process, mut model) = opened();
        act(&process, &mut model, &write(1, 1, 5));
        act(&process, &mut model, &write(3, 2, 6));
        // Killed before any flush: what it wrote can be read, and may be lost.
        let machine = machine.kill();
        drop(process);
        machine.drop_syncs(lie);
        let process = Host::new(&machine, 12).open().unwrap();
        assert_eq!(
            process.read().unwrap(),
            model,
            "a kill loses nothing that can be read"
        );
        process.store.flush().unwrap();
        (read(&machine.power_loss(&Crash::NONE_KEPT), 13), model)
    };
    let (found, shown) = show_flush_lose(Lie::Never);
    assert_eq!(found, shown);
    let (found, shown) = show_flush_lose(Lie::Always);
    assert_ne!(found, shown, "the test would notice");
}

/// Rebello et al., "Can Applications Recover from fsync Failures?" (ATC 2020): after a sync that failed the cache shows as
/// clean what never reached the medium, and the next sync succeeds.
#[test]
fn what_a_failed_sync_lost_is_not_taken_from_the_cache() {
    let (mut lost, mut kept) = (0, 0);
    for number in 0..12 {
        let (machine, mut model) = (starts()[0].machine.kill(), starts()[0].model.clone());
        let disk = FaultDisk::new(Arc::new(machine.dir("store")));
        let faults = disk.faults();
        let mut host = Host::new(&machine, 20 + u64::from(number));
        host.store = Arc::new(disk);
        let process = host.open().unwrap();
        // Which writes a failed sync loses depends on what was before.
        for more in 0..number {
            act(&process, &mut model, &write(5, 1, 50 + more));
        }
        process.store.flush().unwrap();
        let before = model.clone();
        act(&process, &mut model, &write(1, 1, 5));
        act(&process, &mut model, &write(3, 2, 6));
        faults.count_only(Class::Sync);
        faults.fail_nth(1, Failure::Os(5), Times::Once);
        process.store.flush().unwrap_err();
        drop(process);
        let last = |machine: &SimMachine| {
            let options = CheckOptions::new();
            let report = check::check(&machine.dir("store"), &options).unwrap();
            report.stats.last_seq
        };
        // A batch that was written again before it was synced, with more in it, may be there as it was first. Then it is
        // dropped as well.
        let medium = machine.power_loss(&Crash::ALL_KEPT);
        assert!(
            last(&machine) <= last(&medium),
            "the check goes by the cache"
        );
        // The machine goes on, and its disk is well again.
        let process = Host::new(&machine, 100 + u64::from(number)).open().unwrap();
        let mut model = process.read().unwrap();
        match model == before {
            true => lost += 1,
            false => kept += 1,
        }
        // A batch that the medium has as it was first does not come back either.
        let dark = machine.power_loss(&Crash::NONE_KEPT);
        assert_eq!(read(&dark, 300), model, "after an open in case {number}");
        act(&process, &mut model, &write(2, 1, 7));
        process.store.flush().unwrap();
        drop(process);
        let found = read(
            &machine.power_loss(&Crash::NONE_KEPT),
            200 + u64::from(number),
        );
        assert_eq!(found, model, "a flush after case {number} lied");
    }
    assert!(lost > 0 && kept > 0, "{lost} lost, {kept} kept");
}

/// A torn batch in a new segment follows the end of a cleanly closed log, which has room for a shorter one.
#[test]
fn what_a_torn_batch_in_a_new_segment_followed_is_not_written_on() {
    let nonces = Arc::new(Nonces::default());
    let captures = captures(
        &starts()[1],
        1,
        &[Op::Write, Op::Flush],
        &nonces,
        Planted::Nothing,
    );
    let mut tried = 0;
    for capture in captures.unwrap() {
        let crashes = capture.machine.crash_points();
        for (crash, seed) in crashes.iter().zip((70_000..).step_by(16)) {
            let machine = capture.machine.power_loss(crash);
            let process = Host::new(&machine, seed).open().unwrap();
            process
                .store
                .create_volume("short", 4096, &process.keys[0])
                .unwrap();
            let dark = machine.power_loss(&Crash::NONE_KEPT);
            drop(process);
            let found = Host::new(&dark, seed + 1).open().unwrap();
            assert!(found.store.volume("short").is_ok(), "lost after {crash:?}");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn acknowledged_slot_never_rewritten() {
    let nonces = Arc::new(Nonces::default());
    for (number, start) in (1u64..).zip(starts()) {
        let (mut machine, mut model) = (start.machine.kill(), start.model.clone());
        for step in 0..60u32 {
            let seed = number << 32 | u64::from(step) << 8;
            // What a new process finds and has synced is acknowledged.
            let recovered = machine.kill();
            let found = Host::new(&recovered, seed).open().unwrap().read().unwrap();
            assert_eq!(found, model);
            let acknowledged = slots_of(&batches(&recovered)).collect();
            let watch = Watch::on(&machine, acknowledged, &nonces);
            let process = Host::new(&machine, seed + 1).open().unwrap();
            for more in 0..3 {
                let op = OPS[(step as usize * 7 + more * 5) % 8];
                let action = op.action(step * 3 + more as u32, &model);
                act(&process, &mut model, &action);
                process.store.flush().unwrap();
                watch.acknowledge();
            }
            // Left over in the air when the power goes, in part.
            process.act(&op_in_the_air(&model)).unwrap();
            let crashes = machine.crash_points();
            let crash = &crashes[step as usize * 31 % crashes.len()];
            watch.check().unwrap();
            machine.clear_hooks();
            machine = machine.power_loss(crash);
            let found = read(&machine.kill(), seed + 2);
            assert!(found == model || found == model.after(&op_in_the_air(&model)));
            model = found;
        }
    }
}

fn op_in_the_air(model: &Model) -> Action {
    Op::WriteTwo.action(4, model)
}

#[test]
fn torn_tail_stays_dropped() {
    let mut tears = 0;
    for start in starts() {
        let machine = start.machine.kill();
        let process = Host::new(&machine, 21).open().unwrap();
        process.read().unwrap();
        process.store.flush().unwrap();
        let before = machine.pending_write_count();
        // 11 and 12, of the same length.
        process.act(&write(1, 1, 11)).unwrap();
        process.act(&write(5, 1, 12)).unwrap();
        drop(process);
        let first = start.model.after(&write(1, 1, 11));
        let both = first.after(&write(5, 1, 12));
        for crash in machine.crash_points() {
            let (WriteChoice::Torn { write: torn, .. } | WriteChoice::AllBut(torn)) = crash.writes
            else {
                continue;
            };
            if torn < before || crash.names < machine.pending_name_count() {
                continue;
            }
            let after = machine.power_loss(&crash);
            let process = Host::new(&after, 22).open().unwrap();
            let found = process.read().unwrap();
            // Where only what came with 12 is torn, 11 is there; and the header that came with 12
            // makes up for the one that came with 11.
            if [&first, &both].contains(&&found) {
                continue;
            }
            assert_eq!(found, start.model, "{crash:?}");
            tears += 1;
            // 11 anew, where the old 12 follows it if they share a place.
            process.act(&write(2, 1, 13)).unwrap();
            process.store.flush().unwrap();
            drop(process);
            let model = start.model.after(&write(2, 1, 13));
            for after in [after.kill(), after.power_loss(&Crash::NONE_KEPT)] {
                assert_eq!(read(&after, 23), model, "{crash:?}");
                assert_eq!(read(&after, 24), model, "{crash:?}");
            }
        }
    }
    assert!(tears > 40, "{tears}");
}

/// The batch `old` as it would be right after `last`, made by somebody with another key.
fn forge(old: &BatchHead, body: &[u8], last: &BatchHead, at: SlotAddr, key: [u8; 32]) -> Vec<u8> {
    let mut records = Vec::new();
    for record in Records::new(&old.records) {
        let mut record = record.unwrap();
        if let Record::Pages { deltas, .. } = &mut record {
            for (slot, delta) in (at.slot + header_slots(old.records.len())..).zip(deltas) {
                delta.entry.at = SlotAddr { slot, ..at };
            }
        }
        record.encode(&mut records);
    }
    let header = BatchHeader {
        seq: Seq(last.header.seq.0 + 1),
        at,
        previous_end: last.end(),
        previous_chain: last.chain,
        ..old.header
    };
    let mut bytes = vec![0; header_slots(records.len()) as usize * SLOT_LEN];
    header.encode(&records, &mut bytes, &Secret::from_bytes(key));
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn forged_tail_refused() {
    let (machine, process, mut model) = opened();
    act(&process, &mut model, &write(1, 1, 31));
    let old = last_batch(&machine).unwrap();
    act(&process, &mut model, &write(1, 1, 32));
    while last_batch(&machine).unwrap().end().slot + 2 > SEGMENT_SLOTS {
        act(&process, &mut model, &write(4, 1, 30));
    }
    act(&process, &mut model, &Action::Flush);
    drop(process);
    let last = last_batch(&machine).unwrap();
    let name = |at: SlotAddr| segment_file_name(at.segment);
    let body = &file_bytes(&machine, &name(old.header.at))[old.body().slot as usize * SLOT_LEN..];
    let body = &body[..old.header.body_slots as usize * SLOT_LEN];
    assert!(
        last.end().slot + 2 <= SEGMENT_SLOTS,
        "there is room for the forged batch"
    );
    for durable_through in [old.header.durable_through, Seq(last.header.seq.0 + 1)] {
        let mut replayed = old.clone();
        replayed.header.durable_through = durable_through;
        let bytes = forge(&replayed, body, &last, last.end(), [7; 32]);
        let machine = machine.kill();
        overwrite(
            &machine,
            &name(last.end()),
            u64::from(last.end().slot) * 4096,
            &bytes,
        );
        assert!(batches(&machine).len() > 1, "keyless tools see a batch");
        assert_eq!(
            last_batch(&machine).unwrap().header.seq.0,
            last.header.seq.0 + 1
        );
        assert_eq!(read(&machine, 32), model, "the old page must not come back");
        let process = Host::new(&machine, 33).open().unwrap();
        process.act(&write(2, 1, 33)).unwrap();
        process.store.close().unwrap();
        assert_eq!(read(&machine, 34), model.after(&write(2, 1, 33)));
    }
}

#[test]
fn segment_durable_before_named() {
    let mut named = 0;
    for (number, start) in starts().iter().enumerate() {
        for ops in [
            [Op::WriteTwo, Op::WriteTwo, Op::WriteTwo],
            [Op::Clone, Op::Write, Op::Reopen],
        ] {
            let nonces = Arc::new(Nonces::default());
            let captures = (1..=3).flat_map(|len| {
                captures(start, number, &ops[..len], &nonces, Planted::Nothing).unwrap()
            });
            for capture in captures {
                for crash in capture.machine.crash_points() {
                    let machine = capture.machine.power_loss(&crash);
                    let names = segments(&machine);
                    for (segment, name) in &names {
                        let bytes = file_bytes(&machine, name);
                        assert_eq!(bytes.len(), SEGMENT_SLOTS as usize * SLOT_LEN, "{crash:?}");
                        let header = SegmentHeader::decode(&bytes[..SLOT_LEN]).unwrap();
                        assert_eq!(header.segment, *segment, "{crash:?}");
                        named += 1;
                    }
                    for superblock in superblocks(&machine) {
                        let tables = superblock.tables.map(|tables| tables.at.segment);
                        let wanted = [Some(superblock.position.end.segment), tables];
                        for segment in wanted.into_iter().flatten().filter(|id| id.0 != 0) {
                            assert!(names.iter().any(|(id, _)| *id == segment), "{crash:?}");
                        }
                    }
                }
            }
            let case = nonces.count();
            assert!(case > 0);
        }
    }
    assert!(named > 1000, "{named}");
}

#[test]
fn a_crash_of_every_recovery_of_a_crash_is_survived() {
    let nonces = Arc::new(Nonces::default());
    let ops = [Op::Clone, Op::WriteTwo, Op::Reopen];
    let captures = captures(&starts()[1], 1, &ops, &nonces, Planted::Nothing).unwrap();
    let mut states = 0u64;
    for capture in &captures {
        for barrier in check(&capture.machine.kill(), &case_of(capture, &nonces, 1 << 59)).unwrap()
        {
            for crash in barrier.crash_points() {
                states += 1;
                let case = case_of(capture, &nonces, 1 << 59 | states << 8);
                check(&barrier.power_loss(&crash), &case).unwrap();
            }
        }
    }
    assert!(states > 100, "{states}");
}

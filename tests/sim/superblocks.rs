//! The two files of superblocks: either may be lost, and the newest of both.

use std::sync::Arc;

use offshoot::format::superblock::Superblock;
use offshoot::io::Disk;
use offshoot::io::sim::{Crash, SimMachine};

use crate::campaign::captures;
use crate::log::{act, opened, read, write};
use offshoot_torture::model::Action;
use offshoot_torture::nonces::{Nonces, SLOT_LEN, file_bytes, overwrite};
use offshoot_torture::ops::{Op, starts};
use offshoot_torture::rig::Host;
use offshoot_torture::run::Planted;

/// All superblocks that decode, of both mirrors.
pub fn superblocks(machine: &SimMachine) -> Vec<Superblock> {
    let files = [(0, "superblock-a"), (1, "superblock-b")];
    let slots = files.into_iter().flat_map(|(mirror, name)| {
        let bytes = file_bytes(machine, name);
        let slots: Vec<_> = bytes.chunks(SLOT_LEN).map(<[u8]>::to_vec).collect();
        slots
            .into_iter()
            .filter_map(move |slot| Superblock::decode(&slot, mirror).ok())
    });
    slots.collect()
}

#[test]
fn flipped_superblock_loses_nothing() {
    let (machine, process, mut model) = opened();
    act(&process, &mut model, &write(1, 1, 41));
    act(&process, &mut model, &Action::Checkpoint);
    act(&process, &mut model, &write(2, 2, 42));
    let clone = Op::Clone.action(0, &model);
    act(&process, &mut model, &clone);
    act(&process, &mut model, &Action::Checkpoint);
    act(&process, &mut model, &write(3, 1, 43));
    act(&process, &mut model, &Action::Flush);
    drop(process);
    let newest = superblocks(&machine)
        .iter()
        .map(|found| found.generation)
        .max()
        .unwrap();
    let slot = newest % 2 * SLOT_LEN as u64;
    for byte in (0..SLOT_LEN as u64).step_by(61).chain(4000..4096) {
        let machine = machine.kill();
        for name in ["superblock-a", "superblock-b"] {
            let old = file_bytes(&machine, name)[(slot + byte) as usize];
            overwrite(&machine, name, slot + byte, &[!old]);
        }
        assert!(
            superblocks(&machine)
                .iter()
                .all(|found| found.generation < newest)
        );
        let files = || ["superblock-a", "superblock-b"].map(|name| file_bytes(&machine, name));
        let evidence = files();
        assert_eq!(read(&machine, 42), model, "byte {byte}");
        assert_eq!(read(&machine, 43), model, "byte {byte}");
        assert!(files() == evidence, "opening alone overwrites nothing");
        let process = Host::new(&machine, 44).open().unwrap();
        process.act(&write(4, 1, 44)).unwrap();
        process.store.close().unwrap();
        assert_eq!(
            read(&machine, 45),
            model.after(&write(4, 1, 44)),
            "byte {byte}"
        );
    }
}

/// Planted, a superblock that was not authenticated was caught by no other test: a changed byte is found by the checksum.
#[test]
fn a_superblock_that_nobody_with_the_store_key_wrote_does_not_count() {
    let (machine, process, _) = opened();
    process.store.close().unwrap();
    for name in ["superblock-a", "superblock-b"] {
        let bytes = file_bytes(&machine, name);
        for (number, slot) in bytes.chunks(SLOT_LEN).enumerate() {
            let mut forged = slot.to_vec();
            // Of the keyed hash, before the checksum; then that is right again.
            forged[SLOT_LEN - 10] ^= 1;
            let (covered, crc) = forged.split_at_mut(SLOT_LEN - 4);
            crc.copy_from_slice(&crc32fast::hash(covered).to_le_bytes());
            overwrite(&machine, name, (number * SLOT_LEN) as u64, &forged);
        }
    }
    assert_eq!(superblocks(&machine).len(), 4, "their checksums are right");
    let error = Host::new(&machine, 57).open().unwrap_err();
    let damage = match &error {
        offshoot::Error::Corrupt { damage, .. } => damage,
        other => panic!("{other}"),
    };
    assert_eq!(*damage, offshoot::Damage::BadTag);
}

#[test]
fn both_superblock_files_may_lose_one() {
    let (machine, process, model) = opened();
    process.store.close().unwrap();
    for lost in ["superblock-a", "superblock-b"] {
        let machine = machine.kill();
        machine.dir("store").remove(lost).unwrap();
        assert_eq!(read(&machine, 51), model);
        let process = Host::new(&machine, 52).open().unwrap();
        process.act(&write(4, 1, 53)).unwrap();
        process.store.close().unwrap();
        assert_eq!(read(&machine, 54), model.after(&write(4, 1, 53)));
        assert!(
            Host::new(&machine, 55).create_store().is_err(),
            "it is not made over"
        );
    }
}

/// The newest generation in each of the two files.
fn generations(machine: &SimMachine) -> [u64; 2] {
    let newest = |mirror, name| {
        let slots = file_bytes(machine, name);
        let found = slots
            .chunks(SLOT_LEN)
            .filter_map(|slot| Superblock::decode(slot, mirror).ok());
        found.map(|superblock| superblock.generation).max()
    };
    [(0, "superblock-a"), (1, "superblock-b")].map(|(mirror, name)| newest(mirror, name).unwrap())
}

/// As long as the log since the older superblock is kept, no crash shows whether a superblock was
/// synced: this asks the files.
#[test]
fn one_superblock_file_is_durable_before_the_other_is_written() {
    let nonces = Arc::new(Nonces::default());
    for (number, start) in starts().iter().enumerate() {
        for last in [Op::Checkpoint, Op::Reopen] {
            let ops = [Op::Write, last];
            let captures = captures(start, number, &ops, &nonces, Planted::Nothing).unwrap();
            let (mut seen_half, before) = (false, generations(&start.machine)[0]);
            for capture in &captures {
                let shown = generations(&capture.machine);
                let durable = generations(&capture.machine.power_loss(&Crash::NONE_KEPT));
                assert!(shown[1] == before || durable[0] == before + 1);
                seen_half |= shown == [before + 1, before];
                // Whoever finds it and opens makes it durable.
                let machine = capture.machine.kill();
                drop(Host::new(&machine, 46).open().unwrap());
                assert_eq!(generations(&machine.power_loss(&Crash::NONE_KEPT)), shown);
            }
            assert!(seen_half);
            let end = &captures.last().unwrap().machine;
            let durable = generations(&end.power_loss(&Crash::NONE_KEPT));
            assert_eq!(durable, [before + 1; 2], "both are durable on return");
        }
    }
}

//! What a flush promises, by losing the power.

use super::client::{FLUSH, FUA, WRITE};
use super::rig::{Rig, new_machine, open};

/// All legal states of the disk after a power loss have these bytes at these offsets.
fn survives(machine: &offshoot::io::sim::SimMachine, expected: &[(u64, &[u8])]) -> usize {
    let crashes = machine.crash_points();
    for crash in &crashes {
        let store = open(&machine.power_loss(crash), 20);
        let volume = store.volume("pg").expect("the volume");
        for (offset, bytes) in expected {
            let mut found = vec![0; bytes.len()];
            volume.read_exact_at(&mut found, *offset).expect("a read");
            assert_eq!(&found, bytes, "after {crash:?}");
        }
    }
    crashes.len()
}

#[test]
fn a_flush_on_one_connection_covers_what_was_answered_on_another() {
    let machine = new_machine();
    let mut rig = Rig::serve(&machine);
    let (mut writer, mut flusher) = (rig.client(), rig.client());
    writer.write(0, b"written on a");
    writer.write(100_000, &[7; 20_000]);
    flusher.ok(FLUSH, 0, 0, 0);
    // Not covered: it makes the states differ.
    writer.write(500_000, b"not flushed");
    let states = survives(&machine, &[(0, b"written on a"), (100_000, &[7; 20_000])]);
    assert!(states > 1, "there was nothing to lose");
    drop((writer, flusher));
    drop(rig.end());
}

#[test]
fn a_write_with_fua_is_durable_when_it_is_answered() {
    let machine = new_machine();
    let mut rig = Rig::serve(&machine);
    let mut client = rig.client();
    client.send(WRITE, FUA, 4096, 9, b"with FUA!");
    assert_eq!(client.reply(0).error, 0);
    client.write(8192, b"without");
    let states = survives(&machine, &[(4096, b"with FUA!")]);
    assert!(states > 1, "there was nothing to lose");
    drop(client);
    drop(rig.end());
}

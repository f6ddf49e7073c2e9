//! Volumes that change under their clients.

use super::client::{BLOCK_STATUS, EINVAL, EIO, ENOSPC, FLUSH, READ};
use super::rig::{Rig, new_machine};
use crate::nbd::exports::Export;
use crate::nbd::protocol::handshake::Catalogue;
use crate::session::Head;

#[test]
fn a_volume_deleted_in_use_gives_errors_and_is_unknown_to_new_clients() {
    let machine = new_machine();
    let mut rig = Rig::serve(&machine);
    let mut client = rig.client();
    client.write(0, b"here");
    rig.store
        .volume("pg")
        .expect("the volume")
        .delete()
        .expect("a delete");
    for reply in [
        client.ask(READ, 0, 0, 4),
        client.ask(READ, 0, 0, 1 << 20),
        client.ask(BLOCK_STATUS, 0, 0, 4096),
        client.try_write(0, b"gone"),
    ] {
        assert_eq!(reply.error, EIO);
        assert!(reply.text.contains("no volume"), "{}", reply.text);
    }
    client.ok(FLUSH, 0, 0, 0);
    assert!(rig.common.exports.find("pg").is_none());
    drop(client);
    drop(rig.end());
}

#[test]
fn a_new_clone_is_served_at_once_beside_the_others() {
    let machine = new_machine();
    let mut rig = Rig::serve(&machine);
    let mut client = rig.client();
    client.write(0, b"before");
    let volume = rig.store.volume("pg").expect("the volume");
    let key = volume.info().expect("its key").kms_key;
    let clone = volume.create_clone("trial", &key).expect("a clone");
    assert!(rig.common.exports.find("").is_some());
    let export = Export::new(Head::Volume(clone), "trial", false, &rig.store).expect("an export");
    rig.common.exports.add(export).expect("a name");
    assert_eq!(rig.common.exports.list().expect("a list"), ["pg", "trial"]);
    // The empty name means one of one.
    assert!(rig.common.exports.find("").is_none());
    assert_eq!(client.read(0, 6), b"before");
    drop(client);
    drop(rig.end());
}

#[test]
fn a_volume_that_shrank_has_its_new_end_and_clients_are_told() {
    let machine = new_machine();
    let mut rig = Rig::serve(&machine);
    let mut client = rig.client();
    rig.store
        .volume("pg")
        .expect("the volume")
        .resize(8192)
        .expect("a resize");
    assert_eq!(client.ask(READ, 0, 8192, 1).error, EINVAL);
    assert_eq!(client.try_write(8191, b"xx").error, ENOSPC);
    assert_eq!(client.read(8191, 1), [0]);
    drop(client);
    drop(rig.end());
}

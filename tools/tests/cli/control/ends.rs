//! Clients that leave while their command runs, and servers that end meanwhile.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::peer::{Peer, store_id};
use crate::nbd::client::PATIENCE;
use crate::nbd::server::Server;
use crate::support::{Place, noise};

fn place() -> Place {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(8 << 20, 1));
    place
}

/// What a rekey that goes on would do, in bytes.
fn left(place: &Place) -> u64 {
    let plan = place.json(&["volume", "rekey", "pg", "--resume", "--dry-run"]);
    plan["rekeyed_bytes"].as_u64().expect("bytes")
}

/// Waits until the rekey has begun.
fn wait_for_begin(place: &Place) {
    let begun = Instant::now();
    while !(1..8 << 20).contains(&left(place)) {
        assert!(begun.elapsed() < PATIENCE, "nothing is rekeyed");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Rekeys so many bytes a second of 8 MiB, one mebibyte after the other.
fn slow_child(place: &Place, rate: &str) -> Child {
    let mut command = place.std_command(&["volume", "rekey", "pg", "--rate", rate]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.expect("a child")
}

#[test]
fn a_command_whose_client_is_killed_is_ended() {
    let place = place();
    let _server = Server::of_pg(&place);
    let mut child = slow_child(&place, "1M");
    wait_for_begin(&place);
    child.kill().expect("a child");
    child.wait().expect("a status");
    thread::sleep(Duration::from_millis(300));
    let before = left(&place);
    assert!(before > 0);
    // Long enough for more of it, if it went on.
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(left(&place), before);
    place.ok(&["volume", "rekey", "pg", "--resume"]);
    assert_eq!(left(&place), 0);
}

#[test]
fn a_server_that_ends_ends_the_commands_it_runs_and_says_so() {
    let place = place();
    let mut server = Server::of_pg(&place);
    let mut child = slow_child(&place, "10K");
    wait_for_begin(&place);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(child.wait().expect("a status").code(), Some(130));
    assert!(left(&place) > 0);
    assert_eq!(place.json(&["fsck"])["fsck"]["clean"], true);
}

#[test]
fn a_server_that_is_killed_leaves_its_clients_with_an_error() {
    let place = place();
    let server = Server::of_pg(&place);
    let mut child = slow_child(&place, "10K");
    wait_for_begin(&place);
    server.kill();
    assert_eq!(child.wait().expect("a status").code(), Some(1));
    assert_eq!(place.json(&["fsck"])["fsck"]["clean"], true);
}

#[test]
fn a_server_does_not_wait_for_who_says_or_takes_nothing() {
    let place = place();
    let mut server = Server::of_pg(&place);
    let id = store_id(&place);
    let silent = Peer::connect(&place);
    let greeted = Peer::greet(&place, &id);
    let mut asked = Peer::greet(&place, &id);
    asked.request(&["volume", "delete", "pg"], true);
    asked.hear_of(b'Q');
    let mut reader = Peer::greet(&place, &id);
    reader.request(&["volume", "read", "pg"], false);
    reader.hear_of(b'O');
    let begun = Instant::now();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(asked.failure()["kind"], "cancelled");
    drop((silent, greeted, reader));
    place.ok(&["volume", "show", "pg"]);
}

#[test]
fn who_says_what_was_not_asked_ends_the_command() {
    let place = place();
    let _server = Server::of_pg(&place);
    let id = store_id(&place);
    for (kind, payload) in [
        (b'A', b"\x01"),
        (b'A', b"\x02"),
        (b'D', b"\0"),
        (b'X', b"x"),
    ] {
        let mut peer = Peer::greet(&place, &id);
        peer.request(&["volume", "rekey", "pg", "--rate", "10K"], true);
        for _ in 0..3 {
            peer.frame(kind, payload);
        }
        assert_eq!(peer.failure()["kind"], "cancelled");
    }
}

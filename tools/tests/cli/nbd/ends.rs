//! How a server ends.

use super::client::{Client, DISCONNECT, READ, WRITE};
use super::server::Server;
use crate::support::Place;

#[test]
fn sigterm_finishes_what_is_under_way_flushes_and_exits_with_0() {
    let place = Place::with_volume();
    let mut server = Server::of_pg(&place);
    let mut client = server.client("pg");
    for number in 0..50 {
        client.send(WRITE, 0, number * 65_536, 65_536, &vec![7; 65_536]);
    }
    server.terminate();
    let mut written = 0;
    for _ in 0..50 {
        written += u64::from(client.reply(0).error == 0);
    }
    assert_eq!(written, 50);
    assert!(client.is_closed());
    let socket = server.socket.clone();
    assert_eq!(server.wait().code(), Some(0));
    assert!(!socket.exists(), "the socket is still there");
    assert_eq!(place.read("pg", 0, 50 * 65_536), vec![7; 50 * 65_536]);
}

#[test]
fn a_client_that_takes_no_replies_does_not_keep_the_server() {
    let place = Place::with_volume();
    place.write("pg", 0, &[1; 4096]);
    let mut server = Server::of_pg(&place);
    let mut client = server.client("pg");
    for _ in 0..100 {
        client.send(READ, 0, 0, 1 << 20, b"");
    }
    server.terminate();
    // It waits ten seconds for the client, and no longer.
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_disconnect_answers_what_came_before_it() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    for _ in 0..20 {
        client.send(READ, 0, 0, 100_000, b"");
    }
    client.send(DISCONNECT, 0, 0, 0, b"");
    for _ in 0..20 {
        assert_eq!(client.reply(0).bytes(0, 100_000), vec![0; 100_000]);
    }
    assert!(client.is_closed());
}

#[test]
fn it_can_end_with_its_last_client() {
    let place = Place::with_volume();
    // Looking whether it listens is a client too: nothing is left to connect to.
    let server = Server::start(&place, &["pg", "--exit-with-last-client"]);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!place.path("nbd.sock").exists());
}

#[test]
fn a_killed_server_leaves_a_socket_that_the_next_one_replaces() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    client.write(0, b"kept");
    client.ok(super::client::FLUSH, 0, 0, 0);
    server.kill();
    assert!(place.path("nbd.sock").exists());
    let server = Server::of_pg(&place);
    assert_eq!(
        Client::structured(server.connect(), "pg").read(0, 4),
        b"kept"
    );
}

//! What a server serves of what is made and deleted beside it.

use crate::nbd::client::{Client, GO, LIST, string};
use crate::nbd::server::Server;
use crate::support::Place;

fn listed(server: &Server) -> Vec<String> {
    let mut client = Client::greet(server.connect());
    client.option(LIST, b"");
    let mut names = Vec::new();
    while let (2, name) = client.answer() {
        names.push(String::from_utf8(name[4..].to_vec()).expect("UTF-8"));
    }
    names
}

fn is_served(server: &Server, export: &str) -> bool {
    let mut client = Client::greet(server.connect());
    let mut data = string(export.as_bytes());
    data.extend([0, 0]);
    client.option(GO, &data);
    client.answer().0 == 3
}

#[test]
fn with_all_a_new_clone_is_served_at_once() {
    let place = Place::with_volume();
    let server = Server::start(&place, &["--all"]);
    let mut source = server.client("pg");
    source.write(0, b"before");
    place.ok(&["clone", "create", "pg", "trial"]);
    let mut clone = server.client("trial");
    assert_eq!(clone.read(0, 6), b"before");
    clone.write(0, b"behind");
    assert_eq!(source.read(0, 6), b"before");
    place.ok(&["snapshot", "create", "trial", "monday"]);
    place.ok(&["volume", "rename", "pg", "main"]);
    assert_eq!(listed(&server), ["main", "trial", "trial@monday"]);
    assert_eq!(server.client("trial@monday").read(0, 6), b"behind");
    assert_eq!(source.read(0, 6), b"before");
    assert!(!is_served(&server, "pg"));
    // An export has one name, however references may be written.
    for other in [
        "MAIN",
        "main@monday",
        "arn:offshoot:rds:local:000000000000:cluster:main",
    ] {
        assert!(!is_served(&server, other), "{other}");
    }
}

#[test]
fn a_volume_that_is_deleted_under_a_client_is_an_error_and_no_zeroes() {
    let place = Place::with_volume();
    let server = Server::start(&place, &["--all"]);
    place.ok(&["clone", "create", "pg", "trial"]);
    let mut client = server.client("trial");
    client.write(0, b"here");
    place.ok(&["volume", "delete", "trial", "-y"]);
    let read = client.ask(crate::nbd::client::READ, 0, 0, 4);
    assert_ne!(read.error, 0);
    assert_eq!(read.pieces, []);
    assert_ne!(client.try_write(0, b"gone").error, 0);
    assert!(!is_served(&server, "trial"));
    assert_eq!(listed(&server), ["pg"]);
    // The only one that is left has the empty name too.
    assert_eq!(server.client("").read(0, 4), [0; 4]);
}

#[test]
fn named_exports_stay_as_they_were_named() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    place.ok(&["clone", "create", "pg", "trial"]);
    assert_eq!(listed(&server), ["pg"]);
    assert!(!is_served(&server, "trial"));
}

#[test]
fn a_volume_grown_beside_a_server_has_its_size_on_the_next_connection() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    place.ok(&["volume", "resize", "pg", "--size", "65M"]);
    let mut client = Client::greet(server.connect());
    assert_eq!(client.go("pg").0, 65 << 20);
}

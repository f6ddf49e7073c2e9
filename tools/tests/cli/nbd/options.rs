//! The command line of `serve nbd`.

use super::client::{Client, FLUSH, LIST, TRIM, WRITE, WRITE_ZEROES};
use super::server::Server;
use crate::support::Place;

fn listed(server: &Server) -> Vec<String> {
    let mut client = Client::greet(server.connect());
    client.option(LIST, b"");
    let mut names = Vec::new();
    loop {
        match client.answer() {
            (2, name) => names.push(String::from_utf8(name[4..].to_vec()).expect("UTF-8")),
            (1, _) => return names,
            (kind, _) => panic!("an answer of kind {kind:x}"),
        }
    }
}

#[test]
fn exports_are_named_like_their_references_or_as_is_said() {
    let place = Place::with_volume();
    place.ok(&["snapshot", "create", "pg", "monday"]);
    let server = Server::start(&place, &["PG", "pg@monday", "@monday=old", "pg=x=y"]);
    assert_eq!(listed(&server), ["old", "pg", "pg@monday", "x=y"]);
    drop(server);
    let server = Server::start(&place, &["--all"]);
    assert_eq!(listed(&server), ["pg", "pg@monday"]);
}

#[test]
fn names_are_told_nobody_if_that_is_asked_for() {
    let place = Place::with_volume();
    let server = Server::start(&place, &["pg", "--no-list"]);
    let mut client = Client::greet(server.connect());
    client.option(LIST, b"");
    assert_eq!(client.answer().0, 0x8000_0002);
    client.go("pg");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let place = Place::with_volume();
    for args in [
        &["pg"][..],
        &["--socket", "s"],
        &["pg", "--socket", "s", "--listen", "127.0.0.1:0"],
        &["pg", "--all", "--socket", "s"],
        &["pg", "pg", "--socket", "s"],
        &["pg=", "--socket", "s"],
        &["pg", "--socket", "s", "--max-connections", "0"],
        &["pg", "--socket", "s", "--socket-mode", "999"],
        &["pg", "pg=b", "--socket", "s", "--record", "log"],
        &["pg", "--read-only", "--ephemeral-clone", "--socket", "s"],
        &["pg", "--listen", "0.0.0.0:0"],
        &["pg", "--listen", "[::]:0"],
    ] {
        place.fails(&[&["serve", "nbd"][..], args].concat(), 2, "invalid");
    }
    place.fails(
        &["serve", "nbd", "nothing", "--socket", "s"],
        14,
        "not_found",
    );
    assert!(!place.path("s").exists());
}

#[test]
fn a_command_runs_with_the_address_and_its_status_is_returned() {
    let place = Place::with_volume();
    let script = "echo $uri; test -S $socket && stat -c %a $socket $(dirname $socket); exit 7";
    let output = place
        .command(&["serve", "nbd", "pg", "--run", script])
        .output();
    let output = output.expect("an output");
    assert_eq!(output.status.code(), Some(7));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.starts_with("nbd+unix:///pg?socket=/"), "{text}");
    assert!(text.ends_with("\n600\n700\n"), "{text}");
    let killed = place
        .command(&["serve", "nbd", "pg", "--run", "kill -9 $$"])
        .output();
    assert_eq!(killed.expect("an output").status.code(), Some(1));
}

#[test]
fn uris_and_the_pid_appear_once_clients_can_connect() {
    let place = Place::with_volume();
    let server = Server::start(&place, &["pg", "--pid-file", "pid"]);
    // The socket is there a moment before.
    while !place.path("pid").exists() {
        std::thread::yield_now();
    }
    let pid = std::fs::read_to_string(place.path("pid")).expect("the file");
    assert_eq!(pid, format!("{}\n", server.pid()));
    drop(server);
    assert!(!place.path("pid").exists());
    let script = "cat pid; rm pid";
    let args = ["serve", "nbd", "pg", "--all-is-well"];
    assert_eq!(
        place
            .command(&args)
            .output()
            .expect("an output")
            .status
            .code(),
        Some(2)
    );
    let args = [
        "serve",
        "nbd",
        "pg",
        "--run",
        script,
        "--print-uri",
        "--pid-file",
        "pid",
        "--json",
    ];
    let output = place.command(&args).output().expect("an output");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let document: serde_json::Value =
        serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!(document["schema"], "nbd-server/1");
    let uri = document["nbd_server"]["uris"][0].as_str().expect("a URI");
    assert!(uri.starts_with("nbd+unix:///pg?socket=/"), "{uri}");
    assert!(text.lines().nth(1).expect("a pid").parse::<u32>().is_ok());
}

#[test]
fn an_ephemeral_clone_is_written_and_thrown_away() {
    let place = Place::with_volume();
    place.write("pg", 0, b"source");
    let server = Server::start(&place, &["pg", "--ephemeral-clone"]);
    let mut client = server.client("pg");
    assert_eq!(client.read(0, 6), b"source");
    client.write(0, b"CLONED");
    client.ok(FLUSH, 0, 0, 0);
    assert_eq!(client.read(0, 6), b"CLONED");
    drop((client, server));
    assert_eq!(place.read("pg", 0, 6), b"source");
    assert_eq!(
        place.json(&["volume", "list"])["volumes"]
            .as_array()
            .expect("a list")
            .len(),
        1
    );
}

#[test]
fn a_record_has_every_change_in_order_with_its_data() {
    let place = Place::with_volume();
    let server = Server::start(&place, &["pg", "--record", "log"]);
    let mut client = server.client("pg");
    client.write(512, &[1; 512]);
    client.ok(TRIM, 0, 100, 9000);
    client.ok(TRIM, 0, 100, 200);
    client.ok(WRITE_ZEROES, 0, 0, 512);
    client.ok(FLUSH, 0, 0, 0);
    client.read(0, 512);
    assert_ne!(client.try_write(u64::MAX, &[1; 512]).error, 0);
    drop((client, server));
    let log = std::fs::read(place.path("log")).expect("the log");
    let mut left = log.as_slice();
    let mut entries = Vec::new();
    while !left.is_empty() {
        let number = |at: usize| u32::from_be_bytes(left[at..at + 4].try_into().expect("bytes"));
        let offset = u64::from_be_bytes(left[16..24].try_into().expect("bytes"));
        let (magic, kind, len) = (number(0), number(4), number(24));
        let data = if magic == 0x2560_9513 && kind == u32::from(WRITE) {
            len as usize
        } else {
            0
        };
        assert!(left[28..28 + data].iter().all(|byte| *byte == 1));
        entries.push((magic, kind, offset, len));
        left = &left[28 + data..];
    }
    let (request, note) = (0x2560_9513, 0x2560_9514);
    let expected = [
        (note, 1, 0x4a93_ba39_a54f_31b6, 1),
        (request, 1, 512, 512),
        // Of a trim, the pages that it drops.
        (request, 4, 4096, 4096),
        (request, 6, 0, 512),
        (request, 3, 0, 0),
    ];
    assert_eq!(entries, expected);
    place.fails(
        &["serve", "nbd", "pg", "--socket", "s", "--record", "log"],
        15,
        "already_exists",
    );
}

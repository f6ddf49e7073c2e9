//! What works beside a server, and that it is what works without one.

use std::thread;

use serde_json::Value;

use super::peer::{Peer, sockets, store_id};
use crate::nbd::server::Server;
use crate::support::Place;

#[test]
fn commands_on_heads_work_beside_a_server_and_last() {
    let place = Place::with_volume();
    let server = Server::start(&place, &["--all"]);
    let clone = place.json(&["clone", "create", "pg", "trial"]);
    assert_eq!(clone["volume"]["origin_name"], "pg");
    place.ok(&["snapshot", "create", "pg", "monday"]);
    place.ok(&[
        "volume",
        "create",
        "db",
        "--size",
        "1M",
        "--deletion-protection",
    ]);
    place.ok(&["volume", "resize", "db", "--size", "2M"]);
    place.ok(&["volume", "rename", "db", "data"]);
    let shown = place.json(&["volume", "show", "data"]);
    assert_eq!(shown["volume"]["size_bytes"], 2 << 20);
    place.fails(&["volume", "delete", "data", "-y"], 16, "protected");
    place.ok(&["volume", "modify", "data", "--no-deletion-protection"]);
    place.ok(&["store", "pin", "create", "pg", "held"]);
    assert_eq!(place.ok(&["store", "pin", "list", "-q"]), b"held\n");
    assert_eq!(place.ok(&["clone", "list", "-q"]), b"trial\n");
    let nodes = place.json(&["clone", "tree"])["nodes"].clone();
    assert_eq!(nodes.as_array().map(Vec::len), Some(4));
    place.ok(&["clone", "create", "pg@monday", "again"]);
    assert_eq!(place.ok(&["clone", "delete", "again", "-y", "-q"]), b"");
    place.ok(&["store", "pin", "release", "held"]);
    let before: Value = place.json(&["snapshot", "show", "monday"]);
    drop(server);
    assert_eq!(place.json(&["snapshot", "show", "monday"]), before);
    let names = String::from_utf8(place.ok(&["volume", "list", "-q"])).expect("names");
    assert_eq!(names, "pg\ntrial\ndata\n");
    assert_eq!(place.json(&["fsck"])["fsck"]["clean"], true);
}

#[test]
fn commands_on_the_store_work_beside_a_server() {
    let place = Place::with_volume();
    place.write("pg", 0, b"some bytes");
    let server = Server::of_pg(&place);
    let stats = place.json(&["store", "stats"])["store-stats"].clone();
    assert_eq!(stats["volume_count"], 1, "{stats}");
    let watched = place.ok(&["store", "stats", "-w", "1", "--count", "2", "-ojsonl"]);
    assert_eq!(watched.iter().filter(|byte| **byte == b'\n').count(), 2);
    let info = place.json(&["store", "info"])["store"].clone();
    assert_eq!(info["path"], place.store().to_str().expect("UTF-8"));
    place.ok(&["store", "quota", "set", "--heads", "100"]);
    assert_eq!(
        place.json(&["store", "quota", "show"])["quota"]["quota_heads"],
        100
    );
    place.ok(&["store", "reclaim"]);
    place.ok(&["store", "compact"]);
    place.ok(&["key", "rotate", "alias/default"]);
    assert_eq!(place.json(&["key", "rewrap"])["rewrapped"], 1);
    place.ok(&["volume", "rekey", "pg"]);
    let map = place.json(&["volume", "map", "pg"]);
    assert_eq!(map["extents"][0]["kind"], "data");
    assert_eq!(place.read("pg", 0, 10), b"some bytes");
    let image = place.ok(&["export", "image", "pg", "-"]);
    assert_eq!((image.len(), &image[..10]), (64 << 20, &b"some bytes"[..]));
    place.ok(&["volume", "discard", "pg", "--all"]);
    let mut client = server.client("pg");
    assert_eq!(client.read(0, 10), [0; 10]);
}

#[test]
fn what_fails_beside_a_server_fails_as_it_does_without() {
    let place = Place::with_volume();
    let commands = [
        (&["volume", "show", "none"][..], 14, "not_found"),
        (&["clone", "create", "pg", "pg"], 15, "already_exists"),
        (&["clone", "create", "pg", "1x"], 2, "invalid"),
        (&["clone", "delete", "pg", "-y"], 2, "invalid"),
        (&["volume", "delete", "pg"], 2, "invalid"),
    ];
    let run = || commands.map(|(args, code, kind)| place.fails(args, code, kind));
    let without = run();
    let _server = Server::of_pg(&place);
    assert_eq!(run(), without);
    let output = place
        .command(&["volume", "show", "none"])
        .output()
        .expect("an output");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(
        stderr,
        "error: there is no volume named \"none\"; see `offshoot volume list`\n"
    );
}

#[test]
fn a_long_job_lets_others_work_too() {
    let place = Place::with_volume();
    let mut command = place.std_command(&["import", "image", "-", "new", "--size", "8M"]);
    let mut import = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("a child");
    while sockets(&place).is_empty() {
        thread::yield_now();
    }
    place.ok(&["clone", "create", "pg", "trial"]);
    let importing = place.json(&["volume", "show", "new"]);
    assert_eq!(importing["volume"]["status"], "importing");
    let mut stdin = import.stdin.take().expect("its input");
    std::io::Write::write_all(&mut stdin, &[7; 4096]).expect("a child that reads");
    drop(stdin);
    assert!(import.wait().expect("a status").success());
    assert_eq!(sockets(&place), Vec::<std::path::PathBuf>::new());
    assert_eq!(place.read("new", 0, 4096), [7; 4096]);
    assert_eq!(place.ok(&["clone", "list", "-q"]), b"trial\n");
}

#[test]
fn a_hundred_clients_at_once_are_all_served() {
    let place = Place::with_volume();
    let _server = Server::start(&place, &["--all"]);
    thread::scope(|scope| {
        for number in 0..100 {
            let place = &place;
            scope.spawn(move || place.ok(&["clone", "create", "pg", &format!("c{number}")]));
        }
    });
    let names = place.ok(&["clone", "list", "-q"]);
    assert_eq!(names.iter().filter(|byte| **byte == b'\n').count(), 100);
}

#[test]
fn who_can_be_asked_is_asked_and_no_changes_nothing() {
    let place = Place::with_volume();
    let _server = Server::of_pg(&place);
    let id = store_id(&place);
    let delete = |answer: u8| {
        let mut peer = Peer::greet(&place, &id);
        peer.request(&["volume", "delete", "pg"], true);
        let question = String::from_utf8(peer.hear_of(b'Q')).expect("UTF-8");
        assert!(question.starts_with("delete volume pg"), "{question}");
        peer.frame(b'A', &[answer]);
        peer
    };
    assert_eq!(delete(0).failure()["kind"], "cancelled");
    place.ok(&["volume", "show", "pg"]);
    // Who leaves instead of answering says no.
    let mut left = Peer::greet(&place, &id);
    left.request(&["volume", "delete", "pg"], true);
    left.hear_of(b'Q');
    drop(left);
    place.ok(&["volume", "show", "pg"]);
    assert_eq!(delete(1).hear_of(b'D'), [0]);
    place.fails(&["volume", "show", "pg"], 14, "not_found");
}

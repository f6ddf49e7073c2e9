//! What no client should send.

use std::io::Write;

use super::client::{
    BLOCK_STATUS, CACHE, Client, DF, EINVAL, ENOSPC, EPERM, FLUSH, NO_HOLE, READ, REQ_ONE, TRIM,
    WRITE, WRITE_ZEROES, string,
};
use super::server::Server;
use crate::support::Place;

const SIZE: u64 = 64 << 20;

#[test]
fn a_bad_request_is_refused_with_a_text_and_the_next_one_is_served() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    let table = [
        (READ, 0, SIZE, 1, EINVAL, "past the end"),
        (READ, 0, SIZE - 1, 2, EINVAL, "past the end"),
        (READ, 0, u64::MAX, 1, EINVAL, "past the end"),
        (READ, 0, u64::MAX - 10, 1 << 20, EINVAL, "past the end"),
        (READ, 0, 0, u32::MAX, EINVAL, "32 MiB"),
        (READ, 0, 0, (32 << 20) + 1, EINVAL, "32 MiB"),
        (READ, NO_HOLE, 0, 1, EINVAL, "flag"),
        (READ, 0x8000, 0, 1, EINVAL, "flag"),
        (TRIM, 0, SIZE, 1, EINVAL, "past the end"),
        (TRIM, 0, u64::MAX, u32::MAX, EINVAL, "past the end"),
        (TRIM, DF, 0, 1, EINVAL, "flag"),
        (CACHE, 0, 1, u32::MAX, EINVAL, "past the end"),
        (CACHE, REQ_ONE, 0, 1, EINVAL, "flag"),
        (WRITE_ZEROES, 0, SIZE, 1, ENOSPC, "past the end"),
        (
            WRITE_ZEROES,
            0,
            u64::MAX - 1,
            u32::MAX,
            ENOSPC,
            "past the end",
        ),
        (WRITE_ZEROES, REQ_ONE, 0, 1, EINVAL, "flag"),
        (BLOCK_STATUS, 0, SIZE, 1, EINVAL, "past the end"),
        (BLOCK_STATUS, 0, 0, 0, EINVAL, "nothing"),
        (FLUSH, 0, 1, 0, EINVAL, "range"),
        (FLUSH, 0, 0, 1, EINVAL, "range"),
        (8, 0, 0, 0, EINVAL, "unknown command"),
        (
            0xffff,
            0xffff,
            u64::MAX,
            u32::MAX,
            EINVAL,
            "unknown command",
        ),
    ];
    for (command, flags, offset, len, error, text) in table {
        client.send(command, flags, offset, len, b"");
        let reply = client.reply(0);
        let request = format!("command {command}, flags {flags}, {len} bytes at {offset}");
        assert_eq!(reply.error, error, "{request}: {}", reply.text);
        assert!(reply.text.contains(text), "{request}: {}", reply.text);
        assert_eq!(client.read(0, 4), [0; 4]);
    }
}

#[test]
fn the_payload_of_a_refused_write_is_not_taken_for_requests() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    for (flags, offset, len, error) in [
        (0, SIZE, 4096, ENOSPC),
        (0, u64::MAX, 1, ENOSPC),
        (0, SIZE - 1, 1 << 20, ENOSPC),
        (NO_HOLE, 0, 4096, EINVAL),
        (DF, 0, 2 << 20, EINVAL),
    ] {
        client.send(WRITE, flags, offset, len, &vec![0x25; len as usize]);
        assert_eq!(client.reply(0).error, error);
        assert_eq!(client.read(0, 4), [0; 4]);
    }
    assert_eq!(place_is_empty(&mut client), Ok(()));
}

fn place_is_empty(client: &mut Client) -> Result<(), Vec<(u32, u32)>> {
    let reply = client.ask(BLOCK_STATUS, 0, 0, SIZE as u32);
    match reply.status[0].1.as_slice() {
        [(len, 3)] if u64::from(*len) == SIZE => Ok(()),
        extents => Err(extents.to_vec()),
    }
}

#[test]
fn a_wrong_magic_or_a_write_that_is_too_long_ends_the_connection_alone() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut other = server.client("pg");
    let mut client = server.client("pg");
    client.put(&[0x25; 28]);
    assert!(client.is_closed());
    let mut client = server.client("pg");
    client.send(WRITE, 0, 0, (32 << 20) + 1, b"");
    assert!(client.is_closed());
    let mut client = server.client("pg");
    client.send(WRITE, 0, 0, u32::MAX, b"and some bytes");
    assert!(client.is_closed());
    // The longest one that may be.
    other.write(1, &vec![9; 32 << 20]);
    assert_eq!(other.read(32 << 20, 2), [9, 0]);
}

#[test]
fn a_client_that_leaves_in_the_middle_takes_nobody_along() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut other = server.client("pg");
    for cut in [1, 27, 28, 30, 4000] {
        let mut client = server.client("pg");
        let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 1]);
        bytes.resize(24, 0);
        bytes.extend(1_000_000_u32.to_be_bytes());
        bytes.resize(4000, 5);
        client.put(&bytes[..cut]);
        drop(client);
        assert_eq!(
            other.read(0, 4096),
            [0; 4096],
            "a part of a write was written"
        );
    }
}

#[test]
fn nothing_is_written_to_what_is_read_only() {
    let place = Place::with_volume();
    place.write("pg", 0, b"as it was");
    place.ok(&["snapshot", "create", "pg", "monday"]);
    for args in [&["pg@monday"][..], &["pg", "--read-only"]] {
        let server = Server::start(&place, args);
        let mut client = server.client("");
        assert_eq!(client.try_write(0, b"changed").error, EPERM);
        for command in [TRIM, WRITE_ZEROES] {
            assert_eq!(client.ask(command, 0, 0, 4096).error, EPERM);
        }
        client.ok(FLUSH, 0, 0, 0);
        assert_eq!(client.read(0, 9), b"as it was");
    }
}

#[test]
fn a_bad_handshake_is_answered_or_ended_and_others_are_served() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut client = Client::greet(server.connect());
    for (option, data, kind) in [
        (5, vec![], 0x8000_0002_u32),
        (11, vec![], 0x8000_0001),
        (7, string(b"nothing"), 0x8000_0003),
        (7, [string(b"nothing"), vec![0, 0]].concat(), 0x8000_0006),
        (3, vec![1], 0x8000_0003),
        (10, vec![0; 8], 0x8000_0003),
        (4_000_000_000, vec![0; 65_536], 0x8000_0001),
        (4_000_000_000, vec![0; 65_537], 0x8000_0009),
        (7, vec![0xff; 1 << 20], 0x8000_0009),
    ] {
        client.option(option, &data);
        assert_eq!(
            client.answer().0,
            kind,
            "option {option} of {} bytes",
            data.len()
        );
    }
    assert_eq!(client.go("pg").0, SIZE);
    for bytes in [
        &b"\xff\xff\xff\xff"[..],
        b"\0\0\0\x03GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut stream = server.connect();
        stream.write_all(bytes).expect("a server");
        let mut client = Client::greet_nothing(stream);
        assert!(client.is_closed());
    }
}

//! Many clients, and clients that do not keep up.

use std::io::Read;
use std::time::{Duration, Instant};

use super::client::{Client, READ, WRITE};
use super::server::Server;
use crate::support::Place;

const MIB: u32 = 1 << 20;

#[test]
fn of_a_thousand_connections_so_many_are_served_and_the_others_sent_away() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut streams: Vec<_> = (0..1000)
        .map(|_| {
            let stream = server.connect();
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .expect("a timeout");
            stream
        })
        .collect();
    let greeted = |stream: &mut std::os::unix::net::UnixStream| {
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).is_ok()
    };
    let served = streams
        .iter_mut()
        .filter_map(|stream| greeted(stream).then_some(()))
        .count();
    // The one that was looked for when the server started may not be gone yet.
    assert!((99..=100).contains(&served), "{served} were served");
    drop(streams);
    let mut client = client_once_there_is_room(&server);
    assert_eq!(client.read(0, 4), [0; 4]);
    assert!(server.peak_memory() < 200 << 20);
}

fn client_once_there_is_room(server: &Server) -> Client {
    let begun = Instant::now();
    loop {
        if let Some(client) = Client::try_greet(server.connect()) {
            return client.choose("pg");
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_number_of_clients_can_be_set() {
    let place = Place::with_volume();
    let server = Server::start(&place, &["pg", "--max-connections", "2"]);
    let mut first = client_once_there_is_room(&server);
    let _second = client_once_there_is_room(&server);
    let mut third = server.connect();
    assert_eq!(third.read(&mut [0]).expect("an end"), 0);
    assert_eq!(first.read(0, 1), [0]);
}

#[test]
fn a_client_that_never_reads_takes_bounded_memory_and_holds_nobody_up() {
    let place = Place::with_volume();
    place.write("pg", 0, &vec![5; 8 << 20]);
    let server = Server::of_pg(&place);
    let before = server.peak_memory();
    let deaf: Vec<_> = (0..3)
        .map(|_| {
            let mut client = server.client("pg");
            // More than may be in flight, and less than the socket takes.
            (0..200).for_each(|_| {
                client.send(READ, 0, 0, MIB, b"");
            });
            client
        })
        .collect();
    let mut other = server.client("pg");
    for _ in 0..20 {
        assert_eq!(other.read(0, MIB), vec![5; 1 << 20]);
    }
    std::thread::sleep(Duration::from_millis(300));
    let grown = server.peak_memory() - before;
    assert!(
        grown < 300 << 20,
        "{grown} bytes for three clients of 64 MiB"
    );
    drop(deaf);
    other.write(0, b"still here");
}

#[test]
fn a_client_that_declares_a_long_write_and_sends_little_gets_little_memory() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let before = server.peak_memory();
    let slow: Vec<_> = (0..50)
        .map(|_| {
            let mut client = server.client("pg");
            client.send(WRITE, 0, 0, 32 * MIB, &[1; 1000]);
            client
        })
        .collect();
    let mut other = server.client("pg");
    assert_eq!(other.read(0, 1000), [0; 1000]);
    assert!(server.peak_memory() - before < 150 << 20);
    drop(slow);
    assert_eq!(other.read(0, 1000), [0; 1000]);
}

//! Clients of a control socket that make no sense. The server serves on.

use std::net::Shutdown;

use super::peer::{Peer, hello, store_id};
use crate::nbd::server::Server;
use crate::support::{Place, noise};

#[test]
fn what_is_no_hello_or_no_request_is_hung_up_on() {
    let place = Place::with_volume();
    let server = Server::start(&place, &["--all"]);
    let id = store_id(&place);
    let other = "00000000-0000-0000-0000-000000000000";
    for said in [
        b"GET / HTTP/1.1\r\n\r\n1234567890".to_vec(),
        hello(0, &id),
        hello(2, &id),
        hello(1, other),
        noise(28, 7),
    ] {
        let mut peer = Peer::connect(&place);
        peer.put(&said);
        // Its own hello, and nothing more.
        std::io::Read::read_exact(&mut peer.0, &mut [0; 28]).expect("a hello");
        assert_eq!(peer.hear(), None);
    }
    let too_long = (1_u32 << 20) + 1;
    let frames: Vec<Vec<u8>> = vec![
        [&too_long.to_le_bytes()[..], b"R"].concat(),
        [&u32::MAX.to_le_bytes()[..], b"R"].concat(),
        [&0_u32.to_le_bytes()[..], b"R"].concat(),
        [&2_u32.to_le_bytes()[..], b"R{}"].concat(),
        [&3_u32.to_le_bytes()[..], b"R\xff\xfe\xfd"].concat(),
        [&1_u32.to_le_bytes()[..], b"A\x01"].concat(),
        [&1_u32.to_le_bytes()[..], b"D\x00"].concat(),
        [&2_u32.to_le_bytes()[..], b"Xab"].concat(),
        [&70_000_u32.to_le_bytes()[..], b"R", &b"[".repeat(70_000)].concat(),
        noise(500, 3),
    ];
    for frame in frames {
        let mut peer = Peer::greet(&place, &id);
        peer.put(&frame);
        assert_eq!(peer.hear(), None, "{:?}", &frame[..frame.len().min(16)]);
    }
    place.ok(&["clone", "create", "pg", "trial"]);
    assert!(server.peak_memory() < 300 << 20);
}

#[test]
fn who_leaves_in_the_middle_leaves_nothing_behind() {
    let place = Place::with_volume();
    let _server = Server::start(&place, &["--all"]);
    let id = store_id(&place);
    let mut whole = hello(1, &id);
    let request = br#"{"args":["offshoot","volume","list"],"can_ask":false}"#;
    whole.extend((request.len() as u32).to_le_bytes());
    whole.push(b'R');
    whole.extend(request);
    for len in 0..whole.len() {
        let mut peer = Peer::connect(&place);
        peer.put(&whole[..len]);
        if len % 2 == 0 {
            peer.0.shutdown(Shutdown::Write).expect("a socket");
        }
    }
    // More than there is room for at once, in turn.
    for _ in 0..200 {
        let mut peer = Peer::greet(&place, &id);
        peer.request(&["volume", "list"], false);
    }
    place.ok(&["clone", "create", "pg", "trial"]);
}

#[test]
fn a_request_that_is_no_command_is_told_so() {
    let place = Place::with_volume();
    let _server = Server::of_pg(&place);
    let id = store_id(&place);
    let long = "x".repeat(100_000);
    let requests = [
        &["volume"][..],
        &["nonsense"],
        &["volume", "list", "--nonsense"],
        &["--help"],
        &["volume", "list", "--json", "-oplain"],
        &["volume", "show", &long],
        &["key", "list"],
        &["store", "init"],
        &["version"],
    ];
    for args in requests {
        let mut peer = Peer::greet(&place, &id);
        peer.request(args, false);
        let failure = peer.failure();
        assert_eq!(
            (&failure["kind"], &failure["code"]),
            (&"invalid".into(), &2.into()),
            "{failure}"
        );
        assert_eq!(peer.hear(), None);
    }
}

#[test]
fn who_says_nothing_is_hung_up_on_after_a_while() {
    let place = Place::with_volume();
    let _server = Server::of_pg(&place);
    let mut greeted = Peer::greet(&place, &store_id(&place));
    greeted.put(b"\x10\0\0");
    assert_eq!(greeted.hear(), None);
}

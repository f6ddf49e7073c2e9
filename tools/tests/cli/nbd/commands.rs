//! What commands do.

use super::client::{
    BLOCK_STATUS, CACHE, Client, DF, ENOTSUP, FAST_ZERO, FLUSH, FUA, NO_HOLE, READ, REQ_ONE, Reply,
    TRIM, WRITE, WRITE_ZEROES,
};
use super::server::Server;
use crate::support::Place;

const MIB: u64 = 1 << 20;

fn status(client: &mut Client, flags: u16, offset: u64, len: u32) -> [Vec<(u32, u32)>; 2] {
    let reply: Reply = client.ask(BLOCK_STATUS, flags, offset, len);
    assert_eq!(reply.error, 0, "{}", reply.text);
    let [(1, allocation), (2, depth)] = reply.status.as_slice() else {
        panic!("contexts {:?}", reply.status);
    };
    [allocation.clone(), depth.clone()]
}

#[test]
fn any_offset_and_length_can_be_written_and_read() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    let mut model = vec![0_u8; 1 << 20];
    let mut state = 1_u64;
    let mut roll = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for round in 0..300 {
        let offset = roll(MIB);
        let len = (1 + roll([10, 5000, 200_000][round % 3])).min(MIB - offset);
        let range = offset as usize..(offset + len) as usize;
        match roll(6) {
            0 => {
                client.ok(
                    WRITE_ZEROES,
                    if roll(2) == 0 { NO_HOLE } else { 0 },
                    offset,
                    len as u32,
                );
                model[range].fill(0);
            }
            1 => {
                client.ok(TRIM, 0, offset, len as u32);
                // Whole pages only.
                let (start, end) = (offset.next_multiple_of(4096), (offset + len) / 4096 * 4096);
                if start < end {
                    model[start as usize..end as usize].fill(0);
                }
            }
            2 | 3 => {
                let bytes: Vec<u8> = (0..len).map(|_| roll(256) as u8).collect();
                client.write(offset, &bytes);
                model[range].copy_from_slice(&bytes);
            }
            _ => assert_eq!(client.read(offset, len as u32), model[range]),
        }
    }
    assert_eq!(client.read(0, 1 << 20), model);
    drop(server);
    assert_eq!(place.read("pg", 0, MIB), model);
}

#[test]
fn many_requests_in_flight_are_all_answered_under_their_cookies() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    let page = |number: u64| vec![number as u8; 4096];
    let mut cookies: Vec<u64> = (0..100)
        .map(|number| client.send(WRITE, 0, number * 4096, 4096, &page(number)))
        .collect();
    let mut answered: Vec<u64> = (0..100).map(|_| client.reply(0).cookie).collect();
    answered.sort_unstable();
    assert_eq!(answered, cookies);
    cookies.clear();
    // Long ones and short ones, which overtake each other.
    let sizes = [512, 300_000, 4096, 1, 65_536];
    for number in 0..100 {
        let len = sizes[number % sizes.len()];
        cookies.push(client.send(READ, 0, number as u64 * 512, len, b""));
    }
    for _ in 0..100 {
        let reply = client.reply(0);
        let number = cookies
            .iter()
            .position(|cookie| *cookie == reply.cookie)
            .expect("a cookie");
        let (offset, len) = (number as u64 * 512, sizes[number % sizes.len()]);
        let bytes = reply.bytes(offset, len as usize);
        let expected = |at: u64| {
            if at < 100 * 4096 {
                (at / 4096) as u8
            } else {
                0
            }
        };
        let wrong = (offset..)
            .zip(&bytes)
            .find(|(at, byte)| **byte != expected(*at));
        assert_eq!(wrong, None);
    }
}

#[test]
fn simple_replies_have_their_data_behind_them() {
    let place = Place::with_volume();
    place.write("pg", 4096, b"written");
    let server = Server::of_pg(&place);
    let mut client = Client::simple(server.connect(), "");
    let reply = client.ask(READ, 0, 4090, 20);
    assert_eq!(
        reply.pieces[0].1.as_ref().expect("data")[6..13],
        *b"written"
    );
    let refused = client.ask(BLOCK_STATUS, 0, 0, 4096);
    assert_eq!((refused.error, refused.text.as_str()), (22, ""));
}

#[test]
fn a_long_read_tells_holes_and_df_gets_one_piece() {
    let place = Place::with_volume();
    place.write("pg", 65_536, &[7; 65_536]);
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    let sparse = client.ask(READ, 0, 0, 262_144);
    let shape: Vec<_> = sparse
        .pieces
        .iter()
        .map(|(offset, piece)| (*offset, piece.as_ref().map(Vec::len).map_err(|hole| *hole)))
        .collect();
    assert_eq!(
        shape,
        [
            (0, Err(65_536)),
            (65_536, Ok(65_536)),
            (131_072, Err(131_072))
        ]
    );
    let whole = client.ask(READ, DF, 0, 262_144);
    assert_eq!(whole.pieces.len(), 1);
    assert_eq!(whole.bytes(0, 262_144), sparse.bytes(0, 262_144));
    assert_eq!(client.ask(READ, 0, 5, 0).pieces, []);
}

#[test]
fn block_status_tells_data_zeroes_and_holes_and_who_wrote_them() {
    let place = Place::with_volume();
    place.write("pg", 0, &[7; 16_384]);
    place.ok(&["snapshot", "create", "pg", "monday"]);
    place.ok(&["clone", "create", "pg", "trial"]);
    let server = Server::start(&place, &["trial", "pg@monday"]);
    let mut client = server.client("trial");
    client.write(4096, &[8; 4096]);
    client.ok(WRITE_ZEROES, NO_HOLE, 8192, 4096);
    let [allocation, depth] = status(&mut client, 0, 0, 65_536);
    assert_eq!(allocation, [(8192, 0), (4096, 2), (4096, 0), (49_152, 3)]);
    let own = depth[1];
    assert_eq!(own, (8192, 1));
    let (before, behind) = (depth[0], depth[2]);
    assert!(before.1 > 1 && before == (4096, before.1) && behind == (4096, before.1));
    assert_eq!(depth[3], (49_152, 0));
    let [allocation, depth] = status(&mut client, REQ_ONE, 100, 65_000);
    assert_eq!(allocation, [(8092, 0)]);
    assert_eq!(depth, [(3996, before.1)]);
    let mut snapshot = server.client("pg@monday");
    let [allocation, _] = status(&mut snapshot, 0, 0, 1 << 20);
    assert_eq!(allocation, [(16_384, 0), ((1 << 20) - 16_384, 3)]);
}

#[test]
fn block_status_stops_at_16384_extents() {
    let place = Place::new();
    place.ok(&["volume", "create", "pg", "--size", "256M"]);
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    // Pages in turn written and not: two extents each.
    for group in 0..129 {
        (0..64).for_each(|page| {
            client.send(WRITE, 0, (group * 64 + page) * 8192, 4096, &[1; 4096]);
        });
        (0..64).for_each(|_| assert_eq!(client.reply(0).error, 0));
    }
    let [allocation, depth] = status(&mut client, 0, 0, 256 << 20);
    assert_eq!((allocation.len(), depth.len()), (16_384, 16_384));
    assert!(allocation.iter().all(|(len, _)| *len == 4096));
    let [rest, _] = status(&mut client, 0, 16_384 * 4096, 4 << 20);
    assert_eq!(rest[0], (4096, 0));
}

#[test]
fn trims_and_zeroes_cost_what_is_mapped_and_not_what_is_asked() {
    let place = Place::new();
    place.ok(&["volume", "create", "pg", "--size", "16G"]);
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    client.write(5 << 30, b"far away");
    let nearly_4_gib = u32::MAX - 4095;
    for command in [TRIM, WRITE_ZEROES, CACHE] {
        client.ok(command, 0, 2 << 30, nearly_4_gib);
        client.ok(command, 0, 6 << 30, u32::MAX);
    }
    assert_eq!(client.read(5 << 30, 8), [0; 8]);
    client.ok(WRITE_ZEROES, FAST_ZERO, 0, nearly_4_gib);
    assert_eq!(client.ask(WRITE_ZEROES, FAST_ZERO, 1, 4096).error, ENOTSUP);
    client.ok(WRITE_ZEROES, NO_HOLE, 1, u32::MAX);
    let [allocation, _] = status(&mut client, 0, 0, 1 << 30);
    // The page that is zeroed in part had nothing in it.
    assert_eq!(allocation.last().map(|(_, state)| *state), Some(2));
}

#[test]
fn what_is_flushed_or_written_with_fua_survives_a_kill() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    client.write(0, b"flushed");
    client.ok(FLUSH, 0, 0, 0);
    client.send(WRITE, FUA, 8192, 3, b"fua");
    assert_eq!(client.reply(0).error, 0);
    server.kill();
    assert_eq!(place.read("pg", 0, 7), b"flushed");
    assert_eq!(place.read("pg", 8192, 3), b"fua");
}

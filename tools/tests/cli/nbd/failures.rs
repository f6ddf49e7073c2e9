//! What fails below the server.

use std::time::{Duration, Instant};

use super::client::{EIO, ENOSPC, FLUSH, READ, TRIM};
use super::server::Server;
use crate::support::Place;

#[test]
fn a_key_that_is_disabled_is_an_error_with_a_text_and_comes_back() {
    let place = Place::with_volume();
    place.ok(&["key", "create", "--alias", "alias/other"]);
    place.ok(&[
        "volume",
        "create",
        "db",
        "--size",
        "1M",
        "--kms-key",
        "alias/other",
    ]);
    let server = Server::start(&place, &["pg", "db"]);
    let (mut pg, mut db) = (server.client("pg"), server.client("db"));
    db.write(0, b"secret");
    pg.write(0, b"mine");
    place.ok(&["key", "disable", "alias/other"]);
    let begun = Instant::now();
    let reply = loop {
        let reply = db.ask(READ, 0, 0, 6);
        if reply.error != 0 {
            break reply;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "it still reads");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(reply.error, EIO);
    assert!(reply.text.contains("disabled"), "{}", reply.text);
    assert_eq!(db.try_write(0, b"x").error, EIO);
    assert_eq!(pg.read(0, 4), b"mine");
    place.ok(&["key", "enable", "alias/other"]);
    assert_eq!(db.read(0, 6), b"secret");
}

#[test]
fn a_full_store_is_enospc_and_trims_go_on() {
    let place = Place::with_volume();
    place.ok(&["store", "quota", "set", "--bytes", "16M"]);
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    let mut offset = 0;
    let full = loop {
        let reply = client.try_write(offset, &vec![offset as u8 | 1; 1 << 20]);
        if reply.error != 0 {
            break reply;
        }
        offset += 1 << 20;
        assert!(offset < 32 << 20, "nothing stops it");
    };
    assert_eq!(full.error, ENOSPC);
    assert!(full.text.contains("quota"), "{}", full.text);
    assert_eq!(client.read(0, 1), [1]);
    client.ok(TRIM, 0, 0, 4 << 20);
    client.ok(FLUSH, 0, 0, 0);
    assert_eq!(client.read(0, 1), [0]);
}

#[test]
fn damaged_bytes_are_an_error_that_names_the_page_and_never_leave() {
    let place = Place::with_volume();
    place.write("pg", 0, &vec![0x5a; 1 << 20]);
    let segments = std::fs::read_dir(place.store()).expect("the store");
    let mut changed = 0;
    for file in segments {
        let path = file.expect("a file").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if !name.starts_with("segment") && !name.starts_with("seg") {
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("a segment");
        // The pages are far behind the headers of the only large batch.
        let at = 100 * 4096 + 17;
        if bytes.len() > at {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).expect("a segment");
            changed += 1;
        }
    }
    assert!(changed > 0, "there is no segment");
    let server = Server::of_pg(&place);
    let mut client = server.client("pg");
    let reply = client.ask(READ, 0, 0, 1 << 20);
    assert_eq!(reply.error, EIO);
    assert!(reply.text.contains("page"), "{}", reply.text);
    assert!(
        reply.pieces.is_empty(),
        "bytes of a read that failed were sent"
    );
    assert_eq!(client.read(0, 4096), [0x5a; 4096]);
}

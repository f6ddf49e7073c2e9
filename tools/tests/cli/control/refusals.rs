//! What does not go beside a server, and owners that do not answer.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::thread;

use rustix::fs::{FlockOperation, flock};

use super::peer::{Peer, hello, sockets, store_id};
use crate::nbd::server::Server;
use crate::support::Place;

#[test]
fn what_only_the_owner_of_a_store_can_do_is_refused_with_its_process() {
    let place = Place::with_volume();
    place.file("some", b"x");
    let server = Server::of_pg(&place);
    let id = store_id(&place);
    let commands = [
        &["inspect", "catalog"][..],
        &["import", "image", "some", "new"],
        &["volume", "write", "pg", "some"],
        &["export", "image", "pg", "out"],
        &["store", "stats", "--live"],
        &["store", "stats", "--live", "-w", "1"],
        &["serve", "nbd", "pg", "--socket", "other"],
    ];
    let process = format!("process {}", server.pid());
    for args in commands {
        let message = place.fails(args, 11, "locked");
        assert!(message.contains(&process), "{args:?}: {message}");
        // Whoever asks all the same hears it from the owner.
        let mut peer = Peer::greet(&place, &id);
        peer.request(args, true);
        let failure = peer.failure();
        assert_eq!(failure["kind"], "invalid", "{args:?}");
    }
    let message = place.fails(&["fsck"], 8, "locked");
    assert!(message.contains(&process), "{message}");
    assert!(!place.path("out").exists() && !place.path("other").exists());
}

#[test]
fn keys_are_managed_beside_a_server_without_it() {
    let place = Place::with_volume();
    let _server = Server::of_pg(&place);
    place.ok(&["key", "create", "--alias", "other"]);
    place.ok(&["clone", "create", "pg", "trial", "--kms-key", "alias/other"]);
    place.ok(&["key", "disable", "alias/other"]);
    place.fails(&["clone", "create", "trial", "more"], 12, "key_unavailable");
    place.ok(&["clone", "create", "pg", "more"]);
    place.ok(&["key", "enable", "alias/other"]);
    place.ok(&["clone", "create", "trial", "another"]);
}

#[test]
fn a_killed_servers_socket_is_in_nobodys_way() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    server.kill();
    let dead = sockets(&place);
    assert_eq!(dead.len(), 1);
    fs::remove_file(place.path("nbd.sock")).expect("a dead socket");
    place.ok(&["volume", "list"]);
    let _server = Server::of_pg(&place);
    let live = sockets(&place);
    assert!(live.len() == 1 && live != dead, "{live:?}");
    place.ok(&["volume", "list"]);
}

#[test]
fn an_owner_that_says_another_hello_or_none_is_no_owner() {
    let place = Place::with_volume();
    let id = store_id(&place);
    // This process has the store.
    let mut lock = fs::OpenOptions::new()
        .write(true)
        .open(place.store().join("lock"))
        .expect("a lock");
    flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("a lock");
    lock.set_len(0).expect("a lock");
    write!(lock, "{}", std::process::id()).expect("a lock");
    place.fails(&["volume", "list"], 11, "locked");
    let run = place.path("run/offshoot");
    fs::create_dir_all(&run).expect("a directory");
    let private =
        |mode| fs::set_permissions(&run, fs::Permissions::from_mode(mode)).expect("a mode");
    private(0o700);
    let path = run.join(format!("{id}-{}.sock", std::process::id()));
    let listener = UnixListener::bind(path).expect("a socket");
    let other_id = "00000000-0000-0000-0000-000000000000";
    for said in [
        Vec::new(),
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n\r\n\r\n\r\n".to_vec(),
        hello(2, &id),
        hello(1, other_id),
    ] {
        thread::scope(|scope| {
            scope.spawn(|| listener.accept().expect("a client").0.write_all(&said));
            let message = place.fails(&["volume", "list"], 11, "locked");
            assert!(
                message.contains(&format!("process {}", std::process::id())),
                "{message}"
            );
        });
    }
    // Where others could have put a socket nobody is asked.
    private(0o755);
    place.fails(&["volume", "list"], 11, "locked");
    listener.set_nonblocking(true).expect("a socket");
    assert!(listener.accept().is_err(), "it was asked");
}

#[test]
fn where_others_could_put_a_socket_a_server_says_so_and_serves() {
    let place = Place::with_volume();
    let run = place.path("run/offshoot");
    fs::create_dir_all(&run).expect("a directory");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).expect("a mode");
    let output = place
        .command(&["serve", "nbd", "pg", "--run", "true"])
        .output()
        .expect("an output");
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(
        stderr.starts_with("warning: ") && stderr.contains("0700"),
        "{stderr}"
    );
    assert_eq!(sockets(&place), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_socket_and_its_directory_are_the_users_alone() {
    let place = Place::with_volume();
    let _server = Server::of_pg(&place);
    let mode =
        |path: &std::path::Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&place.path("run/offshoot")), 0o700);
    assert_eq!(mode(&sockets(&place)[0]), 0o600);
}

#[test]
fn a_command_in_a_served_command_works() {
    let place = Place::with_volume();
    let script = format!("{} clone create pg trial -q", crate::support::PROGRAM);
    let mut command = place.std_command(&["serve", "nbd", "pg", "--run", &script]);
    let output = command.stderr(Stdio::piped()).output().expect("an output");
    assert_eq!(output.stdout, b"trial\n");
    assert_eq!(place.ok(&["clone", "list", "-q"]), b"trial\n");
}

//! Where a server listens.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use super::client::{Client, PATIENCE};
use super::server::Server;
use crate::support::Place;

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path)
        .expect("a file")
        .permissions()
        .mode()
        & 0o7777
}

#[test]
fn the_socket_is_the_users_alone_unless_a_mode_is_given() {
    let place = Place::with_volume();
    let server = Server::of_pg(&place);
    assert_eq!(mode(&server.socket), 0o600);
    drop(server);
    let server = Server::start(&place, &["pg", "--socket-mode", "666"]);
    // Somebody may connect before the mode is as wide as it gets.
    while mode(&server.socket) != 0o666 {
        std::thread::yield_now();
    }
}

#[test]
fn a_live_socket_or_a_file_is_in_the_way() {
    let place = Place::with_volume();
    let _live = UnixListener::bind(place.path("live")).expect("a socket");
    place.file("file", b"not a socket");
    for name in ["live", "file"] {
        place.fails(
            &["serve", "nbd", "pg", "--socket", name],
            15,
            "already_exists",
        );
        assert!(place.path(name).exists());
    }
    let long = "x".repeat(108);
    place.fails(&["serve", "nbd", "pg", "--socket", &long], 2, "invalid");
}

#[test]
fn a_directory_that_is_made_is_the_users_alone_and_a_socket_of_others_stays() {
    let place = Place::with_volume();
    let script = "stat -c %a run/here; rm run/here/s; touch run/here/s";
    let mut command = place.std_command(&["serve", "nbd", "pg", "--socket", "run/here/s"]);
    let mut child = command.stdout(Stdio::null()).spawn().expect("a server");
    while !place.path("run/here/s").exists() {
        std::thread::yield_now();
    }
    assert_eq!(mode(&place.path("run/here")), 0o700);
    let done = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(place.path("."))
        .status();
    assert!(done.expect("a shell").success());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a process");
    assert!(child.wait().expect("a child").success());
    assert!(
        place.path("run/here/s").exists(),
        "a file of somebody else was removed"
    );
}

#[test]
fn tcp_serves_this_machine() {
    let place = Place::with_volume();
    let mut command = place.std_command(&[
        "serve",
        "nbd",
        "pg",
        "--listen",
        "127.0.0.1:0",
        "--print-uri",
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a server");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("its output");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a line");
    let address = line
        .trim()
        .strip_prefix("nbd://")
        .and_then(|rest| rest.strip_suffix("/pg"));
    let stream = TcpStream::connect(address.expect("a URI")).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut client = Client::structured(stream, "pg");
    client.write(1000, b"over TCP");
    assert_eq!(client.read(1000, 8), b"over TCP");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a process");
    assert!(child.wait().expect("a child").success());
}

//! One process owns a store.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Place, failed};

/// A command that has the store open until its standard input ends.
struct Owner(Child);

impl Owner {
    fn new(place: &Place) -> Self {
        let child = place
            .std_command(&["volume", "write", "pg"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a child");
        let owner = Self(child);
        let begin = Instant::now();
        while place
            .command(&["store", "info"])
            .output()
            .expect("an output")
            .status
            .success()
        {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "the child never opened the store"
            );
            thread::sleep(Duration::from_millis(5));
        }
        owner
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("a status").success());
    }
}

#[test]
fn a_locked_store_is_refused_with_its_owner() {
    let place = Place::with_volume();
    place.file("some", b"x");
    let owner = Owner::new(&place);
    let pid = owner.0.id();
    let commands = [
        &["volume", "list"][..],
        &["volume", "show", "pg"],
        &["volume", "read", "pg"],
        &["volume", "delete", "pg", "-y"],
        &["clone", "create", "pg", "dev"],
        &["snapshot", "create", "pg"],
        &["import", "image", "some", "new"],
        &["store", "info"],
    ];
    for args in commands {
        let json = if args[1] == "read" {
            &["-q"][..]
        } else {
            &["--json"]
        };
        let args = [args, json].concat();
        let output = place.command(&args).output().expect("an output");
        assert_eq!(output.status.code(), Some(11), "{args:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains(&format!("process {pid}")),
            "{args:?}: {stderr}"
        );
        if args.contains(&"--json") {
            failed(&args, &output, 11, "locked");
        }
    }
    place.fails(&["fsck"], 8, "locked");
    // Keys are of the KMS, which is not locked meanwhile.
    place.ok(&["key", "create", "--alias", "beside"]);
    owner.end();
    place.ok(&["volume", "list"]);
}

#[test]
fn a_killed_owner_leaves_no_lock() {
    let place = Place::with_volume();
    let mut owner = Owner::new(&place);
    owner.0.kill().expect("a kill");
    owner.0.wait().expect("a status");
    place.ok(&["volume", "list"]);
    assert_eq!(place.json(&["fsck"])["fsck"]["clean"], true);
}

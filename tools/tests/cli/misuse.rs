//! Places that are no stores, and command lines that are none.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::Place;

#[test]
fn what_is_no_store_is_named_and_left_alone() {
    let place = Place::bare();
    let message = place.fails(&["volume", "list"], 10, "not_a_store");
    assert!(
        message.contains("regions/local") && message.contains("store init"),
        "{message}"
    );
    assert!(!place.path("home").exists());

    let place = Place::new();
    fs::create_dir(place.path("empty")).expect("a directory");
    place.file("file", b"no store");
    let kms = place.kms().display().to_string();
    for store in ["empty", "file", "nothing"] {
        let args = ["volume", "list", "--store", store, "--kms", &kms];
        let message = place.fails(&args, 10, "not_a_store");
        assert!(message.contains(store), "{message}");
    }
    let left = fs::read_dir(place.path("empty"))
        .expect("a directory")
        .count();
    assert_eq!(left, 0);
    for kms in ["empty", "file"] {
        place.fails(&["key", "list", "--kms", kms], 10, "not_a_store");
    }
}

#[test]
fn a_wrong_command_line_is_code_2_and_json_on_demand() {
    let place = Place::bare();
    let wrong = [
        &["nonsense"][..],
        &["volume"],
        &["volume", "create", "a"],
        &["volume", "show"],
        &["volume", "list", "--nonsense"],
        &["volume", "read", "pg", "--offset", "x"],
        &["volume", "list", "-o", "xml"],
    ];
    for args in wrong {
        let output = place.command(args).output().expect("an output");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{args:?}"
        );
    }
    place.fails(&["volume", "list", "--nonsense"], 2, "invalid");
    let output = place
        .command(&["nonsense", "-o", "jsonl"])
        .output()
        .expect("an output");
    assert!(output.stderr.starts_with(b"{\"schema\":\"error/1\""));
}

#[test]
fn help_is_no_error() {
    let place = Place::bare();
    for args in [
        &["--help"][..],
        &["volume", "--help"],
        &["help", "clone"],
        &["--version"],
    ] {
        assert!(!place.ok(args).is_empty(), "{args:?}");
    }
}

#[test]
fn unknown_names_are_not_found() {
    let place = Place::with_volume();
    let unknown = [
        &["volume", "show", "none"][..],
        &["volume", "map", "none"],
        &["volume", "map", "@none"],
        &["volume", "rename", "none", "other"],
        &["volume", "resize", "none", "--size", "1M"],
        &["volume", "discard", "none", "--all"],
        &["volume", "delete", "none", "-y"],
        &["clone", "create", "none", "other"],
        &["clone", "tree", "none"],
        &["clone", "list", "@none"],
        &["snapshot", "create", "none"],
        &["snapshot", "delete", "none", "-y"],
        &["snapshot", "list", "none"],
        &["export", "image", "none", "out"],
        &[
            "volume",
            "show",
            "arn:offshoot:rds:elsewhere:000000000000:cluster:pg",
        ],
    ];
    for args in unknown {
        place.fails(args, 14, "not_found");
    }
    assert!(!place.path("out").exists());
    place.fails(&["volume", "show", "a--b"], 2, "invalid");
    place.fails(
        &["volume", "show", "arn:aws:rds:local:0:cluster:pg"],
        2,
        "invalid",
    );
}

#[test]
fn a_directory_without_permission_is_an_error_not_a_panic() {
    let place = Place::with_volume();
    let mode = |mode: u32| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(place.store(), permissions).expect("permissions");
    };
    mode(0o500);
    // Root may write everywhere: then there is nothing to see.
    let is_root = fs::File::create(place.store().join("probe")).is_ok();
    if !is_root {
        place.fails(&["volume", "create", "new", "--size", "1M"], 1, "io");
        place.ok(&["store", "info"]);
    }
    mode(0o700);
    let _ = fs::remove_file(place.store().join("probe"));
    place.ok(&["volume", "list"]);
}

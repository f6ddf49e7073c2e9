//! `store`, `fsck`, `version`, `inspect --layout`, and the places.

use std::fs;

use crate::support::{Place, contents, fields, noise};

const STORE_FIELDS: [&str; 14] = [
    "id",
    "region",
    "path",
    "kms_path",
    "kms_key_id",
    "created_at",
    "format_version",
    "generation",
    "page_bytes",
    "segment_bytes",
    "atomic_write_bytes",
    "segment_count",
    "volume_count",
    "snapshot_count",
];

#[test]
fn init_makes_a_store_its_kms_and_two_keys() {
    let place = Place::bare();
    let made = place.json(&[
        "store",
        "init",
        "--page-size",
        "16K",
        "--segment-size",
        "8M",
    ]);
    assert_eq!(made["schema"], "store/1");
    assert_eq!(fields(&made["store"]), STORE_FIELDS);
    assert_eq!(made["store"]["page_bytes"], 16384);
    assert_eq!(made["store"]["segment_bytes"], 8 << 20);
    assert_eq!(made["store"]["region"], "local");
    let keys = place.json(&["key", "list"]);
    let alias = |index: usize| keys["keys"][index]["aliases"][0].clone();
    assert_eq!(alias(0), "alias/offshoot-store");
    assert_eq!(alias(1), "alias/default");
    assert_eq!(made["store"]["kms_key_id"], keys["keys"][0]["id"]);
}

#[test]
fn init_leaves_what_is_there_alone() {
    let place = Place::with_volume();
    let before = contents(&place.path("home"));
    let message = place.fails(&["store", "init"], 15, "already_exists");
    assert!(message.contains("home/regions/local"), "{message}");
    assert_eq!(contents(&place.path("home")).len(), before.len());
    assert_eq!(place.json(&["volume", "list"])["volumes"][0]["name"], "pg");

    let place = Place::bare();
    fs::create_dir(place.path("s")).expect("a directory");
    place.file("s/notes", b"mine");
    place.fails(
        &["store", "init", "--store", "s", "--kms", "k"],
        15,
        "already_exists",
    );
    assert!(!place.path("k").exists());
    place.fails(
        &["store", "init", "--store", "s/notes", "--kms", "k"],
        2,
        "invalid",
    );
}

#[test]
fn init_refuses_odd_sizes_and_can_be_repeated() {
    let place = Place::bare();
    for odd in [
        ["--page-size", "3K"],
        ["--page-size", "8E"],
        ["--segment-size", "1K"],
    ] {
        place.fails(&[&["store", "init"], &odd[..]].concat(), 2, "invalid");
    }
    place.ok(&["store", "init"]);
}

#[test]
fn info_writes_nothing() {
    let place = Place::with_volume();
    let before = contents(&place.store());
    let info = place.json(&["store", "info"]);
    assert_eq!(fields(&info["store"]), STORE_FIELDS);
    assert_eq!(info["store"]["volume_count"], 1);
    assert!(contents(&place.store()) == before);
}

#[test]
fn the_places_can_be_named_in_every_way() {
    let place = Place::bare();
    place.ok(&["--home", "h", "store", "init", "--region", "east"]);
    assert!(place.path("h/regions/east").is_dir() && place.path("h/kms/east").is_dir());
    place.ok(&[
        "volume", "create", "a", "--size", "1M", "--home", "h", "--region", "east",
    ]);
    let lone = ["--store", "h/regions/east", "--kms", "h/kms/east"];
    let info = place.json(&[&["store", "info"], &lone[..]].concat());
    assert_eq!(info["store"]["region"], "east");
    assert_eq!(info["store"]["volume_count"], 1);
    place.fails(
        &[&["store", "info", "--region", "west"], &lone[..]].concat(),
        2,
        "invalid",
    );
    place.fails(
        &["store", "info", "--store", "h/regions/east"],
        2,
        "invalid",
    );
    place.fails(
        &["store", "info", "--home", "h", "--kms", "h/kms/east"],
        2,
        "invalid",
    );
    place.fails(&["store", "info", "--region", "../east"], 2, "invalid");

    let mut command = place.command(&["store", "info", "--json"]);
    let output = command
        .env("OFFSHOOT_HOME", place.path("h"))
        .env("OFFSHOOT_REGION", "east");
    assert!(output.output().expect("an output").status.success());
    // Without any of these, ./.offshoot is taken if it is there.
    fs::rename(place.path("h"), place.path(".offshoot")).expect("a rename");
    let mut command = place.command(&["store", "info", "--region", "east"]);
    assert!(
        command
            .env_remove("OFFSHOOT_HOME")
            .output()
            .expect("an output")
            .status
            .success()
    );
}

#[test]
fn a_clean_store_passes_fsck() {
    let place = Place::with_volume();
    place.write("pg", 0, &[7; 100_000]);
    let before = contents(&place.store());
    let report = place.json(&["fsck", "--read-data"]);
    assert_eq!(report["schema"], "fsck/1");
    assert_eq!(report["fsck"]["clean"], true);
    assert_eq!(report["fsck"]["findings"], serde_json::json!([]));
    assert_eq!(report["fsck"]["stats"]["volumes"], 1);
    assert_eq!(report["fsck"]["stats"]["authenticated"], true);
    // The KMS notes in its audit log what it was asked.
    assert!(contents(&place.store()) == before);
    // The structure is checked without keys.
    let store = place.store().display().to_string();
    let report = place.json(&["fsck", "--store", &store]);
    assert_eq!(report["fsck"]["stats"]["authenticated"], false);
}

#[test]
fn fsck_has_exit_codes_of_its_own() {
    let place = Place::bare();
    place.fails(&["fsck"], 8, "not_a_store");
    place.fails(&["fsck", "--nonsense"], 16, "invalid");
    place.fails(&["fsck", "--region", "a/b"], 16, "invalid");
}

#[test]
fn the_version_and_the_layout_need_no_store() {
    let place = Place::bare();
    let version = place.json(&["version"]);
    assert_eq!(version["schema"], "version/1");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["page_cipher"], offshoot::PAGE_CIPHER);
    let layout = place.json(&["inspect", "--layout"]);
    assert_eq!(layout["schema"], "layout/1");
    let first = &layout["structs"][0];
    assert_eq!(fields(first), ["name", "meaning", "length_bytes", "fields"]);
    assert_eq!(
        fields(&first["fields"][0]),
        ["name", "offset_bytes", "length_bytes", "meaning"]
    );
}

#[test]
fn a_quota_is_set_shown_and_kept_to() {
    let place = Place::with_volume();
    let quota = place.json(&["store", "quota", "show"]);
    assert_eq!(quota["schema"], "quota/1");
    assert_eq!(quota["quota"]["quota_bytes"], serde_json::Value::Null);
    assert_eq!(quota["quota"]["used_heads"], 1);
    place.fails(&["store", "quota", "set"], 2, "invalid");
    place.fails(&["store", "quota", "set", "--heads", "many"], 2, "invalid");
    place.fails(&["store", "quota", "set", "--bytes", "0"], 2, "invalid");
    let set = ["store", "quota", "set", "--bytes", "1M", "--heads", "2"];
    let quota = place.json(&set);
    assert_eq!(quota["quota"]["quota_bytes"], 1 << 20);
    place.file("data", &[7; 2 << 20]);
    let write = ["volume", "write", "pg", "data"];
    let message = place.fails(&write, 17, "quota_exceeded");
    assert!(message.contains("store quota"), "{message}");
    place.ok(&["store", "quota", "set", "--bytes", "none"]);
    place.ok(&write);
    place.ok(&["snapshot", "create", "pg", "s"]);
    place.fails(&["clone", "create", "pg", "c"], 17, "quota_exceeded");
    place.ok(&["snapshot", "delete", "s", "--yes"]);
    place.ok(&["clone", "create", "pg", "c"]);
    assert_eq!(
        place.json(&["store", "quota", "show"])["quota"]["quota_heads"],
        2
    );
}

#[test]
fn what_was_deleted_comes_back_and_the_rest_stays() {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(3 << 20, 1));
    place.ok(&["volume", "create", "big", "--size", "100M"]);
    for round in 0..2 {
        for offset in 0..6 {
            place.write("big", offset << 24, &noise(16 << 20, round));
        }
    }
    let taken = || {
        let stats = place.json(&["store", "stats"])["store-stats"].clone();
        let field = |name: &str| stats[name].as_u64().expect("a number");
        field("allocated_bytes") - field("spare_bytes")
    };
    let before = taken();
    place.ok(&["volume", "delete", "big", "--yes"]);
    // A part of it may have come back in the background by then.
    let freed = place.json(&["store", "compact"]);
    assert_eq!(freed["schema"], "reclaim/1");
    assert!(freed["freed_bytes"].as_u64().is_some(), "{freed}");
    let after = taken();
    assert!(after + (80 << 20) < before, "{before} {after}");
    assert_eq!(place.read("pg", 0, 3 << 20), noise(3 << 20, 1));
    place.ok(&["store", "reclaim"]);
    place.ok(&["fsck", "--read-data"]);
}

#[test]
fn fsck_looks_as_deep_as_it_is_told() {
    let place = Place::with_volume();
    place.write("pg", 0, &crate::support::noise(2_000_000, 3));
    place.ok(&["snapshot", "create", "pg", "monday"]);
    place.ok(&["volume", "create", "other", "--size", "1M"]);
    let stats = |args: &[&str]| {
        let report = place.json(&[&["fsck"], args].concat());
        assert_eq!(report["fsck"]["clean"], true, "{args:?}");
        report["fsck"]["stats"].clone()
    };
    let pages = stats(&[])["pages"].as_u64().expect("a number");
    assert!(pages > 400);
    assert_eq!(stats(&["--quick"])["nodes"], 0);
    assert_eq!(stats(&["--read-data"])["pages_read"], pages);
    let some = stats(&["--read-data=20%"])["pages_read"].as_u64();
    assert!(some.is_some_and(|some| some < pages));
    assert_eq!(stats(&["--volume", "other"])["pages"], 0);
    assert_eq!(stats(&["--volume", "pg@monday"])["pages"], pages);
    let keys = stats(&["--keys"]);
    assert_eq!(
        (&keys["pages_opened"], &keys["pages_locked"]),
        (&pages.into(), &0.into())
    );
    place.ok(&["key", "disable", "alias/default"]);
    let keys = stats(&["--keys"]);
    assert_eq!(
        (&keys["pages_opened"], &keys["pages_locked"]),
        (&0.into(), &pages.into())
    );
    assert_eq!(keys["locked_heads"], 3);
    let text = String::from_utf8(place.ok(&["fsck", "--keys"])).expect("text");
    assert!(text.contains("volumes and snapshots locked: 3"), "{text}");
    for wrong in [
        &["--quick", "--keys"][..],
        &["--read-data=0%"],
        &["--read-data=x"],
    ] {
        let output = place.command(&[&["fsck"], wrong].concat()).output();
        assert_eq!(
            output.expect("an output").status.code(),
            Some(16),
            "{wrong:?}"
        );
    }
    place.fails(&["fsck", "--volume", "none"], 8, "not_found");
}

#[test]
fn fsck_tells_how_far_it_is() {
    let place = Place::with_volume();
    place.write("pg", 0, &crate::support::noise(9_000_000, 3));
    let output = place
        .command(&["fsck", "--read-data", "--progress", "json"])
        .output();
    let stderr = String::from_utf8(output.expect("an output").stderr).expect("text");
    let last: serde_json::Value =
        serde_json::from_str(stderr.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["progress"]["operation"], "fsck");
    assert_eq!(last["progress"]["state"], "done");
}

#[test]
fn fsck_repairs_what_follows_from_the_rest_and_then_finds_nothing() {
    let place = Place::with_volume();
    place.write("pg", 0, b"kept");
    std::fs::remove_file(place.store().join("superblock-a")).expect("a mirror goes");
    let before = crate::support::contents(&place.store());
    let run = |args: &[&str]| {
        let output = place.command(&[&["fsck"], args].concat()).output();
        let output = output.expect("an output");
        let text = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), text)
    };
    let (code, text) = run(&["--repair", "--dry-run"]);
    assert_eq!(code, Some(4));
    assert!(
        text.contains("OF-0102") && text.contains("would write superblocks"),
        "{text}"
    );
    assert!(crate::support::contents(&place.store()) == before);
    let (code, text) = run(&["--repair", "--json"]);
    assert_eq!(code, Some(1), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["fsck"]["clean"], true);
    let corrected = report["fsck"]["corrected"].as_array().expect("a list");
    assert!(corrected.iter().all(|it| it["repair"] == "checkpoints"));
    assert_eq!(run(&["--repair"]).0, Some(0));
    assert_eq!(run(&["--read-data"]).0, Some(0));
    assert_eq!(place.read("pg", 0, 4), b"kept");
    assert_eq!(run(&["--dry-run"]).0, Some(16));
    assert_eq!(run(&["--repair", "--quick"]).0, Some(16));
}

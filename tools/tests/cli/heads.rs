//! Volumes, clones and snapshots: create, list, show, change, delete.

use serde_json::Value;

use crate::support::{Place, fields, noise};

const VOLUME_FIELDS: [&str; 19] = [
    "name",
    "id",
    "arn",
    "region",
    "status",
    "deletion_protection",
    "kms_key_id",
    "kms_key_arn",
    "origin_id",
    "origin_name",
    "clone_group_id",
    "created_at",
    "size_bytes",
    "referenced_bytes",
    "exclusive_bytes",
    "exclusive_settled",
    "shared_bytes",
    "charged_bytes",
    "split_bytes",
];

fn names(list: &Value) -> Vec<&str> {
    let items = list.as_array().expect("a list").iter();
    items
        .map(|item| item["name"].as_str().expect("a name"))
        .collect()
}

#[test]
fn a_volume_is_made_shown_and_listed() {
    let place = Place::new();
    let made = place.json(&["volume", "create", "PG", "--size", "10000"]);
    assert_eq!(made["schema"], "volume/1");
    let volume = &made["volume"];
    assert_eq!(fields(volume), VOLUME_FIELDS);
    assert_eq!(volume["name"], "pg");
    assert_eq!(
        volume["arn"],
        "arn:offshoot:rds:local:000000000000:cluster:pg"
    );
    assert_eq!(volume["status"], "available");
    assert_eq!(volume["size_bytes"], 12288);
    assert_eq!(volume["referenced_bytes"], 0);
    assert_eq!(volume["origin_id"], Value::Null);
    assert_eq!(volume["clone_group_id"], Value::Null);
    let time = volume["created_at"].as_str().expect("a time");
    assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    assert_eq!(place.json(&["volume", "show", "pg"])["volume"], *volume);
    let arn = volume["arn"].as_str().expect("an ARN");
    assert_eq!(place.json(&["volume", "show", arn])["volume"], *volume);
    let list = place.json(&["volume", "list"]);
    assert_eq!(list["schema"], "volume-list/1");
    assert_eq!(list["volumes"][0], *volume);
}

#[test]
fn bad_names_and_sizes_are_refused() {
    let place = Place::new();
    let long = "a".repeat(64);
    for name in [
        "", "1a", "-a", "a-", "a--b", "a_b", "a b", "ä", "a@b", &long,
    ] {
        let create = ["volume", "create", "--size", "1M", "--", name];
        let output = place.command(&create).output().expect("an output");
        assert_eq!(output.status.code(), Some(2), "{name}");
    }
    for size in ["0", "9223372036854775808", "16E", "-1", "1.5", "many"] {
        place.fails(
            &["volume", "create", "a", &format!("--size={size}")],
            2,
            "invalid",
        );
    }
    assert_eq!(names(&place.json(&["volume", "list"])["volumes"]), [""; 0]);
    place.ok(&["volume", "create", &long[1..], "--size", "1"]);
    place.fails(
        &["volume", "create", &long[1..], "--size", "1"],
        15,
        "already_exists",
    );
}

#[test]
fn a_clone_shares_and_then_differs() {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(50_000, 1));
    let key = place.json(&["key", "create", "--alias", "two"]);
    let clone = place.json(&["clone", "create", "pg", "dev"]);
    let other = place.json(&["clone", "create", "dev", "other", "--kms-key", "alias/two"]);
    let source = place.json(&["volume", "show", "pg"]);
    let (clone, other, source) = (&clone["volume"], &other["volume"], &source["volume"]);
    assert_eq!(clone["origin_id"], source["id"]);
    assert_eq!(clone["origin_name"], "pg");
    assert_eq!(clone["kms_key_id"], source["kms_key_id"]);
    assert_eq!(other["kms_key_id"], key["key"]["id"]);
    assert!(source["clone_group_id"].is_string());
    assert_eq!(clone["clone_group_id"], source["clone_group_id"]);
    assert_eq!(clone["shared_bytes"], 13 * 4096);

    place.write("dev", 4096, b"changed");
    assert_eq!(place.read("pg", 0, 50_000), noise(50_000, 1));
    assert_eq!(place.read("other", 0, 50_000), noise(50_000, 1));
    assert_eq!(place.read("dev", 4096, 7), b"changed");

    assert_eq!(
        names(&place.json(&["clone", "list"])["volumes"]),
        ["dev", "other"]
    );
    assert_eq!(
        names(&place.json(&["clone", "list", "pg"])["volumes"]),
        ["dev"]
    );
    let tree = place.json(&["clone", "tree"]);
    assert_eq!(tree["schema"], "clone-tree/1");
    assert_eq!(names(&tree["nodes"]), ["pg", "dev", "other"]);
    assert_eq!(tree["nodes"][2]["depth"], 2);
    assert_eq!(
        names(&place.json(&["clone", "tree", "dev"])["nodes"]),
        ["dev", "other"]
    );
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let place = Place::with_volume();
    place.write("pg", 0, b"before");
    let made = place.json(&["snapshot", "create", "pg", "Monday"]);
    assert_eq!(made["schema"], "snapshot/1");
    let snapshot = &made["snapshot"];
    assert_eq!(snapshot["name"], "monday");
    assert_eq!(snapshot["volume_name"], "pg");
    assert_eq!(
        snapshot["arn"],
        "arn:offshoot:rds:local:000000000000:cluster-snapshot:monday"
    );
    place.write("pg", 0, b"after!");
    for form in ["pg@monday", "@monday", "PG@MONDAY"] {
        assert_eq!(place.read(form, 0, 6), b"before", "{form}");
        assert_eq!(
            place.json(&["snapshot", "show", form])["snapshot"]["id"],
            snapshot["id"]
        );
    }
    place.ok(&["snapshot", "show", "monday"]);
    let restored = place.json(&["clone", "create", "pg@monday", "restored"]);
    assert_eq!(restored["volume"]["origin_id"], snapshot["id"]);
    assert_eq!(restored["volume"]["origin_name"], "@monday");
    assert_eq!(place.read("restored", 0, 6), b"before");
    place.fails(&["volume", "write", "pg@monday"], 16, "read_only");
    place.fails(
        &["snapshot", "create", "pg", "monday"],
        15,
        "already_exists",
    );
    place.fails(&["snapshot", "show", "restored@monday"], 14, "not_found");
    place.fails(&["snapshot", "show", "pg@tuesday"], 14, "not_found");

    let default = place.json(&["snapshot", "create", "pg"]);
    let name = default["snapshot"]["name"].as_str().expect("a name");
    assert!(name.starts_with("pg-20") && name.len() == 18, "{name}");
    let list = place.json(&["snapshot", "list"]);
    assert_eq!(list["schema"], "snapshot-list/1");
    assert_eq!(names(&list["snapshots"]), ["monday", name]);
    assert_eq!(
        names(&place.json(&["snapshot", "list", "restored"])["snapshots"]),
        [""; 0]
    );
}

#[test]
fn a_copy_of_a_snapshot_of_either_type_is_manual() {
    let place = Place::with_volume();
    place.ok(&["snapshot", "create", "pg", "nightly", "--automated"]);
    place.ok(&["snapshot", "create", "pg", "monday"]);
    for of in ["nightly", "monday"] {
        let copy = format!("copy-{of}");
        let made = place.json(&["snapshot", "create", &format!("pg@{of}"), &copy]);
        assert_eq!(made["snapshot"]["snapshot_type"], "manual");
    }
    let shown = place.json(&["snapshot", "show", "nightly"]);
    assert_eq!(shown["snapshot"]["snapshot_type"], "automated");
    let list = |kind| place.json(&["snapshot", "list", "--type", kind]);
    assert_eq!(names(&list("automated")["snapshots"]), ["nightly"]);
    let manual = list("manual");
    let expected = ["monday", "copy-nightly", "copy-monday"];
    assert_eq!(names(&manual["snapshots"]), expected);
    let copy = ["snapshot", "create", "pg@nightly", "x", "--automated"];
    place.fails(&copy, 2, "invalid");
    place.fails(&["snapshot", "list", "--type", "x"], 2, "invalid");
}

#[test]
fn deletion_asks_plans_and_leaves_the_others() {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(8192, 1));
    place.ok(&["snapshot", "create", "pg", "monday"]);
    place.ok(&["clone", "create", "pg", "dev"]);
    for (command, name) in [("volume", "pg"), ("clone", "dev"), ("snapshot", "monday")] {
        let message = place.fails(&[command, "delete", name], 2, "invalid");
        assert!(message.contains("--yes"), "{message}");
        let plan = place.json(&[command, "delete", name, "--dry-run"]);
        assert_eq!(plan["schema"], "deleted/1");
        assert_eq!(plan["heads"][0]["name"], name);
        assert_eq!(
            plan["heads"][0]["kind"],
            if command == "snapshot" {
                "snapshot"
            } else {
                "volume"
            }
        );
        assert_eq!(plan["dry_run"], true);
        assert!(plan["freed_bytes"].is_u64());
    }
    place.fails(&["clone", "delete", "pg", "--yes"], 2, "invalid");
    let deleted = place.json(&["volume", "delete", "pg", "--yes"]);
    assert_eq!(deleted["dry_run"], false);
    place.fails(&["volume", "show", "pg"], 14, "not_found");
    place.fails(&["volume", "delete", "pg", "-y"], 14, "not_found");
    assert_eq!(place.read("@monday", 0, 8192), noise(8192, 1));
    assert_eq!(place.read("dev", 0, 8192), noise(8192, 1));
    place.ok(&["snapshot", "delete", "monday", "--yes"]);
    place.ok(&["clone", "delete", "dev", "--yes"]);
    assert_eq!(place.json(&["fsck"])["fsck"]["clean"], true);
    // The name is free again.
    place.ok(&["volume", "create", "pg", "--size", "1M"]);
}

#[test]
fn a_rename_keeps_the_id() {
    let place = Place::with_volume();
    let before = place.json(&["volume", "show", "pg"]);
    let after = place.json(&["volume", "rename", "pg", "db"]);
    assert_eq!(after["volume"]["id"], before["volume"]["id"]);
    assert_eq!(after["volume"]["name"], "db");
    place.fails(&["volume", "show", "pg"], 14, "not_found");
    place.ok(&["volume", "create", "pg", "--size", "1M"]);
    place.fails(&["volume", "rename", "pg", "db"], 15, "already_exists");
    place.fails(&["volume", "rename", "pg", "a--b"], 2, "invalid");
}

#[test]
fn a_smaller_size_that_drops_data_needs_a_yes() {
    let place = Place::with_volume();
    place.write("pg", 1 << 20, b"far");
    let grown = place.json(&["volume", "resize", "pg", "--size", "1G"]);
    assert_eq!(grown["volume"]["size_bytes"], 1 << 30);
    place.ok(&["volume", "resize", "pg", "--size", "2M"]);
    place.fails(&["volume", "resize", "pg", "--size", "1M"], 2, "invalid");
    let plan = place.json(&["volume", "resize", "pg", "--size", "1M", "-n"]);
    assert_eq!(plan["schema"], "resize-plan/1");
    assert_eq!(plan["data_bytes"], 4096);
    assert_eq!(place.read("pg", 1 << 20, 3), b"far");
    place.ok(&["volume", "resize", "pg", "--size", "1M", "--yes"]);
    place.ok(&["volume", "resize", "pg", "--size", "2M"]);
    assert_eq!(place.read("pg", 1 << 20, 3), [0; 3]);
    place.fails(
        &["volume", "resize", "pg", "--size", "0", "--yes"],
        2,
        "invalid",
    );
}

#[test]
fn a_protected_volume_is_deleted_only_once_the_protection_is_gone() {
    let place = Place::new();
    let create = ["volume", "create", "pg", "--size", "1M"];
    let made = place.json(&[&create[..], &["--deletion-protection"]].concat());
    assert_eq!(made["volume"]["deletion_protection"], true);
    let clone = place.json(&["clone", "create", "pg", "a"]);
    assert_eq!(clone["volume"]["deletion_protection"], false);
    place.ok(&["clone", "create", "pg", "b", "--deletion-protection"]);
    for command in [
        &["volume", "delete", "pg", "--yes"][..],
        &["volume", "delete", "pg", "--dry-run"],
        &["clone", "delete", "b", "--yes"],
    ] {
        let message = place.fails(command, 16, "protected");
        assert!(message.contains("--no-deletion-protection"), "{message}");
    }
    place.fails(&["volume", "modify", "pg"], 2, "invalid");
    let modify = ["volume", "modify", "pg", "--no-deletion-protection"];
    assert_eq!(place.json(&modify)["volume"]["deletion_protection"], false);
    place.ok(&["volume", "modify", "a", "--deletion-protection"]);
    place.fails(&["clone", "delete", "a", "--yes"], 16, "protected");
    place.ok(&["volume", "delete", "pg", "--yes"]);
    let list = place.json(&["volume", "list"]);
    assert_eq!(names(&list["volumes"]), ["a", "b"]);
}

#[test]
fn a_set_goes_at_once_and_the_plan_says_what_stays_with_whom() {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(40_960, 1));
    place.ok(&["snapshot", "create", "pg", "monday"]);
    place.ok(&["clone", "create", "pg", "dev"]);
    place.write("dev", 0, &noise(8192, 2));
    place.write("pg", 0, &noise(4096, 3));
    let set = ["volume", "delete", "pg", "pg@monday"];
    let plan = place.json(&[&set[..], &["-n"]].concat());
    // The page that pg wrote anew, and the two of which dev let go but the snapshot did not.
    assert_eq!(plan["freed_bytes"], 4096 + 2 * 4096, "{plan}");
    assert_eq!(plan["shared_bytes"], 8 * 4096);
    let names: Vec<_> = ["pg", "monday"]
        .iter()
        .zip(plan["heads"].as_array().expect("a list"))
        .collect();
    for (name, head) in names {
        assert_eq!(head["name"], *name);
        assert_eq!(head["shared_with"][0]["name"], "dev");
        assert_eq!(head["shared_with"][0]["bytes"], 8 * 4096);
    }
    assert_eq!(plan["heads"][0]["alone_bytes"], 4096);
    assert_eq!(plan["heads"][0]["freed_bytes"], 2 * 4096);
    let text = String::from_utf8(place.ok(&[&set[..], &["-n"]].concat())).expect("text");
    assert!(
        text.contains("2 volumes and snapshots: 12 KiB freed, 32 KiB stay shared"),
        "{text}"
    );
    assert!(
        text.contains("pg: 8 KiB freed, 32 KiB stay shared with dev (32 KiB)"),
        "{text}"
    );

    // One that is not there, and nothing happens.
    place.fails(
        &["volume", "delete", "pg", "none", "--yes"],
        14,
        "not_found",
    );
    place.fails(
        &["snapshot", "delete", "monday", "none", "--yes"],
        14,
        "not_found",
    );
    place.fails(&["clone", "delete", "dev", "pg", "--yes"], 2, "invalid");
    place.fails(
        &["volume", "delete", "pg", "dev", "--erase", "--yes"],
        2,
        "invalid",
    );
    place.fails(&["volume", "delete", "--yes"], 2, "invalid");
    assert_eq!(names_of(&place), ["pg", "dev"]);

    let charged =
        |name: &str| place.json(&["volume", "show", name])["volume"]["charged_bytes"].clone();
    assert_eq!(charged("dev"), 2 * 4096, "a clone pays for what it changed");
    let deleted = place.json(&[&set[..], &["--yes"]].concat());
    assert_eq!(deleted["freed_bytes"], plan["freed_bytes"]);
    assert_eq!(names_of(&place), ["dev"]);
    assert_eq!(charged("dev"), 10 * 4096, "and for all when it is alone");
    let stats = place.json(&["store", "stats"])["store-stats"].clone();
    assert_eq!(stats["page_bytes"], 10 * 4096);
    let tree = String::from_utf8(place.ok(&["clone", "tree"])).expect("text");
    assert!(
        tree.contains("charged 40 KiB") && tree.ends_with(&format!("{}\n", "#".repeat(20))),
        "{tree}"
    );
    assert_eq!(place.json(&["fsck"])["fsck"]["clean"], true);
}

fn names_of(place: &Place) -> Vec<String> {
    let list = place.json(&["volume", "list"]);
    names(&list["volumes"])
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_pin_holds_a_state_until_it_is_released() {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(8192, 1));
    let made = place.json(&["store", "pin", "create", "pg", "Nightly"]);
    assert_eq!(made["schema"], "pin/1");
    assert_eq!(made["pin"]["name"], "nightly");
    assert_eq!(made["pin"]["held_name"], "pg");
    assert_eq!(made["pin"]["exclusive_bytes"], 0);
    place.fails(
        &["store", "pin", "create", "pg", "nightly"],
        15,
        "already_exists",
    );
    place.write("pg", 0, &noise(8192, 2));
    let list = place.json(&["store", "pin", "list"]);
    assert_eq!(list["pins"][0]["exclusive_bytes"], 8192);
    assert!(list["pins"][0]["age_seconds"].is_u64());
    assert_eq!(
        place.json(&["snapshot", "list"])["snapshots"],
        serde_json::json!([])
    );
    assert_eq!(
        place.json(&["store", "stats"])["store-stats"]["pin_only_bytes"]
            .as_u64()
            .map(|bytes| bytes >= 8192),
        Some(true)
    );

    // The export reads what the pin holds, though the volume changed and is gone.
    place.ok(&["volume", "delete", "pg", "--yes"]);
    let image = place.path("pg.img");
    let image = image.to_str().expect("a path");
    place.ok(&["export", "image", "pg", image, "--pin", "nightly"]);
    assert_eq!(
        std::fs::read(image).expect("an image")[..8192],
        noise(8192, 1)
    );
    assert_eq!(
        place.json(&["store", "pin", "list"])["pins"],
        serde_json::json!([])
    );

    place.ok(&["volume", "create", "db", "--size", "1M"]);
    place.write("db", 0, b"one");
    let full = place.path("no-such-directory/db.img");
    place.fails(
        &[
            "export",
            "image",
            "db",
            full.to_str().expect("a path"),
            "--pin",
            "p",
        ],
        1,
        "io",
    );
    assert_eq!(
        names(&place.json(&["store", "pin", "list"])["pins"]),
        ["p"],
        "it stays for the next try"
    );
    place.ok(&["volume", "create", "other", "--size", "1M"]);
    let other = ["export", "image", "other", image, "--pin", "p", "--force"];
    place.fails(&other, 15, "already_exists");
    let message = place.fails(&["store", "pin", "release", "p", "none"], 14, "not_found");
    assert!(message.contains("store pin list"), "{message}");
    place.ok(&["store", "pin", "release", "p"]);
    assert_eq!(place.json(&["fsck"])["fsck"]["clean"], true);
}

//! `key ...`, and volumes whose keys are not there.

use std::fs;

use crate::support::{Place, fields, noise};

#[test]
fn a_key_is_made_and_found_by_all_its_names() {
    let place = Place::new();
    let made = place.json(&["key", "create", "--alias", "alias/prod"]);
    assert_eq!(made["schema"], "key/1");
    let key = &made["key"];
    assert_eq!(
        fields(key),
        [
            "id",
            "arn",
            "aliases",
            "status",
            "region",
            "version",
            "created_at",
            "deletion_at"
        ]
    );
    assert_eq!(key["aliases"], serde_json::json!(["alias/prod"]));
    assert_eq!(key["status"], "enabled");
    let (id, arn) = (
        key["id"].as_str().expect("an id"),
        key["arn"].as_str().expect("an ARN"),
    );
    let alias_arn = arn.replace(&format!("key/{id}"), "alias/prod");
    for name in [id, arn, "alias/prod", &alias_arn] {
        assert_eq!(place.json(&["key", "show", name])["key"], *key, "{name}");
        let volume = ["volume", "create", "v", "--size", "1M", "--kms-key", name];
        assert_eq!(place.json(&volume)["volume"]["kms_key_arn"], *arn);
        place.ok(&["volume", "delete", "v", "-y"]);
    }
    let list = place.json(&["key", "list"]);
    assert_eq!(list["schema"], "key-list/1");
    assert_eq!(list["keys"][2], *key);
    let other = place.json(&["key", "create"]);
    assert_eq!(other["key"]["aliases"], serde_json::json!([]));
}

#[test]
fn keys_that_are_none_are_refused() {
    let place = Place::new();
    place.ok(&["key", "create", "--alias", "prod"]);
    place.fails(&["key", "create", "--alias", "prod"], 15, "already_exists");
    place.fails(&["key", "create", "--alias", "a b"], 2, "invalid");
    place.fails(&["key", "show", "prod"], 2, "invalid");
    place.fails(&["key", "show", "alias/none"], 14, "not_found");
    place.fails(
        &["key", "show", "00000000-0000-0000-0000-000000000000"],
        14,
        "not_found",
    );
    let elsewhere = "arn:offshoot:kms:elsewhere:000000000000:alias/prod";
    place.fails(&["key", "show", elsewhere], 13, "access_denied");
    let create = ["volume", "create", "v", "--size", "1M", "--kms-key"];
    place.fails(&[&create[..], &["alias/none"]].concat(), 14, "not_found");
    place.fails(&[&create[..], &[elsewhere]].concat(), 13, "access_denied");
}

#[test]
fn a_missing_kms_and_a_wrong_one_are_told_apart() {
    let place = Place::with_volume();
    place.ok(&["store", "init", "--region", "other"]);
    let (store, other) = (place.store(), place.path("home/kms/other"));
    let (store, other) = (store.display().to_string(), other.display().to_string());
    let wrong = ["volume", "list", "--store", &store, "--kms", &other];
    let message = place.fails(&wrong, 12, "wrong_kms");
    assert!(message.contains("--kms"), "{message}");
    place.fails(
        &["volume", "list", "--store", &store, "--kms", "nothing"],
        10,
        "not_a_store",
    );
    place.fails(&["key", "list", "--kms", "nothing"], 10, "not_a_store");
    let fsck = ["fsck", "--store", &store, "--kms", &other];
    let output = place.command(&fsck).output().expect("an output");
    assert_eq!(output.status.code(), Some(8));
    fs::rename(place.kms(), place.path("away")).expect("a rename");
    let message = place.fails(&["volume", "list"], 10, "not_a_store");
    assert!(message.contains("kms/local"), "{message}");
    fs::rename(place.path("away"), place.kms()).expect("a rename");
    place.ok(&["volume", "list"]);
}

/// A volume under a key of its own, a clone of it under another, and one byte in each.
fn two_keys(place: &Place) {
    for (key, volume) in [("prod", "mine"), ("test", "theirs")] {
        place.ok(&["key", "create", "--alias", key]);
        let key = format!("alias/{key}");
        match volume {
            "mine" => place.ok(&[
                "volume",
                "create",
                volume,
                "--size",
                "1M",
                "--kms-key",
                &key,
            ]),
            _ => place.ok(&["clone", "create", "mine", volume, "--kms-key", &key]),
        };
        place.write(volume, 0, volume.as_bytes());
    }
    place.ok(&["snapshot", "create", "mine", "before"]);
}

#[test]
fn a_disabled_key_makes_exactly_its_heads_unreadable() {
    let place = Place::new();
    two_keys(&place);
    let disabled = place.json(&["key", "disable", "alias/prod"]);
    let (id, status) = (&disabled["key"]["id"], &disabled["key"]["status"]);
    assert_eq!(status, "disabled");
    for command in [
        &["volume", "read", "mine", "--length", "4"][..],
        &["volume", "read", "@before", "--length", "4"],
        &["clone", "create", "mine", "x"],
        &["snapshot", "create", "mine", "x"],
        &[
            "volume",
            "create",
            "x",
            "--size",
            "1M",
            "--kms-key",
            "alias/prod",
        ],
        &["export", "image", "mine", "out"],
    ] {
        // Some write raw bytes, which have no JSON.
        let output = place.command(command).output().expect("an output");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(12), "{command:?}: {stderr}");
        let id = id.as_str().expect("an id");
        assert!(
            stderr.contains(id) && stderr.contains("is disabled"),
            "{stderr}"
        );
    }
    place.fails_with(&["volume", "write", "mine"], b"x", 12, "key_unavailable");
    assert_eq!(place.read("theirs", 0, 6), b"theirs");
    place.write("theirs", 4096, b"more");
    for command in [
        &["volume", "list"][..],
        &["volume", "show", "mine"],
        &["volume", "map", "mine"],
        &["volume", "rename", "mine", "other"],
        &["volume", "rename", "other", "mine"],
        &["snapshot", "list"],
        &["key", "list"],
        &["key", "show", "alias/prod"],
        &["fsck", "--read-data"],
        &["clone", "create", "theirs", "more"],
        &["snapshot", "delete", "before", "-y"],
    ] {
        place.json(command);
    }
    place.ok(&["key", "enable", "alias/prod"]);
    assert_eq!(place.read("mine", 0, 4), b"mine");
    place.ok(&["key", "disable", "alias/prod"]);
    place.ok(&["volume", "delete", "mine", "-y"]);
    assert_eq!(place.read("theirs", 0, 6), b"theirs");
}

#[test]
fn a_rotated_key_opens_what_it_wrapped_before() {
    let place = Place::new();
    two_keys(&place);
    let rotated = place.json(&["key", "rotate", "alias/prod"]);
    assert_eq!(rotated["key"]["version"], 2);
    place.ok(&["key", "rotate", "alias/offshoot-store"]);
    assert_eq!(place.read("mine", 0, 4), b"mine");
    place.ok(&["clone", "create", "mine", "new"]);
    place.ok(&["key", "rotate", "alias/prod"]);
    for volume in ["mine", "new", "@before"] {
        assert_eq!(place.read(volume, 0, 4), b"mine");
    }
}

#[test]
fn a_deletion_is_confirmed_planned_and_cancelled() {
    let place = Place::new();
    two_keys(&place);
    let schedule = ["key", "schedule-deletion", "alias/prod", "--days", "7"];
    place.fails(&schedule, 2, "invalid");
    place.fails(&[&schedule[..4], &["6", "-y"]].concat(), 2, "invalid");
    let planned = place.json(&[&schedule[..], &["-n"]].concat());
    assert_eq!(planned["schema"], "key-deletion/1");
    assert_eq!(planned["dry_run"], true);
    assert_eq!(place.read("mine", 0, 4), b"mine");
    let scheduled = place.json(&[&schedule[..], &["-y"]].concat());
    assert_eq!(scheduled["status"], "pending_deletion");
    let shown = place.json(&["key", "show", "alias/prod"]);
    assert_eq!(shown["key"]["status"], "pending_deletion");
    assert_eq!(shown["key"]["deletion_at"], scheduled["deletion_at"]);
    let message = place.fails(&["clone", "create", "mine", "x"], 12, "key_unavailable");
    assert!(message.contains("pending deletion"), "{message}");
    place.fails(&["key", "enable", "alias/prod"], 16, "invalid_state");
    place.fails(&["key", "rotate", "alias/prod"], 16, "invalid_state");
    let kept = place.json(&["key", "cancel-deletion", "alias/prod"]);
    assert_eq!(kept["key"]["status"], "disabled");
    assert!(kept["key"]["deletion_at"].is_null());
    place.fails(
        &["key", "cancel-deletion", "alias/prod"],
        16,
        "invalid_state",
    );
    place.ok(&["key", "enable", "alias/prod"]);
    assert_eq!(place.read("mine", 0, 4), b"mine");
}

#[test]
fn the_regions_own_key_is_never_taken_away() {
    let place = Place::with_volume();
    let own = "alias/offshoot-store";
    for command in [
        &["key", "disable", own][..],
        &["key", "schedule-deletion", own, "-y"],
        &["key", "schedule-deletion", own, "-n"],
        &["key", "alias", "set", own, "alias/default"],
        &["key", "alias", "delete", own],
    ] {
        let message = place.fails(command, 16, "invalid_state");
        assert!(message.contains("the region's own key"), "{message}");
    }
    place.ok(&["volume", "list"]);
}

#[test]
fn aliases_are_moved_and_new_volumes_follow() {
    let place = Place::with_volume();
    let key = place.json(&["key", "create"])["key"].clone();
    let (id, arn) = (key["id"].as_str().expect("an id"), key["arn"].as_str());
    let set = place.json(&["key", "alias", "set", "team/blue", id]);
    assert_eq!(set["schema"], "alias/1");
    assert_eq!(fields(&set["alias"]), ["name", "arn", "key_id"]);
    let names = [
        "team/blue",
        "alias/team/blue",
        set["alias"]["arn"].as_str().expect("an ARN"),
    ];
    for (alias, reference) in names.into_iter().zip([id, arn.expect("an ARN"), names[2]]) {
        let again = place.json(&["key", "alias", "set", alias, reference]);
        assert_eq!(again["alias"], set["alias"]);
    }
    place.ok(&["key", "alias", "set", "default", "alias/team/blue"]);
    let made = place.json(&["volume", "create", "new", "--size", "1M"]);
    assert_eq!(made["volume"]["kms_key_id"], id);
    assert_ne!(
        place.json(&["volume", "show", "pg"])["volume"]["kms_key_id"],
        id
    );
    let list = place.json(&["key", "alias", "list"]);
    assert_eq!(list["schema"], "alias-list/1");
    assert_eq!(list["aliases"].as_array().expect("a list").len(), 3);
    place.ok(&["key", "alias", "delete", names[2]]);
    place.fails(&["key", "alias", "delete", "team/blue"], 14, "not_found");
    place.fails(
        &["key", "alias", "set", "x", "alias/team/blue"],
        14,
        "not_found",
    );
    place.fails(&["key", "alias", "set", "a b", id], 2, "invalid");
}

#[test]
fn the_audit_names_each_use_and_a_change_of_it_is_found() {
    let place = Place::with_volume();
    place.write("pg", 0, b"x");
    place.ok(&["key", "disable", "alias/default"]);
    let id = place.json(&["volume", "show", "pg"])["volume"]["id"].clone();
    let list = place.json(&["key", "audit"]);
    assert_eq!(list["schema"], "audit/1");
    let lines = list["lines"].as_array().expect("lines");
    let of_volume = |action: &str| {
        let found = lines.iter().filter(|line| line["action"] == action);
        found.filter(|line| line["resource_id"] == id).count()
    };
    assert_eq!(of_volume("assign-head-key"), 1);
    assert_eq!(of_volume("unwrap-head-key"), 1);
    let disable = lines
        .iter()
        .position(|line| line["action"] == "disable-key");
    assert!(lines.iter().all(|line| line["in_chain"] == true));
    let check = place.json(&["key", "audit", "--verify"]);
    assert_eq!(check["schema"], "audit-check/1");
    assert_eq!(
        (&check["audit"]["whole"], &check["audit"]["loose_lines"]),
        (&true.into(), &0.into())
    );

    let path = place.kms().join("audit");
    let text = fs::read_to_string(&path).expect("the audit");
    let without: Vec<_> = text
        .lines()
        .filter(|line| !line.contains("unwrap-head-key"))
        .collect();
    assert!(without.len() < text.lines().count() && disable.is_some());
    fs::write(&path, without.join("\n") + "\n").expect("a file");
    for args in [&["key", "audit"][..], &["key", "audit", "--verify"]] {
        let message = place.fails(args, 18, "corrupt");
        assert!(message.contains("does not continue"), "{message}");
    }
}

#[test]
fn rewrapping_moves_keys_to_newer_versions_and_other_keys() {
    let place = Place::new();
    two_keys(&place);
    let counts = |document: &serde_json::Value| {
        ["rewrapped", "current", "unavailable"]
            .map(|name| document[name].as_u64().expect("a count"))
    };
    let nothing = place.json(&["key", "rewrap"]);
    assert_eq!(nothing["schema"], "rewrap/1");
    assert_eq!(
        (counts(&nothing), &nothing["store_key"]),
        ([0, 3, 0], &false.into())
    );
    place.ok(&["key", "rotate", "alias/prod"]);
    place.ok(&["key", "rotate", "alias/offshoot-store"]);
    for dry_run in [true, false] {
        let args = if dry_run {
            &["key", "rewrap", "-n"][..]
        } else {
            &["key", "rewrap"]
        };
        let done = place.json(args);
        assert_eq!(
            (counts(&done), &done["store_key"]),
            ([2, 1, 0], &true.into())
        );
        assert_eq!(done["dry_run"], dry_run);
    }
    assert_eq!(counts(&place.json(&["key", "rewrap"])), [0, 3, 0]);
    assert_eq!(place.read("mine", 0, 4), b"mine");

    let moved = place.json(&["key", "rewrap", "mine", "--to", "alias/test"]);
    let test = place.json(&["key", "show", "alias/test"])["key"]["id"].clone();
    assert_eq!(moved["kms_key_id"], test);
    assert_eq!(
        place.json(&["volume", "show", "mine"])["volume"]["kms_key_id"],
        test
    );
    place.ok(&["key", "disable", "alias/prod"]);
    assert_eq!(place.read("mine", 0, 4), b"mine");
    place.fails(
        &["key", "rewrap", "@before", "--to", "alias/test"],
        12,
        "key_unavailable",
    );
    assert_eq!(counts(&place.json(&["key", "rewrap"])), [0, 2, 1]);
    place.ok(&["key", "enable", "alias/prod"]);
    place.ok(&["key", "rewrap", "@before", "--to", "alias/test"]);
    place.ok(&["key", "disable", "alias/prod"]);
    assert_eq!(place.read("@before", 0, 4), b"mine");
    place.fails(&["key", "rewrap", "--to", "alias/test"], 2, "invalid");
    let check = place.json(&["fsck", "--read-data"]);
    assert_eq!(check["fsck"]["clean"], true);
}

/// A key is disabled by another process while its volume is written through a pipe.
#[test]
fn a_key_disabled_elsewhere_stops_a_write_under_way_within_a_second() {
    use std::io::Write;
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    for revocation in ["lease", "on-detach"] {
        let place = Place::new();
        two_keys(&place);
        let create = [
            "volume",
            "create",
            "long",
            "--size",
            "8M",
            "--kms-key",
            "alias/prod",
        ];
        place.ok(&create);
        let args = [
            "volume",
            "write",
            "long",
            "--json",
            "--revocation",
            revocation,
        ];
        let mut command = place.std_command(&args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("a child");
        let mut pipe = child.stdin.take().expect("a pipe");
        let part = vec![7; 1 << 20];
        // More than is read at once: the first part is written when the key goes.
        for _ in 0..2 {
            pipe.write_all(&part).expect("the first parts");
        }
        std::thread::sleep(Duration::from_millis(400));
        place.ok(&["key", "disable", "alias/prod"]);
        let disabled = Instant::now();
        let mut written = 2 * part.len();
        while written < 8 << 20 {
            std::thread::sleep(Duration::from_millis(250));
            written += part.len();
            if pipe.write_all(&part).is_err() {
                break;
            }
        }
        drop(pipe);
        let output = child.wait_with_output().expect("an output");
        match revocation {
            "lease" => {
                crate::support::failed(&args, &output, 12, "key_unavailable");
                assert!(disabled.elapsed() < Duration::from_secs(20));
            }
            _ => assert!(output.status.success(), "{output:?}"),
        }
        place.fails_with(&["volume", "write", "long"], b"x", 12, "key_unavailable");
        place.ok(&["fsck"]);
        place.ok(&["key", "enable", "alias/prod"]);
        assert_eq!(place.read("long", 0, 1), [7]);
    }
}

#[test]
fn a_rekey_says_what_it_would_do_does_it_and_goes_on() {
    let place = Place::with_volume();
    let bytes = noise(3 << 20, 9);
    place.write("pg", 4096, &bytes);
    place.ok(&["snapshot", "create", "pg", "s"]);
    let plan = place.json(&["volume", "rekey", "pg", "--dry-run"]);
    assert_eq!(plan["schema"], "rekey/1");
    assert_eq!(
        (&plan["name"], &plan["dry_run"]),
        (&"pg".into(), &true.into())
    );
    assert_eq!(plan["rekeyed_bytes"], 3 << 20);
    assert_eq!(plan["shared_bytes"], 3 << 20);
    let used = || place.json(&["store", "quota", "show"])["quota"]["used_bytes"].clone();
    let before = used();
    assert_eq!(used(), before, "a dry run writes no pages");
    let command = [
        "volume",
        "rekey",
        "pg",
        "--rate",
        "100M",
        "--progress",
        "json",
    ];
    let output = place.command(&command).output().expect("an output");
    assert!(output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("volume rekey"), "{stderr}");
    assert!(used().as_u64() > before.as_u64().map(|before| before + (3 << 20)));
    let resumed = place.json(&["volume", "rekey", "pg", "--resume"]);
    assert_eq!(
        (&resumed["rekeyed_bytes"], &resumed["current_bytes"]),
        (&0.into(), &(3 << 20).into())
    );
    for head in ["pg", "@s"] {
        assert!(
            place.read(head, 4096, bytes.len() as u64) == bytes,
            "{head}"
        );
    }
    place.fails(&["volume", "rekey", "@s"], 16, "read_only");
    place.fails(&["volume", "rekey", "pg", "--rate", "0"], 2, "invalid");
    place.ok(&["fsck", "--read-data"]);
}

#[test]
fn an_erase_says_what_dies_and_through_whom_the_rest_stays_and_does_it() {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(64 << 10, 1));
    place.ok(&["clone", "create", "pg", "copy"]);
    place.write("pg", 0, &noise(16 << 10, 2));
    place.ok(&["snapshot", "create", "pg", "s"]);
    place.write("pg", 0, &noise(8 << 10, 3));
    let erase = ["volume", "delete", "pg", "--erase"];
    let plan = place.json(&[&erase[..], &["--dry-run"]].concat());
    assert_eq!(plan["schema"], "erased/1");
    assert_eq!(plan["erased_bytes"], 8 << 10);
    assert_eq!(plan["readable_bytes"], 56 << 10);
    assert_eq!(plan["readable"][0]["through"][0], "@s");
    assert_eq!(plan["readable"][1]["through"][0], "copy");
    assert_eq!(
        (&plan["dry_run"], &plan["deleted"]),
        (&true.into(), &serde_json::json!([]))
    );
    place.fails(&erase, 2, "invalid");
    // As if the KMS were away: nothing is erased and nothing deleted.
    let (kms, away) = (place.kms(), place.path("away"));
    fs::rename(&kms, &away).expect("a rename");
    place.fails(&[&erase[..], &["--yes"]].concat(), 10, "not_a_store");
    fs::rename(&away, &kms).expect("a rename");
    assert_eq!(place.read("pg", 0, 8 << 10), noise(8 << 10, 3));
    place.ok(&["snapshot", "delete", "s", "--yes"]);
    let erased = place.json(&[&erase[..], &["--yes"]].concat());
    assert_eq!(
        (&erased["erased_bytes"], &erased["dry_run"]),
        (&(16 << 10).into(), &false.into())
    );
    // The snapshot was removed, and its key destroyed, when the store was closed.
    assert_eq!(erased["deleted"], serde_json::json!([]));
    place.fails(&["volume", "show", "pg"], 14, "not_found");
    assert_eq!(place.read("copy", 0, 64 << 10), noise(64 << 10, 1));
    let lines = place.json(&["key", "audit"]);
    let text = lines.to_string();
    assert_eq!(text.matches("destroy-head-key").count(), 2, "{text}");
    place.ok(&["snapshot", "create", "copy", "t"]);
    place.ok(&["snapshot", "delete", "t", "--erase", "--yes"]);
    place.ok(&["clone", "delete", "copy", "--erase", "--yes"]);
    place.ok(&["fsck", "--read-data"]);
}

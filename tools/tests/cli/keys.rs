//! `key ...`, and volumes whose keys are not there.

use std::fs;

use crate::support::{Place, fields};

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
            "created_at"
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

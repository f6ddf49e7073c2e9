//! `inspect ...`.

use crate::support::{Place, contents, fields, noise};

fn place() -> Place {
    let place = Place::with_volume();
    place.write("pg", 4096, &noise(400_000, 1));
    place.ok(&["snapshot", "create", "pg", "monday"]);
    place.ok(&["clone", "create", "pg", "dev"]);
    place.write("dev", 0, b"changed");
    place
}

#[test]
fn every_view_has_json_and_text_and_writes_nothing() {
    let place = place();
    let before = contents(&place.store());
    let views = [
        (&["superblock"][..], "superblocks/1"),
        (&["segment", "1"], "segment/1"),
        (&["page", "pg:1"], "page/1"),
        (&["tree", "pg"], "tree/1"),
        (&["lineage"], "lineage/1"),
        (&["catalog"], "catalog/1"),
        (&["keys"], "keys/1"),
        (&["log"], "log/1"),
        (&["raw", "1:1", "--count", "3"], "raw/1"),
        (&["raw", "superblock-a:0"], "raw/1"),
        (&["heatmap"], "heatmap/1"),
        (&["heatmap", "--cell-slots", "16"], "heatmap/1"),
        (&["--layout"], "layout/1"),
    ];
    for (args, schema) in views {
        let args = [&["inspect"], args].concat();
        assert_eq!(place.json(&args)["schema"], schema);
        assert!(!place.ok(&args).is_empty(), "{args:?}");
    }
    assert!(contents(&place.store()) == before);
}

#[test]
fn a_clone_shares_pages_and_seals_its_own_under_its_own_epoch() {
    let place = place();
    let page = |head: &str| place.json(&["inspect", "page", head])["page"].clone();
    let (source, shared, own) = (page("pg:1"), page("dev:1"), page("DEV:0"));
    assert_eq!(source["state"], "data");
    assert_eq!(fields(&source["at"]), ["segment", "slot"]);
    for field in ["at", "tag", "nonce", "key_epoch"] {
        assert_eq!(source[field], shared[field], "{field}");
    }
    assert_ne!(own["key_epoch"], shared["key_epoch"]);
    assert_eq!(page("pg@monday:1")["at"], source["at"]);
    assert_eq!(page("@monday:0")["state"], "hole");
    let lineage = place.json(&["inspect", "lineage"]);
    let heads = lineage["lineage"]["heads"].as_array().expect("heads");
    assert_eq!(heads.len(), 3);
    assert_eq!(heads[1]["origin_id"], heads[0]["id"]);
}

#[test]
fn what_is_not_there_is_refused() {
    let place = place();
    place.fails(&["inspect"], 2, "invalid");
    for page in ["pg", "pg:", "pg:x", ":"] {
        let output = place
            .command(&["inspect", "page", page])
            .output()
            .expect("an output");
        assert_eq!(output.status.code(), Some(2), "{page}");
    }
    place.fails(&["inspect", "page", "pg:99999999"], 2, "out_of_bounds");
    place.fails(&["inspect", "page", "none:0"], 14, "not_found");
    place.fails(&["inspect", "tree", "@none"], 14, "not_found");
    place.fails(&["inspect", "tree", "dev@monday"], 14, "not_found");
    place.fails(&["inspect", "segment", "99"], 14, "not_found");
    place.fails(&["inspect", "raw", "99:0"], 18, "corrupt");
    place.fails(&["inspect", "raw", "none:0"], 18, "corrupt");
    place.fails(&["inspect", "raw", "1"], 2, "invalid");
    place.fails(&["inspect", "heatmap", "--cell-slots", "1"], 2, "invalid");
    let bare = Place::bare();
    for view in ["superblock", "lineage", "catalog", "keys", "log", "heatmap"] {
        bare.fails(&["inspect", view], 10, "not_a_store");
    }
}

#[test]
fn the_catalog_says_from_where_it_comes() {
    let place = place();
    let catalog = place.json(&["inspect", "catalog"])["catalog"].clone();
    assert_eq!(catalog["authenticated"], true);
    assert_eq!(catalog["torn_tail"], false);
    assert_eq!(catalog["heads"].as_array().map(Vec::len), Some(3));
    assert_eq!(catalog["next_head"], 4);
    assert_eq!(catalog["log_batches"], 0, "it was closed cleanly");
    assert!(catalog["segments"][0]["slot_count"].as_u64() > Some(1));
    assert!(
        catalog["salts"]
            .as_array()
            .is_some_and(|salts| !salts.is_empty())
    );
}

#[test]
fn keys_say_what_wraps_what_and_give_no_key_away() {
    let place = place();
    place.ok(&["key", "create", "--alias", "second"]);
    place.ok(&[
        "clone",
        "create",
        "dev",
        "other",
        "--kms-key",
        "alias/second",
    ]);
    let keys = place.json(&["inspect", "keys"])["keys"].clone();
    let heads = keys["heads"].as_array().expect("heads");
    assert_eq!(heads.len(), 4);
    assert_eq!(heads[3]["name"], "other");
    assert!(heads[3]["epoch_count"].as_u64() > heads[0]["epoch_count"].as_u64());
    assert_ne!(heads[3]["kms_key_id"], heads[0]["kms_key_id"]);
    let open = heads[3]["open_epoch"].as_u64().expect("an epoch");
    let epochs = keys["epochs"].as_array().expect("epochs");
    let epoch = epochs.iter().find(|epoch| epoch["key_epoch"] == open);
    assert_eq!(epoch.expect("its epoch")["heads"], serde_json::json!([4]));
    let known = keys["kms_keys"].as_array().expect("the KMS is there");
    assert_eq!(known.len(), 3, "the store's, the default and the second");
    assert!(
        known
            .iter()
            .all(|key| key["status"] == "enabled" && key["version"] == 1)
    );
    for wrapped in ["wrapped", "secret"] {
        assert!(!keys.to_string().contains(wrapped));
    }
}

#[test]
fn the_log_is_shown_in_parts_from_any_batch_on() {
    let place = place();
    let log = |args: &[&str]| place.json(&[&["inspect", "log"], args].concat())["log"].clone();
    let whole = log(&[]);
    assert_eq!(whole["authenticated"], true);
    let checkpoints = whole["checkpoints"].as_array().expect("checkpoints");
    assert_eq!(checkpoints.len(), 2);
    assert_eq!(checkpoints[1]["clean"], true);
    let batches = whole["batches"].as_array().expect("batches");
    let seqs: Vec<u64> = batches
        .iter()
        .filter_map(|batch| batch["seq"].as_u64())
        .collect();
    assert!(seqs.len() > 2 && seqs.is_sorted());
    assert_eq!(Some(seqs[0] - 1), checkpoints[0]["seq"].as_u64());
    assert_eq!(whole["next_seq"], serde_json::Value::Null);
    let from = seqs[1].to_string();
    let part = log(&["--from", &from, "--count", "1"]);
    assert_eq!(part["batches"], serde_json::json!([batches[1]]));
    assert_eq!(part["next_seq"], seqs[2]);
    let pages = |batch: &serde_json::Value| batch["records"][0]["kind"] == "pages";
    assert!(batches.iter().any(pages), "{whole}");
    let past = log(&["--from", "999999"]);
    assert_eq!(past["batches"], serde_json::json!([]));
}

#[test]
fn a_segment_says_what_its_slots_are_for_and_whose_they_are() {
    let place = place();
    let segment = place.json(&["inspect", "segment", "1"])["segment"].clone();
    let number = |field: &str| segment[field].as_u64().expect("a number");
    let uses = ["header", "page", "node", "log", "waiting", "dead", "free"];
    let all: u64 = uses
        .iter()
        .map(|what| number(&format!("{what}_slots")))
        .sum();
    assert_eq!(all, number("slot_count"));
    let owners = segment["owners"].as_array().expect("owners");
    let names: Vec<_> = owners
        .iter()
        .filter_map(|owner| owner["name"].as_str())
        .collect();
    assert!(
        names.contains(&"pg") && names.contains(&"monday"),
        "{names:?}"
    );
    assert!(
        number("shared_slots") >= 98,
        "the clone and the snapshot share the pages"
    );
}

#[test]
fn lineage_is_drawn_as_a_tree() {
    let place = place();
    let text = String::from_utf8(place.ok(&["inspect", "lineage"])).expect("text");
    let drawn: Vec<_> = text.lines().take_while(|line| !line.is_empty()).collect();
    assert!(drawn[0].starts_with("lineage epoch 1"), "{text}");
    for head in ["volume pg", "snapshot monday", "volume dev"] {
        let found = drawn.iter().filter(|line| line.contains(head)).count();
        assert_eq!(found, 1, "{head}: {text}");
    }
    assert!(drawn.iter().any(|line| line.starts_with("└─ ")), "{text}");
    assert!(
        drawn.iter().all(|line| line.contains("key epoch")),
        "{text}"
    );
}

#[test]
fn a_damaged_store_is_shown_as_far_as_it_can_be_read() {
    let place = place();
    let catalog = || place.json(&["inspect", "catalog"])["catalog"].clone();
    let whole = catalog();
    let damage = |at: &serde_json::Value| {
        let segment = at["segment"].as_u64().expect("a segment");
        let offset = at["slot"].as_u64().expect("a slot") * 4096 + 200;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(place.store().join(format!("segment-{segment:08x}")));
        let file = file.expect("a file");
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 9], offset).expect("a write");
    };
    damage(&whole["table_batches"][0]);
    let names = |catalog: &serde_json::Value| {
        let heads = catalog["heads"].as_array().into_iter().flatten();
        heads.map(|head| head["name"].clone()).collect::<Vec<_>>()
    };
    let older = catalog();
    assert_eq!(older["complete"], false);
    assert_eq!(
        names(&older),
        names(&whole),
        "the older tables and the log have them"
    );
    assert_eq!(older["problems"][0]["code"], "OF-0401 table-damaged");
    damage(&older["table_batches"][0]);
    let left = catalog();
    assert_eq!(left["complete"], false);
    let problems = left["problems"].as_array().into_iter().flatten();
    let of_tables = problems.filter(|problem| problem["code"] == "OF-0401 table-damaged");
    assert_eq!(of_tables.count(), 2);
    for view in [
        &["log"][..],
        &["superblock"],
        &["segment", "1"],
        &["heatmap"],
        &["keys"],
    ] {
        place.ok(&[&["inspect"], view].concat());
    }
    // One copy of a superblock is enough, and none is said to be none.
    std::fs::write(place.store().join("superblock-a"), [1; 8192]).expect("a write");
    place.ok(&["inspect", "catalog"]);
    std::fs::write(place.store().join("superblock-b"), [1; 8192]).expect("a write");
    place.fails(&["inspect", "catalog"], 18, "corrupt");
    place.ok(&["inspect", "superblock"]);
    let segment = place.json(&["inspect", "segment", "1"])["segment"].clone();
    assert!(
        segment["batches"]
            .as_array()
            .is_some_and(|batches| !batches.is_empty())
    );
    assert_eq!(segment["problems"].as_array().map(Vec::len), Some(1));
    place.ok(&["inspect", "raw", "1:0"]);
}

#[test]
fn looking_needs_no_key_and_no_kms() {
    let place = place();
    let heads = |args: &[&str]| {
        let document = place.json(&[&["inspect", "lineage"], args].concat());
        document["lineage"]["heads"].as_array().map(Vec::len)
    };
    let all = heads(&[]);
    place.ok(&["key", "disable", "alias/default"]);
    for view in [
        &["page", "pg:1"][..],
        &["tree", "pg"],
        &["heatmap"],
        &["segment", "1"],
    ] {
        place.ok(&[&["inspect"], view].concat());
    }
    // A KMS that cannot be opened is a problem, not an error.
    std::fs::write(place.kms().join("keys"), b"no keys").expect("a write");
    assert_eq!(heads(&[]), all);
    let keys = place.json(&["inspect", "keys"])["keys"].clone();
    assert_eq!(keys["problems"][0]["location"], "the KMS", "{keys}");
    assert_eq!(keys["kms_keys"], serde_json::Value::Null);
    std::fs::remove_dir_all(place.kms()).expect("the KMS goes");
    assert_eq!(heads(&[]), all);
}

#[test]
fn a_map_is_drawn_as_a_picture_of_its_own() {
    let place = place();
    let map = place.json(&["inspect", "heatmap"])["heatmap"].clone();
    let files = map["files"].as_array().expect("files");
    assert!(files.iter().any(|file| file["name"] == "segment-00000001"));
    place.ok(&[
        "inspect",
        "heatmap",
        "--svg",
        "map.svg",
        "--cell-slots",
        "512",
    ]);
    let picture = std::fs::read_to_string(place.path("map.svg")).expect("a picture");
    assert!(picture.starts_with("<svg xmlns=") && picture.ends_with("</svg>\n"));
    for part in [
        "<title>segment-00000001 slots 0 to 511: ",
        "prefers-color-scheme:dark",
        "own pages",
    ] {
        assert!(picture.contains(part), "{part}");
    }
    // Nothing is fetched, and what is less than something is not a tag.
    assert_eq!(picture.matches("http").count(), 1);
    assert!(!picture.contains("< ") && picture.contains("&lt; 1 %"));
    assert_eq!(
        picture.matches("<g>").count(),
        picture.matches("</g>").count()
    );
    place.fails(
        &["inspect", "heatmap", "--svg", "map.svg"],
        15,
        "already_exists",
    );
    place.ok(&["inspect", "heatmap", "--svg", "map.svg", "--force"]);
    let stdout = place.ok(&["inspect", "heatmap", "--svg", "-"]);
    assert_eq!(
        stdout,
        std::fs::read(place.path("map.svg")).expect("a picture")
    );
    place.fails(&["inspect", "heatmap", "--svg", "-"], 2, "invalid");
    place.fails(&["inspect", "heatmap", "--force"], 2, "invalid");
}

//! `store stats`.

use crate::support::{Place, contents, fields, noise};

const FIELDS: [&str; 29] = [
    "id",
    "segment_count",
    "allocated_bytes",
    "used_bytes",
    "log_bytes",
    "kept_log_bytes",
    "generation",
    "volume_count",
    "snapshot_count",
    "deleted_count",
    "lineage_epoch_count",
    "key_epoch_count",
    "tree_levels",
    "page_bytes",
    "table_bytes",
    "log_held_bytes",
    "waiting_bytes",
    "reclaimable_bytes",
    "spare_bytes",
    "snapshot_only_bytes",
    "pin_only_bytes",
    "pin_count",
    "deleted_bytes",
    "space_settled",
    "scrub_finding_count",
    "scrubbed_at",
    "live_bytes",
    "node_bytes",
    "live_percent",
];

#[test]
fn stats_count_what_is_there_and_write_nothing() {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(1 << 20, 1));
    place.ok(&["snapshot", "create", "pg", "monday"]);
    place.ok(&["clone", "create", "pg", "dev"]);
    place.ok(&["volume", "create", "gone", "--size", "1M"]);
    place.ok(&["volume", "delete", "gone", "-y"]);
    let before = contents(&place.store());
    let shown = place.json(&["store", "stats"]);
    assert_eq!(shown["schema"], "store-stats/1");
    let stats = &shown["store-stats"];
    assert_eq!(fields(stats), FIELDS);
    let counts = ["volume_count", "snapshot_count", "deleted_count"].map(|name| &stats[name]);
    assert_eq!(counts, [2, 1, 0], "what is deleted is removed at the close");
    assert_eq!(stats["tree_levels"], 2);
    assert_eq!(stats["log_bytes"], 0, "it was closed cleanly");
    let kept = stats["kept_log_bytes"].as_u64();
    assert!(kept.is_some_and(|kept| kept > 0), "{stats}");
    assert_eq!(stats["live_bytes"], serde_json::Value::Null);
    let live = place.json(&["store", "stats", "--live"])["store-stats"].clone();
    assert_eq!(live["live_bytes"], 1 << 20, "shared pages count once");
    let number = |name: &str| live[name].as_u64().expect("a number");
    assert!(number("node_bytes") >= 4 * 4096);
    assert!(number("used_bytes") > number("live_bytes") + number("node_bytes"));
    assert!((50..100).contains(&number("live_percent")));
    assert_eq!(number("page_bytes"), number("live_bytes"));
    assert_eq!(number("table_bytes"), number("node_bytes"));
    let parts = [
        "page_bytes",
        "table_bytes",
        "log_held_bytes",
        "waiting_bytes",
        "reclaimable_bytes",
        "spare_bytes",
    ];
    assert_eq!(
        parts.map(number).iter().sum::<u64>(),
        number("allocated_bytes")
    );
    let text = String::from_utf8(place.ok(&["store", "stats"])).expect("text");
    assert!(text.contains("tree levels"), "{text}");
    assert!(contents(&place.store()) == before);
}

#[test]
fn watching_repeats_and_a_lock_is_only_waited_for() {
    let place = Place::with_volume();
    let lines = place.ok(&["store", "stats", "-w", "1", "--count", "2", "--json"]);
    let lines: Vec<_> = lines.trim_ascii().split(|&byte| byte == b'\n').collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], lines[1]);
    place.fails(&["store", "stats", "--count", "2"], 2, "invalid");
    place.fails(&["store", "stats", "-w", "0"], 2, "invalid");
    Place::bare().fails(&["store", "stats"], 10, "not_a_store");
}

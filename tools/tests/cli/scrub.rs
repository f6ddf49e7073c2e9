//! `store scrub`: alone, beside a server, on a damaged store.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use serde_json::Value;

use crate::nbd::server::Server;
use crate::support::{Place, contents, noise};

/// A volume with data and a clone of it.
fn place() -> Place {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(3 << 20, 1));
    place.ok(&["snapshot", "create", "pg", "monday"]);
    place.ok(&["clone", "create", "pg", "dev"]);
    place
}

/// Flips a bit of page `page` of a volume or snapshot of a store that nobody has open.
fn find(place: &Place, head: &str, page: u64) -> (PathBuf, u64) {
    let page = place.json(&["inspect", "page", &format!("{head}:{page}")])["page"].clone();
    let number = |field: &str| page["at"][field].as_u64().expect("a number");
    let name = format!("segment-{:08x}", number("segment"));
    (place.store().join(name), number("slot") * 4096 + 99)
}

fn flip((path, offset): &(PathBuf, u64)) {
    let options = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = options.expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, *offset).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], *offset).expect("a write");
}

/// Runs a scrub that finds something.
fn damaged(place: &Place, args: &[&str]) -> Value {
    let args = [&["store", "scrub", "--json"], args].concat();
    let output = place.command(&args).output().expect("an output");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{args:?}: {stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_scrub_of_a_sound_store_says_so_and_leaves_only_its_record() {
    let place = place();
    let names = || {
        let files = contents(&place.store()).into_iter();
        files.map(|(path, _)| path).collect::<Vec<_>>()
    };
    let before = names();
    let done = place.json(&["store", "scrub"])["scrub"].clone();
    assert_eq!(done["findings"], serde_json::json!([]));
    assert_eq!(done["recorded"], true);
    assert!(done["read_bytes"].as_u64() >= Some(3 << 20));
    assert_eq!(done["locked_bytes"], 0);
    let record = place.store().join("scrub");
    let mode = fs::metadata(&record)
        .expect("a record")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let new: Vec<_> = names()
        .into_iter()
        .filter(|path| !before.contains(path))
        .collect();
    assert!(new.contains(&record), "{new:?}");
    assert_eq!(place.json(&["fsck"])["fsck"]["clean"], true);
    let text = String::from_utf8(place.ok(&["store", "scrub", "--volume", "dev"])).expect("text");
    assert!(text.contains("nothing is damaged"), "{text}");
    let text = String::from_utf8(place.ok(&["store", "scrub", "--findings"])).expect("text");
    assert!(
        text.starts_with("the last scrub of everything ended 20"),
        "{text}"
    );
    place.fails(&["store", "scrub", "--volume", "none"], 14, "not_found");
    place.fails(&["store", "scrub", "--findings", "--restart"], 2, "invalid");
}

#[test]
fn damage_planted_under_a_server_is_found_beside_it_and_kept() {
    let place = place();
    let planted = find(&place, "pg@monday", 17);
    let server = Server::start(&place, &["--all"]);
    flip(&planted);
    let before = fs::read(&planted.0).expect("a file");
    let found = damaged(&place, &["--rate", "1G"]);
    let findings = found["scrub"]["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), 1, "{found}");
    assert_eq!(findings[0]["code"], "OF-0514 page-damaged");
    assert_eq!(
        (&findings[0]["page"], &findings[0]["head"]),
        (&17.into(), &"volume \"pg\"".into())
    );
    assert!(
        fs::read(&planted.0).expect("a file") == before,
        "nothing is repaired"
    );
    let known = damaged(&place, &["--findings"]);
    assert_eq!(known["scrub"]["findings"].as_array().map(Vec::len), Some(1));
    let stats = || place.json(&["store", "stats"])["store-stats"].clone();
    assert_eq!(stats()["scrub_finding_count"], 1);
    drop(server);
    // It is known without the server, fsck finds the same, and it goes with what was damaged.
    assert_eq!(stats()["scrub_finding_count"], 1);
    assert!(stats()["scrubbed_at"].is_string());
    let output = place
        .command(&["fsck", "--read-data", "--json"])
        .output()
        .expect("an output");
    assert_eq!(output.status.code(), Some(4));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let codes: Vec<_> = report["fsck"]["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|finding| finding["code"].clone())
        .collect();
    assert_eq!(codes, ["OF-0514 page-damaged"]);
    for volume in ["pg", "dev"] {
        place.ok(&["volume", "delete", volume, "-y"]);
    }
    place.ok(&["snapshot", "delete", "monday", "-y"]);
    place.ok(&["store", "compact"]);
    place.ok(&["store", "scrub"]);
    assert_eq!(stats()["scrub_finding_count"], 0);
}

#[test]
fn an_interrupted_scrub_goes_on_where_it_was() {
    let place = place();
    let mut child = place
        .std_command(&["store", "scrub", "--rate", "200K", "--progress", "json"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("a child");
    // Its first line says that it is under way.
    let mut line = String::new();
    let stderr = child.stderr.take().expect("stderr");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).expect("a line");
    assert!(line.contains("store scrub"), "{line}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    assert_eq!(child.wait().expect("a status").code(), Some(130));
    let known = place.json(&["store", "scrub", "--findings"])["scrub"].clone();
    assert_eq!(known["under_way"], true);
    assert!(known["done_bytes"].as_u64() > Some(1 << 20), "{known}");
    let rest = place.json(&["store", "scrub"])["scrub"]["read_bytes"].as_u64();
    assert!(rest < Some(2 << 20), "{rest:?}");
    let known = place.json(&["store", "scrub", "--findings"])["scrub"].clone();
    assert_eq!(
        (&known["under_way"], known["ended_at"].is_string()),
        (&false.into(), true)
    );
}

#[test]
fn volumes_under_locked_keys_are_scrubbed_by_their_checksums() {
    let place = place();
    place.ok(&["key", "disable", "alias/default"]);
    let planted = find(&place, "pg", 3);
    let done = place.json(&["store", "scrub"])["scrub"].clone();
    assert_eq!(done["locked_bytes"], 3 << 20);
    flip(&planted);
    let found = damaged(&place, &[]);
    assert_eq!(
        found["scrub"]["findings"][0]["code"],
        "OF-0514 page-damaged"
    );
}

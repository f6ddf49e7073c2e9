//! Damaged stores and key files: an error with its code, never a panic, never wrong bytes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Place, noise};

const LEN: usize = 300_000;

fn place() -> Place {
    let place = Place::new();
    place.ok(&["volume", "create", "pg", "--size", "1M"]);
    place.write("pg", 0, &noise(LEN, 1));
    place.ok(&["clone", "create", "pg", "dev"]);
    place.write("dev", 5000, &noise(LEN, 2));
    place
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|path| path.file_name().is_some_and(|name| name != "lock"));
    files.sort();
    files
}

/// Runs what looks at the store; the codes must be documented ones, and what is read is right.
fn look(place: &Place, what: &str) {
    let allowed = [0, 1, 2, 3, 10, 12, 13, 14, 18];
    for args in [
        &["volume", "list"][..],
        &["store", "info"],
        &["key", "list"],
        &["clone", "tree"],
    ] {
        let output = place.command(args).output().expect("an output");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code().unwrap_or(-1);
        assert!(
            allowed.contains(&code),
            "{what}: {args:?}: {code}: {stderr}"
        );
    }
    let args = ["volume", "read", "pg", "--length", &LEN.to_string()];
    let output = place.command(&args).output().expect("an output");
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => assert!(output.stdout == noise(LEN, 1), "{what}: wrong bytes"),
        Some(code) => assert!(allowed.contains(&code), "{what}: {code}: {stderr}"),
        None => panic!("{what}: {stderr}"),
    }
    let output = place
        .command(&["fsck", "--read-data"])
        .output()
        .expect("an output");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap_or(-1);
    assert!([0, 4, 8].contains(&code), "{what}: fsck: {code}: {stderr}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for path in files(from) {
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
    }
}

fn restore(place: &Place) {
    for (kept, to) in [("kept-store", place.store()), ("kept-kms", place.kms())] {
        fs::remove_dir_all(&to).expect("a removal");
        copy(&place.path(kept), &to);
    }
}

#[test]
fn every_damaged_file_is_an_error_or_does_not_matter() {
    let place = place();
    copy(&place.store(), &place.path("kept-store"));
    copy(&place.kms(), &place.path("kept-kms"));
    let all = [files(&place.store()), files(&place.kms())].concat();
    assert!(all.len() >= 6, "{all:?}");
    for path in all {
        let name = path.display();
        let bytes = fs::read(&path).expect("a file");
        for at in [0, 40, bytes.len() / 2] {
            let mut bytes = bytes.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x10;
            }
            fs::write(&path, bytes).expect("a write");
            look(&place, &format!("{name} with a flipped bit at {at}"));
            restore(&place);
        }
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("a write");
        look(&place, &format!("{name} cut in half"));
        restore(&place);
        fs::remove_file(&path).expect("a removal");
        look(&place, &format!("without {name}"));
        restore(&place);
        fs::remove_file(&path).expect("a removal");
        fs::create_dir(&path).expect("a directory");
        look(&place, &format!("a directory in place of {name}"));
        restore(&place);
    }
    assert_eq!(place.read("pg", 0, LEN as u64), noise(LEN, 1));
}

#[test]
fn a_flipped_bit_of_a_page_is_corrupt_and_found_by_fsck() {
    let place = place();
    let segment = files(&place.store())
        .into_iter()
        .find(|path| path.to_string_lossy().contains("segment-"))
        .expect("a segment");
    let page = place.json(&["volume", "map", "pg", "--length", "4K"]);
    assert_eq!(page["extents"][0]["kind"], "data");
    let mut bytes = fs::read(&segment).expect("a file");
    // Far inside the first large write: all of that is pages.
    bytes[200_000] ^= 1;
    fs::write(&segment, bytes).expect("a write");
    let output = place
        .command(&["volume", "read", "pg"])
        .output()
        .expect("an output");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(18), "{stderr}");
    assert!(stderr.contains("pg") && stderr.contains("fsck"), "{stderr}");
    assert_eq!(place.json(&["fsck"])["fsck"]["clean"], true);
    let args = ["fsck", "--read-data", "--json"];
    let output = place.command(&args).output().expect("an output");
    assert_eq!(output.status.code(), Some(4));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let finding = &report["fsck"]["findings"][0];
    assert_eq!(finding["class"], "corrupt_data");
    assert!(finding["code"].is_string() && finding["location"].is_string());
    assert_eq!(
        (&finding["severity"], &finding["repair"]),
        (&"error".into(), &"lost_pages".into())
    );
    assert!(finding["segment"].is_u64() && finding["slot"].is_u64() && finding["page"].is_u64());
    assert_eq!(finding["head"], "volume \"pg\"");
    let only = ["fsck", "--read-data", "--volume", "dev"];
    let output = place.command(&only).output().expect("an output");
    assert!([Some(0), Some(4)].contains(&output.status.code()));
    // An export of it does not leave a file that looks complete.
    place.fails(&["export", "image", "pg", "out.img"], 18, "corrupt");
    assert!(!place.path("out.img").exists());
    give_up(&place, finding["page"].as_u64().expect("a page"));
}

/// The damaged page of `pg` is given up, listed, and good again once it is written.
fn give_up(place: &Place, page: u64) {
    let run = |args: &[&str]| {
        let output = place.command(&[&["fsck"], args].concat()).output();
        let output = output.expect("an output");
        let text = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), text)
    };
    let (code, text) = run(&["--read-data", "--repair", "--dry-run"]);
    assert_eq!(code, Some(4));
    assert!(text.contains("would give up"), "{text}");
    assert_eq!(run(&["--read-data", "--repair"]).0, Some(1));
    let (code, text) = run(&["--read-data", "--repair"]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains(&format!("lost: page {page} of volume \"pg\"")),
        "{text}"
    );
    let report = place.json(&["fsck"]);
    let lost = serde_json::json!([{ "head": "volume \"pg\"", "page": page, "count": 1 }]);
    assert_eq!(report["fsck"]["lost"], lost);
    assert_eq!(report["fsck"]["stats"]["lost_pages"], 1);
    let shown = place.json(&["inspect", "page", &format!("pg:{page}")]);
    assert_eq!(shown["page"]["state"], "lost");
    let read = place.command(&["volume", "read", "pg"]).output();
    let read = read.expect("an output");
    assert_eq!(read.status.code(), Some(18));
    assert!(String::from_utf8_lossy(&read.stderr).contains("lost"));
    place.fails(&["export", "image", "pg", "out.img"], 18, "page_lost");
    assert!(!place.path("out.img").exists());
    place.write("pg", page * 4096, &noise(4096, 7));
    assert_eq!(place.read("pg", page * 4096, 4096), noise(4096, 7));
    assert_eq!(
        place.json(&["fsck", "--read-data"])["fsck"]["lost"],
        serde_json::json!([])
    );
    place.ok(&["export", "image", "pg", "out.img"]);
}

#[test]
fn fsck_notes_what_others_may_read_and_quotas_that_are_passed() {
    use std::os::unix::fs::PermissionsExt;

    let place = place();
    let notes = |args: &[&str]| place.json(args)["fsck"]["notes"].clone();
    assert_eq!(notes(&["fsck"]), serde_json::json!([]));
    let superblock = place.store().join("superblock-a");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("another mode");
    };
    mode(&superblock, 0o640);
    mode(&place.kms(), 0o755);
    place.ok(&["store", "quota", "set", "--bytes", "1M"]);
    let found = notes(&["fsck"]);
    let found: Vec<_> = found.as_array().expect("a list").iter().collect();
    let texts: Vec<_> = found
        .iter()
        .map(|note| note.as_str().expect("text"))
        .collect();
    let [quota, store, kms] = texts[..] else {
        panic!("{texts:?}")
    };
    assert!(quota.contains("quota of 1048576 bytes"), "{quota}");
    assert!(store.contains("superblock-a"), "{store}");
    assert!(kms.contains("the KMS") && kms.ends_with(": ."), "{kms}");
}

#[test]
fn fsck_with_keys_finds_an_audit_that_somebody_changed() {
    let place = place();
    assert_eq!(place.json(&["fsck", "--keys"])["fsck"]["clean"], true);
    let audit = place.kms().join("audit");
    let text = fs::read_to_string(&audit).expect("an audit");
    let changed = text.replacen("\"purpose\":\"", "\"purpose\":\"x", 1);
    assert_ne!(changed, text);
    fs::write(&audit, changed).expect("a write");
    let output = place
        .command(&["fsck", "--keys", "--json"])
        .output()
        .expect("an output");
    assert_eq!(output.status.code(), Some(4));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        report["fsck"]["findings"][0]["code"],
        "OF-0704 kms-audit-changed"
    );
}

#[test]
fn a_store_that_was_set_back_is_refused_until_that_is_accepted() {
    let place = Place::with_volume();
    place.write("pg", 0, b"old");
    let copy = |from: &str, to: &str| {
        let status = std::process::Command::new("cp")
            .args(["-a", from, to])
            .current_dir(place.path(""))
            .status();
        assert!(status.expect("cp").success());
    };
    copy("home/regions/local", "copy");
    place.write("pg", 0, b"new");
    std::fs::remove_dir_all(place.store()).expect("the store goes");
    copy("copy", "home/regions/local");
    for args in [
        &["volume", "list"][..],
        &["store", "info"],
        &["volume", "show", "pg"],
    ] {
        let message = place.fails(args, 18, "rolled_back");
        assert!(message.contains("--accept-rollback"), "{message}");
    }
    let output = place
        .command(&["fsck", "--json"])
        .output()
        .expect("an output");
    assert_eq!(output.status.code(), Some(4));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["fsck"]["findings"][0]["class"], "rollback");
    place.ok(&["volume", "list", "--accept-rollback"]);
    assert_eq!(place.read("pg", 0, 3), b"old");
    place.write("pg", 0, b"two");
    assert_eq!(place.read("pg", 0, 3), b"two");
    place.ok(&["fsck", "--read-data"]);
    let lines = place.json(&["key", "audit"]);
    let lines = lines["lines"].as_array().expect("lines");
    assert!(lines.iter().any(|line| line["action"] == "accept-rollback"));
}

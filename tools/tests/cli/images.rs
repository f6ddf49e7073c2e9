//! `import image`, `export image`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use crate::support::{PROGRAM, Place, noise};

/// A sparse file of 40 MiB and 5 bytes with 300 KiB of data.
fn sparse(place: &Place, name: &str) {
    let file = File::create(place.path(name)).expect("a file");
    file.set_len((40 << 20) + 5).expect("a length");
    for (index, offset) in [0, 1 << 20, (20 << 20) + 4097].into_iter().enumerate() {
        let bytes = noise(100 << 10, index as u64 + 1);
        file.write_all_at(&bytes, offset).expect("a write");
    }
    file.write_all_at(b"tail!", 40 << 20).expect("a write");
}

fn allocated(place: &Place, name: &str) -> u64 {
    fs::metadata(place.path(name)).expect("a file").blocks() * 512
}

#[test]
fn a_sparse_image_survives_the_round_trip_and_stays_sparse() {
    let place = Place::new();
    sparse(&place, "in.img");
    let made = place.json(&["import", "image", "in.img", "pg"]);
    assert_eq!(made["schema"], "volume/1");
    assert_eq!(made["volume"]["status"], "available");
    assert_eq!(made["volume"]["size_bytes"], (40 << 20) + 4096);
    let held = made["volume"]["referenced_bytes"].as_u64().expect("bytes");
    assert!((300 << 10..600 << 10).contains(&held), "{held}");

    let done = place.json(&["export", "image", "pg", "out.img"]);
    assert_eq!(done["schema"], "exported/1");
    assert_eq!(done["file"], "out.img");
    assert_eq!(done["size_bytes"], (40 << 20) + 4096);
    let mut wanted = fs::read(place.path("in.img")).expect("bytes");
    wanted.resize((40 << 20) + 4096, 0);
    assert!(fs::read(place.path("out.img")).expect("bytes") == wanted);
    assert!(
        allocated(&place, "out.img") < 2 << 20,
        "{}",
        allocated(&place, "out.img")
    );
    let mode = fs::metadata(place.path("out.img"))
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(place.ok(&["export", "image", "pg", "-"]) == wanted);
}

#[test]
fn a_pipe_is_imported_without_its_zeroes() {
    let place = Place::new();
    let mut image = noise(10_000, 1);
    image.resize(3 << 20, 0);
    image.extend(noise(5000, 2));
    place.fails_with(&["import", "image", "-", "pg"], &image, 2, "invalid");
    place.ok_with(&["import", "image", "-", "pg", "--size", "8M"], &image);
    assert!(place.read("pg", 0, image.len() as u64) == image);
    let show = place.json(&["volume", "show", "pg"]);
    assert_eq!(show["volume"]["referenced_bytes"], 5 * 4096);
    // One that does not fit leaves nothing.
    let small = ["import", "image", "-", "small", "--size", "1M"];
    place.fails_with(&small, &image, 2, "out_of_bounds");
    place.fails(&["volume", "show", "small"], 14, "not_found");
}

#[test]
fn zeroes_that_are_written_out_take_no_space() {
    let place = Place::new();
    place.file("zeroes.img", &vec![0; 4 << 20]);
    let made = place.json(&["import", "image", "zeroes.img", "pg"]);
    assert_eq!(made["volume"]["referenced_bytes"], 0);
}

#[test]
fn an_existing_volume_is_filled_if_it_is_empty_or_by_force() {
    let place = Place::with_volume();
    place.file("one.img", &noise(100_000, 1));
    place.file("two.img", &noise(9000, 2));
    let before = place.json(&["volume", "show", "pg"]);
    let filled = place.json(&["import", "image", "one.img", "pg"]);
    assert_eq!(filled["volume"]["id"], before["volume"]["id"]);
    let message = place.fails(&["import", "image", "two.img", "pg"], 15, "already_exists");
    assert!(message.contains("--force"), "{message}");
    assert_eq!(place.read("pg", 0, 100_000), noise(100_000, 1));
    place.ok(&["import", "image", "two.img", "pg", "--force"]);
    assert_eq!(place.read("pg", 0, 9000), noise(9000, 2));
    assert!(place.read("pg", 9000, 91_000).iter().all(|&byte| byte == 0));
    for more in [["--size", "1G"], ["--kms-key", "alias/default"]] {
        let args = [&["import", "image", "two.img", "pg", "--force"], &more[..]].concat();
        place.fails(&args, 2, "invalid");
    }
}

#[test]
fn an_image_that_does_not_fit_changes_nothing() {
    let place = Place::new();
    place.ok(&["volume", "create", "pg", "--size", "8K"]);
    place.file("long.img", &[1; 8193]);
    place.fails(
        &["import", "image", "long.img", "pg", "--force"],
        2,
        "invalid",
    );
    assert_eq!(place.ok(&["volume", "read", "pg"]), [0; 8192]);
    place.fails(
        &["import", "image", "long.img", "new", "--size", "8K"],
        2,
        "invalid",
    );
    place.file("empty.img", b"");
    place.fails(&["import", "image", "empty.img", "new"], 2, "invalid");
    place.ok(&["import", "image", "empty.img", "new", "--size", "8K"]);
}

#[test]
fn files_that_are_none_are_refused() {
    let place = Place::with_volume();
    let home = place.path("home").display().to_string();
    place.fails(&["import", "image", &home, "new"], 2, "invalid");
    place.fails(&["volume", "write", "pg", &home], 2, "invalid");
    place.fails(&["export", "image", "pg", &home], 2, "invalid");
    place.fails(&["import", "image", "nothing", "new"], 1, "io");
    place.fails(&["export", "image", "pg", "no/such/place"], 1, "io");
    place.fails(&["export", "image", "pg", "/dev/null"], 2, "invalid");
    place.fails(&["export", "image", "pg", "-"], 2, "invalid");
    place.fails(&["import", "image", "nothing", "pg@x"], 1, "io");
    place.file("some", b"x");
    place.fails(&["import", "image", "some", "pg@x"], 14, "not_found");
    place.fails(&["import", "image", "some", "a_b"], 2, "invalid");
}

#[test]
fn an_export_replaces_only_by_force() {
    let place = Place::with_volume();
    place.write("pg", 0, b"data");
    place.file("old", b"precious");
    place.fails(&["export", "image", "pg", "old"], 15, "already_exists");
    assert_eq!(fs::read(place.path("old")).expect("bytes"), b"precious");
    place.ok(&["export", "image", "pg", "old", "--force"]);
    assert!(
        fs::read(place.path("old"))
            .expect("bytes")
            .starts_with(b"data")
    );
    place.fails(
        &["export", "image", "nothing", "old", "--force"],
        14,
        "not_found",
    );
    assert!(
        fs::read(place.path("old"))
            .expect("bytes")
            .starts_with(b"data")
    );
}

#[test]
fn an_export_that_meets_a_limit_leaves_no_file() {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(100_000, 1));
    let script = "ulimit -f 16; exec \"$0\" export image pg out.img --json";
    let mut command = Command::new("bash");
    command
        .args(["-c", script, PROGRAM])
        .current_dir(place.path(""));
    let output = command
        .env("OFFSHOOT_HOME", place.path("home"))
        .output()
        .expect("an output");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("\"kind\":\"io\""), "{stderr}");
    let left = fs::read_dir(place.path("")).expect("a directory").count();
    assert_eq!(left, 1, "only home is there");
}

#[test]
fn a_killed_import_leaves_no_half_volume() {
    let place = Place::with_volume();
    for (name, more) in [("new", &["--size", "64M"][..]), ("pg", &[])] {
        let args = [&["import", "image", "-", name], more].concat();
        let mut child = place
            .std_command(&args)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(&noise(4 << 20, 1)).expect("a write");
        child.kill().expect("a kill");
        child.wait().expect("a status");
    }
    // The volume that the import made is gone, the older one is marked.
    place.fails(&["volume", "show", "new"], 14, "not_found");
    let status = place.json(&["volume", "show", "pg"])["volume"]["status"].clone();
    assert_eq!(status, "import_failed");
    place.fails_with(&["volume", "write", "pg"], b"x", 16, "invalid_state");
    place.fails(&["clone", "create", "pg", "dev"], 16, "invalid_state");
    place.file("good.img", &noise(9000, 2));
    place.ok(&["import", "image", "good.img", "pg", "--force"]);
    assert_eq!(place.read("pg", 0, 9000), noise(9000, 2));
    assert_eq!(
        place.json(&["volume", "show", "pg"])["volume"]["status"],
        "available"
    );
    assert_eq!(place.json(&["fsck", "--read-data"])["fsck"]["clean"], true);
}

#[test]
fn progress_is_told_as_json_lines() {
    let place = Place::new();
    place.file("in.img", &noise(100_000, 1));
    let args = ["import", "image", "in.img", "pg", "--progress", "json"];
    let output = place.command(&args).output().expect("an output");
    let stderr = String::from_utf8(output.stderr).expect("text");
    let last: serde_json::Value =
        serde_json::from_str(stderr.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["schema"], "progress/1");
    assert_eq!(last["progress"]["operation"], "import image");
    assert_eq!(last["progress"]["state"], "done");
    assert_eq!(last["progress"]["done_bytes"], 100_000);
}

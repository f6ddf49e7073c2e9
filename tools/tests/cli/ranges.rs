//! `volume read`, `write`, `map` and `discard`: bytes and ranges.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::{Place, fields, noise};

#[test]
fn what_is_written_is_read_at_any_offset() {
    let place = Place::with_volume();
    let bytes = noise(3 << 20, 1);
    place.write("pg", 4095, &bytes);
    assert_eq!(place.read("pg", 4095, 3 << 20), bytes);
    assert_eq!(place.read("pg", 4094, 3), [0, bytes[0], bytes[1]]);
    place.file("part", b"from a file");
    let written = place.json(&["volume", "write", "pg", "part", "--offset", "5000"]);
    assert_eq!(written["schema"], "written/1");
    assert_eq!(written["name"], "pg");
    assert_eq!(written["offset_bytes"], 5000);
    assert_eq!(written["length_bytes"], 11);
    assert_eq!(place.read("pg", 5000, 11), b"from a file");
    // Zeroes replace what is there, in files and in pipes.
    place.write("pg", 4096, &[0; 8192]);
    assert_eq!(place.read("pg", 4096, 8192), [0; 8192]);
    place.write("pg", 0, &bytes);
    let hole = std::fs::File::create(place.path("hole")).expect("a file");
    hole.set_len(2 << 20).expect("a length");
    place.ok(&["volume", "write", "pg", "hole"]);
    assert!(place.read("pg", 0, 2 << 20).iter().all(|&byte| byte == 0));
    assert_eq!(place.read("pg", 2 << 20, 4), bytes[2 << 20..(2 << 20) + 4]);
}

#[test]
fn a_range_past_the_end_is_refused_before_the_first_byte() {
    let place = Place::new();
    place.ok(&["volume", "create", "pg", "--size", "8K"]);
    let past = [
        &["--offset", "8193"][..],
        &["--offset", "8192", "--length", "1"],
        &["--length", "8193"],
        &["--offset", "15E", "--length", "15E"],
    ];
    for range in past {
        for command in ["read", "map", "discard"] {
            let mut args = vec!["volume", command, "pg"];
            args.extend(range);
            if command == "discard" && !range.contains(&"--length") {
                args.push("--all");
            }
            let output = place.command(&args).output().expect("an output");
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            assert!(output.stdout.is_empty(), "{args:?}");
        }
    }
    assert_eq!(place.ok(&["volume", "read", "pg", "--offset", "8K"]), b"");
    place.file("long", &[1; 8193]);
    place.fails(&["volume", "write", "pg", "long"], 2, "out_of_bounds");
    place.fails(
        &["volume", "write", "pg", "long", "--offset", "4K"],
        2,
        "out_of_bounds",
    );
    place.fails_with(
        &["volume", "write", "pg", "--offset", "9K"],
        b"x",
        2,
        "out_of_bounds",
    );
    assert_eq!(place.ok(&["volume", "read", "pg"]), [0; 8192]);
    // Of a pipe the part that fits is written.
    place.fails_with(&["volume", "write", "pg"], &[1; 8193], 2, "out_of_bounds");
    assert_eq!(place.ok(&["volume", "read", "pg"]), [1; 8192]);
}

#[test]
fn a_map_tells_data_zeroes_and_holes() {
    let place = Place::with_volume();
    place.write("pg", 4096, &noise(8192, 1));
    place.write("pg", 12288, &[0; 4096]);
    place.ok(&["clone", "create", "pg", "dev"]);
    place.write("dev", 0, b"new");
    let map = place.json(&["volume", "map", "dev", "--length", "20K"]);
    assert_eq!(map["schema"], "volume-map/1");
    let extents = map["extents"].as_array().expect("extents");
    assert_eq!(
        fields(&extents[0]),
        ["offset_bytes", "length_bytes", "kind", "depth"]
    );
    let kinds: Vec<_> = extents
        .iter()
        .map(|extent| (extent["offset_bytes"].as_u64(), extent["kind"].as_str()))
        .collect();
    assert_eq!(kinds[0], (Some(0), Some("data")));
    assert_eq!(kinds[1], (Some(4096), Some("data")));
    assert_eq!(kinds[2], (Some(12288), Some("zero")));
    assert_eq!(kinds[3], (Some(16384), Some("hole")));
    assert_eq!(extents[0]["depth"], 1);
    assert_eq!(extents[1]["depth"], 2);
    assert_eq!(extents[3]["depth"], 0);
    let end = extents
        .iter()
        .map(|extent| extent["length_bytes"].as_u64().expect("a length"));
    assert_eq!(end.sum::<u64>(), 20 << 10);
}

#[test]
fn a_discard_drops_a_range_and_can_be_planned() {
    let place = Place::with_volume();
    place.write("pg", 0, &noise(16384, 1));
    let discard = [
        "volume", "discard", "pg", "--offset", "4K", "--length", "8K",
    ];
    let plan = place.json(&[&discard[..], &["-n"]].concat());
    assert_eq!(plan["schema"], "discarded/1");
    assert_eq!(plan["data_bytes"], 8192);
    assert_eq!(plan["dry_run"], true);
    assert_eq!(place.read("pg", 0, 16384), noise(16384, 1));
    assert_eq!(place.json(&discard)["data_bytes"], 8192);
    assert_eq!(place.json(&discard)["data_bytes"], 0);
    assert_eq!(place.read("pg", 4096, 8192), [0; 8192]);
    assert_eq!(place.read("pg", 12288, 4096), noise(16384, 1)[12288..]);
    place.fails(&["volume", "discard", "pg"], 2, "invalid");
    place.ok(&["volume", "discard", "pg", "--all"]);
    assert_eq!(
        place.json(&["volume", "show", "pg"])["volume"]["referenced_bytes"],
        0
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    place.ok(&["volume", "create", "pg", "--size", "1G"]);
    let commands = [
        &["volume", "read", "pg"][..],
        &["export", "image", "pg", "-"],
        &["volume", "list"],
        &["volume", "show", "pg", "--json"],
    ];
    for args in commands {
        let mut child = place
            .std_command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a child");
        drop(child.stdout.take());
        let status = child.wait().expect("a status");
        let mut stderr = String::new();
        let mut pipe = child.stderr.take().expect("stderr");
        pipe.read_to_string(&mut stderr).expect("text");
        assert!(status.success(), "{args:?}: {status}: {stderr}");
        assert_eq!(stderr, "", "{args:?}");
    }
    assert_eq!(
        place.json(&["fsck"])["fsck"]["stats"]["closed_cleanly"],
        true
    );
}

#[test]
fn a_full_standard_output_is_an_error() {
    let place = Place::with_volume();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
    let run = |mut command: Command| command.output().expect("an output").status.code();
    for args in [
        &["volume", "list"][..],
        &["volume", "read", "pg"],
        &["version"],
    ] {
        let mut command = place.std_command(args);
        command.stdout(full().expect("/dev/full"));
        assert_eq!(run(command), Some(1), "{args:?}");
    }
}

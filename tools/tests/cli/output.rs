//! Forms of output.

use serde_json::Value;

use crate::support::Place;

fn text(place: &Place, args: &[&str]) -> String {
    String::from_utf8(place.ok(args)).expect("text")
}

fn place() -> Place {
    let place = Place::new();
    place.ok(&["volume", "create", "a", "--size", "1536"]);
    place.ok(&["volume", "create", "b", "--size", "10G"]);
    place
}

#[test]
fn a_table_has_a_header_and_sizes_for_people() {
    let place = place();
    let table = text(
        &place,
        &["volume", "list", "--columns", "name,size_bytes,status"],
    );
    assert_eq!(
        table,
        "NAME    SIZE  STATUS\na      4 KiB  available\nb     10 GiB  available\n"
    );
    let show = text(
        &place,
        &["volume", "show", "b", "--columns", "name,size_bytes"],
    );
    assert_eq!(show, "name  b\nsize  10 GiB\n");
}

#[test]
fn plain_output_is_exact_and_without_a_header() {
    let place = place();
    let list = text(
        &place,
        &[
            "volume",
            "list",
            "-o",
            "plain",
            "--columns",
            "name,size_bytes",
        ],
    );
    assert_eq!(list, "a\t4096\nb\t10737418240\n");
    let show = text(
        &place,
        &[
            "volume",
            "show",
            "a",
            "-o",
            "plain",
            "--columns",
            "origin_id,name",
        ],
    );
    assert_eq!(show, "\ta\n");
}

#[test]
fn json_lines_are_an_object_each() {
    let place = place();
    let lines = text(&place, &["volume", "list", "-o", "jsonl"]);
    let documents: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[1]["schema"], "volume/1");
    assert_eq!(
        documents[1]["volume"],
        place.json(&["volume", "show", "b"])["volume"]
    );
}

#[test]
fn quiet_output_is_names() {
    let place = place();
    assert_eq!(text(&place, &["volume", "list", "-q"]), "a\nb\n");
    assert_eq!(
        text(&place, &["volume", "create", "c", "--size", "1M", "-q"]),
        "c\n"
    );
    assert_eq!(text(&place, &["volume", "delete", "c", "-y", "-q"]), "");
    let id = text(&place, &["key", "show", "alias/default", "-q"]);
    assert_eq!(id.trim().len(), 36);
}

#[test]
fn contradicting_forms_are_refused() {
    let place = place();
    for args in [
        &["volume", "list", "-o", "plain", "--json"][..],
        &["volume", "list", "--columns", "name"],
        &["volume", "read", "a"],
        &["export", "image", "a", "-"],
    ] {
        place.fails(args, 2, "invalid");
    }
    let wrong = place
        .command(&["volume", "list", "--columns", "nme"])
        .output();
    assert_eq!(wrong.expect("an output").status.code(), Some(2));
    // A wrong column is told before anything is changed.
    let args = ["volume", "create", "z", "--size", "1M", "--columns", "nme"];
    let wrong = place.command(&args).output();
    assert_eq!(wrong.expect("an output").status.code(), Some(2));
    place.fails(&["volume", "show", "z"], 14, "not_found");
}

#[test]
fn errors_are_coloured_only_on_demand() {
    let place = place();
    let stderr = |args: &[&str]| place.command(args).output().expect("an output").stderr;
    assert!(stderr(&["volume", "show", "none"]).starts_with(b"error: "));
    assert!(stderr(&["volume", "show", "none", "--color", "always"]).starts_with(b"\x1b["));
}

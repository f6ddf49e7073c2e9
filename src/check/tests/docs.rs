//! The page that lists all codes.

use std::fmt::Write;

use crate::check::CODES;

#[test]
fn the_codes_are_in_groups_and_have_names() {
    let numbers: Vec<u32> = CODES
        .iter()
        .map(|code| {
            let (number, name) = code.code.split_once(' ').unwrap();
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
            number.strip_prefix("OF-").unwrap().parse().unwrap()
        })
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

/// `UPDATE=1` writes the page anew.
#[test]
fn the_page_of_codes_says_what_the_table_says() {
    let mut table = String::from("| code | class | repair | meaning |\n|---|---|---|---|\n");
    for code in CODES {
        writeln!(
            table,
            "| {} | {} | {} | {} |",
            code.code,
            code.class,
            code.repair.as_str(),
            code.meaning
        )
        .unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fsck-codes.md");
    let page = std::fs::read_to_string(path).unwrap();
    let start = page.find("| code |").unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, format!("{}{table}", &page[..start])).unwrap();
    } else {
        assert!(
            page[start..] == table,
            "run with UPDATE=1 to write the page anew"
        );
    }
}

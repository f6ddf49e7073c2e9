use std::collections::HashSet;
use std::fmt::Write;
use std::fs;

use offshoot::format::LAYOUT;
use offshoot::format::layout::Struct;

use crate::{is_update, project};

const END: &str = "<!-- end -->\n";

/// The table of a struct as the document has it between its markers.
fn table(layout: &Struct) -> String {
    let Struct {
        name,
        meaning,
        len,
        fields,
    } = layout;
    let mut text = format!("`{name}`, {len} bytes. {meaning}\n\n");
    text += "| offset | length | field | meaning |\n|---|---|---|---|\n";
    for field in *fields {
        let (offset, len, name, meaning) = (field.offset, field.len, field.name, field.meaning);
        writeln!(text, "| {offset} | {len} | `{name}` | {meaning} |").expect("a String grows");
    }
    text
}

/// The document with its tables replaced by those of the layout. Names what is missing.
fn with_tables(document: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = document;
    let mut seen = HashSet::new();
    while let Some((before, after)) = rest.split_once("<!-- layout: ") {
        let (name, after) = after.split_once(" -->\n").ok_or("a marker does not end")?;
        let (_, after) = after
            .split_once(END)
            .ok_or(format!("no end after {name}"))?;
        let layout = LAYOUT.iter().find(|layout| layout.name == name);
        let layout = layout.ok_or(format!("{name} is not a struct of the format"))?;
        if !seen.insert(name) {
            return Err(format!("{name} is there twice"));
        }
        write!(
            out,
            "{before}<!-- layout: {name} -->\n{}{END}",
            table(layout)
        )
        .expect("grows");
        rest = after;
    }
    match LAYOUT.iter().find(|layout| !seen.contains(layout.name)) {
        Some(layout) => Err(format!("{} has no table", layout.name)),
        None => Ok(out + rest),
    }
}

#[test]
fn the_tables_of_the_document_are_those_of_the_code() {
    let path = project("docs/format.md");
    let document = fs::read_to_string(&path).expect("docs/format.md");
    let wanted = with_tables(&document).expect("docs/format.md has a table for each struct");
    if is_update() {
        fs::write(&path, &wanted).expect("docs/format.md can be written");
    }
    let document = fs::read_to_string(&path).expect("docs/format.md");
    let differs = document
        .lines()
        .zip(wanted.lines())
        .find(|(is, should)| is != should);
    assert_eq!(differs, None, "run UPDATE=1 cargo test --test format");
    assert!(document == wanted, "run UPDATE=1 cargo test --test format");
}

#[test]
fn the_layout_has_no_gaps() {
    for layout in LAYOUT {
        let mut end = 0;
        for field in layout.fields {
            assert_eq!(field.offset, end, "{}.{}", layout.name, field.name);
            end += field.len;
        }
        assert_eq!(end, layout.len, "{}", layout.name);
    }
}

#[test]
fn a_changed_missing_or_unknown_table_is_noticed() {
    let document = fs::read_to_string(project("docs/format.md")).expect("docs/format.md");
    let changed = document.replace("| 0 | 8 | `magic` |", "| 0 | 9 | `magic` |");
    assert_ne!(with_tables(&changed).as_ref(), Ok(&changed));
    let missing = document.replace("<!-- layout: DiskSalt -->\n", "");
    assert!(with_tables(&missing).is_err());
    let unknown = document.replace("layout: DiskSalt", "layout: DiskPepper");
    assert!(with_tables(&unknown).is_err());
}

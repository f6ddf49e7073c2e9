//! JSON documents as text for people: fields in lines, lists of objects as tables.

use comfy_table::Table;
use serde_json::{Map, Value};

use crate::output::{new_table, space_columns};

/// Longer values are cut in tables; JSON has them in full.
const CELL_CHARS: usize = 48;

/// A document as text, its schema left out.
pub fn text(document: &Value) -> String {
    let Value::Object(fields) = document else {
        return format!("{}\n", cell(document));
    };
    let mut out = String::new();
    for (name, value) in fields.iter().filter(|(name, _)| *name != "schema") {
        match value {
            Value::Object(fields) => object(&mut out, fields),
            Value::Array(items) => list(&mut out, name, items),
            other => out += &format!("{name} {}\n", cell(other)),
        }
    }
    out
}

fn object(out: &mut String, fields: &Map<String, Value>) {
    let mut table = new_table();
    add_rows(&mut table, fields);
    space_columns(&mut table);
    lines(out, &table);
    for (name, value) in fields {
        if let (true, Value::Array(items)) = (is_list(value), value) {
            if !out.is_empty() {
                out.push('\n');
            }
            list(out, name, items);
        }
    }
}

/// A line for each field; those of an object inside among them.
fn add_rows(table: &mut Table, fields: &Map<String, Value>) {
    for (name, value) in fields.iter().filter(|(_, value)| !is_list(value)) {
        match value {
            Value::Object(inner) if !is_slot(inner) => add_rows(table, inner),
            _ => {
                table.add_row([label(name), cell(value)]);
            }
        }
    }
}

/// A table; objects that hold others one below the other.
fn list(out: &mut String, name: &str, items: &[Value]) {
    *out += &format!("{} ({})\n", label(name), items.len());
    let objects: Vec<_> = items.iter().filter_map(Value::as_object).collect();
    let is_nested = |value: &Value| value.as_object().is_some_and(|inner| !is_slot(inner));
    if objects.iter().any(|fields| fields.values().any(is_nested)) {
        for fields in objects {
            out.push('\n');
            object(out, fields);
        }
        return;
    }
    let Some(first) = objects.first() else {
        return;
    };
    let mut table = new_table();
    table.set_header(first.keys().map(|name| label(name).to_uppercase()));
    for fields in &objects {
        table.add_row(first.keys().map(|name| cut(&cell(&fields[name]))));
    }
    space_columns(&mut table);
    lines(out, &table);
}

fn lines(out: &mut String, table: &Table) {
    for line in table.lines() {
        *out += line.trim_end();
        out.push('\n');
    }
}

/// Lists of objects are tables of their own.
fn is_list(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|items| items.iter().all(Value::is_object))
}

fn is_slot(fields: &Map<String, Value>) -> bool {
    fields.len() == 2 && fields.contains_key("segment") && fields.contains_key("slot")
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if is_slot(fields) => {
            format!("{}:{}", fields["segment"], fields["slot"])
        }
        Value::Object(fields) => {
            let known = fields.values().filter(|value| !value.is_null());
            known.map(cell).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Long values, hashes above all, say enough by how they begin.
fn cut(text: &str) -> String {
    let is_hash = text.len() >= 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kept = if is_hash { 12 } else { CELL_CHARS };
    if text.chars().count() <= kept {
        return text.to_owned();
    }
    let kept: String = text.chars().take(kept).collect();
    format!("{kept}...")
}

fn label(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_fields_and_tables() {
        let document = json!({ "schema": "x/1", "x": {
            "page_bytes": 4096,
            "end": { "segment": 1, "slot": 7 },
            "heads": [1, 2],
            "items": [{ "a": null, "b": true }, { "a": "y", "b": false }],
        }});
        let wanted = "\
page bytes  4096
end         1:7
heads       1, 2

items (2)
A  B
-  yes
y  no
";
        assert_eq!(text(&document), wanted);
    }
}

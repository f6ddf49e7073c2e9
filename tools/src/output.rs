//! Standard output: tables, JSON, JSON lines, plain values.
//!
//! Columns are the fields of the JSON form, under the same names. Values in JSON and in plain
//! output are exact; in tables sizes are rounded.

use std::io;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::caller::Caller;
use crate::cli::{Format, Global};
use crate::exit::{Failure, Result};
use crate::sizes;
use crate::stdout::Out;

/// A thing that commands show or list.
pub trait View: Serialize {
    /// The word for one; its schema is this and `/1`.
    const NOUN: &'static str;
    /// The word for several.
    const PLURAL: &'static str;
    /// The schema of a list.
    const LIST: &'static str;
    /// The field that `--quiet` prints.
    const NAME: &'static str = "name";
    /// All fields, in order.
    const FIELDS: &'static [&'static str];
    /// The columns of a list's table.
    const COLUMNS: &'static [&'static str];
}

/// How to print.
#[derive(Clone, Debug)]
pub struct Output {
    format: Format,
    columns: Option<Vec<String>>,
    quiet: bool,
    caller: Caller,
}

impl Output {
    /// As the command line says.
    pub fn new(global: &Global, caller: Caller) -> Result<Self> {
        let format = match (global.json, global.output) {
            (true, None | Some(Format::Json)) => Format::Json,
            (true, Some(_)) => return Err(invalid("--json and another --output contradict")),
            (false, format) => format.unwrap_or(Format::Table),
        };
        let output = Self {
            format,
            columns: global.columns.clone(),
            quiet: global.quiet,
            caller,
        };
        if output.is_json() && output.columns.is_some() {
            return Err(invalid("--columns goes with tables and plain output only"));
        }
        Ok(output)
    }

    /// Where raw bytes go.
    pub fn raw(&self) -> Out {
        Out::to(&self.caller)
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl)
    }

    /// Refuses JSON where standard output is for raw bytes.
    pub fn refuse_json(&self, what: &str) -> Result {
        if self.is_json() {
            return Err(invalid(&format!(
                "{what} writes raw bytes, which have no JSON form"
            )));
        }
        Ok(())
    }

    /// A printer of one kind of thing. Made before the work, so that a wrong column changes
    /// nothing.
    pub fn of<V: View>(&self) -> Result<Printer<'_, V>> {
        for column in self.columns.iter().flatten() {
            if !V::FIELDS.contains(&column.as_str()) {
                let known = V::FIELDS.join(", ");
                return Err(invalid(&format!(
                    "there is no column {column:?}; there are {known}"
                )));
            }
        }
        Ok(Printer {
            output: self,
            view: std::marker::PhantomData,
        })
    }

    /// Prints what was done: its fields in JSON, a sentence in a table.
    pub fn done(&self, schema: &str, fields: &impl Serialize, sentence: &str) -> Result {
        let mut out = self.raw();
        let fields = object(fields)?;
        match self.format {
            Format::Json | Format::Jsonl => {
                let mut document = Map::new();
                document.insert("schema".to_owned(), json!(schema));
                document.extend(fields);
                out.line(&Value::Object(document).to_string())?;
            }
            Format::Plain => {
                let values: Vec<_> = fields.values().map(plain).collect();
                out.line(&values.join("\t"))?;
            }
            Format::Table if self.quiet => {}
            Format::Table => out.line(sentence)?,
        }
        out.finish()
    }

    /// Prints a document of another shape: as it is in JSON, else as a text.
    pub fn document(&self, document: &Value, text: &str) -> Result {
        let mut out = self.raw();
        if self.is_json() {
            out.line(&document.to_string())?;
        } else {
            out.write(text.as_bytes())?;
        }
        out.finish()
    }
}

/// Prints things of one kind.
pub struct Printer<'a, V> {
    output: &'a Output,
    view: std::marker::PhantomData<V>,
}

impl<V: View> Printer<'_, V> {
    /// Prints one thing.
    pub fn show(&self, view: &V) -> Result {
        let mut out = self.output.raw();
        let fields = object(view)?;
        match self.output.format {
            Format::Json | Format::Jsonl => out.line(&one::<V>(fields))?,
            Format::Plain => out.line(&self.row(&fields, V::FIELDS).join("\t"))?,
            Format::Table if self.output.quiet => out.line(&plain(&fields[V::NAME]))?,
            Format::Table => {
                let mut table = new_table();
                for name in self.columns(V::FIELDS) {
                    table.add_row([label(name), human(name, &fields[name])]);
                }
                space_columns(&mut table);
                out.table(&table)?;
            }
        }
        out.finish()
    }

    /// Prints many things as they come.
    pub fn list(&self, views: impl IntoIterator<Item = Result<V>>) -> Result {
        let mut out = self.output.raw();
        let views = views.into_iter();
        match self.output.format {
            Format::Json => self.json_list(&mut out, views)?,
            Format::Jsonl => {
                for view in views {
                    out.line(&one::<V>(object(&view?)?))?;
                }
            }
            Format::Table if self.output.quiet => {
                for view in views {
                    out.line(&plain(&object(&view?)?[V::NAME]))?;
                }
            }
            Format::Plain => {
                for view in views {
                    out.line(&self.row(&object(&view?)?, V::COLUMNS).join("\t"))?;
                }
            }
            Format::Table => self.table_list(&mut out, views)?,
        }
        out.finish()
    }

    fn json_list(&self, out: &mut Out, views: impl Iterator<Item = Result<V>>) -> Result {
        let (schema, plural) = (json!(V::LIST), json!(V::PLURAL));
        out.write(format!("{{\"schema\":{schema},{plural}:[").as_bytes())?;
        for (index, view) in views.enumerate() {
            let item = Value::Object(object(&view?)?);
            let separator = if index == 0 { "" } else { "," };
            out.write(format!("{separator}{item}").as_bytes())?;
        }
        out.line("]}")
    }

    fn table_list(&self, out: &mut Out, views: impl Iterator<Item = Result<V>>) -> Result {
        let names = self.columns(V::COLUMNS);
        let mut table = new_table();
        table.set_header(names.iter().map(|name| label(name).to_uppercase()));
        for (column, name) in table.column_iter_mut().zip(&names) {
            if name.ends_with("_bytes") || matches!(*name, "depth" | "version") {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for view in views {
            let fields = object(&view?)?;
            table.add_row(names.iter().map(|name| human(name, &fields[*name])));
        }
        space_columns(&mut table);
        out.table(&table)
    }

    fn row(&self, fields: &Map<String, Value>, standard: &[&str]) -> Vec<String> {
        self.columns(standard)
            .into_iter()
            .map(|name| plain(&fields[name]))
            .collect()
    }

    fn columns<'b>(&'b self, standard: &[&'b str]) -> Vec<&'b str> {
        match &self.output.columns {
            Some(columns) => columns.iter().map(String::as_str).collect(),
            None => standard.to_vec(),
        }
    }
}

fn one<V: View>(fields: Map<String, Value>) -> String {
    let mut document = Map::new();
    document.insert("schema".to_owned(), json!(format!("{}/1", V::NOUN)));
    document.insert(V::NOUN.to_owned(), Value::Object(fields));
    Value::Object(document).to_string()
}

fn object(view: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(view) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => unreachable!("BUG: a view is an object, not {other}"),
        Err(error) => Err(Failure::io(
            "print",
            "this as JSON",
            io::Error::other(error),
        )),
    }
}

/// A table without lines.
pub fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// Two blanks between columns, none before the first.
pub fn space_columns(table: &mut Table) {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
}

fn label(field: &str) -> String {
    field
        .strip_suffix("_bytes")
        .unwrap_or(field)
        .replace('_', " ")
}

fn human(field: &str, value: &Value) -> String {
    match value {
        Value::Number(bytes) if field.ends_with("_bytes") => bytes
            .as_u64()
            .map_or_else(|| bytes.to_string(), sizes::human),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "-".to_owned(),
        other => plain(other),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn invalid(text: &str) -> Failure {
    Failure::Invalid(text.to_owned())
}

//! `inspect ...`: what is on disk, decoded.

use offshoot::format::LAYOUT;
use offshoot::format::layout::Struct;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Result;

/// Look at what is on disk
#[derive(clap::Args, Debug)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Example:\n  offshoot inspect --layout")]
pub struct Args {
    /// Print the structs of the disk format
    #[arg(long)]
    layout: bool,
}

/// Runs the command.
pub fn run(context: &Context, _args: &Args) -> Result {
    let structs: Vec<_> = LAYOUT.iter().map(layout_document).collect();
    let document = json!({ "schema": "layout/1", "structs": structs });
    let text: Vec<_> = LAYOUT.iter().map(layout_text).collect();
    context.output.document(&document, &text.join("\n"))
}

fn layout_document(it: &Struct) -> Value {
    let fields = it.fields.iter().map(|field| {
        json!({
            "name": field.name,
            "offset_bytes": field.offset,
            "length_bytes": field.len,
            "meaning": field.meaning,
        })
    });
    let fields: Vec<_> = fields.collect();
    json!({ "name": it.name, "meaning": it.meaning, "length_bytes": it.len, "fields": fields })
}

fn layout_text(it: &Struct) -> String {
    let mut text = format!("{}, {} bytes: {}\n", it.name, it.len, it.meaning);
    let width = it
        .fields
        .iter()
        .map(|field| field.name.len())
        .max()
        .unwrap_or_default();
    for field in it.fields {
        let (name, offset, len) = (field.name, field.offset, field.len);
        text += &format!("{offset:6} {len:6}  {name:width$}  {}\n", field.meaning);
    }
    text
}

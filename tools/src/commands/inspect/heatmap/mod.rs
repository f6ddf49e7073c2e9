//! `inspect heatmap`: what the slots of all files are used for, as text and as a picture.

mod svg;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use offshoot::check::inspect::{self, FileKind, FileMap, HeatmapView};
use serde_json::{Value, json};

use crate::commands::export::replace;
use crate::commands::inspect::documents::{problems, slot_counts};
use crate::commands::offline::Offline;
use crate::context::Context;
use crate::exit::{Failure, Result};

/// More cells make a picture that nobody can look at.
const CELLS_MAX: usize = 100_000;

/// What the slots of all files are used for: segments, packs, spares
///
/// Own and shared are pages that one, or more than one, volume or snapshot has; nodes are those of page
/// tables, log is what an open may read. Waiting died since the last checkpoint, or lies below what cannot be
/// read; dead is needed by nothing; free was never written, or was given back. The newest batch tells how old a
/// file is.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  offshoot inspect heatmap
  offshoot inspect heatmap --svg store.svg
  offshoot inspect heatmap --cell-slots 256 --svg store.svg --force")]
pub struct Heatmap {
    /// Draw a picture into a file, or to standard output (-)
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Replace the file
    #[arg(long, requires = "svg")]
    force: bool,
    /// Slots (4 KiB) of a cell, 16 or more; without it a cell is a whole file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..))]
    cell_slots: Option<u32>,
}

/// The map as JSON and as text.
pub fn view(store: &Offline<'_>, args: &Heatmap) -> Result<(Value, String)> {
    let view = look(store, args)?;
    Ok((document(&view), text::draw(&view)))
}

/// Draws the map into a file.
pub fn picture(context: &Context, store: &Offline<'_>, args: &Heatmap, path: &Path) -> Result {
    let view = look(store, args)?;
    let cells: usize = view.files.iter().map(|file| file.cells.len()).sum();
    if cells > CELLS_MAX {
        let text = format!("{cells} cells are too many for a picture: take more --cell-slots");
        return Err(Failure::Invalid(text));
    }
    let picture = svg::draw(&view);
    if path == Path::new("-") {
        context.output.refuse_json("a picture on standard output")?;
        let mut out = context.output.raw();
        out.write(picture.as_bytes())?;
        return out.finish();
    }
    save(path, args.force, &picture)?;
    let file = path.display().to_string();
    let sentence = format!("{cells} cells drawn into {file}");
    let drawn = json!({ "file": file, "cells": cells });
    context.output.done("heatmap-drawn/1", &drawn, &sentence)
}

fn look(store: &Offline<'_>, args: &Heatmap) -> Result<HeatmapView> {
    let cell_slots = args.cell_slots.unwrap_or(0);
    Ok(inspect::heatmap(&store.disk, store.kms(), cell_slots)?)
}

fn save(path: &Path, force: bool, picture: &str) -> Result {
    if path.exists() && !force {
        let text = format!("{} exists: --force replaces it", path.display());
        return Err(Failure::AlreadyExists(text));
    }
    let written = replace(path, force, 0, |mut file| {
        let written = file.write_all(picture.as_bytes());
        written.map_err(|error| Failure::io("write", path.display(), error))?;
        Ok(picture.len() as u64)
    });
    written.map(drop)
}

fn document(it: &HeatmapView) -> Value {
    json!({ "schema": "heatmap/1", "heatmap": {
        "cell_slots": it.cell_slots,
        "seq": it.seq.0,
        "total": slot_counts(&it.total),
        "files": it.files.iter().map(file).collect::<Vec<_>>(),
        "problems": problems(&it.problems),
    }})
}

fn file(it: &FileMap) -> Value {
    let cells = it
        .cells
        .iter()
        .map(|cell| json!({ "first_slot": cell.first, "slots": slot_counts(&cell.slots) }));
    json!({
        "name": it.name,
        "kind": kind(it.kind),
        "allocated_bytes": it.allocated_len,
        "newest_seq": it.newest.map(|seq| seq.0),
        "slots": slot_counts(&it.total),
        "cells": cells.collect::<Vec<_>>(),
    })
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Segment => "segment",
        FileKind::Pack => "pack",
        FileKind::Spare => "spare",
    }
}

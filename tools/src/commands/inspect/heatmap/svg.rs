//! The map as a picture: one self-contained SVG, for light and dark surroundings.
//!
//! A cell is filled from the bottom with the share of each use; the bar below it is the longer the newer
//! its newest batch is. Whoever points at a cell is told the figures.

use std::fmt::Write;

use offshoot::check::inspect::{CellView, FileKind, FileMap, HeatmapView};

use super::text::{all, parts, shares};

/// Sizes in pixels: a cell with the bar below it, and what lies between cells.
const SIDE: u64 = 28;
const AGE: u64 = 4;
const GAP: u64 = 4;
const STEP: u64 = SIDE + GAP;
const ROW: u64 = SIDE + AGE + GAP + 4;
const MARGIN: u64 = 16;
/// Cells in a row.
const COLUMNS: u64 = 32;
const WIDTH: u64 = 2 * MARGIN + COLUMNS * STEP;

/// Colours of the parts, in their order: told apart with any eyes, on white and on black ("Color Universal
/// Design", Okabe and Ito).
const STYLE: &str = "\
svg{--back:#fff;--ink:#222;--line:#bbb;--free:#f4f4f4;--dead:#9a9a9a;--header:#555}
@media (prefers-color-scheme:dark){svg{--back:#16181c;--ink:#ddd;--line:#555;--free:#23262b;--dead:#6b6b6b;--header:#bbb}}
.back{fill:var(--back)}text{fill:var(--ink);font:13px system-ui,sans-serif}.small{font-size:11px}
.frame{fill:var(--free);stroke:var(--line)}.age{fill:var(--ink)}.track{fill:var(--line)}
.p0{fill:#0072b2}.p1{fill:#56b4e9}.p2{fill:#009e73}.p3{fill:#f0e442}.p4{fill:var(--header)}.p5{fill:#e69f00}
.p6{fill:var(--dead)}.p7{fill:var(--free)}";

/// Draws the map.
pub fn draw(view: &HeatmapView) -> String {
    let mut body = String::new();
    let mut y = MARGIN;
    heading(&mut body, view, &mut y);
    let ages = ages(view);
    for (kind, title) in [
        (FileKind::Segment, "Segments"),
        (FileKind::Pack, "Packs"),
        (FileKind::Spare, "Spares"),
    ] {
        let files = view.files.iter().filter(|file| file.kind == kind);
        let files: Vec<_> = files.collect();
        if !files.is_empty() {
            group(&mut body, &files, title, ages, &mut y);
        }
    }
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-labelledby=\"title about\">\n\
         <title id=\"title\">What the slots of a store are used for</title>\n\
         <desc id=\"about\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"back\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n",
        escape(&shares(&view.total)),
    )
}

/// The oldest and the newest batch.
fn ages(view: &HeatmapView) -> (u64, u64) {
    let ages = view.files.iter().filter_map(|file| file.newest);
    (ages.min().map_or(0, |seq| seq.0), view.seq.0)
}

fn heading(body: &mut String, view: &HeatmapView, y: &mut u64) {
    *y += 16;
    line(
        body,
        MARGIN,
        *y,
        "",
        "What the slots of the store are used for",
    );
    *y += 18;
    line(body, MARGIN, *y, "small", &shares(&view.total));
    if !view.problems.is_empty() {
        *y += 16;
        let count = view.problems.len();
        let text = format!(
            "{count} places could not be read: what lies below them is waiting or dead here"
        );
        line(body, MARGIN, *y, "small", &text);
    }
    *y += 12;
    let mut x = MARGIN;
    for (index, (name, _, _)) in parts(&view.total).into_iter().enumerate() {
        let _ = writeln!(
            body,
            "<rect class=\"frame\" x=\"{x}\" y=\"{y}\" width=\"14\" height=\"14\"/>\
             <rect class=\"p{index}\" x=\"{x}\" y=\"{y}\" width=\"14\" height=\"14\"/>"
        );
        line(body, x + 20, *y + 12, "small", name);
        x += 100;
    }
    let _ = writeln!(
        body,
        "<rect class=\"track\" x=\"{x}\" y=\"{0}\" width=\"28\" height=\"{AGE}\"/>\
         <rect class=\"age\" x=\"{x}\" y=\"{0}\" width=\"20\" height=\"{AGE}\"/>",
        *y + 5
    );
    line(
        body,
        x + 34,
        *y + 12,
        "small",
        "newest batch: the longer, the newer",
    );
    *y += 26;
}

fn group(body: &mut String, files: &[&FileMap], title: &str, ages: (u64, u64), y: &mut u64) {
    *y += 16;
    line(body, MARGIN, *y, "", &format!("{title} ({})", files.len()));
    *y += 8;
    let mut column = 0;
    let cells = files
        .iter()
        .flat_map(|file| file.cells.iter().map(move |cell| (file, cell)));
    for (file, it) in cells {
        if column == COLUMNS {
            column = 0;
            *y += ROW;
        }
        cell(body, file, it, ages, (MARGIN + column * STEP, *y));
        column += 1;
    }
    *y += ROW;
}

fn cell(body: &mut String, file: &FileMap, cell: &CellView, ages: (u64, u64), at: (u64, u64)) {
    let (x, y) = at;
    let count = all(&cell.slots);
    let newest = file
        .newest
        .map_or_else(String::new, |seq| format!("; newest batch {seq}"));
    let last = (u64::from(cell.first) + count).saturating_sub(1);
    let _ = write!(
        body,
        "<g><title>{} slots {} to {last}: {}{newest}</title>\
         <rect class=\"frame\" x=\"{x}\" y=\"{y}\" width=\"{SIDE}\" height=\"{SIDE}\"/>",
        file.name,
        cell.first,
        escape(&shares(&cell.slots)),
    );
    let mut bottom = 0.0;
    for (index, (_, _, slots)) in parts(&cell.slots).into_iter().enumerate() {
        if slots == 0 || count == 0 {
            continue;
        }
        let height = slots as f64 * SIDE as f64 / count as f64;
        let top = y as f64 + SIDE as f64 - bottom - height;
        bottom += height;
        let _ = write!(
            body,
            "<rect class=\"p{index}\" x=\"{x}\" y=\"{top:.2}\" width=\"{SIDE}\" height=\"{height:.2}\"/>"
        );
    }
    if let Some(newest) = file.newest {
        let (oldest, end) = ages;
        let span = end.saturating_sub(oldest).max(1) as f64;
        let share = newest.0.saturating_sub(oldest) as f64 / span;
        // The oldest is a dot, not nothing.
        let width = (share * SIDE as f64).clamp(2.0, SIDE as f64);
        let y = y + SIDE + 2;
        let _ = write!(
            body,
            "<rect class=\"track\" x=\"{x}\" y=\"{y}\" width=\"{SIDE}\" height=\"{AGE}\"/>\
             <rect class=\"age\" x=\"{x}\" y=\"{y}\" width=\"{width:.1}\" height=\"{AGE}\"/>"
        );
    }
    body.push_str("</g>\n");
}

/// Text as it may stand in XML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn line(body: &mut String, x: u64, y: u64, class: &str, text: &str) {
    let text = escape(text);
    let _ = writeln!(
        body,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>"
    );
}

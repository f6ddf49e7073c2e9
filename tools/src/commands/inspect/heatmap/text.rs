//! The map as text: a line for each file.

use offshoot::check::inspect::{CellView, FileMap, HeatmapView, SlotCounts};

/// Signs of a bar, and of a line of cells.
const BAR_LEN: u64 = 40;
const LINE_LEN: usize = 64;

/// Draws the map.
pub fn draw(view: &HeatmapView) -> String {
    let mut text = String::new();
    let signs = parts(&SlotCounts::default());
    let legend: Vec<_> = signs
        .iter()
        .map(|part| format!("{} {}", part.1, part.0))
        .collect();
    text += &format!("{}\n\n", legend.join("   "));
    let width = view.files.iter().map(|file| file.name.len()).max();
    for file in &view.files {
        text += &line(file, width.unwrap_or(0));
    }
    text += &format!("\nall files: {}\n", shares(&view.total));
    for problem in &view.problems {
        text += &format!("not read: {}: {}\n", problem.place, problem.message);
    }
    text
}

fn line(file: &FileMap, width: usize) -> String {
    let name = format!("{:width$}", file.name);
    let newest = file
        .newest
        .map_or_else(String::new, |seq| format!("; newest batch {seq}"));
    let about = format!("{}{newest}", shares(&file.total));
    match file.cells.as_slice() {
        [cell] => format!("{name}  {}  {about}\n", bar(&cell.slots)),
        cells => {
            let mut text = format!("{name}  {about}\n");
            for cells in cells.chunks(LINE_LEN) {
                let signs: String = cells.iter().map(most).collect();
                text += &format!("  {signs}\n");
            }
            text
        }
    }
}

type Part = (&'static str, char, u64);

/// What slots are used for, what it is drawn with, and how many there are.
pub(super) fn parts(slots: &SlotCounts) -> [Part; 8] {
    // Pages and nodes are counted with those that are shared; which of both these are is not known.
    let live = slots.pages.saturating_sub(slots.shared);
    let excess = slots.shared.saturating_sub(slots.pages);
    [
        ("own pages", '#', live),
        ("shared", '=', slots.shared),
        ("nodes", 'n', slots.nodes.saturating_sub(excess)),
        ("log", 'l', slots.log),
        ("header", 'h', slots.header),
        ("waiting", 'w', slots.waiting),
        ("dead", 'x', slots.dead),
        ("free", '.', slots.free),
    ]
}

/// All slots that are counted.
pub(super) fn all(slots: &SlotCounts) -> u64 {
    parts(slots).iter().map(|part| part.2).sum()
}

/// A bar in which each use has its share: what is there at all has a sign, if there is room.
fn bar(slots: &SlotCounts) -> String {
    let all = all(slots);
    let (mut text, mut done, mut drawn) = (String::new(), 0, 0);
    for (_, sign, count) in parts(slots) {
        done += count;
        let end = (done * BAR_LEN).checked_div(all).unwrap_or(0);
        let end = end.max(drawn + u64::from(count > 0)).min(BAR_LEN);
        text.extend(std::iter::repeat_n(sign, (end - drawn) as usize));
        drawn = end;
    }
    format!("{text:40}")
}

/// The sign of what most slots of a cell are used for.
fn most(cell: &CellView) -> char {
    let parts = parts(&cell.slots);
    let most = parts.iter().max_by_key(|part| part.2);
    most.map_or(' ', |part| part.1)
}

/// The shares of all uses, in percent.
pub(super) fn shares(slots: &SlotCounts) -> String {
    let all = all(slots);
    let shares = parts(slots).into_iter().filter(|part| part.2 > 0);
    let shares = shares.map(|(name, _, count)| match (count * 100).checked_div(all) {
        Some(0) | None => format!("{name} < 1 %"),
        Some(share) => format!("{name} {share} %"),
    });
    shares.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_a_sign_for_all_that_is_there() {
        let slots = SlotCounts {
            header: 1,
            pages: 500,
            nodes: 3,
            shared: 100,
            dead: 10,
            free: 486,
            ..SlotCounts::default()
        };
        let bar = bar(&slots);
        assert_eq!(bar.chars().count(), 40);
        for sign in "#=nhx.".chars() {
            assert!(bar.contains(sign), "{bar}");
        }
        assert!(!bar.contains('w') && !bar.contains('l'));
        assert_eq!(all(&slots), 1000);
        assert!(shares(&slots).starts_with("own pages 40 %, shared 10 %, nodes < 1 %"));
    }
}

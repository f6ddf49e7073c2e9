//! Whether the tables count as live just what page tables name.

use crate::check::codes;
use crate::check::finding::Findings;
use crate::check::image::Image;
use crate::slots::SlotSet;
use crate::units::SlotAddr;

/// All that heads name is live by the tables. What was written after those is not in them.
pub(super) fn check_named(image: &Image<'_>, named: &SlotSet, findings: &mut Findings) {
    let live = &image.state.live;
    let log_from = image.start.end;
    let mut missing = named.clone();
    missing.subtract(live);
    let before = missing.iter().filter(|&at| at < log_from);
    for (at, count) in runs(before) {
        let message = format!(
            "it and {} slots after it are named by page tables",
            count - 1
        );
        findings.add(codes::SLOT_NOT_LIVE, at, message);
    }
}

/// All that is live by the tables is named.
pub(super) fn check_leaks(image: &Image<'_>, named: &SlotSet, findings: &mut Findings) {
    if is_settled(image) {
        let mut leaked = image.state.live.clone();
        leaked.subtract(named);
        for (at, count) in runs(leaked.iter()) {
            let message = format!("it and {} slots after it are named by nothing", count - 1);
            findings.add(codes::SLOT_LEAKED, at, message);
        }
    }
}

/// Whether all that is live in the tables is named: a deleted head still has its slots, and the log may
/// have let go of some.
fn is_settled(image: &Image<'_>) -> bool {
    image.log_batches == 0 && !image.state.heads.values().any(|head| head.is_deleted())
}

/// Whether the tables count as many live pages and nodes as they count live slots. Where both can be
/// compared with what is named, this says nothing more, and not which of the two is wrong.
pub(super) fn check_sum(image: &Image<'_>, counted: (u64, u64), findings: &mut Findings) {
    let (pages, nodes) = counted;
    let page_slots = u64::from(image.superblock.geometry.page_slots());
    let slots = pages.saturating_mul(page_slots).saturating_add(nodes);
    let live = image.state.live.len();
    if slots != live && !is_settled(image) {
        let message = format!("{pages} pages and {nodes} nodes are live, and {live} slots");
        findings.add(codes::SLOT_COUNT, "the tables".to_owned(), message);
    }
}

/// Slots that follow each other, as first slots and numbers.
fn runs(slots: impl Iterator<Item = SlotAddr>) -> Vec<(SlotAddr, u32)> {
    let mut runs: Vec<(SlotAddr, u32)> = Vec::new();
    for at in slots {
        match runs.last_mut() {
            Some((first, count))
                if first.segment == at.segment && first.slot + *count == at.slot =>
            {
                *count += 1;
            }
            _ => runs.push((at, 1)),
        }
    }
    runs
}

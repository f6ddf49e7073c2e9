//! Lineage epochs as a drawn tree, with the heads and key epochs of each.

use std::collections::{BTreeMap, BTreeSet};

use offshoot::LineageEpoch;
use offshoot::check::inspect::{KeyEpochView, LineageView};

/// A lineage epoch on its way into the drawing: for each level above it and its own, whether it is the last
/// of its siblings.
type Waiting = (LineageEpoch, Vec<bool>);

/// Draws the tree, a line for each lineage epoch. Without recursion: a store may have thousands of levels.
pub fn draw(view: &LineageView) -> String {
    let epochs = &view.lineage_epochs;
    let known: BTreeSet<_> = epochs.iter().map(|epoch| epoch.lineage).collect();
    let mut children: BTreeMap<Option<LineageEpoch>, Vec<LineageEpoch>> = BTreeMap::new();
    for epoch in epochs {
        // Where the parent is lost, a tree begins. A parent has a lesser number, so this cannot go round.
        let parent = epoch
            .parent
            .filter(|parent| known.contains(parent) && *parent < epoch.lineage);
        children.entry(parent).or_default().push(epoch.lineage);
    }
    let by_id: BTreeMap<_, _> = epochs.iter().map(|epoch| (epoch.lineage, epoch)).collect();
    let roots = children.remove(&None).unwrap_or_default();
    let mut waiting: Vec<Waiting> = roots.into_iter().rev().map(|id| (id, Vec::new())).collect();
    let mut text = String::new();
    while let Some((id, lasts)) = waiting.pop() {
        let what = if lasts.is_empty() {
            "lineage epoch "
        } else {
            ""
        };
        text += &format!("{}{what}{id}", branch(&lasts));
        if by_id.get(&id).is_some_and(|epoch| epoch.changed) {
            text += " changed";
        }
        let keys = view.key_epochs.iter().filter(|key| key.lineage == id);
        let keys: Vec<_> = keys.map(key).collect();
        if !keys.is_empty() {
            text += &format!("; key epoch {}", keys.join(", "));
        }
        let heads = view.heads.iter().filter(|head| head.lineage == id);
        let heads: Vec<_> = heads
            .map(|head| match head.state {
                "available" => format!("{} {}", head.kind, head.name),
                state => format!("{} {} ({state})", head.kind, head.name),
            })
            .collect();
        if !heads.is_empty() {
            text += &format!("; {}", heads.join(", "));
        }
        text.push('\n');
        let below = children.remove(&Some(id)).unwrap_or_default();
        for (index, child) in below.iter().enumerate().rev() {
            let mut lasts = lasts.clone();
            lasts.push(index + 1 == below.len());
            waiting.push((*child, lasts));
        }
    }
    text
}

/// A key epoch, and those whose keys it wraps.
fn key(epoch: &KeyEpochView) -> String {
    let links = epoch.above.iter().chain(&epoch.far);
    let links: Vec<_> = links.map(ToString::to_string).collect();
    match links.is_empty() {
        true => epoch.key_epoch.to_string(),
        false => format!("{} -> {}", epoch.key_epoch, links.join(" and ")),
    }
}

fn branch(lasts: &[bool]) -> String {
    let Some((own, above)) = lasts.split_last() else {
        return String::new();
    };
    let above = above.iter().map(|last| if *last { "   " } else { "│  " });
    let own = if *own { "└─ " } else { "├─ " };
    above.chain([own]).collect()
}

//! What the records of the catalog must say of each other.

use std::collections::{BTreeMap, HashMap};

use crate::check::codes;
use crate::check::finding::Findings;
use crate::check::forest::Forest;
use crate::check::image::Image;
use crate::check::state::{Head, State};
use crate::format::catalog::{HeadKind, KeyEpochRecord};
use crate::format::superblock::Superblock;
use crate::units::KeyEpoch;

/// The forest of lineage epochs.
pub(super) fn lineage_forest(state: &State) -> Forest {
    let parents: BTreeMap<_, _> = state
        .lineages
        .values()
        .map(|record| (record.lineage.0, record.parent.map(|parent| parent.0)))
        .collect();
    Forest::new(&parents)
}

/// Whether the ids in the tables are below those that come next.
pub(super) fn check_next_ids(state: &State, superblock: &Superblock, findings: &mut Findings) {
    let next = &superblock.next;
    let head = state.heads.keys().next_back().copied();
    let lineage = state.lineages.keys().next_back().copied();
    let key_epoch = state.key_epochs.keys().next_back().copied();
    let rules = [
        (head.is_none_or(|id| id < next.head), "head"),
        (lineage.is_none_or(|id| id < next.lineage), "lineage epoch"),
        (key_epoch.is_none_or(|id| id < next.key_epoch), "key epoch"),
    ];
    for (holds, what) in rules {
        if !holds {
            let location = format!("superblock {}", superblock.generation);
            let message = format!("the number it gives the next {what} is in use");
            findings.add(codes::NEXT_ID_USED, location, message);
        }
    }
}

/// Compares all records with each other.
pub(super) fn check(image: &Image<'_>, lineages: &Forest, findings: &mut Findings) {
    let state = &image.state;
    check_lineages(state, findings);
    check_key_epochs(state, lineages, findings);
    check_heads(image, lineages, findings);
    for &at in state.salts.keys() {
        let slots = image.superblock.geometry.segment_slots;
        // Those of segments that are gone are forgotten a little later than these.
        let existed = at.segment.0 > 0 && at.segment <= image.end.end.segment;
        if !existed || at.slot == 0 || at.slot >= slots {
            findings.add(codes::SALT_RECORD, at, "a salt is for slots that are not");
        }
    }
}

fn check_lineages(state: &State, findings: &mut Findings) {
    for record in state.lineages.values() {
        // A parent has a lesser number or the record does not decode: there are no cycles.
        if let Some(parent) = record.parent
            && !state.lineages.contains_key(&parent)
        {
            let location = format!("lineage epoch {}", record.lineage);
            let message = format!("its parent {parent} does not exist");
            findings.add(codes::LINEAGE_PARENT_MISSING, location, message);
        }
    }
}

fn check_key_epochs(state: &State, lineages: &Forest, findings: &mut Findings) {
    let parents: BTreeMap<_, _> = state
        .key_epochs
        .values()
        .map(|record| (record.key_epoch.0, record.above.map(|link| link.to.0)))
        .collect();
    let forest = Forest::new(&parents);
    for record in state.key_epochs.values() {
        let location = format!("key epoch {}", record.key_epoch);
        if !lineages.contains(record.lineage.0) {
            let message = format!("its lineage epoch {} does not exist", record.lineage);
            findings.add(codes::KEY_EPOCH_LINEAGE_MISSING, &location, message);
        }
        let above = record.above.map(|link| link.to);
        let far = record.far.map(|link| link.to);
        for to in above.into_iter().chain(far) {
            if !state.key_epochs.contains_key(&to) {
                let message = format!("it links key epoch {to}, which does not exist");
                findings.add(codes::KEY_EPOCH_LINK_MISSING, &location, message);
            }
        }
        check_above(state, record, above, lineages, findings);
        if let Some(far) = far
            && forest.contains(far.0)
            && !forest.is_above(far.0, record.key_epoch.0)
        {
            let message = format!("key epoch {far} is no ancestor of it");
            findings.add(codes::KEY_EPOCH_FAR, &location, message);
        }
    }
}

fn check_above(
    state: &State,
    record: &KeyEpochRecord,
    above: Option<KeyEpoch>,
    lineages: &Forest,
    findings: &mut Findings,
) {
    let location = format!("key epoch {}", record.key_epoch);
    let above = above.map(|to| state.key_epochs.get(&to));
    // Key epochs that nothing needs any more were dropped, at the top and in between.
    let is_deeper = match above {
        None => true,
        Some(Some(above)) => above.depth < record.depth,
        Some(None) => return,
    };
    if !is_deeper {
        let message = format!("its depth is {}", record.depth);
        findings.add(codes::KEY_EPOCH_DEPTH, &location, message);
    }
    if let Some(Some(above)) = above
        && lineages.contains(record.lineage.0)
        && lineages.contains(above.lineage.0)
        && !lineages.is_above(above.lineage.0, record.lineage.0)
    {
        let message = format!("key epoch {} is of another branch", above.key_epoch);
        findings.add(codes::KEY_EPOCH_ABOVE_ELSEWHERE, &location, message);
    }
}

fn check_heads(image: &Image<'_>, lineages: &Forest, findings: &mut Findings) {
    let mut names = HashMap::new();
    let mut resources = HashMap::new();
    for head in image.state.heads.values() {
        let record = &head.record;
        let place = head.place();
        let is_number = record.head.0 != 0 && record.head.0 != u32::MAX;
        let is_whole = record.len % u64::from(image.superblock.geometry.page_len) == 0;
        // Only volumes are made from nothing.
        let is_made = record.kind == HeadKind::Volume || record.origin_id.is_some();
        if !is_made {
            let message = "a snapshot or pin that was made from nothing";
            findings.add(codes::HEAD_RECORD, place.clone(), message);
        }
        if !is_number || !is_whole {
            let message = format!("number {}, {} bytes", record.head, record.len);
            findings.add(codes::HEAD_RECORD, place.clone(), message);
        }
        if let Some(other) = resources.insert(record.resource_id, record.head) {
            let message = format!("head {other} has its resource id {}", record.resource_id);
            findings.add(codes::RESOURCE_ID_DUPLICATE, place.clone(), message);
        }
        if head.is_deleted() {
            // It is removed from its lineage epoch; its key epoch may be gone before.
            if !lineages.contains(record.lineage.0) {
                let message = format!("lineage epoch {} does not exist", record.lineage);
                findings.add(codes::HEAD_LINEAGE_MISSING, place, message);
            }
            continue;
        }
        if let Some(other) = names.insert((record.kind, &record.name), record.head) {
            let message = format!("head {other} has that name, too");
            findings.add(codes::NAME_DUPLICATE, place.clone(), message);
        }
        check_epochs_of(head, &image.state, lineages, findings);
    }
}

fn check_epochs_of(head: &Head, state: &State, lineages: &Forest, findings: &mut Findings) {
    let record = &head.record;
    let place = head.place();
    if !lineages.contains(record.lineage.0) {
        let message = format!("lineage epoch {} does not exist", record.lineage);
        findings.add(codes::HEAD_LINEAGE_MISSING, place.clone(), message);
    }
    match state.lineage_of(record.key_epoch) {
        None => {
            let message = format!("key epoch {} does not exist", record.key_epoch);
            findings.add(codes::HEAD_KEY_EPOCH_MISSING, place.clone(), message);
        }
        Some(lineage) => {
            let known = lineages.contains(lineage.0) && lineages.contains(record.lineage.0);
            if known && lineage != record.lineage {
                let message = format!("key epoch {} is of another epoch", record.key_epoch);
                findings.add(codes::HEAD_KEY_EPOCH_ELSEWHERE, place.clone(), message);
            }
        }
    }
}

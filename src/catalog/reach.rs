//! Who can unwrap the key epochs of a head: by the links from its own open epoch upwards.

use std::collections::HashMap;

use crate::catalog::state::Catalog;
use crate::format::catalog::HeadState;
use crate::units::{HeadId, KeyEpoch};

/// The key epochs of a head, and which others open them.
#[derive(Debug)]
pub struct Reach {
    /// Its key epochs, from the open one upwards.
    pub line: Vec<KeyEpoch>,
    /// Other heads that open some: from that index of the line on, all.
    pub others: Vec<(HeadId, usize)>,
    /// So many epochs, from the open one on, no other head opens.
    pub private: usize,
    /// Deleted heads whose keys open some of these.
    pub deleted: Vec<HeadId>,
}

/// Where a line of key epochs meets that of the head in question.
type Meeting = Option<usize>;

/// Who can unwrap the key epochs of a head, which may be deleted.
pub fn reach(catalog: &Catalog, head: HeadId) -> Reach {
    let open = catalog.any_head(head).map(|head| head.record.key_epoch);
    let line: Vec<KeyEpoch> = above(catalog, open).collect();
    let mut known: HashMap<KeyEpoch, Meeting> = HashMap::new();
    known.extend(
        line.iter()
            .enumerate()
            .map(|(index, &id)| (id, Some(index))),
    );
    let (mut others, mut dead) = (Vec::new(), Vec::new());
    for other in catalog.heads().filter(|other| other.record.head != head) {
        let open = other.record.key_epoch;
        let meeting = meet(catalog, open, &mut known);
        let is_deleted = other.record.state == HeadState::Deleted;
        match meeting {
            Some(index) if is_deleted => dead.push((other.record.head, index)),
            Some(index) => others.push((other.record.head, index)),
            // Of an epoch without a record nobody knows what it leads to.
            None if is_deleted && catalog.key_epoch(open).is_none() => {
                dead.push((other.record.head, 0));
            }
            None => {}
        }
    }
    others.sort_unstable_by_key(|&(head, index)| (index, head));
    let private = others.first().map_or(line.len(), |&(_, index)| index);
    let opens_private = dead.into_iter().filter(|&(_, index)| index < private);
    Reach {
        deleted: opens_private.map(|(head, _)| head).collect(),
        line,
        others,
        private,
    }
}

/// A key epoch and those above it.
fn above(catalog: &Catalog, open: Option<KeyEpoch>) -> impl Iterator<Item = KeyEpoch> + '_ {
    // Links go to lesser numbers, so this ends.
    std::iter::successors(open, |id| Some(catalog.key_epoch(*id)?.above?.to))
}

/// The first epoch of the line at or above `open`. Each epoch is looked at once in all.
fn meet(catalog: &Catalog, open: KeyEpoch, known: &mut HashMap<KeyEpoch, Meeting>) -> Meeting {
    let mut way = Vec::new();
    let mut meeting = None;
    for id in above(catalog, Some(open)) {
        if let Some(&found) = known.get(&id) {
            meeting = found;
            break;
        }
        way.push(id);
    }
    known.extend(way.into_iter().map(|id| (id, meeting)));
    meeting
}

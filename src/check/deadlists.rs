//! What the tables say of pages and nodes that some heads let go of and others still reach.

use crate::check::claims::Claims;
use crate::check::codes::{self, Code};
use crate::check::finding::Findings;
use crate::check::forest::Forest;
use crate::check::image::Image;
use crate::format::slots::{Bucket, SlotsPurpose, SlotsRecord};
use crate::units::SlotAddr;

/// Checks what can be told of deadlists without making them anew: their epochs, and that their items are live and of
/// their kind.
pub(super) fn check(
    image: &Image<'_>,
    lineages: &Forest,
    claims: &Claims,
    findings: &mut Findings,
) {
    for (record, at) in &image.state.dead {
        let why = match record.purpose {
            SlotsPurpose::Live => None,
            SlotsPurpose::DeadPages(bucket) => {
                wrong(image, lineages, claims, (record, bucket, false))
            }
            SlotsPurpose::DeadNodes(bucket) => {
                wrong(image, lineages, claims, (record, bucket, true))
            }
        };
        if let Some((code, why)) = why {
            findings.add(code, *at, why);
        }
    }
}

fn wrong(
    image: &Image<'_>,
    lineages: &Forest,
    claims: &Claims,
    (record, bucket, are_nodes): (&SlotsRecord, Bucket, bool),
) -> Option<(Code, String)> {
    let Bucket { lineage, key_epoch } = bucket;
    // What a deleted head leaves may take over the epoch that it had.
    let Some(born) = image.state.lineage_of(key_epoch) else {
        let why = format!("there is no key epoch {key_epoch}");
        return Some((codes::DEADLIST_RECORD, why));
    };
    let is_above =
        born != lineage && lineages.contains(lineage.0) && lineages.is_above(born.0, lineage.0);
    if !is_above {
        let why = format!("lineage epoch {born} is not above {lineage}");
        return Some((codes::DEADLIST_RECORD, why));
    }
    let segment = record.segment;
    let slots = record
        .runs
        .iter()
        .flat_map(|&(first, count)| first..first.saturating_add(count));
    for at in slots.map(|slot| SlotAddr { segment, slot }) {
        if !image.state.live.contains(at) {
            return Some((codes::DEADLIST_NOT_LIVE, format!("{at} is not live")));
        }
        if claims
            .is_node(at)
            .is_some_and(|is_node| is_node != are_nodes)
        {
            return Some((codes::DEADLIST_RECORD, format!("{at} holds something else")));
        }
    }
    None
}

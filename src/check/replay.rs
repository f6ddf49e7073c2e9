//! What the batches of the log change.

use crate::check::codes;
use crate::check::files::{Files, Trouble};
use crate::check::finding::Findings;
use crate::check::options::mixed;
use crate::check::spans::{Span, Spans};
use crate::check::state::{Head, State};
use crate::format::batch::BatchHead;
use crate::format::catalog::{HeadKind, HeadRecord, HeadState, RootSource};
use crate::format::entry::Entry;
use crate::format::record::{PageDelta, PageRange, Record, Records};
use crate::format::superblock::Geometry;
use crate::units::{HeadId, KeyEpoch, SlotAddr};

/// Where a batch is applied.
struct Ground<'a> {
    files: &'a Files<'a>,
    page_slots: u32,
    at: SlotAddr,
}

/// Applies a batch to the state.
pub(super) fn apply(
    state: &mut State,
    head: &BatchHead,
    files: &Files<'_>,
    geometry: &Geometry,
    findings: &mut Findings,
) {
    let (at, page_slots) = (head.header.at, geometry.page_slots());
    let ground = Ground {
        files,
        page_slots,
        at,
    };
    for (index, record) in Records::new(&head.records).enumerate() {
        // What does not decode was reported when the log was followed.
        let Ok(record) = record else { return };
        match record {
            Record::Table { .. } if index == 0 => return,
            Record::Table { .. } | Record::Salt(_) | Record::Slots(_) => {
                let message = "a log batch holds a record of tables";
                findings.add(codes::LOG_RECORD_MISPLACED, at, message);
            }
            Record::Nodes(_) | Record::Summary(_) => {}
            Record::Quota(quota) => state.quota = quota,
            // It was noted before any node was read.
            Record::Pack(_) if index == 0 => {}
            Record::Pack(_) => {
                let message = "the record of a pack is not the first of its batch";
                findings.add(codes::LOG_RECORD_MISPLACED, at, message);
            }
            Record::Segment(record) => {
                state.segments.insert(record.segment, record);
            }
            Record::Lineage(mut record) => {
                if let Some(beside) = record.beside.and_then(|id| state.lineages.get(&id)) {
                    record.parent = beside.parent;
                }
                state.lineages.insert(record.lineage, record);
            }
            Record::KeyEpoch(record) => {
                if (record.live_pages, record.live_nodes) != (0, 0) {
                    let message = "a log batch counts what is live";
                    findings.add(codes::KEY_EPOCH_COUNTS, at, message);
                }
                state.key_epochs.insert(record.key_epoch, *record);
            }
            Record::Head(record) => apply_head(state, *record, at, findings),
            Record::Pages { head: id, deltas } => {
                state.salts.insert(at, head.header.salt);
                note_change(state, id);
                if let Some(target) = known(state, id, at, findings) {
                    apply_pages(target, &deltas, files, at, findings);
                }
            }
            Record::Zeroes(range) => {
                let key_epoch = range.key_epoch;
                let value = Some(Entry::Zero { key_epoch });
                apply_range(state, (&range, value), &ground, findings);
            }
            Record::Discard(range) => apply_range(state, (&range, None), &ground, findings),
            Record::Lost(range) => {
                let key_epoch = range.key_epoch;
                let value = Some(Entry::Lost { key_epoch });
                apply_range(state, (&range, value), &ground, findings);
            }
        }
    }
}

fn known<'a>(
    state: &'a mut State,
    id: HeadId,
    at: SlotAddr,
    findings: &mut Findings,
) -> Option<&'a mut Head> {
    let head = state.heads.get_mut(&id);
    if head.is_none() {
        let message = format!("there is no head {id}");
        findings.add(codes::LOG_HEAD_UNKNOWN, at, message);
    }
    head
}

/// A head's open epoch is changed from its first change of pages on.
fn note_change(state: &mut State, id: HeadId) {
    let lineage = state.heads.get(&id).map(|head| head.record.lineage);
    if let Some(record) = lineage.and_then(|id| state.lineages.get_mut(&id)) {
        record.changed = true;
    }
}

fn apply_head(state: &mut State, record: HeadRecord, at: SlotAddr, findings: &mut Findings) {
    if record.page_count != 0 {
        let message = "a log batch counts the pages of a head";
        findings.add(codes::HEAD_PAGE_COUNT, at, message);
    }
    check_identity(state, &record, at, findings);
    check_root(state, &record, at, findings);
    let root = match record.root {
        RootSource::Empty => None,
        RootSource::Keep => known(state, record.head, at, findings)
            .map(|head| (head.root, head.page_count, std::mem::take(&mut head.spans))),
        RootSource::CopyOf(other) => known(state, other, at, findings)
            .map(|head| (head.root, head.page_count, head.spans.clone())),
        RootSource::Node(node) => {
            let message = format!("head {} gets a root node in a log batch", record.head);
            findings.add(codes::LOG_RECORD_MISPLACED, at, message);
            Some((Some(node), None, Spans::default()))
        }
    };
    let (root, page_count, spans) = root.unwrap_or_default();
    let head = Head {
        record,
        root,
        page_count,
        spans,
    };
    state.heads.insert(head.record.head, head);
}

/// A head stays what it is, whatever else of it changes.
fn check_identity(state: &State, new: &HeadRecord, at: SlotAddr, findings: &mut Findings) {
    let Some(Head { record: old, .. }) = state.heads.get(&new.head) else {
        return;
    };
    check_epochs(state, old, at, findings);
    let identity = |record: &HeadRecord| {
        let ids = (record.resource_id, record.origin_id);
        (record.kind, ids, record.owner, record.created_at_ms)
    };
    if identity(old) != identity(new) {
        let message = format!("head {} was {:?} before", new.head, old.name);
        findings.add(codes::LOG_HEAD_IDENTITY, at, message);
    }
}

/// What a record said that another one takes the place of must have been true then.
fn check_epochs(state: &State, old: &HeadRecord, at: SlotAddr, findings: &mut Findings) {
    if !state.lineages.contains_key(&old.lineage) {
        let message = format!(
            "lineage epoch {} of {:?} did not exist",
            old.lineage, old.name
        );
        findings.add(codes::HEAD_LINEAGE_MISSING, at, message);
    }
    let is_missing = !state.key_epochs.contains_key(&old.key_epoch);
    if is_missing && old.state != HeadState::Deleted {
        let message = format!(
            "key epoch {} of {:?} did not exist",
            old.key_epoch, old.name
        );
        findings.add(codes::HEAD_KEY_EPOCH_MISSING, at, message);
    }
}

/// A new head has the pages of one beside which it branches off, or is a volume with none.
fn check_root(state: &State, new: &HeadRecord, at: SlotAddr, findings: &mut Findings) {
    let parent = |lineage| {
        state
            .lineages
            .get(&lineage)
            .and_then(|record| record.parent)
    };
    let is_new = !state.heads.contains_key(&new.head);
    let fits = match new.root {
        RootSource::Empty => {
            is_new && new.kind == HeadKind::Volume && parent(new.lineage).is_none()
        }
        RootSource::CopyOf(other) => {
            let source = state.heads.get(&other);
            let source = source.and_then(|head| parent(head.record.lineage));
            is_new && source.is_some() && source == parent(new.lineage)
        }
        RootSource::Keep | RootSource::Node(_) => true,
    };
    if !fits {
        let message = format!("head {} takes over what is not its", new.head);
        findings.add(codes::LOG_ROOT_ELSEWHERE, at, message);
    }
}

fn apply_pages(
    head: &mut Head,
    deltas: &[PageDelta],
    files: &Files<'_>,
    at: SlotAddr,
    findings: &mut Findings,
) {
    for delta in deltas {
        // If the tree cannot be read, the walk says so.
        if let Ok(old) = head.entry(files, delta.page)
            && !delta.replaces(old.as_ref())
        {
            let what = head.describe();
            let message = format!("page {} of {what} held something else", delta.page);
            findings.add(codes::LOG_OLD_ENTRY, at, message);
        }
        if delta.entry.key_epoch != head.record.key_epoch {
            let message = format!(
                "page {} has key epoch {}",
                delta.page, delta.entry.key_epoch
            );
            findings.add(codes::LOG_KEY_EPOCH, at, message);
        }
        head.spans.set(Span {
            first: delta.page.0,
            last: delta.page.0,
            value: Some(Entry::Data(delta.entry)),
        });
    }
}

fn apply_range(
    state: &mut State,
    (range, value): (&PageRange, Option<Entry>),
    ground: &Ground<'_>,
    findings: &mut Findings,
) {
    let at = ground.at;
    note_change(state, range.head);
    let Some(head) = known(state, range.head, at, findings) else {
        return;
    };
    if range.key_epoch != head.record.key_epoch {
        let message = format!("a range has key epoch {}", range.key_epoch);
        findings.add(codes::LOG_KEY_EPOCH, at, message);
    }
    let pages = range.pages();
    // If the tree cannot be read, the walk says so.
    if let Ok(false) = names_all(head, range, ground) {
        let message = format!("a range of {} held something else", head.describe());
        findings.add(codes::LOG_OLD_ENTRY, at, message);
    }
    if let Some(last) = pages.end.0.checked_sub(1)
        && last >= pages.start.0
    {
        head.spans.set(Span {
            first: pages.start.0,
            last,
            value,
        });
    }
}

/// Whether the runs of a range name just the pages with contents that a head has there.
///
/// Both sides are counted and summed, since a range may have more pages than there is memory for.
fn names_all(head: &Head, range: &PageRange, ground: &Ground<'_>) -> Result<bool, Trouble> {
    let mark = |at: SlotAddr, key_epoch: KeyEpoch| {
        let place = u64::from(at.segment.0) << 32 | u64::from(at.slot);
        mixed(place ^ mixed(key_epoch.0.into()))
    };
    let (mut count, mut sum) = (0_u64, 0_u64);
    head.each_page(ground.files, &range.pages(), &mut |page| {
        count += 1;
        sum = sum.wrapping_add(mark(page.at, page.key_epoch));
    })?;
    let named: u64 = range.gone.iter().map(|run| u64::from(run.count)).sum();
    if named != count {
        return Ok(false);
    }
    for run in &range.gone {
        let slots = (0..run.count).map(|page| {
            let more = page.saturating_mul(ground.page_slots);
            run.at.slot.saturating_add(more)
        });
        let marks = slots.map(|slot| mark(SlotAddr { slot, ..run.at }, run.key_epoch));
        sum = marks.fold(sum, u64::wrapping_sub);
    }
    Ok(sum == 0)
}

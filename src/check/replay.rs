//! What the batches of the log change.

use crate::check::codes;
use crate::check::files::Files;
use crate::check::finding::Findings;
use crate::check::spans::{Span, Spans};
use crate::check::state::{Head, State};
use crate::format::batch::BatchHead;
use crate::format::catalog::{HeadRecord, RootSource};
use crate::format::entry::Entry;
use crate::format::record::{PageDelta, PageRange, Record, Records};
use crate::units::{HeadId, SlotAddr};

/// Applies a batch to the state.
pub(super) fn apply(
    state: &mut State,
    head: &BatchHead,
    files: &Files<'_>,
    findings: &mut Findings,
) {
    let at = head.header.at;
    for (index, record) in Records::new(&head.records).enumerate() {
        // What does not decode was reported when the log was followed.
        let Ok(record) = record else { return };
        match record {
            Record::Table { .. } if index == 0 => return,
            Record::Table { .. } | Record::Salt(_) | Record::Slots(_) => {
                let message = "a log batch holds a record of tables";
                findings.add(codes::LOG_RECORD_MISPLACED, at, message);
            }
            Record::Nodes(_) | Record::Summary(_) | Record::Quota(_) => {}
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
                state.key_epochs.insert(record.key_epoch, *record);
            }
            Record::Head(record) => apply_head(state, *record, at, findings),
            Record::Pages { head: id, deltas } => {
                state.salts.insert(at, head.header.salt);
                if let Some(target) = known(state, id, at, findings) {
                    apply_pages(target, &deltas, files, at, findings);
                }
            }
            Record::Zeroes(range) => {
                let key_epoch = range.key_epoch;
                apply_range(state, &range, Some(Entry::Zero { key_epoch }), at, findings);
            }
            Record::Discard(range) => apply_range(state, &range, None, at, findings),
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

fn apply_head(state: &mut State, record: HeadRecord, at: SlotAddr, findings: &mut Findings) {
    let (root, spans) = match record.root {
        RootSource::Empty => (None, Spans::default()),
        RootSource::Keep => known(state, record.head, at, findings)
            .map_or((None, Spans::default()), |head| {
                (head.root, std::mem::take(&mut head.spans))
            }),
        RootSource::CopyOf(other) => known(state, other, at, findings)
            .map_or((None, Spans::default()), |head| {
                (head.root, head.spans.clone())
            }),
        RootSource::Node(node) => {
            let message = format!("head {} gets a root node in a log batch", record.head);
            findings.add(codes::LOG_RECORD_MISPLACED, at, message);
            (Some(node), Spans::default())
        }
    };
    let head = Head {
        record,
        root,
        spans,
    };
    state.heads.insert(head.record.head, head);
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
        head.spans.set(Span {
            first: delta.page.0,
            last: delta.page.0,
            value: Some(Entry::Data(delta.entry)),
        });
    }
}

fn apply_range(
    state: &mut State,
    range: &PageRange,
    value: Option<Entry>,
    at: SlotAddr,
    findings: &mut Findings,
) {
    let Some(head) = known(state, range.head, at, findings) else {
        return;
    };
    let pages = range.pages();
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

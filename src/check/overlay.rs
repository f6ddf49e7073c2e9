//! Walks over what the log changed in page tables; shared parts once, as in the trees.

use crate::check::codes;
use crate::check::spans::{SpanNode, Tree};
use crate::check::state::Head;
use crate::check::walk::{Birth, Walk};
use crate::format::entry::Entry;
use crate::sync::Arc;
use crate::units::{LineageEpoch, PageNo, SlotAddr};

/// What is in a tree of spans.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    /// Greatest page that is mapped.
    last: Option<u64>,
    /// The youngest lineage epoch in which something was born: all others lie above it.
    youngest: Option<LineageEpoch>,
    /// Things were born in two branches: no head descends from both.
    two_branches: bool,
}

impl Walk<'_, '_, '_> {
    /// Checks what the log says of a head.
    pub(super) fn overlay(&mut self, head: &Head) {
        let summary = self.spans(head.spans.root());
        let birth = self.birth(summary.youngest, Some(head.record.lineage));
        if summary.two_branches || birth != Birth::Fits {
            let message = "the log gave it pages of another branch";
            self.findings
                .add(codes::ENTRY_OUTSIDE_LINEAGE, head.place(), message);
        }
        let end = head.record.len / u64::from(self.image.superblock.geometry.page_len);
        if let Some(last) = summary.last.filter(|&last| last >= end) {
            let message = format!("page {last} is mapped");
            self.findings
                .add(codes::PAGE_BEYOND_END, head.place(), message);
        }
    }

    fn spans(&mut self, tree: &Tree) -> Summary {
        let Some(node) = tree else {
            return Summary::default();
        };
        // The image keeps all trees, so an address stands for one node.
        let address = Arc::as_ptr(node).addr();
        if let Some(known) = self.spans.get(&address) {
            return *known;
        }
        let (left, right) = (self.spans(&node.left), self.spans(&node.right));
        let own = self.span(node);
        let summary = self.both(left, self.both(own, right));
        self.spans.insert(address, summary);
        summary
    }

    fn span(&mut self, node: &SpanNode) -> Summary {
        let Some(entry) = node.span.value else {
            return Summary::default();
        };
        let page = PageNo(node.span.first);
        let holder = match entry {
            Entry::Data(data) => data.at,
            Entry::Zero { .. } | Entry::Lost { .. } => SlotAddr::default(),
        };
        let youngest = self.key_epoch_of(page, &entry, holder);
        if let Entry::Lost { .. } = entry {
            let count = (node.span.last - node.span.first).saturating_add(1);
            self.lost.note(&self.head, page, count);
        }
        if let Entry::Data(data) = entry {
            let is_new = self.data(page, &data, holder);
            if is_new && self.reader.want_of_log(page, &data) {
                self.read();
            }
        }
        Summary {
            last: Some(node.span.last),
            youngest,
            two_branches: false,
        }
    }

    fn both(&self, a: Summary, b: Summary) -> Summary {
        let birth = self.birth(a.youngest, b.youngest);
        Summary {
            last: a.last.max(b.last),
            youngest: match birth {
                Birth::Fits => b.youngest.or(a.youngest),
                Birth::Newer | Birth::Elsewhere => a.youngest,
            },
            two_branches: a.two_branches || b.two_branches || birth == Birth::Elsewhere,
        }
    }
}

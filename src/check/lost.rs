//! Pages that are lost: those that a repair gave up, and those that one would give up now.

use crate::check::image::Image;
use crate::format::entry::DataEntry;
use crate::units::{HeadId, PageNo};

/// Most runs of lost pages that are kept for a report.
const LIST_MAX: usize = 1000;
/// Most damaged pages that are kept for a repair, which looks again until there are none.
const DAMAGED_MAX: usize = 1 << 18;

/// Pages whose contents a repair gave up, one after the other: reading them is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostPages {
    /// The volume, snapshot or pin, with its kind; others may share them.
    pub head: String,
    /// The first page.
    pub first: PageNo,
    /// How many there are.
    pub count: u64,
}

/// Pages of a head that are damaged, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DamagedPages {
    pub head: HeadId,
    pub first: PageNo,
    pub count: u64,
}

/// What a walk has seen of them.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub list: Vec<LostPages>,
    /// All of them, kept or not.
    pub count: u64,
    damaged: Vec<(PageNo, DataEntry)>,
}

impl Lost {
    /// Notes pages of a head that were given up.
    pub fn note(&mut self, head: &str, first: PageNo, count: u64) {
        self.count = self.count.saturating_add(count);
        if let Some(last) = self.list.last_mut()
            && last.head == head
            && last.first.0 + last.count == first.0
        {
            last.count += count;
        } else if self.list.len() < LIST_MAX {
            self.list.push(LostPages {
                head: head.to_owned(),
                first,
                count,
            });
        }
    }

    /// Notes a page whose bytes are not there any more.
    pub fn note_damaged(&mut self, page: PageNo, entry: &DataEntry) {
        if self.damaged.len() < DAMAGED_MAX {
            self.damaged.push((page, *entry));
        }
    }

    /// The pages that are damaged, of every head that has them.
    pub fn damaged(&self, image: &Image<'_>) -> Vec<DamagedPages> {
        let mut pages = self.damaged.clone();
        pages.sort_unstable_by_key(|(page, _)| *page);
        let mut runs: Vec<DamagedPages> = Vec::new();
        for head in image.state.heads.values().filter(|head| !head.is_deleted()) {
            let id = head.record.head;
            for (page, entry) in &pages {
                let is_its = head.maps(&image.files, *page, entry);
                match runs.last_mut() {
                    _ if !is_its => {}
                    Some(run) if run.head == id && run.first.0 + run.count == page.0 => {
                        run.count += 1;
                    }
                    _ => runs.push(DamagedPages {
                        head: id,
                        first: *page,
                        count: 1,
                    }),
                }
            }
        }
        runs
    }
}

//! Reads the ciphertext of pages, many at a time, in the order in which they lie, while the walk goes on.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};

use rayon::Scope;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::check::files::Trouble;
use crate::check::image::Image;
use crate::check::options::Sample;
use crate::check::tags::{Keys, Opened, PageOpener};
use crate::error::Damage;
use crate::format::entry::DataEntry;
use crate::units::{PageNo, SLOT_LEN, SlotAddr};

/// Slots of pages that are read together, so that they can be read in order: 256 MiB, of which the
/// entries take a few.
const BATCH_SLOTS: usize = 1 << 16;
/// Most slots of one read: what stays in a core's own cache until its checksum is known.
const RUN_SLOTS: u32 = 32;
/// Reads that a thread takes at a time, with the same buffer.
const PIECE_RUNS: usize = 64;
/// Batches that wait while the walk goes on: their entries take memory.
const PENDING_MAX: usize = 2;

/// Reads and verifies pages. With threads it does so behind the walk's back.
#[derive(Debug)]
pub(super) struct Reader<'s, 'a> {
    work: Work<'a>,
    scope: Option<&'s Scope<'a>>,
    sample: Option<Sample>,
    wanted: Vec<Wanted>,
    /// Batches that are being read, oldest first: so findings are in the same order each time.
    pending: VecDeque<Receiver<Outcome>>,
}

/// What it takes to read pages.
#[derive(Clone, Copy, Debug)]
struct Work<'a> {
    image: &'a Image<'a>,
    keys: Option<&'a Keys>,
    /// Whether it is done in a pool of threads.
    in_pool: bool,
}

type Wanted = (PageNo, DataEntry);

/// What came of reading pages.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub read: u64,
    pub opened: u64,
    pub locked: u64,
    pub bad: Vec<Bad>,
}

/// A page that is not what its entry says.
#[derive(Debug)]
pub(super) struct Bad {
    pub page: PageNo,
    pub entry: DataEntry,
    /// Why its ciphertext is damaged; `None` if it is whole and its tag is wrong.
    pub trouble: Option<Trouble>,
}

/// What one thread reads into, and opens with.
struct Hands<'a> {
    bytes: Vec<u8>,
    opener: Option<PageOpener<'a>>,
}

impl<'s, 'a> Reader<'s, 'a> {
    pub fn new(
        image: &'a Image<'a>,
        scope: Option<&'s Scope<'a>>,
        sample: Option<Sample>,
        keys: Option<&'a Keys>,
    ) -> Self {
        Self {
            work: Work {
                image,
                keys,
                in_pool: scope.is_some(),
            },
            scope,
            sample,
            wanted: Vec::new(),
            pending: VecDeque::new(),
        }
    }

    /// Notes a page that a tree names; whether it is time to read.
    pub fn want(&mut self, page: PageNo, entry: &DataEntry) -> bool {
        if self.sample.is_some_and(|sample| sample.has(entry.at)) {
            self.wanted.push((page, *entry));
        }
        let page_slots = self.work.image.superblock.geometry.page_slots() as usize;
        self.wanted.len() >= BATCH_SLOTS / page_slots
    }

    /// Notes a page of the log, whose checksum was compared when the log was followed.
    pub fn want_of_log(&mut self, page: PageNo, entry: &DataEntry) -> bool {
        self.work.keys.is_some() && self.want(page, entry)
    }

    /// Has all pages that are noted read; gives what came of earlier ones, if that is known.
    pub fn read(&mut self) -> Outcome {
        let pages = std::mem::take(&mut self.wanted);
        let work = self.work;
        let Some(scope) = self.scope else {
            return work.read(pages);
        };
        self.wanted.reserve(pages.len());
        let (done, outcome) = channel();
        self.pending.push_back(outcome);
        // Nobody waits for it any more if the check was cancelled.
        scope.spawn(move |_| drop(done.send(work.read(pages))));
        match self.pending.len() > PENDING_MAX {
            true => self.finish_one().unwrap_or_default(),
            false => Outcome::default(),
        }
    }

    /// Waits for the oldest batch that is being read; `None` if none is.
    pub fn finish_one(&mut self) -> Option<Outcome> {
        // One that panicked sends nothing: the scope passes the panic on.
        Some(self.pending.pop_front()?.recv().unwrap_or_default())
    }
}

impl<'a> Work<'a> {
    /// Reads pages in the order in which they lie, with all threads of the pool if there is one.
    fn read(self, mut pages: Vec<Wanted>) -> Outcome {
        pages.sort_unstable_by_key(|(_, entry)| entry.at);
        let slots = self.image.superblock.geometry.page_slots();
        let runs = runs(&pages, slots);
        let piece = |runs: &&[Range<usize>]| {
            let mut hands = Hands {
                bytes: Vec::new(),
                opener: self.keys.map(Keys::opener),
            };
            let runs = runs.iter().map(|range| {
                let pages = pages.get(range.clone()).unwrap_or_default();
                self.run(&mut hands, pages, slots)
            });
            runs.fold(Outcome::default(), Outcome::and)
        };
        let pieces: Vec<_> = runs.chunks(PIECE_RUNS).collect();
        let outcomes: Vec<Outcome> = match self.in_pool {
            true => pieces.par_iter().map(piece).collect(),
            false => pieces.iter().map(piece).collect(),
        };
        outcomes.into_iter().fold(Outcome::default(), Outcome::and)
    }

    /// Reads neighbours at once; one by one if that fails, to tell which of them are there.
    fn run(self, hands: &mut Hands<'_>, pages: &[Wanted], slots: u32) -> Outcome {
        let mut outcome = Outcome::default();
        let Some((_, first)) = pages.first() else {
            return outcome;
        };
        let count = slots.saturating_mul(pages.len() as u32);
        let files = &self.image.files;
        if files.read_into(first.at, count, &mut hands.bytes).is_ok() {
            let page_len = slots as usize * SLOT_LEN;
            let bodies = hands.bytes.chunks_exact_mut(page_len);
            for (&(page, entry), bytes) in pages.iter().zip(bodies) {
                self.page(page, entry, bytes, &mut hands.opener, &mut outcome);
            }
            return outcome;
        }
        for &(page, entry) in pages {
            match files.read_into(entry.at, slots, &mut hands.bytes) {
                Ok(()) => {
                    let len = slots as usize * SLOT_LEN;
                    let bytes = hands.bytes.get_mut(..len).unwrap_or_default();
                    self.page(page, entry, bytes, &mut hands.opener, &mut outcome);
                }
                Err(trouble) => {
                    outcome.read += 1;
                    outcome.add_bad(page, entry, Some(trouble));
                }
            }
        }
        outcome
    }

    fn page(
        self,
        page: PageNo,
        entry: DataEntry,
        bytes: &mut [u8],
        opener: &mut Option<PageOpener<'_>>,
        outcome: &mut Outcome,
    ) {
        outcome.read += 1;
        if crc32fast::hash(bytes) != entry.crc {
            outcome.add_bad(page, entry, Some(Damage::BadChecksum.into()));
            return;
        }
        if let Some(opener) = opener
            && let Some(salt) = self.image.state.salt(entry.at)
        {
            match opener.open(page, &entry, salt, bytes) {
                Opened::Whole => outcome.opened += 1,
                Opened::Locked => outcome.locked += 1,
                Opened::Forged => outcome.add_bad(page, entry, None),
            }
        }
    }
}

impl Outcome {
    fn add_bad(&mut self, page: PageNo, entry: DataEntry, trouble: Option<Trouble>) {
        self.bad.push(Bad {
            page,
            entry,
            trouble,
        });
    }

    fn and(mut self, other: Self) -> Self {
        self.read += other.read;
        self.opened += other.opened;
        self.locked += other.locked;
        self.bad.extend(other.bad);
        self
    }
}

/// Pages that follow each other on disk, as ranges of the sorted pages.
fn runs(pages: &[Wanted], slots: u32) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut end = SlotAddr::default();
    for (index, (_, entry)) in pages.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if entry.at == end && (run.len() as u32 + 1) * slots <= RUN_SLOTS => {
                run.end = index + 1;
            }
            _ => runs.push(index..index + 1),
        }
        end = SlotAddr {
            slot: entry.at.slot.saturating_add(slots),
            ..entry.at
        };
    }
    runs
}

//! What the engine shows of a store, page by page, and how long that takes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use offshoot::io::sim::SimMachine;
use offshoot::{Result, Store};
use rustix::time::{ClockId, clock_gettime};

use crate::model::{DARK, Kind, Model, PAGE_SECTORS, PAGES, SECTOR};
use crate::rig::Host;

/// Nothing may take longer, by the time of its thread: the test itself may be held up.
const LONGEST: Duration = Duration::from_secs(5);

/// Each page of each head, `None` where reading it is an error.
pub type Pages = BTreeMap<(Kind, String), Vec<Option<Vec<u32>>>>;

/// What the engine shows of a changed store.
pub enum Shown {
    /// It does not open.
    Refused(String),
    /// Each page of each head, `None` where reading it is an error.
    Pages(Pages),
}

/// Runs a part of the judging; an error if it panics or takes too long.
pub fn timed<T>(what: &str, run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let began = processor_time();
    let done = catch_unwind(AssertUnwindSafe(run));
    let done = done.map_err(|_| format!("{what} panics"))?;
    match processor_time() - began {
        took if took > LONGEST => Err(format!("{what} takes {took:?}")),
        _ => done,
    }
}

/// What the thread has run so far.
pub fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Opens the store of a machine and reads all of it.
pub fn show(machine: &SimMachine, seed: u64) -> Shown {
    let host = Host::new(machine, seed);
    let process = match host.open() {
        Ok(process) => process,
        Err(error) => return Shown::Refused(error.to_string()),
    };
    let store = &process.store;
    let volumes = store
        .volumes()
        .into_iter()
        .map(|info| (Kind::Volume, info.name));
    let snapshots = store
        .snapshots()
        .into_iter()
        .map(|info| (Kind::Snapshot, info.name));
    let pins = store.pins().into_iter().map(|info| (Kind::Pin, info.name));
    let heads = volumes.chain(snapshots).chain(pins);
    Shown::Pages(
        heads
            .map(|head| (head.clone(), pages(store, &head)))
            .collect(),
    )
}

fn pages(store: &Store, (kind, name): &(Kind, String)) -> Vec<Option<Vec<u32>>> {
    let read = |buf: &mut [u8], offset: u64| match kind {
        Kind::Volume => store.volume(name)?.read_exact_at(buf, offset),
        Kind::Snapshot => store.snapshot(name)?.read_exact_at(buf, offset),
        Kind::Pin => store.pin(name)?.read_exact_at(buf, offset),
    };
    let page_len = PAGE_SECTORS * SECTOR;
    let mut all = vec![0xEE; (PAGES * page_len) as usize];
    if read(&mut all, 0).is_ok() {
        return all
            .chunks(page_len as usize)
            .map(|page| Some(numbers(page)))
            .collect();
    }
    let page = |page| {
        let mut bytes = vec![0xEE; page_len as usize];
        read(&mut bytes, page * page_len)
            .ok()
            .map(|()| numbers(&bytes))
    };
    (0..PAGES).map(page).collect()
}

/// The number of each sector; `u32::MAX` for what nobody wrote.
fn numbers(page: &[u8]) -> Vec<u32> {
    let sectors = page.chunks(SECTOR as usize);
    let number = |sector: &[u8]| {
        let first = &sector[..4];
        let is_one = sector.chunks(4).all(|word| word == first);
        let number = u32::from_le_bytes([first[0], first[1], first[2], first[3]]);
        if is_one { number } else { u32::MAX }
    };
    sectors.map(number).collect()
}

/// Whether the heads are those of the model, and every page that can be read is as in it.
pub fn fits(shown: &Pages, model: &Model) -> bool {
    shown.keys().eq(model.heads.keys())
        && shown.iter().all(|(head, pages)| {
            let expected = model.heads[head].chunks(PAGE_SECTORS as usize);
            pages
                .iter()
                .zip(expected)
                .all(|(page, expected)| page.as_ref().is_none_or(|page| is_as(page, expected)))
        })
}

/// Of what is being erased holes still read as zeroes: that takes no key. What was in pages must not be seen.
fn is_as(page: &[u32], expected: &[u32]) -> bool {
    let is_gone = expected.iter().all(|&sector| sector == DARK);
    page == expected || is_gone && page.iter().all(|&sector| sector == 0)
}

/// The first place in which they differ, in words.
pub fn difference(shown: &Pages, model: &Model) -> String {
    if !shown.keys().eq(model.heads.keys()) {
        return format!("heads {:?}, not {:?}", shown.keys(), model.heads.keys());
    }
    for (head, pages) in shown {
        let expected = model.heads[head].chunks(PAGE_SECTORS as usize);
        for (page, (found, expected)) in pages.iter().zip(expected).enumerate() {
            if found.as_ref().is_some_and(|found| !is_as(found, expected)) {
                return format!("page {page} of {head:?} is {found:?}, not {expected:?}");
            }
        }
    }
    "no single page".to_owned()
}

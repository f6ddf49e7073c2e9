//! Threads that help whoever seals or opens many pages.
//!
//! Help is worth waking a thread for only if there is much to do, and if nobody else is at work: others keep the
//! processors busy already, each with what is its own. To wake one takes as long as opening some dozens of pages.

use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::units::Location;

/// Nobody helps with fewer bytes.
const HELP_LEN_MIN: usize = 512 << 10;
/// So many bytes are taken at a time where somebody helps.
const STINT_LEN: usize = 128 << 10;

/// The threads of a store that help, and how many calls write, or read several pages, just now.
#[derive(Debug)]
pub struct Crew {
    pool: Option<rayon::ThreadPool>,
    at_work: AtomicU64,
}

/// A call at work, until this is dropped.
#[derive(Debug)]
pub struct Shift<'a> {
    crew: &'a Crew,
    help: Option<&'a rayon::ThreadPool>,
}

impl Crew {
    /// A crew of so many threads, which help callers.
    pub fn new(helpers: usize) -> Result<Self> {
        let pool = match helpers {
            0 => None,
            _ => Some(start(helpers)?),
        };
        Ok(Self {
            pool,
            at_work: AtomicU64::new(0),
        })
    }

    /// Threads that help.
    pub fn helpers(&self) -> usize {
        let pool = self.pool.as_ref();
        pool.map_or(0, rayon::ThreadPool::current_num_threads)
    }

    /// Says that a call begins to seal or open so many bytes.
    pub fn join(&self, len: usize) -> Shift<'_> {
        let is_alone = self.at_work.fetch_add(1, Ordering::Relaxed) == 0;
        let pool = self.pool.as_ref();
        Shift {
            crew: self,
            help: pool.filter(|_| is_alone && len >= HELP_LEN_MIN),
        }
    }
}

fn start(helpers: usize) -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(helpers).build();
    pool.map_err(|error| Error::Io {
        op: "start threads for",
        location: Location::Directory("the store".to_owned()),
        source: std::io::Error::other(error),
    })
}

impl Shift<'_> {
    /// Most bytes of a stint: all, if nobody helps.
    pub fn stint_len(&self) -> usize {
        self.help.map_or(usize::MAX, |_| STINT_LEN)
    }

    /// Does all of `stints`: by this thread and those that help it. After an error no other is begun; if several
    /// fail it is any one's.
    pub fn each<T: Send, E: Send>(
        &self,
        stints: Vec<T>,
        work: impl Fn(T) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let Some(pool) = self.help.filter(|_| stints.len() > 1) else {
            return stints.into_iter().try_for_each(work);
        };
        let helpers = self.crew.helpers().min(stints.len() - 1);
        let (left, failed) = (Mutex::new(stints.into_iter()), Mutex::new(None));
        let next = || left.lock().next();
        let work_on = || {
            while let Some(stint) = next() {
                if let Err(error) = work(stint) {
                    *failed.lock() = Some(error);
                    left.lock().by_ref().for_each(drop);
                }
            }
        };
        pool.in_place_scope(|scope| {
            (0..helpers).for_each(|_| scope.spawn(|_| work_on()));
            work_on();
        });
        let error = failed.lock().take();
        error.map_or(Ok(()), Err)
    }
}

impl Drop for Shift<'_> {
    fn drop(&mut self) {
        self.crew.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

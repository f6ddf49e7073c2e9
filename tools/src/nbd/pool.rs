//! Threads that do requests, for all connections.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Most threads. More than processors: they wait for the disk, and for each other's flushes.
const THREADS: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// The threads, and what they have to do. Dropping it waits until all is done.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A way to give the threads work.
#[derive(Clone)]
pub struct Jobs(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    ended: bool,
}

impl Pool {
    /// Starts the threads.
    pub fn new() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut pool = Self {
            shared,
            threads: Vec::new(),
        };
        for _ in 0..THREADS {
            let shared = pool.shared.clone();
            let named = thread::Builder::new().name("nbd-worker".to_owned());
            // If some do not start, dropping the pool ends the others.
            pool.threads.push(named.spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// A way to give the threads work.
    pub fn jobs(&self) -> Jobs {
        Jobs(self.shared.clone())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.more.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Jobs {
    /// Has a thread do it, in the order of the calls.
    pub fn add(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.0.lock();
        queue.jobs.push_back(Box::new(job));
        let wake = queue.idle > 0;
        drop(queue);
        if wake {
            self.0.more.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                job();
                queue = self.lock();
            } else if queue.ended {
                return;
            } else {
                queue.idle += 1;
                queue = self
                    .more
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
            }
        }
    }
}

//! Locks and atomics, in one place so that a model checker can stand in for `std`.
//!
//! A poisoned lock means that a thread panicked while it held it, which only a bug of ours can
//! cause, so taking such a lock panics too.
//!
//! With `--cfg shuttle` they are those of the crate `shuttle`, which decides at each of them which
//! thread goes on: `tests/shuttle`.

#[cfg(not(shuttle))]
use std::sync as primitive;

#[cfg(shuttle)]
use shuttle::sync as primitive;

// Nothing waits for these two.
pub use std::sync::{OnceLock, Weak};

pub use primitive::atomic::{AtomicBool, AtomicU64, Ordering};
pub use primitive::{Arc, Condvar, MutexGuard, RwLockReadGuard, RwLockWriteGuard};

/// A lock that one holder has at a time.
#[derive(Debug, Default)]
pub struct Mutex<T>(primitive::Mutex<T>);

impl<T> Mutex<T> {
    /// Makes a lock around a value.
    pub fn new(value: T) -> Self {
        Self(primitive::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0
            .lock()
            .expect("BUG: a thread panicked with this lock")
    }
}

/// A lock with many readers or one writer.
#[derive(Debug, Default)]
pub struct RwLock<T>(primitive::RwLock<T>);

impl<T> RwLock<T> {
    /// Makes a lock around a value.
    pub fn new(value: T) -> Self {
        Self(primitive::RwLock::new(value))
    }

    /// Waits until there is no writer.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0
            .read()
            .expect("BUG: a thread panicked with this lock")
    }

    /// Waits until there is nobody.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0
            .write()
            .expect("BUG: a thread panicked with this lock")
    }
}

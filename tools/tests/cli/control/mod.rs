//! Commands beside a process that has the store: it runs them.

mod bad_input;
mod beside;
mod ends;
mod exports;
mod peer;
mod refusals;

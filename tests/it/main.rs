//! Tests of the library through its public interface, one module a subject.

mod bad_input;
mod branches;
mod erase;
mod fixture;
mod key_states;
mod keys;
mod kill;
mod limits;
mod many;
mod model;
mod protection;
mod quota;
mod rekey;
mod rollback;
mod sparse;
mod stats;
mod threads;
mod volumes;

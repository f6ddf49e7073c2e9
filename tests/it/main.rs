//! Tests of the library through its public interface, one module a subject.

mod bad_input;
mod branches;
mod fixture;
mod key_states;
mod keys;
mod kill;
mod model;
mod sparse;
mod threads;
mod volumes;

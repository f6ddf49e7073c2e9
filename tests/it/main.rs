//! Tests of the library through its public interface, one module a subject.

mod bad_input;
mod branches;
mod charges;
mod dump;
mod erase;
mod fixture;
mod freed;
mod key_states;
mod keys;
mod kill;
mod leases;
mod limits;
mod many;
mod model;
mod pins;
mod protection;
mod quota;
mod rekey;
mod rollback;
mod room;
mod scrub;
mod sparse;
mod stats;
mod threads;
mod volumes;

//! A store in use stays manageable: whoever has it open runs commands for others.
//!
//! `place` says where the socket of an owner is, `wire` what is said on it; `owner` is the end that has the
//! store, `asker` the command that found it locked, and `client` the asker as the owner's commands see
//! it. **Invariant:** a command runs through the same code at either end; only what it prints
//! and asks goes to the other.

pub mod asker;
pub mod client;
pub mod owner;
mod place;
pub mod wire;

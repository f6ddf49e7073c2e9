//! The bytes of the NBD protocol: a codec that touches no socket and no store.
//!
//! **Invariant:** what a client sends is trusted in nothing. Every decoder answers any bytes, in time
//! linear in them, allocates by what is there and not by what is declared, and never panics.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod handshake;
pub mod meta;
pub mod numbers;
mod option;
mod reader;
pub mod reply;
pub mod request;
pub mod status;

#[cfg(test)]
mod tests;

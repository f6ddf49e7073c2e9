//! `serve nbd`, by a raw client.

mod bad_input;
pub mod client;
mod commands;
mod crowds;
mod ends;
mod failures;
mod options;
pub mod server;
mod sockets;

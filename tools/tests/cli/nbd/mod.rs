//! `serve nbd`, by a raw client.

mod bad_input;
mod client;
mod commands;
mod crowds;
mod ends;
mod failures;
mod options;
mod server;
mod sockets;

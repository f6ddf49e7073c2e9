//! The NBD server: volumes and snapshots as block devices for qemu, libnbd, the kernel and fio.
//!
//! `protocol` is a codec without sockets; `exports` says what is served; `connection` serves one
//! client, helped by the threads of one `pool`; `answer` does what a request asks of a volume;
//! `server` accepts and ends.

mod answer;
mod budget;
mod buffers;
mod connection;
mod errors;
pub mod exports;
pub mod listen;
mod negotiate;
mod outbox;
mod pool;
mod protocol;
pub mod record;
pub mod server;
mod socket;
mod transmission;
pub mod unix;
pub mod uri;

#[cfg(test)]
mod tests;

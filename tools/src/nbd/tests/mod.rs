//! The server on a simulated disk, in this process.

#[path = "../../../tests/cli/nbd/client.rs"]
#[expect(dead_code, reason = "the tests of the command line need more of it")]
mod client;
mod flush;
mod lifetime;
mod rig;

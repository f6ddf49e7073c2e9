//! Tests of the codec: bytes in, bytes out.

mod corpus;
mod handshake;
mod requests;
mod support;

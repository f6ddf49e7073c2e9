//! Replies to requests.

use crate::nbd::protocol::numbers::{CHUNK_MAGIC, Errno, SIMPLE_REPLY_MAGIC, chunk};
use crate::nbd::protocol::status::Status;

/// Length of a simple reply without data.
pub const SIMPLE_LEN: usize = 16;
/// Length of a chunk of data without the data.
pub const DATA_CHUNK_LEN: usize = 28;
/// Longest text of an error.
const TEXT_LEN_MAX: usize = 512;

/// A simple reply; the data of a READ follows it.
pub fn simple(cookie: u64, error: Option<Errno>) -> [u8; SIMPLE_LEN] {
    let mut bytes = [0; SIMPLE_LEN];
    put(&mut bytes, 0, &SIMPLE_REPLY_MAGIC.to_be_bytes());
    put(&mut bytes, 4, &code(error).to_be_bytes());
    put(&mut bytes, 8, &cookie.to_be_bytes());
    bytes
}

/// What comes before the `len` bytes of a chunk of data.
pub fn data_chunk(cookie: u64, offset: u64, len: u32, last: bool) -> [u8; DATA_CHUNK_LEN] {
    let mut bytes = [0; DATA_CHUNK_LEN];
    let head = chunk_head(cookie, chunk::OFFSET_DATA, len.saturating_add(8), last);
    put(&mut bytes, 0, &head);
    put(&mut bytes, 20, &offset.to_be_bytes());
    bytes
}

/// A chunk that says that a range reads as zeroes.
pub fn hole_chunk(cookie: u64, offset: u64, len: u32, last: bool, out: &mut Vec<u8>) {
    out.extend(chunk_head(cookie, chunk::OFFSET_HOLE, 12, last));
    out.extend(offset.to_be_bytes());
    out.extend(len.to_be_bytes());
}

/// A reply in chunks that says nothing.
pub fn none_chunk(cookie: u64, out: &mut Vec<u8>) {
    out.extend(chunk_head(cookie, chunk::NONE, 0, true));
}

/// A reply in chunks that says what went wrong.
pub fn error_chunk(cookie: u64, error: Errno, text: &str, out: &mut Vec<u8>) {
    let text = shortened(text);
    out.extend(chunk_head(
        cookie,
        chunk::ERROR,
        6 + text.len() as u32,
        true,
    ));
    out.extend((error as u32).to_be_bytes());
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// The extents of one context.
pub fn status_chunk(cookie: u64, status: &Status, last: bool, out: &mut Vec<u8>) {
    let len = 4 + 8 * status.extents.len() as u32;
    out.extend(chunk_head(cookie, chunk::BLOCK_STATUS, len, last));
    out.extend(status.context.id().to_be_bytes());
    for (len, state) in &status.extents {
        out.extend(len.to_be_bytes());
        out.extend(state.to_be_bytes());
    }
}

fn chunk_head(cookie: u64, kind: u16, len: u32, last: bool) -> [u8; 20] {
    let mut bytes = [0; 20];
    let flags = if last { chunk::DONE } else { 0 };
    put(&mut bytes, 0, &CHUNK_MAGIC.to_be_bytes());
    put(&mut bytes, 4, &flags.to_be_bytes());
    put(&mut bytes, 6, &kind.to_be_bytes());
    put(&mut bytes, 8, &cookie.to_be_bytes());
    put(&mut bytes, 16, &len.to_be_bytes());
    bytes
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes
        .get_mut(at..at + what.len())
        .expect("BUG: a field is in its struct")
        .copy_from_slice(what);
}

fn code(error: Option<Errno>) -> u32 {
    error.map_or(0, |error| error as u32)
}

/// The text, cut between characters if it is too long.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(TEXT_LEN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

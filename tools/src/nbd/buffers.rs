//! Buffers that are used again: fresh memory costs a page fault every 4 KiB.

use std::sync::{Mutex, PoisonError};

/// Most bytes that are kept for later.
const KEPT_LEN_MAX: usize = 16 << 20;
/// Smaller ones come fast enough from the allocator.
const KEPT_LEN_MIN: usize = 64 << 10;

/// Buffers that nobody uses just now. What is in them is old bytes of the same process.
#[derive(Default)]
pub struct Buffers(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    len: usize,
}

impl Buffers {
    /// An empty buffer with room for so many bytes.
    pub fn take(&self, len: usize) -> Vec<u8> {
        if len >= KEPT_LEN_MIN {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let fitting = kept.buffers.iter().rposition(|kept| kept.capacity() >= len);
            if let Some(index) = fitting {
                let buffer = kept.buffers.swap_remove(index);
                kept.len -= buffer.capacity();
                return buffer;
            }
        }
        Vec::with_capacity(len)
    }

    /// Gives a buffer back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let len = buffer.capacity();
        if len < KEPT_LEN_MIN {
            return;
        }
        buffer.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len + len <= KEPT_LEN_MAX {
            kept.len += len;
            kept.buffers.push(buffer);
        }
    }
}

//! The bytes of a file, cheap to copy.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use crate::sync::Arc;

pub(super) const CHUNK_LEN: usize = 4096;

type Chunk = [u8; CHUNK_LEN];

/// Bytes in shared chunks; a chunk that was never written is zeroes and takes no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    len: u64,
    chunks: Arc<BTreeMap<u64, Arc<Chunk>>>,
    /// Chunks without space: zeroes, too.
    holes: Arc<BTreeSet<u64>>,
}

impl Image {
    /// That many bytes of zeroes.
    pub fn zeroes(len: u64) -> Self {
        Self {
            len,
            ..Self::default()
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that it takes.
    pub fn allocated_len(&self) -> u64 {
        let holes = self.holes.len() as u64 * CHUNK_LEN as u64;
        self.len.saturating_sub(holes)
    }

    /// Bytes of holes that a write there would fill.
    pub fn holes_len(&self, offset: u64, len: usize) -> u64 {
        let mut count = 0;
        if !self.holes.is_empty() {
            for_chunks(offset, len, |index, _, _| {
                count += u64::from(self.holes.contains(&index));
            });
        }
        count * CHUNK_LEN as u64
    }

    /// The holes before a byte, ascending; next to each other they are one.
    pub fn holes(&self, end: u64) -> Vec<Range<u64>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        for index in self.holes.iter() {
            let start = index * CHUNK_LEN as u64;
            if start >= end.min(self.len) {
                break;
            }
            let hole = start..(start + CHUNK_LEN as u64).min(self.len);
            match found.last_mut().filter(|last| last.end == hole.start) {
                Some(last) => last.end = hole.end,
                None => found.push(hole),
            }
        }
        found
    }

    /// Makes a range zeroes, and holes of the chunks that it covers.
    pub fn punch(&mut self, offset: u64, len: usize) {
        let chunks = Arc::make_mut(&mut self.chunks);
        let holes = Arc::make_mut(&mut self.holes);
        for_chunks(offset, len, |index, within, part| {
            if part.len() == CHUNK_LEN {
                chunks.remove(&index);
                holes.insert(index);
            } else if let Some(chunk) = chunks.get_mut(&index) {
                Arc::make_mut(chunk)[within..within + part.len()].fill(0);
            }
        });
    }

    /// Gives space to the holes that a range touches; past the end the image grows.
    pub fn fill(&mut self, offset: u64, len: usize) {
        let holes = Arc::make_mut(&mut self.holes);
        for_chunks(offset, len, |index, _, _| {
            holes.remove(&index);
        });
        self.grow(offset + len as u64);
    }

    /// `UnexpectedEof` past the end.
    pub fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if !buf.is_empty() && end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for_chunks(offset, buf.len(), |index, within, part| {
            let to = &mut buf[part.clone()];
            match self.chunks.get(&index) {
                Some(chunk) => to.copy_from_slice(&chunk[within..within + part.len()]),
                None => to.fill(0),
            }
        });
        Ok(())
    }

    /// Past the end the image grows. The caller has checked that the end is a valid length.
    pub fn write(&mut self, bytes: &[u8], offset: u64) {
        if self.holes_len(offset, bytes.len()) > 0 {
            self.fill(offset, bytes.len());
        }
        let chunks = Arc::make_mut(&mut self.chunks);
        for_chunks(offset, bytes.len(), |index, within, part| {
            let chunk = chunks
                .entry(index)
                .or_insert_with(|| Arc::new([0; CHUNK_LEN]));
            Arc::make_mut(chunk)[within..within + part.len()].copy_from_slice(&bytes[part]);
        });
        if !bytes.is_empty() {
            self.len = self.len.max(offset + bytes.len() as u64);
        }
    }

    /// Whether anything, zeroes too, was ever written to a chunk.
    pub fn was_written(&self, index: u64) -> bool {
        self.chunks.contains_key(&index)
    }

    /// Becomes so long, with zeroes at the end, if it is shorter.
    pub fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Becomes equal to `newer` around a range, sharing its chunks, and in length.
    pub fn follow(&mut self, newer: &Self, offset: u64, len: usize) {
        let chunks = Arc::make_mut(&mut self.chunks);
        for_chunks(offset, len, |index, _, _| {
            match newer.chunks.get(&index) {
                Some(chunk) => chunks.insert(index, Arc::clone(chunk)),
                None => chunks.remove(&index),
            };
        });
        if !Arc::ptr_eq(&self.holes, &newer.holes) {
            let holes = Arc::make_mut(&mut self.holes);
            for_chunks(offset, len, |index, _, _| {
                match newer.holes.contains(&index) {
                    true => holes.insert(index),
                    false => holes.remove(&index),
                };
            });
        }
        self.len = newer.len;
    }

    /// Adds length and bytes to a hash; equal bytes give equal hashes.
    pub fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(&self.len.to_le_bytes());
        for (index, chunk) in self.chunks_with_bytes() {
            hasher.update(&index.to_le_bytes());
            hasher.update(&**chunk);
        }
        hasher.update(&u64::MAX.to_le_bytes());
    }

    /// Whether length and bytes are those of another.
    pub fn has_bytes_of(&self, other: &Self) -> bool {
        self.len == other.len
            && (Arc::ptr_eq(&self.chunks, &other.chunks)
                || self.chunks_with_bytes().eq(other.chunks_with_bytes()))
    }

    /// Those that are not all zeroes.
    fn chunks_with_bytes(&self) -> impl Iterator<Item = (&u64, &Arc<Chunk>)> {
        self.chunks
            .iter()
            .filter(|(_, chunk)| ***chunk != [0; CHUNK_LEN])
    }
}

/// Cuts a range at the chunks' edges: index of the chunk, start in the chunk, part of the range.
pub(super) fn for_chunks(offset: u64, len: usize, mut step: impl FnMut(u64, usize, Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let within = (at % CHUNK_LEN as u64) as usize;
        let count = (CHUNK_LEN - within).min(len - done);
        step(at / CHUNK_LEN as u64, within, done..done + count);
        done += count;
    }
}

/// The chunks that lie in a range as a whole.
pub(super) fn for_whole_chunks(offset: u64, len: usize, mut step: impl FnMut(u64)) {
    for_chunks(offset, len, |index, _, part| {
        if part.len() == CHUNK_LEN {
            step(index);
        }
    });
}

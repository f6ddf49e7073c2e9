//! Memory that a disk can be given as it is.

use std::fmt::{self, Debug};
use std::ops::{Deref, DerefMut};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a file opened for [`Access::Bulk`](crate::io::Access::Bulk) wants buffers, offsets and
/// lengths to be multiples of.
pub const BLOCK_LEN: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_LEN]);

const ZEROES: Block = Block([0; BLOCK_LEN]);

/// Whole blocks of bytes that start at a multiple of [`BLOCK_LEN`] in memory.
#[derive(Default)]
pub struct AlignedBuf(Vec<Block>);

impl AlignedBuf {
    /// So many zeroes, which are whole blocks.
    pub fn zeroed(len: usize) -> Self {
        Self(vec![ZEROES; blocks(len)])
    }

    /// Puts zeroes before what it has.
    pub fn prepend_zeroes(&mut self, len: usize) {
        self.0.splice(..0, std::iter::repeat_n(ZEROES, blocks(len)));
    }
}

fn blocks(len: usize) -> usize {
    assert!(len.is_multiple_of(BLOCK_LEN), "BUG: these are no blocks");
    len / BLOCK_LEN
}

/// Whether bytes are whole blocks at the right place in memory.
pub fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(BLOCK_LEN) && bytes.len().is_multiple_of(BLOCK_LEN)
}

/// A buffer that can grow at its end.
pub trait GrowBuf: DerefMut<Target = [u8]> {
    /// Puts zeroes, whole blocks of them, behind what it has.
    fn append_zeroes(&mut self, len: usize);
}

impl GrowBuf for Vec<u8> {
    fn append_zeroes(&mut self, len: usize) {
        self.resize(self.len() + len, 0);
    }
}

impl GrowBuf for AlignedBuf {
    fn append_zeroes(&mut self, len: usize) {
        self.0.resize(self.0.len() + blocks(len), ZEROES);
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}

impl Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aligned_buffer_stays_aligned_as_it_grows_at_both_ends() {
        let mut buf = AlignedBuf::zeroed(3 * BLOCK_LEN);
        assert!(is_aligned(&buf));
        buf.fill(7);
        buf.append_zeroes(BLOCK_LEN);
        buf.prepend_zeroes(2 * BLOCK_LEN);
        assert!(is_aligned(&buf));
        let expected = [
            vec![0; 2 * BLOCK_LEN],
            vec![7; 3 * BLOCK_LEN],
            vec![0; BLOCK_LEN],
        ];
        assert_eq!(*buf, *expected.concat());
        assert!(is_aligned(&AlignedBuf::zeroed(0)[..0]));
    }

    #[test]
    fn bytes_that_are_off_by_one_are_not_aligned() {
        let buf = AlignedBuf::zeroed(2 * BLOCK_LEN);
        assert!(!is_aligned(&buf[1..=BLOCK_LEN]));
        assert!(!is_aligned(&buf[..BLOCK_LEN + 1]));
        assert!(is_aligned(&buf[BLOCK_LEN..]));
    }
}

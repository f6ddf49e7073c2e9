//! Where a file has data, and which blocks are all zeroes.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The ranges of a file that are no holes, in order, widened to whole blocks and joined.
///
/// A file system or device that cannot tell has one range.
pub struct DataRanges<'a> {
    file: &'a File,
    len: u64,
    block: u64,
    at: u64,
}

impl<'a> DataRanges<'a> {
    /// Of the first `len` bytes of a file.
    pub fn new(file: &'a File, len: u64, block: u64) -> Self {
        Self {
            file,
            len,
            block,
            at: 0,
        }
    }

    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        if from >= self.len {
            return Ok(None);
        }
        let start = match seek(self.file, SeekFrom::Data(from)) {
            Ok(start) if start < self.len => start,
            Ok(_) | Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::SPIPE) => return Ok(Some(from..self.len)),
            Err(error) => return Err(error.into()),
        };
        let end = seek(self.file, SeekFrom::Hole(start))?;
        let start = (start / self.block * self.block).max(from);
        let end = end
            .checked_next_multiple_of(self.block)
            .unwrap_or(self.len)
            .min(self.len);
        Ok(Some(start..end))
    }
}

impl Iterator for DataRanges<'_> {
    type Item = io::Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.next_data(self.at).transpose()?;
        // After an error there is no more to tell.
        self.at = found.as_ref().map_or(self.len, |range| range.end);
        Some(found)
    }
}

/// Splits bytes into runs of blocks: where each starts and ends, and whether it is all zeroes.
///
/// `phase` is the offset of the first byte in its block, so that blocks are those of the volume.
pub fn runs(bytes: &[u8], phase: usize, block: usize) -> Vec<(Range<usize>, bool)> {
    let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let end = (start + block - (phase + start) % block).min(bytes.len());
        let zero = is_zero(&bytes[start..end]);
        match runs.last_mut() {
            Some((range, same)) if *same == zero => range.end = end,
            _ => runs.push((start..end, zero)),
        }
        start = end;
    }
    runs
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // By halves of a cache line, which the compiler turns into vector code.
    let chunks = bytes.chunks_exact(32);
    chunks.remainder().iter().all(|&byte| byte == 0)
        && chunks
            .into_iter()
            .all(|chunk| chunk.iter().fold(0, |or, &byte| or | byte) == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn runs_follow_the_blocks_of_the_volume() {
        let mut bytes = vec![0; 40];
        bytes[17] = 1;
        assert_eq!(
            runs(&bytes, 0, 8),
            [(0..16, true), (16..24, false), (24..40, true)]
        );
        assert_eq!(
            runs(&bytes, 4, 8),
            [(0..12, true), (12..20, false), (20..40, true)]
        );
        assert_eq!(runs(&[], 0, 8), []);
        assert_eq!(runs(&[0; 3], 7, 8), [(0..3, true)]);
    }

    #[test]
    fn zero_is_told_from_almost_zero() {
        for len in [0, 1, 31, 32, 33, 4096] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            for at in 0..len {
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "{at} of {len}");
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn data_ranges_cover_all_data_of_a_sparse_file() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(10 << 20).expect("a length");
        file.write_all_at(&[1; 100], (3 << 20) + 5)
            .expect("a write");
        file.write_all_at(&[1; 100], (10 << 20) - 100)
            .expect("a write");
        let ranges: io::Result<Vec<_>> = DataRanges::new(&file, 10 << 20, 65536).collect();
        let ranges = ranges.expect("ranges");
        let mut end = 0;
        for range in &ranges {
            assert!(
                range.start >= end && range.start.is_multiple_of(65536),
                "{ranges:?}"
            );
            end = range.end;
        }
        let covers = |at: u64| ranges.iter().any(|range| range.contains(&at));
        assert!(covers((3 << 20) + 5) && covers((3 << 20) + 104) && covers((10 << 20) - 1));
        let none: io::Result<Vec<_>> = DataRanges::new(&file, 0, 4096).collect();
        assert!(none.expect("ranges").is_empty());
    }
}

//! Seeded changes of inputs, of the kinds that fuzzers make.

/// Numbers that are at the edge of something.
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 63,
    u64::MAX,
];

/// Draws changes from a seed (splitmix64).
pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// One of the inputs with one to four changes.
    pub fn change(&mut self, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].1.clone();
        for _ in 0..=self.below(4) {
            self.change_once(&mut input, corpus);
        }
        input
    }

    fn change_once(&mut self, input: &mut Vec<u8>, corpus: &[(String, Vec<u8>)]) {
        // Most of what is at the front is a header.
        let len = input.len();
        let near = if self.below(2) == 0 {
            len.min(128)
        } else {
            len
        };
        let at = self.below(near);
        match self.below(8) {
            0 if len > 0 => input[at] ^= 1 << self.below(8),
            1 if len > 0 => input[at] = self.next() as u8,
            2 | 3 => self.set_number(input, at),
            4 => input.truncate(at),
            5 => {
                let count = self.below(64).min(len - at);
                input.drain(at..at + count);
            }
            6 => {
                let count = self.below(64).min(len - at);
                let piece = input[at..at + count].to_vec();
                let to = self.below(len);
                input.splice(to..to, piece);
            }
            _ => {
                let other = &corpus[self.below(corpus.len())].1;
                let from = self.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }

    /// Puts a number at an edge, or one more or less, into 1, 2, 4 or 8 bytes.
    fn set_number(&mut self, input: &mut [u8], at: usize) {
        let len = 1 << self.below(4);
        let Some(bytes) = input.get_mut(at..at + len) else {
            return;
        };
        let mut old = [0; 8];
        old[..len].copy_from_slice(bytes);
        let old = u64::from_le_bytes(old);
        let new = match self.below(4) {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            _ => EDGES[self.below(EDGES.len())],
        };
        bytes.copy_from_slice(&new.to_le_bytes()[..len]);
    }
}

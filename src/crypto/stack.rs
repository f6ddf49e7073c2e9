//! Wiping what work with keys leaves on the stack.

use std::hint::black_box;

use zeroize::Zeroize;

/// Words of eight bytes: 16 KiB, which is taken to be more than work with a key uses.
const WORDS: usize = 2 << 10;

/// Does work with a key and wipes the stack that it used.
///
/// Key schedules are wiped when they are dropped, but not where they were before they were moved:
/// the first bytes of a schedule are the key.
pub(super) fn on_clean_stack<T>(work: impl FnOnce() -> T) -> T {
    let done = below(work);
    wipe();
    done
}

/// In a frame of its own, so that all that `work` uses lies where [`wipe`] has its words.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn wipe() {
    let mut words = [0_u64; WORDS];
    words.zeroize();
    black_box(&words);
}

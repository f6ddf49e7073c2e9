//! The extents of one context, as a reply to BLOCK_STATUS has them.

use offshoot::{Extent, ExtentKind};

use crate::nbd::protocol::meta::Context;

/// Most extents of one context in one reply.
pub const EXTENTS_MAX: usize = 16_384;

const HOLE: u32 = 1;
const ZERO: u32 = 2;

/// Extents of one context, equal neighbours made one.
#[derive(Debug)]
pub struct Status {
    pub context: Context,
    /// Length and state.
    pub extents: Vec<(u32, u32)>,
    max: usize,
    full: bool,
}

impl Status {
    /// No extents yet, and at most so many.
    pub fn new(context: Context, max: usize) -> Self {
        Self {
            context,
            extents: Vec::new(),
            max,
            full: false,
        }
    }

    /// Takes the next extent, unless there is no room for it or one before had none.
    pub fn push(&mut self, extent: &Extent) {
        // A request is no longer than 32 bits, and so are its extents.
        let Ok(len) = u32::try_from(extent.len) else {
            self.full = true;
            return;
        };
        let state = state(self.context, extent);
        let has_room = self.extents.len() < self.max;
        match self.extents.last_mut() {
            _ if self.full => {}
            Some((last_len, last)) if *last == state => match last_len.checked_add(len) {
                Some(sum) => *last_len = sum,
                None => self.full = true,
            },
            _ if has_room => self.extents.push((len, state)),
            _ => self.full = true,
        }
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.full
    }
}

fn state(context: Context, extent: &Extent) -> u32 {
    match (context, extent.kind) {
        (Context::Allocation, ExtentKind::Data) => 0,
        (Context::Allocation, ExtentKind::Zero) => ZERO,
        (Context::Allocation, ExtentKind::Hole) => HOLE | ZERO,
        (Context::Depth, _) => extent.depth,
    }
}

//! Signals, where dying of them would leave half-done work behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{SigId, flag, low_level};

use crate::caller::Caller;
use crate::exit::{Failure, Result};

/// Notices SIGINT and SIGTERM as long as it lives; a second one kills at once.
pub struct Interrupt {
    noticed: Arc<AtomicBool>,
    hooks: Vec<SigId>,
    caller: Caller,
}

impl Interrupt {
    /// Begins to notice. A signal that cannot be caught keeps its old effect.
    pub fn new() -> Self {
        let noticed = Arc::new(AtomicBool::new(false));
        let hooks = [SIGINT, SIGTERM].into_iter().flat_map(|signal| {
            // In this order: the first signal finds the flag still down.
            let kill = flag::register_conditional_default(signal, Arc::clone(&noticed));
            let note = flag::register(signal, Arc::clone(&noticed));
            [kill, note].into_iter().flatten()
        });
        Self {
            hooks: hooks.collect(),
            noticed,
            caller: Caller::Here,
        }
    }

    /// Notices too that whoever asked for the work has left.
    pub fn of(caller: &Caller) -> Self {
        let mut interrupt = Self::new();
        interrupt.caller = caller.clone();
        interrupt
    }

    /// Fails if a signal came.
    pub fn check(&self) -> Result {
        if self.noticed.load(Ordering::Relaxed) || self.caller.has_left() {
            return Err(Failure::Cancelled("interrupted before the end"));
        }
        Ok(())
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for hook in self.hooks.drain(..) {
            low_level::unregister(hook);
        }
    }
}

/// Makes a passed file size limit an error of the write, not a signal that kills.
pub fn keep_large_file_errors() {
    // If this fails, the signal kills as it always did.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_noticed_once_somebody_asks() {
        let interrupt = Interrupt::new();
        assert!(interrupt.check().is_ok());
        low_level::raise(SIGTERM).expect("a signal");
        assert!(matches!(interrupt.check(), Err(Failure::Cancelled(_))));
    }
}

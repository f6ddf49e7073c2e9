//! Work that goes no faster than it may.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::exit::Result;
use crate::interrupt::Interrupt;
use crate::sizes;

/// The option of work that can be slowed down.
#[derive(Args, Clone, Copy, Debug)]
pub struct Rate {
    /// Most bytes a second
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate: Option<u64>,
}

/// Work that goes no faster than it may.
#[derive(Debug)]
pub struct Pace {
    rate: Option<u64>,
    began: Instant,
}

fn rate(text: &str) -> Result<u64, String> {
    match sizes::parse(text)? {
        0 => Err("at least 1 byte a second".to_owned()),
        rate => Ok(rate),
    }
}

impl Rate {
    /// Work begins now.
    pub fn begin(self) -> Pace {
        Pace {
            rate: self.rate,
            began: Instant::now(),
        }
    }
}

impl Pace {
    /// Waits as long as so much work should have taken, but not longer than a signal lets.
    pub fn wait(&self, done: u64, interrupt: &Interrupt) -> Result {
        let Some(rate) = self.rate else {
            return interrupt.check();
        };
        let due = Duration::from_secs_f64(done as f64 / rate as f64);
        let mut left = due.saturating_sub(self.began.elapsed());
        while !left.is_zero() {
            let part = left.min(Duration::from_millis(100));
            thread::sleep(part);
            interrupt.check()?;
            left -= part;
        }
        interrupt.check()
    }
}

//! A load that pgbench makes, and what it says of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::commands::demo::image::check;
use crate::exit::{Failure, Result};

/// A load that runs. It is killed when this is dropped.
pub struct Load {
    child: Option<Child>,
    dir: PathBuf,
    name: String,
}

/// What a load found.
pub struct Loaded {
    pub per_second: f64,
    pub longest_ms: f64,
}

impl Load {
    /// Starts pgbench, which notes its transactions in files of that name in a directory.
    pub fn start(pgbench: &mut Command, dir: &Path, name: &str) -> Result<Self> {
        let child = pgbench
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::io("run", "pgbench", error))?;
        Ok(Self {
            child: Some(child),
            dir: dir.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Waits for its end. A transaction that failed is an error.
    pub fn finish(mut self) -> Result<Loaded> {
        let Some(child) = self.child.take() else {
            return Err(Failure::Cancelled("the load was not started"));
        };
        let output = child
            .wait_with_output()
            .map_err(|error| Failure::io("wait for", "pgbench", error))?;
        check("pgbench", &output)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let unknown = || {
            let text = "its summary has no number of transactions a second";
            Failure::io("run", "pgbench", io::Error::other(text))
        };
        Ok(Loaded {
            per_second: per_second(&said).ok_or_else(unknown)?,
            longest_ms: self.longest_ms()?,
        })
    }

    /// The longest transaction of those that were noted.
    fn longest_ms(&self) -> Result<f64> {
        let fail = |error| Failure::io("read", self.dir.display(), error);
        let mut longest = 0;
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            let begin = format!("{}.", self.name);
            if name.to_string_lossy().starts_with(&begin) {
                let text = fs::read_to_string(entry.path()).map_err(fail)?;
                longest = longest.max(longest_us(&text));
            }
        }
        Ok(longest as f64 / 1e3)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The rate in a summary of pgbench.
fn per_second(summary: &str) -> Option<f64> {
    let mut lines = summary.lines();
    let line = lines.find_map(|line| line.strip_prefix("tps = "))?;
    line.split(' ').next()?.parse().ok()
}

/// The longest time in a log of pgbench: client, number, microseconds, and more in a line.
fn longest_us(log: &str) -> u64 {
    let times = log.lines().filter_map(|line| line.split(' ').nth(2));
    let times = times.filter_map(|time| time.parse().ok());
    times.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_and_the_longest_time_are_found_in_what_pgbench_says() {
        let summary = "scaling factor: 20\nlatency average = 1.5 ms\n\
                       tps = 1312.406219 (without initial connection time)\n";
        assert_eq!(per_second(summary), Some(1312.406219));
        assert_eq!(per_second("no summary"), None);
        let log = "0 1 1530 0 1700000000 1\n1 1 98001 0 1700000000 7\n0 2 12 0 1700000000 9\n";
        assert_eq!(longest_us(log), 98001);
        assert_eq!(longest_us(""), 0);
    }
}

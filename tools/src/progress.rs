//! How far long work is, on stderr: a bar on a terminal, or JSON lines.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli;

/// The least time between two JSON lines.
const INTERVAL: Duration = Duration::from_millis(500);

/// Shows how far one operation is.
pub struct Progress {
    operation: &'static str,
    total: Option<u64>,
    done: u64,
    form: Form,
}

enum Form {
    None,
    Bar(ProgressBar),
    Json { last: Instant },
}

impl Progress {
    /// Begins; `total` in bytes if it is known.
    pub fn new(
        how: cli::Progress,
        quiet: bool,
        operation: &'static str,
        total: Option<u64>,
    ) -> Self {
        let form = match how {
            cli::Progress::Json => Form::Json {
                last: Instant::now(),
            },
            cli::Progress::Auto if !quiet && io::stderr().is_terminal() => {
                Form::Bar(bar(operation, total))
            }
            _ => Form::None,
        };
        Self {
            operation,
            total,
            done: 0,
            form,
        }
    }

    /// The work has come to this many bytes.
    pub fn at(&mut self, done: u64) {
        self.done = done;
        match &mut self.form {
            Form::None => {}
            Form::Bar(bar) => bar.set_position(done),
            Form::Json { last } if last.elapsed() < INTERVAL => {}
            Form::Json { last } => {
                *last = Instant::now();
                self.line("running");
            }
        }
    }

    /// The work is done.
    pub fn finish(mut self) {
        if let Form::Json { .. } = self.form {
            self.total = Some(self.done);
            self.line("done");
        }
    }

    fn line(&self, state: &str) {
        let progress = json!({
            "operation": self.operation,
            "state": state,
            "done_bytes": self.done,
            "total_bytes": self.total,
        });
        // Progress that nobody reads must not stop the work.
        let _ = writeln!(
            io::stderr(),
            "{}",
            json!({ "schema": "progress/1", "progress": progress })
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

fn bar(operation: &'static str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}",
        ),
    };
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(operation);
    bar
}

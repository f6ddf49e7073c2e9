//! How far long work is, on stderr: a bar on a terminal, or JSON lines.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::caller::Caller;
use crate::cli;
use crate::control::client::Client;
use crate::control::wire::Step;

/// The least time between two JSON lines.
const INTERVAL: Duration = Duration::from_millis(500);

/// Shows how far one operation is.
pub struct Progress {
    operation: Cow<'static, str>,
    total: Option<u64>,
    done: u64,
    form: Form,
}

enum Form {
    None,
    Bar(ProgressBar),
    Json {
        last: Instant,
    },
    /// Another process shows it, if it is to be shown.
    Client {
        client: Arc<Client>,
        last: Instant,
    },
}

impl Progress {
    /// Begins; `total` in bytes if it is known.
    pub fn new(
        caller: &Caller,
        how: cli::Progress,
        quiet: bool,
        operation: impl Into<Cow<'static, str>>,
        total: Option<u64>,
    ) -> Self {
        let (operation, last) = (operation.into(), Instant::now());
        let form = match (caller, how) {
            (Caller::Client(client), _) => Form::Client {
                client: client.clone(),
                last,
            },
            (Caller::Here, cli::Progress::Json) => Form::Json { last },
            (Caller::Here, cli::Progress::Auto) if !quiet && io::stderr().is_terminal() => {
                Form::Bar(bar(operation.clone(), total))
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
            Form::Client { last, .. } if last.elapsed() < INTERVAL => {}
            Form::Client { last, .. } => {
                *last = Instant::now();
                self.tell(false);
            }
        }
    }

    /// The work is done.
    pub fn finish(mut self) {
        match &self.form {
            Form::Json { .. } => {
                self.total = Some(self.done);
                self.line("done");
            }
            Form::Client { .. } => self.tell(true),
            Form::None | Form::Bar(_) => {}
        }
    }

    fn tell(&self, finished: bool) {
        if let Form::Client { client, .. } = &self.form {
            client.show(Step {
                operation: self.operation.to_string(),
                done: self.done,
                total: self.total,
                finished,
            });
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

fn bar(operation: Cow<'static, str>, total: Option<u64>) -> ProgressBar {
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

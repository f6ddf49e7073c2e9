//! What each step did, as a table at the end.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Failure, Result};
use crate::output;
use crate::sizes;

/// What the steps did so far.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

struct Row {
    step: String,
    time: Duration,
    added: Option<u64>,
    check: String,
}

/// How a step ended.
pub struct Outcome {
    /// Bytes that the store grew by, if the step is about that.
    pub added: Option<u64>,
    /// What was found.
    pub check: String,
    /// The time to show, if it is not that of the whole step.
    pub time: Option<Duration>,
}

impl Outcome {
    /// A step that adds nothing.
    pub fn of(check: impl Into<String>) -> Self {
        Self {
            added: None,
            check: check.into(),
            time: None,
        }
    }
}

impl Report {
    /// Runs a step and keeps how it ended.
    pub fn step(
        &mut self,
        context: &Context,
        name: &str,
        work: impl FnOnce() -> Result<Outcome>,
    ) -> Result {
        let spinner = context.progress("demo", None);
        let start = Instant::now();
        let outcome = work()?;
        drop(spinner);
        self.rows.push(Row {
            step: name.to_owned(),
            time: outcome.time.unwrap_or_else(|| start.elapsed()),
            added: outcome.added,
            check: outcome.check,
        });
        Ok(())
    }

    /// Keeps something that the reader is to know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Prints the table.
    pub fn print(&self, context: &Context) -> Result {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let document = json!({ "schema": "demo/1", "steps": rows, "notes": self.notes });
        let mut table = output::new_table();
        table.set_header(["step", "time", "bytes added", "check"]);
        for row in &self.rows {
            let added = row.added.map_or_else(|| "-".to_owned(), sizes::human);
            table.add_row([row.step.clone(), time(row.time), added, row.check.clone()]);
        }
        let notes: String = self.notes.iter().map(|note| format!("{note}\n")).collect();
        context
            .output
            .document(&document, &format!("{table}\n{notes}"))
    }
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "step": self.step,
            "seconds": self.time.as_secs_f64(),
            "added_bytes": self.added,
            "check": self.check,
        })
    }
}

/// The check's words if it held, else an error that says that it did not.
pub fn holds(it_does: bool, words: &str) -> Result<String> {
    match it_does {
        true => Ok(words.to_owned()),
        false => Err(Failure::io(
            "prove",
            format!("{words:?}: it does not hold, which is a bug"),
            ErrorKind::InvalidData.into(),
        )),
    }
}

fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds if seconds >= 0.01 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{:.2} ms", seconds * 1e3),
    }
}

//! Standard output, and readers of it that go away.

use std::io::{self, BufWriter, Write};

use comfy_table::Table;

use crate::caller::Caller;
use crate::control::client::ClientOutput;
use crate::exit::{Failure, Result};

/// Standard output, buffered. A reader that went away is `Failure::StdoutClosed`.
pub struct Out(BufWriter<Box<dyn Write>>);

impl Out {
    /// Takes this process's standard output.
    pub fn here() -> Self {
        Self::of(Box::new(io::stdout().lock()))
    }

    /// Takes the standard output of whose command it is.
    pub fn to(caller: &Caller) -> Self {
        match caller {
            Caller::Here => Self::here(),
            Caller::Client(client) => Self::of(Box::new(ClientOutput(client.clone()))),
        }
    }

    fn of(output: Box<dyn Write>) -> Self {
        Self(BufWriter::with_capacity(64 << 10, output))
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result {
        self.0.write_all(bytes).map_err(stdout_failure)
    }

    /// Makes sure that all is written.
    pub fn finish(mut self) -> Result {
        self.flush()
    }

    /// Makes sure that what there is so far is written.
    pub fn flush(&mut self) -> Result {
        self.0.flush().map_err(stdout_failure)
    }

    /// Writes a line.
    pub fn line(&mut self, line: &str) -> Result {
        self.write(line.as_bytes())?;
        self.write(b"\n")
    }

    /// Writes a table.
    pub fn table(&mut self, table: &Table) -> Result {
        table
            .lines()
            .try_for_each(|line| self.line(line.trim_end()))
    }
}

fn stdout_failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::StdoutClosed,
        _ => Failure::io("write", "standard output", error),
    }
}

//! Asking before something is lost.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use crate::exit::{Failure, Result};

/// The options of a command that loses data.
#[derive(Args, Debug)]
pub struct Confirm {
    /// Only say what would happen
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do not ask; needed when stdin is no terminal
    #[arg(short, long)]
    pub yes: bool,
}

impl Confirm {
    /// Refuses at once what nobody could be asked about.
    pub fn check(&self, what: &str) -> Result {
        if self.dry_run || self.yes || io::stdin().is_terminal() {
            return Ok(());
        }
        let text = format!("{what}: confirm with --yes, since stdin is no terminal to ask on");
        Err(Failure::Invalid(text))
    }

    /// Asks. The answer no is `Cancelled`.
    pub fn ask(&self, question: &str) -> Result {
        if self.yes {
            return Ok(());
        }
        self.check(question)?;
        let mut stderr = io::stderr().lock();
        let asked = write!(stderr, "{question}? [y/N] ").and_then(|()| stderr.flush());
        let mut answer = String::new();
        let read = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
        read.map_err(|error| Failure::io("ask", "on the terminal", error))?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::Cancelled("nothing was changed")),
        }
    }
}

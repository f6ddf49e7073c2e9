//! Asking before something is lost.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use crate::caller::Caller;
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
    pub fn check(&self, caller: &Caller, what: &str) -> Result {
        let somebody_is_there = match caller {
            Caller::Here => can_ask(),
            Caller::Client(client) => client.can_ask(),
        };
        if self.dry_run || self.yes || somebody_is_there {
            return Ok(());
        }
        let text = format!("{what}: confirm with --yes, since stdin is no terminal to ask on");
        Err(Failure::Invalid(text))
    }

    /// Asks. The answer no is `Cancelled`.
    pub fn ask(&self, caller: &Caller, question: &str) -> Result {
        if self.yes {
            return Ok(());
        }
        self.check(caller, question)?;
        let answer = match caller {
            Caller::Here => ask_here(question)?,
            Caller::Client(client) => client.ask(question)?,
        };
        match answer {
            true => Ok(()),
            false => Err(Failure::Cancelled("nothing was changed")),
        }
    }
}

/// Whether somebody can be asked here.
pub fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks on this process's terminal.
pub fn ask_here(question: &str) -> Result<bool> {
    let mut stderr = io::stderr().lock();
    let asked = write!(stderr, "{question}? [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
    read.map_err(|error| Failure::io("ask", "on the terminal", error))?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

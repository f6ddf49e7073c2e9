//! Telling errors: to people, or as JSON; and the exit codes of `fsck`, which has its own.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::json;

use crate::cli::{Cli, Color, Format};
use crate::commands::Command;
use crate::exit::Failure;

/// How errors are to be told.
pub struct Report {
    json: bool,
    color: Color,
    fsck: bool,
}

impl Report {
    /// As the command line says.
    pub fn new(cli: &Cli) -> Self {
        let global = &cli.global;
        Self {
            json: global.json || matches!(global.output, Some(Format::Json | Format::Jsonl)),
            color: global.color,
            fsck: matches!(cli.command, Command::Fsck(_)),
        }
    }

    /// Tells an error and gives its exit code; a closed standard output is none.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        let (kind, code) = failure.class();
        if matches!(failure, Failure::StdoutClosed) {
            return ExitCode::SUCCESS;
        }
        let code = if self.fsck { fsck_code(failure) } else { code };
        self.tell(kind, &failure.message(), code);
        ExitCode::from(code)
    }

    fn tell(&self, kind: &str, message: &str, code: u8) {
        let mut stderr = io::stderr().lock();
        // There is nobody left to tell if this fails.
        let _ = if self.json {
            let error = json!({ "kind": kind, "message": message, "exit_code": code });
            writeln!(stderr, "{}", json!({ "schema": "error/1", "error": error }))
        } else if self.color.enabled(stderr.is_terminal()) {
            writeln!(stderr, "\x1b[1;31merror:\x1b[0m {message}")
        } else {
            writeln!(stderr, "error: {message}")
        };
    }
}

/// Tells what is amiss, while the work goes on.
pub fn warn(message: &str) {
    // If nobody hears it, the work goes on all the same.
    let _ = writeln!(io::stderr(), "warning: {message}");
}

/// `fsck` has the exit codes of fsck(8).
fn fsck_code(failure: &Failure) -> u8 {
    match failure {
        Failure::Invalid(_) => 16,
        Failure::Cancelled(_) => 32,
        _ => 8,
    }
}

/// Tells what clap has to say: help and versions are no errors.
pub fn refuse(error: &clap::Error, args: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        // A reader that went away has seen enough of the help.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let words: Vec<_> = args.iter().skip(1).filter_map(|arg| arg.to_str()).collect();
    let json = words
        .iter()
        .any(|word| matches!(*word, "--json" | "-ojson" | "-ojsonl"))
        || words.windows(2).any(|pair| {
            matches!(pair[0], "-o" | "--output") && matches!(pair[1], "json" | "jsonl")
        })
        || words
            .iter()
            .any(|word| matches!(*word, "--output=json" | "--output=jsonl"));
    let code = if Cli::names_fsck(&words) { 16 } else { 2 };
    if json {
        let text = error.to_string();
        let message = text
            .trim_start_matches("error: ")
            .lines()
            .next()
            .unwrap_or_default();
        Report {
            json,
            color: Color::Never,
            fsck: false,
        }
        .tell("invalid", message, code);
    } else {
        let _ = error.print();
    }
    ExitCode::from(code)
}

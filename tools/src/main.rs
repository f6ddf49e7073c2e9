//! The `offshoot` command line: it parses, calls the library, prints.
//!
//! Nothing here knows the disk format, and nothing prints but `output`, `progress` and `exit`.
#![deny(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod cli;
mod commands;
mod confirm;
mod context;
mod exit;
mod interrupt;
mod output;
mod places;
mod progress;
mod refs;
mod sizes;
mod source;
mod sparse;
mod transfer;
mod views;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    interrupt::keep_large_file_errors();
    let args: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return exit::refuse(&error, &args),
    };
    let report = exit::Report::new(&cli);
    match commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report.fail(&failure),
    }
}

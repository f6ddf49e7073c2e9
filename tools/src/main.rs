//! The `offshoot` command line: it parses, calls the library, prints.
//!
//! Nothing here knows the disk format, and nothing prints but `stdout`, `progress`,
//! `confirm` and `report`.
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
mod memory;
mod nbd;
mod output;
mod pace;
mod places;
mod progress;
mod refs;
mod render;
mod report;
mod session;
mod sizes;
mod source;
mod sparse;
mod stdout;
mod sys;
mod transfer;
mod views;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    interrupt::keep_large_file_errors();
    memory::keep_from_dumps();
    let args: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return report::refuse(&error, &args),
    };
    let report = report::Report::new(&cli);
    match commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report.fail(&failure),
    }
}

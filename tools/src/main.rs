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

mod caller;
mod cli;
mod commands;
mod confirm;
mod context;
mod control;
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
use crate::context::Context;

fn main() -> ExitCode {
    interrupt::keep_large_file_errors();
    memory::keep_from_dumps();
    let args: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return report::refuse(&error, &args),
    };
    let report = report::Report::new(&cli);
    let needs_own_process = cli.command.needs_own_process();
    let done = Context::new(&cli.global, args).and_then(|context| {
        let done = commands::run(&context, cli.command);
        done.or_else(|failure| control::asker::instead(&context, needs_own_process, failure))
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report.fail(&failure),
    }
}

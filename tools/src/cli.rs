//! The command line's shape: what holds for every command.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

use crate::commands::Command;

/// An encrypted block store with real copy-on-write volumes
///
/// Sizes: 8G and 8GiB are 8 x 2^30 bytes, 8GB is 8,000,000,000; a plain number is bytes.
/// A store in use: the process that has it runs the command; see `offshoot serve nbd --help`.
/// References: NAME is a volume, NAME@SNAPSHOT or @SNAPSHOT a snapshot. Snapshots have names of
/// their own, unique in a region whatever volume they are of.
#[derive(Debug, Parser)]
#[command(name = "offshoot", version, max_term_width = 100, after_help = EXAMPLE)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

const EXAMPLE: &str = "\
Example:
  offshoot store init
  offshoot volume create pg --size 10G
  offshoot clone create pg pg-test

Exit codes: 0 done, 1 failed, 2 usage, 10 no store there, 11 locked, 12 key unavailable or wrong
KMS, 13 access denied, 14 not found, 15 already exists, 16 its state forbids it, 17 limit or no
space, 18 integrity, 130 interrupted; `store scrub` 4 damage found. `fsck` has its own: see `offshoot fsck --help`.";

/// Options of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Where regions and keys are [OFFSHOOT_HOME; else ./.offshoot, $XDG_DATA_HOME/offshoot]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// The region: a store and its KMS [OFFSHOOT_REGION; else local]
    #[arg(long, global = true, value_name = "NAME")]
    pub region: Option<String>,
    /// A lone store, in place of --home (give its --kms too)
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// The KMS of a lone store
    #[arg(long, global = true, value_name = "DIR")]
    pub kms: Option<PathBuf>,
    /// Open a store that was set back to an older state; the KMS logs that and goes on from there
    #[arg(long, global = true)]
    pub accept_rollback: bool,
    /// When a KMS key that gets disabled or deleted stops work under way: within a second, or never
    #[arg(long, global = true, value_name = "HOW", default_value = "lease")]
    pub revocation: Revocation,
    /// Form of the output [default: table]
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORM",
        hide_possible_values = false
    )]
    pub output: Option<Format>,
    /// The same as --output json
    #[arg(long, global = true)]
    pub json: bool,
    /// Columns of a table or of plain output, by their names in JSON
    #[arg(long, global = true, value_delimiter = ',', value_name = "A,B")]
    pub columns: Option<Vec<String>>,
    /// Print names only, and no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// When to use colour (NO_COLOR is obeyed)
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// How to show progress on stderr; auto: on a terminal
    #[arg(long, global = true, value_name = "HOW", default_value = "auto")]
    pub progress: Progress,
}

/// When keys in memory are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Revocation {
    /// A second after their KMS key is not available any more.
    Lease,
    /// When the store is closed.
    OnDetach,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON object.
    Json,
    /// One JSON object a line, an item of a list each.
    Jsonl,
    /// Values between tabs, no header.
    Plain,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether to use colour on what may be a terminal.
    pub fn enabled(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }
}

/// How to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A bar on a terminal.
    Auto,
    /// Not at all.
    Never,
    /// JSON lines.
    Json,
}

impl Cli {
    /// Whether the command of a line that cannot be parsed is `fsck`: it has other exit codes.
    pub fn names_fsck(words: &[&str]) -> bool {
        let takes_value = ["--home", "--region", "--store", "--kms", "--output", "-o"];
        let more = ["--columns", "--color", "--progress", "--revocation"];
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if takes_value.contains(word) || more.contains(word) {
                words.next();
            } else if !word.starts_with('-') {
                return *word == "fsck";
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn visit(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            for sub in command.get_subcommands() {
                visit(sub, &path);
            }
            if command.get_subcommands().next().is_none() {
                let help = command
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(
                    help.starts_with("Example:\n") && help.contains("offshoot "),
                    "{path} has no example"
                );
                assert!(
                    command.get_about().is_some(),
                    "{path} does not say what it does"
                );
            }
        }
        visit(&Cli::command(), "");
    }

    #[test]
    fn fsck_is_found_behind_options() {
        assert!(Cli::names_fsck(&[
            "--home",
            "x",
            "--json",
            "fsck",
            "--nonsense"
        ]));
        assert!(!Cli::names_fsck(&["--home", "fsck", "volume", "list"]));
        assert!(!Cli::names_fsck(&[]));
    }
}

//! `key audit`: what was done with the keys, and whether that record is whole.

use offshoot::{AuditLine, AuditReport};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Failure, Result};
use crate::views::{AuditView, time};

/// List what was done with the keys, and check that nothing was changed in it
///
/// Each line of the KMS's audit continues a chain of hashes. A line that was changed or taken away
/// before a change of a key's state breaks it: that is code 18. What a crash left behind is
/// not in the chain and counted apart. Nobody can tell that the last lines were cut off.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  offshoot key audit --verify")]
pub struct Args {
    /// Say only whether it is whole
    #[arg(long)]
    verify: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result {
    let printer = context.output.of::<AuditView>()?;
    let kms = context.kms()?;
    let mut lines = Vec::new();
    let report = kms.audit(|line| {
        if !args.verify {
            lines.push(view(&line));
        }
    })?;
    if args.verify {
        context
            .output
            .document(&document(&report), &text(&report))?;
    } else {
        printer.list(lines.into_iter().map(Ok))?;
    }
    match report.broken_at {
        Some(line) => Err(Failure::Broken(format!(
            "the audit of the KMS was changed: line {line} does not continue it"
        ))),
        None => Ok(()),
    }
}

/// A line that is no JSON has no fields but its number.
fn view(line: &AuditLine<'_>) -> AuditView {
    let fields: Value = serde_json::from_str(line.text).unwrap_or_default();
    let text = |name: &str| fields[name].as_str().map(str::to_owned);
    AuditView {
        line: line.number,
        time: fields["time_ms"].as_u64().map(time),
        action: text("action"),
        key_id: text("key"),
        purpose: text("purpose"),
        store_id: text("store"),
        resource_id: text("resource"),
        in_chain: line.in_chain,
    }
}

fn document(report: &AuditReport) -> Value {
    json!({ "schema": "audit-check/1", "audit": {
        "whole": report.broken_at.is_none(),
        "lines": report.lines,
        "loose_lines": report.loose_lines,
        "broken_at_line": report.broken_at,
    }})
}

fn text(report: &AuditReport) -> String {
    let verdict = match report.broken_at {
        Some(line) => format!("broken at line {line}"),
        None => "whole".to_owned(),
    };
    let (lines, loose) = (report.lines, report.loose_lines);
    format!("audit: {verdict}, {lines} lines in the chain, {loose} others\n")
}

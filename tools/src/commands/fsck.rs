//! `fsck`: the offline check. It changes nothing.

use offshoot::check::{self, CheckOptions, Report};
use offshoot::{Error, FileKms};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Failure, Result};

/// Errors were found and left as they are.
const LEFT: u8 = 4;

/// Check the store; nothing is changed
///
/// The structure is checked without keys; with the KMS at hand what is sealed under the store's
/// own key is checked too. Each finding has a code that never changes, and a class: leak,
/// redundancy_lost, corrupt_metadata, corrupt_data, auth_failure, rollback.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Example:
  offshoot fsck --read-data

Exit codes, those of fsck(8): 0 clean, 4 errors left, 8 could not run (a locked store among the
reasons), 16 usage.")]
pub struct Args {
    /// Read all pages and compare their checksums
    #[arg(long)]
    read_data: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<u8> {
    let kms = kms(context)?;
    let options = CheckOptions::new().read_data(args.read_data);
    let options = match &kms {
        Some(kms) => options.kms(kms),
        None => options,
    };
    let report = check::check(context.places.store(), &options)?;
    context
        .output
        .document(&document(&report), &text(&report))?;
    Ok(if report.is_clean() { 0 } else { LEFT })
}

/// The KMS, if it is there: structure is checked without.
fn kms(context: &Context) -> Result<Option<FileKms>> {
    if context.places.kms().is_err() {
        return Ok(None);
    }
    match context.kms() {
        Ok(kms) => Ok(Some(kms)),
        Err(Failure::Library(Error::NotAStore { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

fn document(report: &Report) -> Value {
    let findings = report.findings.iter().map(|finding| {
        json!({
            "code": finding.code,
            "class": finding.class.as_str(),
            "location": finding.location,
            "message": finding.message,
        })
    });
    let findings: Vec<_> = findings.collect();
    json!({ "schema": "fsck/1", "fsck": { "clean": report.is_clean(), "findings": findings } })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let (code, class) = (finding.code, finding.class.as_str());
        text += &format!(
            "{code} {class}: {}: {}\n",
            finding.location, finding.message
        );
    }
    match report.findings.len() {
        0 => text += "clean\n",
        1 => text += "1 finding\n",
        count => text += &format!("{count} findings\n"),
    }
    text
}

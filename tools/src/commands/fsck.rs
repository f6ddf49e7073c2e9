//! `fsck`: the offline check. It changes nothing.

use std::sync::Arc;

use offshoot::check::{self, CheckOptions, Report, Stats};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Result;
use crate::sizes;

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
    let options = CheckOptions::new().read_data(args.read_data);
    let options = match context.kms_if_there()? {
        Some(kms) => options.kms(Arc::new(kms)),
        None => options,
    };
    let report = check::check_dir(context.places.store(), &options)?;
    context
        .output
        .document(&document(&report), &text(&report))?;
    Ok(if report.is_clean() { 0 } else { LEFT })
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
    json!({ "schema": "fsck/1", "fsck": {
        "clean": report.is_clean(),
        "findings": findings,
        "more_findings": report.more_findings,
        "stats": stats(&report.stats),
    }})
}

fn stats(stats: &Stats) -> Value {
    json!({
        "authenticated": stats.authenticated,
        "complete": stats.complete,
        "closed_cleanly": stats.clean,
        "generation": stats.generation,
        "last_seq": stats.last_seq.0,
        "durable_through": stats.durable_through.0,
        "log_batches": stats.log_batches,
        "torn_tail": stats.torn_tail,
        "segments": stats.segments,
        "unused_segments": stats.unused_segments,
        "leftover_files": stats.leftover_files,
        "spares": stats.spares,
        "volumes": stats.volumes,
        "snapshots": stats.snapshots,
        "pins": stats.pins,
        "tombstones": stats.tombstones,
        "lineage_epochs": stats.lineage_epochs,
        "key_epochs": stats.key_epochs,
        "nodes": stats.nodes,
        "pages": stats.pages,
        "data_bytes": stats.data_bytes,
        "pages_read": stats.pages_read,
    })
}

fn text(report: &Report) -> String {
    let stats = &report.stats;
    let mut text = format!("{report}\n");
    let data = sizes::human(stats.data_bytes);
    text += &format!(
        "volumes {}, snapshots {}, pins {}, ",
        stats.volumes, stats.snapshots, stats.pins
    );
    text += &format!(
        "pages {} ({data}), page table nodes {}, ",
        stats.pages, stats.nodes
    );
    text += &format!("segments {}\n", stats.segments);
    if stats.pages_read > 0 {
        text += &format!("pages read and compared {}\n", stats.pages_read);
    }
    if !stats.authenticated {
        text += "not authenticated: that takes the KMS\n";
    }
    text
}

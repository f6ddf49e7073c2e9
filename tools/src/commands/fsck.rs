//! `fsck`: the offline check. Without `--repair` it changes nothing.

use std::sync::Arc;
use std::time::SystemTime;

use offshoot::Options;
use offshoot::check::{self, CheckOptions, Finding, LostPages, Repair, Report, Sample, Stats};
use serde_json::{Value, json};

use crate::commands::offline::Offline;
use crate::context::Context;
use crate::exit::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::sizes;

/// Errors were found and corrected.
const CORRECTED: u8 = 1;
/// Errors were found and left as they are.
const LEFT: u8 = 4;
/// The user ended it.
const CANCELLED: u8 = 32;

/// Check the store, and with --repair mend what follows from the rest of it
///
/// Without --repair nothing is changed.
/// The structure is checked without keys; with the KMS at hand what is sealed under the store's
/// own key is checked too. Each finding has a code that never changes, a class (leak,
/// redundancy_lost, corrupt_metadata, corrupt_data, auth_failure, rollback), a severity (notice,
/// warning, error, alarm), and says what a repair does about it: see docs/fsck-codes.md.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Example:
  offshoot fsck --read-data
  offshoot fsck --read-data=10%
  offshoot fsck --volume pg@monday --keys
  offshoot fsck --repair --dry-run

Exit codes, bits as those of fsck(8): 0 clean, 1 errors corrected, 4 errors left, 8 could not run (a locked store among the
reasons), 16 usage, 32 interrupted.")]
pub struct Args {
    /// Look only at superblocks, the log's headers and the mark that the KMS keeps
    #[arg(long, conflicts_with_all = ["read_data", "keys", "volume"])]
    quick: bool,
    /// Walk the page table of one volume (NAME) or snapshot (NAME@SNAPSHOT, @SNAPSHOT) only
    #[arg(long, value_name = "REF")]
    volume: Option<String>,
    /// Read pages and compare their checksums: all, or a share that is another one each time
    #[arg(
        long,
        value_name = "PERCENT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100%",
        value_parser = percent
    )]
    read_data: Option<u8>,
    /// Open pages with their keys, to find what is whole and was not written by the store; those
    /// of KMS keys that are not enabled are counted
    #[arg(long)]
    keys: bool,
    /// Write again what follows from the rest: copies of superblocks, older tables, the set of live
    /// slots. Damaged pages (--read-data finds them) are given up: listed, and an error to read until
    /// they are written or discarded. What is damaged otherwise stays, and reading it is an error
    #[arg(long, conflicts_with_all = ["quick", "volume"])]
    repair: bool,
    /// With --repair: only say what it would do
    #[arg(long, requires = "repair")]
    dry_run: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<u8> {
    let store = Offline::open(context)?;
    let options = options(&store, args)?;
    if args.repair && !args.dry_run {
        return repair(context, &store, &options);
    }
    let interrupt = Interrupt::new();
    let mut progress = None;
    let report = check::check_with(&store.disk, &options, &mut |at| {
        let shown = progress.get_or_insert_with(|| context.progress("fsck", Some(at.total_bytes)));
        shown.at(at.done_bytes);
        interrupt.check().is_ok()
    })?;
    if let Some(progress) = progress {
        progress.finish();
    }
    let mut shown = text(&report);
    if args.dry_run {
        shown += &plan(&report);
    }
    context.output.document(&document(&report), &shown)?;
    let left = if report.is_clean() { 0 } else { LEFT };
    Ok(if report.is_cancelled {
        left | CANCELLED
    } else {
        left
    })
}

fn repair(context: &Context, store: &Offline<'_>, options: &CheckOptions) -> Result<u8> {
    let kms = store.kms.clone().ok_or_else(|| no_kms("--repair"))?;
    let directory = context.places.store();
    let repaired = Options::new().repair(directory, kms, options)?;
    let left = &repaired.left;
    let corrected = repaired.found.findings.iter();
    let corrected: Vec<_> = corrected
        .filter(|finding| !left.findings.contains(finding))
        .collect();
    let mut shown = String::new();
    for finding in &corrected {
        shown += &format!("corrected: {finding}\n");
    }
    shown += &text(left);
    let mut document = document(left);
    document["fsck"]["corrected"] = corrected.iter().copied().map(finding).collect();
    context.output.document(&document, &shown)?;
    let bit = |is: bool, bit| if is { bit } else { 0 };
    Ok(bit(repaired.is_changed, CORRECTED) | bit(!left.is_clean(), LEFT))
}

/// What a repair would do.
fn plan(report: &Report) -> String {
    let has = |repair| report.findings.iter().any(|it| it.repair == repair);
    let count = |repair| {
        report
            .findings
            .iter()
            .filter(|it| it.repair == repair)
            .count()
    };
    let mut text = String::new();
    if has(Repair::Checkpoints) {
        text += "a repair would write superblocks and tables again by two checkpoints\n";
    }
    if has(Repair::LiveSlots) {
        text += "a repair would count the live slots again\n";
    }
    if has(Repair::LostPages) {
        text += "a repair would give up the damaged pages that it finds: reading one is an error until all of it is ";
        text += "written or discarded\n";
    }
    if has(Repair::Nothing) {
        text += &format!("a repair would leave {}\n", count(Repair::Nothing));
    }
    text
}

fn options(store: &Offline<'_>, args: &Args) -> Result<CheckOptions> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = CheckOptions::new().workers(workers);
    if let Some(percent) = args.read_data {
        let since = SystemTime::UNIX_EPOCH.elapsed();
        let seed = since.map_or(0, |since| since.subsec_nanos().into());
        options = options.sample_data(Sample { percent, seed });
    }
    if args.quick {
        options = options.quick();
    }
    if let Some(reference) = &args.volume {
        let (kind, name) = store.head(reference)?;
        options = options.only(kind, &name);
    }
    if args.keys {
        // Without the KMS nothing can be opened, and it is what the user misses.
        store.kms.as_ref().ok_or_else(|| no_kms("--keys"))?;
        options = options.open_pages();
    }
    Ok(match &store.kms {
        Some(kms) => options.kms(Arc::new(kms.clone())),
        None => options,
    })
}

fn no_kms(what: &str) -> Failure {
    Failure::Invalid(format!(
        "{what} takes the KMS: name it with --home or --kms"
    ))
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    let number = number.ok().filter(|percent| (1..=100).contains(percent));
    number.ok_or_else(|| "write a share from 1% to 100%".to_owned())
}

fn document(report: &Report) -> Value {
    let findings: Vec<_> = report.findings.iter().map(finding).collect();
    json!({ "schema": "fsck/1", "fsck": {
        "clean": report.is_clean(),
        "cancelled": report.is_cancelled,
        "findings": findings,
        "more_findings": report.more_findings,
        "notes": report.notes,
        "lost": report.lost.iter().map(lost).collect::<Vec<_>>(),
        "stats": stats(&report.stats),
    }})
}

fn finding(finding: &Finding) -> Value {
    json!({
        "code": finding.code,
        "class": finding.class.as_str(),
        "severity": finding.class.severity().as_str(),
        "location": finding.place.text,
        "segment": finding.place.at.map(|at| at.segment.0),
        "slot": finding.place.at.map(|at| at.slot),
        "head": finding.place.head,
        "page": finding.place.page.map(|page| page.0),
        "message": finding.message,
        "repair": finding.repair.as_str(),
    })
}

fn lost(pages: &LostPages) -> Value {
    json!({ "head": pages.head, "page": pages.first.0, "count": pages.count })
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
        "used_bytes": stats.used_bytes,
        "quota": {
            "bytes": stats.quota.bytes,
            "heads": stats.quota.heads,
            "keep_free": stats.quota.keep_free,
        },
        "volumes": stats.volumes,
        "snapshots": stats.snapshots,
        "pins": stats.pins,
        "tombstones": stats.tombstones,
        "lineage_epochs": stats.lineage_epochs,
        "key_epochs": stats.key_epochs,
        "nodes": stats.nodes,
        "pages": stats.pages,
        "lost_pages": stats.lost_pages,
        "data_bytes": stats.data_bytes,
        "pages_read": stats.pages_read,
        "pages_opened": stats.pages_opened,
        "pages_locked": stats.pages_locked,
        "locked_heads": stats.locked_heads,
    })
}

fn text(report: &Report) -> String {
    let stats = &report.stats;
    let mut text = String::new();
    for pages in &report.lost {
        let LostPages { head, first, count } = pages;
        let last = first.0 + (count - 1);
        text += &match count {
            1 => format!("lost: page {first} of {head}\n"),
            _ => format!("lost: pages {first} to {last} of {head}\n"),
        };
    }
    for note in &report.notes {
        text += &format!("note: {note}\n");
    }
    text += &format!("{report}\n");
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
    if stats.lost_pages > 0 {
        text += &format!("pages lost, given up by a repair {}\n", stats.lost_pages);
    }
    if stats.pages_opened + stats.pages_locked > 0 {
        let (opened, locked) = (stats.pages_opened, stats.pages_locked);
        text += &format!("pages opened {opened}, locked {locked}");
        text += &format!(" (volumes and snapshots locked: {})\n", stats.locked_heads);
    }
    if report.is_cancelled {
        text += "interrupted: what comes after was not looked at\n";
    }
    if !stats.authenticated {
        text += "not authenticated: that takes the KMS\n";
    }
    text
}

//! `store scrub`.

use clap::Args;
use offshoot::{Error, ScrubFinding, ScrubOptions, ScrubState};
use serde_json::{Value, json};

use crate::context::{Access, Context};
use crate::exit::Result;
use crate::interrupt::Interrupt;
use crate::pace::Rate;
use crate::session::Session;
use crate::sizes;
use crate::views::time;

/// Something is damaged, as `fsck` says it.
const DAMAGED: u8 = 4;

/// Read everything live and compare it with its checksums and tags, also while the store is in use
///
/// Superblocks, tables, nodes of page tables and pages are read from their files, past the cache of the
/// operating system where that can be. Pages of volumes whose key is locked are compared with their checksums only. Nothing is repaired. What
/// is found is kept in the store, until a scrub of everything does not find it any more. Interrupted, the next scrub of the
/// same goes on where it was; one of something else in between makes it begin anew.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  offshoot store scrub --rate 50M
  offshoot store scrub --volume pg --volume pg@monday
  offshoot store scrub --findings

Exit codes: 4 if something is damaged; others as those of every command.")]
pub struct Scrub {
    #[command(flatten)]
    rate: Rate,
    /// Only this volume (NAME) or snapshot (NAME@SNAPSHOT, @SNAPSHOT); it may be given several times
    #[arg(long = "volume", value_name = "REF")]
    volumes: Vec<String>,
    /// Begin anew, also if a scrub was interrupted
    #[arg(long)]
    restart: bool,
    /// Read nothing: show what scrubs have found
    #[arg(long, conflicts_with_all = ["rate", "volumes", "restart"])]
    findings: bool,
}

/// What came of a scrub.
struct Outcome {
    bytes: u64,
    locked_bytes: u64,
    found: Vec<ScrubFinding>,
    unsaved: Option<String>,
}

/// Runs the command.
pub fn run(context: &Context, args: &Scrub) -> Result<u8> {
    if args.findings {
        return show(context);
    }
    let outcome =
        context.with_managed_store(Access::Own, |session| work(context, args, session))?;
    let found: Vec<_> = outcome.found.iter().map(finding).collect();
    let document = json!({ "schema": "scrub/1", "scrub": {
        "read_bytes": outcome.bytes,
        "locked_bytes": outcome.locked_bytes,
        "recorded": outcome.unsaved.is_none(),
        "problem": outcome.unsaved,
        "findings": found,
    }});
    let mut text = lines(&outcome.found);
    text += &format!("read {}", sizes::human(outcome.bytes));
    if outcome.locked_bytes > 0 {
        let locked = sizes::human(outcome.locked_bytes);
        text += &format!(", {locked} of it under locked keys: checksums only");
    }
    text += &match outcome.found.len() {
        0 => "; nothing is damaged\n".to_owned(),
        count => format!("; {count} damaged\n"),
    };
    if let Some(problem) = &outcome.unsaved {
        text += &format!("not written down, so that nobody is told later: {problem}\n");
    }
    context.output.document(&document, &text)?;
    Ok(code(&outcome.found))
}

fn work(context: &Context, args: &Scrub, session: &Session) -> Result<Outcome> {
    let mut options = ScrubOptions::new();
    for reference in &args.volumes {
        options = options.only(session.head(reference)?.id()?);
    }
    if args.restart {
        options = options.restart();
    }
    let mut scrub = session.store.scrub(&options)?;
    let (interrupt, pace) = (Interrupt::of(&context.caller), args.rate.begin());
    let mut progress = None;
    let (mut bytes, mut locked_bytes) = (0, 0);
    while let Some(step) = scrub.next().transpose()? {
        bytes += step.bytes;
        locked_bytes += step.locked_bytes;
        let shown = || context.progress("store scrub", Some(step.total_bytes));
        let shown = progress.get_or_insert_with(shown);
        shown.at(step.done_bytes.min(step.total_bytes));
        if let Err(interrupted) = pace.wait(bytes, &interrupt) {
            scrub.save()?;
            return Err(interrupted);
        }
    }
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(Outcome {
        bytes,
        locked_bytes,
        found: scrub.found().cloned().collect(),
        unsaved: scrub.unsaved().map(Error::to_string),
    })
}

fn show(context: &Context) -> Result<u8> {
    let state = context.with_store(Access::Look, |session| Ok(session.store.scrub_state()?))?;
    let found: Vec<_> = state.findings.iter().map(finding).collect();
    let document = json!({ "schema": "scrub-findings/1", "scrub": {
        "ended_at": state.ended_at_ms.map(time),
        "under_way": state.is_under_way,
        "done_bytes": state.done_bytes,
        "findings": found,
        "more_findings": state.more_findings,
    }});
    context.output.document(&document, &told(&state))?;
    Ok(code(&state.findings))
}

fn told(state: &ScrubState) -> String {
    let mut text = lines(&state.findings);
    if state.more_findings > 0 {
        text += &format!("and {} more, which are not kept\n", state.more_findings);
    }
    if state.is_under_way {
        let done = sizes::human(state.done_bytes);
        text += &format!("a scrub was begun and has not ended: {done} done\n");
    }
    text += &match state.ended_at_ms {
        Some(ended) => format!("the last scrub of everything ended {}\n", time(ended)),
        None => "no scrub has read everything yet\n".to_owned(),
    };
    text
}

fn code(found: &[ScrubFinding]) -> u8 {
    if found.is_empty() { 0 } else { DAMAGED }
}

fn lines(found: &[ScrubFinding]) -> String {
    found.iter().map(|it| format!("{}\n", line(it))).collect()
}

fn line(it: &ScrubFinding) -> String {
    let code = it.fault.code();
    let page = it
        .page
        .map_or_else(String::new, |page| format!("page {page}"));
    let head = it.head.clone().unwrap_or_default();
    let at = it.at.map_or_else(String::new, |at| at.to_string());
    let places: Vec<_> = [at, head, page]
        .into_iter()
        .filter(|place| !place.is_empty())
        .collect();
    match places.is_empty() {
        true => format!("{code}: {}", it.message),
        false => format!("{code}: {}: {}", places.join(", "), it.message),
    }
}

fn finding(it: &ScrubFinding) -> Value {
    json!({
        "code": it.fault.code(),
        "segment": it.at.map(|at| at.segment.0),
        "slot": it.at.map(|at| at.slot),
        "head": it.head,
        "page": it.page.map(|page| page.0),
        "message": it.message,
        "first_at": time(it.first_at_ms),
        "last_at": time(it.last_at_ms),
    })
}

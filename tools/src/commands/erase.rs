//! `... delete --erase`: what deletions with their keys share.

use offshoot::{ErasePlan, StillReadable};
use serde::Serialize;

use crate::confirm::Confirm;
use crate::context::{Access, Context};
use crate::exit::Result;
use crate::session::{Head, Session};
use crate::sizes;

/// So many names are said; JSON has all.
const NAMES_MAX: usize = 5;

/// What erasing does.
#[derive(Serialize)]
struct Erased {
    name: String,
    erased_bytes: u64,
    readable_bytes: u64,
    erased_key_epochs: u64,
    readable: Vec<Part>,
    deleted: Vec<String>,
    dry_run: bool,
}

/// Bytes that stay readable through these, and through those of the parts before.
#[derive(Serialize)]
struct Part {
    bytes: u64,
    key_epochs: u64,
    through: Vec<String>,
}

/// Erases what `find` finds.
pub fn run(
    context: &Context,
    confirm: &Confirm,
    noun: &str,
    find: impl FnOnce(&Session) -> Result<Head>,
) -> Result {
    confirm.check(&context.caller, &format!("erasing a {noun}"))?;
    let (name, plan) = context.with_store(Access::Own, |session| {
        let head = find(session)?;
        let (name, plan) = (head.name()?, head.plan_erase()?);
        if confirm.dry_run {
            return Ok((name, plan));
        }
        let what = describe(&plan);
        confirm.ask(
            &context.caller,
            &format!("erase {noun} {name} for good: {what}"),
        )?;
        Ok((name, head.erase()?))
    })?;
    let verb = if confirm.dry_run {
        "would erase"
    } else {
        "erased"
    };
    let sentence = format!("{verb} {noun} {name}: {}", describe(&plan));
    let erased = Erased {
        name,
        erased_bytes: plan.erased_bytes,
        readable_bytes: plan.readable_bytes,
        erased_key_epochs: plan.erased_epochs.len() as u64,
        readable: plan.readable.into_iter().map(Part::from).collect(),
        deleted: plan.deleted,
        dry_run: confirm.dry_run,
    };
    context.output.done("erased/1", &erased, &sentence)
}

impl From<StillReadable> for Part {
    fn from(part: StillReadable) -> Self {
        Self {
            bytes: part.bytes,
            key_epochs: part.epochs.len() as u64,
            through: part.through,
        }
    }
}

fn describe(plan: &ErasePlan) -> String {
    let erased = sizes::human(plan.erased_bytes);
    let mut text = format!("{erased} can never be read again");
    if plan.readable_bytes > 0 {
        let readable = sizes::human(plan.readable_bytes);
        let through = some(plan.readers());
        text.push_str(&format!("; {readable} stay readable through {through}"));
    }
    if !plan.deleted.is_empty() {
        let deleted = some(plan.deleted.iter().map(String::as_str));
        text.push_str(&format!("; the keys of deleted {deleted} go with it"));
    }
    text.push_str("; copies in other stores are not known here");
    text
}

fn some<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    let first = names.get(..NAMES_MAX).unwrap_or(&names).join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

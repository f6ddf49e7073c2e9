//! `volume delete`, and what other deletions share with it.

use clap::Args;
use offshoot::{DeletionPart, DeletionPlan, DeletionProtection, Error, Kind, SharedWith, Volume};
use serde::Serialize;

use crate::commands::erase;
use crate::confirm::Confirm;
use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::refs::Bare;
use crate::session::{Head, Session};
use crate::sizes;

/// So many of those that share are said; JSON has all.
const NAMES_MAX: usize = 3;

/// Delete volumes, and snapshots among them; all others stay, clones too
///
/// All that are named go at once, or none. --dry-run says exactly what that would free, and what
/// stays because others share it. They are off the list at once; the space comes back behind (`store
/// stats` shows what waits).
///
/// With --erase, which takes one, the KMS destroys its keys first, and those of deleted volumes and
/// snapshots that could read what it alone has now. What clones and snapshots share stays readable
/// through them: --dry-run says what and through whom. If that is cut off, do it again. Other stores
/// and older states of the KMS are not known here.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  offshoot volume delete pg-test pg-old pg-old@monday --dry-run
  offshoot volume delete pg-test --erase --dry-run")]
pub struct Delete {
    /// The volumes (NAME) and snapshots (NAME@SNAPSHOT, @SNAPSHOT)
    #[arg(required = true, value_name = "REF")]
    names: Vec<String>,
    #[command(flatten)]
    how: How,
}

/// How to delete.
#[derive(Args, Debug)]
pub struct How {
    /// Destroy the keys too, so that what only it could read is never read again
    #[arg(long)]
    erase: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// What a deletion does. The space comes back when the store is reclaimed.
#[derive(Serialize)]
struct Deleted {
    freed_bytes: u64,
    freed_metadata_bytes: u64,
    shared_bytes: u64,
    heads: Vec<Part>,
    dry_run: bool,
}

/// One of those that are deleted.
#[derive(Serialize)]
struct Part {
    name: String,
    kind: &'static str,
    freed_bytes: u64,
    alone_bytes: u64,
    shared_bytes: u64,
    shared_with: Vec<Sharer>,
}

/// Somebody who keeps pages of it.
#[derive(Serialize)]
struct Sharer {
    name: String,
    bytes: u64,
}

/// Deletes volumes and snapshots.
pub fn volume(context: &Context, args: &Delete) -> Result {
    run(
        context,
        &args.how,
        "volume",
        &args.names,
        |session, name| {
            let head = session.find(name, Bare::Volume)?;
            if let Head::Volume(volume) = &head {
                check_protection(volume)?;
            }
            Ok(head)
        },
    )
}

/// Refuses to delete a protected volume before anybody is asked, also in a dry run.
pub fn check_protection(volume: &Volume) -> Result {
    let info = volume.info()?;
    match info.deletion_protection {
        DeletionProtection::Off => Ok(()),
        DeletionProtection::On => Err(Failure::Library(Error::Protected {
            kind: Kind::Volume,
            name: info.name,
        })),
    }
}

/// Deletes, or erases, what `find` finds under these names.
pub fn run(
    context: &Context,
    how: &How,
    noun: &str,
    names: &[String],
    find: impl Fn(&Session, &str) -> Result<Head>,
) -> Result {
    let confirm = &how.confirm;
    match (how.erase, names) {
        (true, [name]) => return erase::run(context, confirm, noun, |session| find(session, name)),
        (true, _) => {
            let text = "--erase takes one at a time: what stays readable depends on the others";
            return Err(Failure::Invalid(text.to_owned()));
        }
        (false, _) => confirm.check(&format!("deleting a {noun}"))?,
    }
    let plan = context.with_store(Access::Own, |session| {
        let (mut volumes, mut snapshots) = (Vec::new(), Vec::new());
        for name in names {
            match find(session, name)? {
                Head::Volume(volume) => volumes.push(volume.name()?),
                Head::Snapshot(snapshot) => snapshots.push(snapshot.name()?),
            }
        }
        let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
        let snapshots: Vec<&str> = snapshots.iter().map(String::as_str).collect();
        let plan = session.store.plan_deletion(&volumes, &snapshots)?;
        if !confirm.dry_run {
            confirm.ask(&format!("delete {}", describe(&plan, noun)))?;
            session.store.delete(&volumes, &snapshots)?;
        }
        Ok(plan)
    })?;
    let verb = if confirm.dry_run {
        "would delete"
    } else {
        "deleted"
    };
    let sentence = format!("{verb} {}", describe(&plan, noun));
    let deleted = Deleted {
        freed_bytes: plan.freed_bytes,
        freed_metadata_bytes: plan.freed_metadata_bytes,
        shared_bytes: plan.shared_bytes,
        heads: plan.parts.into_iter().map(Part::from).collect(),
        dry_run: confirm.dry_run,
    };
    context.output.done("deleted/1", &deleted, &sentence)
}

impl From<DeletionPart> for Part {
    fn from(part: DeletionPart) -> Self {
        let (name, kind) = match part.name.strip_prefix('@') {
            Some(name) => (name.to_owned(), "snapshot"),
            None => (part.name, "volume"),
        };
        let with = part.shared_with.into_iter();
        let with = with.map(|SharedWith { name, bytes, .. }| Sharer { name, bytes });
        Self {
            name,
            kind,
            freed_bytes: part.freed_bytes,
            alone_bytes: part.alone_bytes,
            shared_bytes: part.shared_bytes,
            shared_with: with.collect(),
        }
    }
}

fn describe(plan: &DeletionPlan, noun: &str) -> String {
    let (freed, shared) = (
        sizes::human(plan.freed_bytes),
        sizes::human(plan.shared_bytes),
    );
    match plan.parts.as_slice() {
        [part] => format!("{noun} {}", describe_part(part)),
        parts => {
            let count = parts.len();
            let mut text = format!(
                "{count} volumes and snapshots: {freed} freed, {shared} stay shared with others"
            );
            for part in parts {
                text.push_str(&format!("\n  {}", describe_part(part)));
            }
            text
        }
    }
}

fn describe_part(part: &DeletionPart) -> String {
    let (freed, shared) = (
        sizes::human(part.freed_bytes),
        sizes::human(part.shared_bytes),
    );
    let mut text = format!("{}: {freed} freed, {shared} stay shared", part.name);
    let first = part.shared_with.iter().take(NAMES_MAX);
    for (index, other) in first.enumerate() {
        let separator = if index == 0 { " with" } else { "," };
        let bytes = sizes::human(other.bytes);
        text.push_str(&format!("{separator} {} ({bytes})", other.name));
    }
    match part.shared_with.len().saturating_sub(NAMES_MAX) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

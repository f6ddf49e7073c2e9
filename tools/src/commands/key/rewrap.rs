//! `key rewrap`: opens the store too.

use offshoot::{KeyId, RewrapPlan};
use serde::Serialize;

use crate::context::{Access, Context};
use crate::exit::Result;
use crate::session::{Head, Session};
use crate::views::key_text;

/// Wrap keys of volumes and snapshots again, under the newest version of their KMS key or another key
///
/// Without REF: all that is wrapped under older versions, the store's own key among it. With REF: the
/// key of that volume or snapshot, under --to or the newest version of its own KMS key. No page is
/// touched, so it takes no longer for large volumes. It revokes nothing by itself: whoever
/// kept an older state of the KMS can still use that. If it is cut off, do it again.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Example:
  offshoot key rotate alias/prod
  offshoot key rewrap
  offshoot key rewrap pg --to alias/other")]
pub struct Args {
    /// A volume or snapshot
    #[arg(value_name = "REF")]
    head: Option<String>,
    /// The KMS key that guards it from now on: id, ARN, alias/NAME or the alias's ARN
    #[arg(long, value_name = "KEY", requires = "head")]
    to: Option<String>,
    /// Only say what would happen
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// What was wrapped again.
#[derive(Serialize)]
struct Rewrapped {
    rewrapped: u64,
    current: u64,
    unavailable: u64,
    store_key: bool,
    kms_key_id: Option<String>,
    dry_run: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result {
    let (plan, key) = context.with_store(Access::Own, |session| match &args.head {
        None if args.dry_run => Ok((session.store.plan_rewrap()?, None)),
        None => Ok((session.store.rewrap()?, None)),
        Some(head) => one(session, head, args),
    })?;
    let done = Rewrapped {
        rewrapped: plan.outdated,
        current: plan.current,
        unavailable: plan.unavailable,
        store_key: plan.store_key,
        kms_key_id: key.map(key_text),
        dry_run: args.dry_run,
    };
    let verb = if args.dry_run { "would be" } else { "were" };
    let key = if plan.store_key {
        "the store's key too"
    } else {
        "not the store's key"
    };
    let sentence = format!(
        "{} keys {verb} wrapped again, {key}; {} are current, {} have a key that is not available",
        plan.outdated, plan.current, plan.unavailable
    );
    context.output.done("rewrap/1", &done, &sentence)
}

fn one(session: &Session, head: &str, args: &Args) -> Result<(RewrapPlan, Option<KeyId>)> {
    let head = session.head(head)?;
    let key = match &args.to {
        Some(key) => session.kms.key(key)?.id,
        None => head.kms_key()?,
    };
    if !args.dry_run {
        match head {
            Head::Volume(volume) => volume.rewrap(&key)?,
            Head::Snapshot(snapshot) => snapshot.rewrap(&key)?,
        }
    }
    let mut plan = RewrapPlan::default();
    plan.outdated = 1;
    Ok((plan, Some(key)))
}

//! `key schedule-deletion` and `key cancel-deletion`.

use clap::Args;
use offshoot::KeyInfo;
use serde::Serialize;

use crate::commands::key::Key;
use crate::confirm::Confirm;
use crate::context::Context;
use crate::exit::Result;
use crate::views::{key_text, optional_time};

/// Switch a key off now and destroy it later: what is under it is lost then
///
/// Until its date `key cancel-deletion` keeps it. The key of the stores, alias/offshoot-store, is
/// never deleted.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot key schedule-deletion alias/old --days 7 --dry-run")]
pub struct Schedule {
    #[command(flatten)]
    key: Key,
    /// Days from now to the destruction, 7 to 30
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u32,
    /// Whether to ask.
    #[command(flatten)]
    confirm: Confirm,
}

/// Keep a key that was to be deleted: it is disabled then
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  offshoot key cancel-deletion alias/old
  offshoot key enable alias/old")]
pub struct Cancel {
    #[command(flatten)]
    pub key: Key,
}

/// What a scheduled deletion does.
#[derive(Serialize)]
struct Scheduled {
    id: String,
    arn: String,
    status: &'static str,
    deletion_at: Option<String>,
    dry_run: bool,
}

/// Schedules the deletion of a key.
pub fn schedule(context: &Context, args: &Schedule) -> Result {
    let (kms, key, days) = (context.kms()?, &args.key.key, args.days);
    let dry_run = args.confirm.dry_run;
    let plan = kms.plan_key_deletion(key, days)?;
    if dry_run {
        return done(context, &plan, "would delete", dry_run);
    }
    let question = format!(
        "delete key {} in {days} days, and lose what is under it",
        plan.id
    );
    args.confirm.ask(&context.caller, &question)?;
    done(
        context,
        &kms.schedule_key_deletion(key, days)?,
        "disabled; deletes",
        dry_run,
    )
}

fn done(context: &Context, key: &KeyInfo, verb: &str, dry_run: bool) -> Result {
    let scheduled = Scheduled {
        id: key_text(key.id),
        arn: key.arn.clone(),
        status: key.state.as_str(),
        deletion_at: optional_time(key.deletion_at_ms),
        dry_run,
    };
    let date = scheduled.deletion_at.as_deref().unwrap_or("-");
    let sentence = format!("{verb} key {} on {date}", scheduled.id);
    context.output.done("key-deletion/1", &scheduled, &sentence)
}

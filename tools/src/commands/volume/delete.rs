//! `volume delete`, and what other deletions share with it.

use clap::Args;
use offshoot::{DeletionProtection, Error, Kind, Usage, Volume};
use serde::Serialize;

use crate::commands::erase;
use crate::confirm::Confirm;
use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::session::{Head, Session};
use crate::sizes;

/// Delete a volume; its clones and snapshots stay
///
/// With --erase the KMS destroys its keys first, and those of deleted volumes and snapshots that could read
/// what it alone has now. What clones and snapshots share stays readable through them: --dry-run says
/// what and through whom. If that is cut off, do it again. Other stores and older states of the
/// KMS are not known here.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  offshoot volume delete pg-test --dry-run
  offshoot volume delete pg-test --erase --dry-run")]
pub struct Delete {
    /// The volume
    pub name: String,
    /// Destroy the keys too, so that what only it could read is never read again
    #[arg(long)]
    pub erase: bool,
    /// Whether to ask.
    #[command(flatten)]
    pub confirm: Confirm,
}

/// What a deletion does. The space comes back when the store is reclaimed.
#[derive(Serialize)]
pub struct Deleted {
    name: String,
    freed_bytes: Option<u64>,
    exclusive_bytes: Option<u64>,
    exclusive_settled: Option<bool>,
    shared_bytes: Option<u64>,
    dry_run: bool,
}

/// Deletes a volume.
pub fn volume(context: &Context, args: &Delete) -> Result {
    if args.erase {
        return erase::run(context, &args.confirm, "volume", |session| {
            let volume = session.volume(&args.name)?;
            check_protection(&volume)?;
            Ok(Head::Volume(volume))
        });
    }
    run(context, &args.confirm, "volume", |session| {
        let volume = session.volume(&args.name)?;
        check_protection(&volume)?;
        Ok((volume.name()?, volume.usage(), move || volume.delete()))
    })
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

/// Deletes what `find` finds: its name, its usage, and how it is deleted.
pub fn run<D>(
    context: &Context,
    confirm: &Confirm,
    noun: &str,
    find: impl FnOnce(&Session) -> Result<(String, offshoot::Result<Usage>, D)>,
) -> Result
where
    D: FnOnce() -> offshoot::Result<()>,
{
    confirm.check(&format!("deleting a {noun}"))?;
    let (deleted, amount) = context.with_store(Access::Own, |session| {
        let (name, usage, delete) = find(session)?;
        let usage = known(usage)?;
        let amount = amount(usage.as_ref());
        if !confirm.dry_run {
            confirm.ask(&format!("delete {noun} {name}: {amount}"))?;
            delete()?;
        }
        let deleted = Deleted {
            name,
            freed_bytes: usage
                .as_ref()
                .map(|usage| usage.exclusive_bytes + usage.exclusive_metadata_bytes),
            exclusive_bytes: usage.as_ref().map(|usage| usage.exclusive_bytes),
            exclusive_settled: usage.as_ref().map(|usage| usage.exclusive_settled),
            shared_bytes: usage.as_ref().map(|usage| usage.shared_bytes),
            dry_run: confirm.dry_run,
        };
        Ok((deleted, amount))
    })?;
    let verb = if confirm.dry_run {
        "would delete"
    } else {
        "deleted"
    };
    let sentence = format!("{verb} {noun} {}: {amount}", deleted.name);
    context.output.done("deleted/1", &deleted, &sentence)
}

/// What cannot be opened can still be deleted: its usage is not known then.
fn known(usage: offshoot::Result<Usage>) -> Result<Option<Usage>> {
    match usage {
        Ok(usage) => Ok(Some(usage)),
        Err(
            Error::KeyUnavailable { .. } | Error::AccessDenied { .. } | Error::InvalidState { .. },
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn amount(usage: Option<&Usage>) -> String {
    let Some(usage) = usage else {
        return "how much it takes is not known".to_owned();
    };
    let own = sizes::human(usage.exclusive_bytes);
    let shared = sizes::human(usage.shared_bytes);
    let (at_least, at_most) = match usage.exclusive_settled {
        true => ("", ""),
        false => ("at least ", "at most "),
    };
    format!("{at_least}{own} of its own, {at_most}{shared} shared with others")
}

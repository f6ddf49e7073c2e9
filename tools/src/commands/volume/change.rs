//! `volume resize`, `volume rename`, `volume modify`.

use clap::Args;
use offshoot::DeletionProtection;
use serde::Serialize;

use crate::commands::volume::discard::data_in;
use crate::commands::volume::view;
use crate::confirm::Confirm;
use crate::context::{Access, Context};
use crate::exit::Result;
use crate::sizes;
use crate::views::VolumeView;

/// Change the size of a volume; a smaller size drops what lies behind it
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume resize pg --size 20G")]
pub struct Resize {
    /// The volume
    name: String,
    /// The new size, rounded up to a page
    #[arg(long, value_parser = sizes::parse)]
    size: u64,
    #[command(flatten)]
    confirm: Confirm,
}

/// Give a volume another name; its id stays
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume rename pg-test pg-staging")]
pub struct Rename {
    /// The volume
    name: String,
    /// Its new name
    new_name: String,
}

/// Change what a volume allows
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot volume modify pg --deletion-protection")]
pub struct Modify {
    /// The volume
    name: String,
    #[command(flatten)]
    protection: Protection,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Protection {
    /// Refuse to delete it
    #[arg(long)]
    deletion_protection: bool,
    /// Allow to delete it
    #[arg(long)]
    no_deletion_protection: bool,
}

#[derive(Serialize)]
struct Plan {
    name: String,
    size_bytes: u64,
    new_size_bytes: u64,
    data_bytes: u64,
    dry_run: bool,
}

/// Changes a size. Asks only if data is lost.
pub fn resize(context: &Context, args: &Resize) -> Result {
    let printer = context.output.of::<VolumeView>()?;
    let mut plan = None;
    let resized = context.with_store(Access::Own, |session| {
        let volume = session.volume(&args.name)?;
        let (len, page) = (volume.len()?, u64::from(session.store.info()?.page_len));
        let new_len = args
            .size
            .checked_next_multiple_of(page)
            .unwrap_or(args.size);
        let lost = if new_len < len {
            data_in(&volume, new_len..len)?
        } else {
            0
        };
        if args.confirm.dry_run {
            let (name, data_bytes) = (volume.name()?, lost);
            let (size_bytes, new_size_bytes) = (len, new_len);
            plan = Some(Plan {
                name,
                size_bytes,
                new_size_bytes,
                data_bytes,
                dry_run: true,
            });
            return view(session, &volume);
        }
        if lost > 0 {
            let (name, lost) = (volume.name()?, sizes::human(lost));
            args.confirm.ask(
                &context.caller,
                &format!("resizing volume {name} drops {lost} of data"),
            )?;
        }
        volume.resize(args.size)?;
        view(session, &volume)
    })?;
    let Some(plan) = plan else {
        return printer.show(&resized);
    };
    let (from, to) = (
        sizes::human(plan.size_bytes),
        sizes::human(plan.new_size_bytes),
    );
    let (name, lost) = (&plan.name, sizes::human(plan.data_bytes));
    let sentence = format!("would resize volume {name} from {from} to {to}, dropping {lost}");
    context.output.done("resize-plan/1", &plan, &sentence)
}

/// Changes a name.
pub fn rename(context: &Context, args: &Rename) -> Result {
    let printer = context.output.of::<VolumeView>()?;
    let renamed = context.with_store(Access::Own, |session| {
        let volume = session.volume(&args.name)?;
        volume.rename(&args.new_name)?;
        view(session, &volume)
    })?;
    printer.show(&renamed)
}

/// Changes what is allowed.
pub fn modify(context: &Context, args: &Modify) -> Result {
    let printer = context.output.of::<VolumeView>()?;
    let protection = match args.protection.no_deletion_protection {
        true => DeletionProtection::Off,
        false => DeletionProtection::On,
    };
    let modified = context.with_store(Access::Own, |session| {
        let volume = session.volume(&args.name)?;
        volume.set_deletion_protection(protection)?;
        view(session, &volume)
    })?;
    printer.show(&modified)
}

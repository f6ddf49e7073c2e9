//! `store ...`.

use std::fs;
use std::path::Path;

use clap::{Args, Subcommand};
use offshoot::{Error, FileKms, Options};

use crate::commands::{pin, quota, reclaim, scrub, stats};
use crate::context::{Access, Context};
use crate::exit::{Failure, Result};
use crate::sizes;
use crate::views::StoreView;

/// The keys that a region starts with: its own, which wraps the store key, and that of new
/// volumes.
const FIRST_KEYS: [&str; 2] = ["alias/offshoot-store", "alias/default"];

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(Init),
    Info(Info),
    Stats(stats::Stats),
    Reclaim(reclaim::Reclaim),
    Compact(reclaim::Compact),
    Scrub(scrub::Scrub),
    /// How much the store may take: show, set
    #[command(subcommand)]
    Quota(quota::Command),
    /// Pins: states that somebody holds
    #[command(subcommand)]
    Pin(pin::Command),
}

/// Make a store and, if there is none yet, its KMS with the first two keys
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot store init --home /var/lib/offshoot --region east")]
pub struct Init {
    /// Length of a page: 4K, 8K, 16K, 32K or 64K
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = sizes::parse)]
    page_size: u64,
    /// Length of a segment: 1M to 1G
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = sizes::parse)]
    segment_size: u64,
}

/// Show what the store is; another process may look at it at the same time
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot store info --json")]
pub struct Info {}

impl Command {
    /// Whether it looks at the store's files themselves.
    pub fn walks_files(&self) -> bool {
        matches!(self, Self::Stats(args) if args.live)
    }
}

/// Runs a command.
pub fn run(context: &Context, command: Command) -> Result<u8> {
    match command {
        Command::Init(args) => init(context, &args)?,
        Command::Info(Info {}) => info(context)?,
        Command::Stats(args) => stats::run(context, &args)?,
        Command::Reclaim(args) => reclaim::reclaim(context, &args)?,
        Command::Compact(args) => reclaim::compact(context, &args)?,
        Command::Scrub(args) => return scrub::run(context, &args),
        Command::Quota(command) => quota::run(context, &command)?,
        Command::Pin(command) => pin::run(context, &command)?,
    }
    Ok(0)
}

fn init(context: &Context, args: &Init) -> Result {
    let printer = context.output.of::<StoreView>()?;
    let (directory, kms_directory) = (context.places.store(), context.places.kms()?);
    check_free(directory, kms_directory)?;
    let page_len = u32::try_from(args.page_size).unwrap_or(u32::MAX);
    let options = Options::new()
        .page_len(page_len)
        .segment_len(args.segment_size);
    let kms = first_kms(context, kms_directory)?;
    make_parent(directory)?;
    let store = options.create(directory, kms.clone())?;
    let info = store.info()?;
    store.close()?;
    printer.show(&StoreView::new(
        &info,
        kms.region(),
        directory,
        kms_directory,
    ))
}

/// Whatever is there is left alone: no KMS is made for it, which could not open it. What a
/// creation left that was cut off has its KMS, and is gone on with.
fn check_free(directory: &Path, kms_directory: &Path) -> Result {
    if directory.exists() && !directory.is_dir() {
        let text = format!("{} is a file: name a directory", directory.display());
        return Err(Failure::Invalid(text));
    }
    let is_empty = fs::read_dir(directory).map_or(true, |mut names| names.next().is_none());
    if !is_empty && !kms_directory.exists() {
        return Err(Failure::AlreadyExists(format!(
            "{} is not empty: name another place with --home, --region or --store",
            directory.display()
        )));
    }
    Ok(())
}

fn first_kms(context: &Context, directory: &Path) -> Result<FileKms> {
    let kms = match context.kms() {
        Err(Failure::Library(Error::NotAStore { .. })) => {
            make_parent(directory)?;
            FileKms::create(directory, &context.places.region)?
        }
        kms => kms?,
    };
    for alias in FIRST_KEYS {
        match kms.key(alias) {
            Err(Error::NotFound { .. }) => kms.create_key(Some(alias))?,
            key => key?,
        };
    }
    Ok(kms)
}

fn make_parent(directory: &Path) -> Result {
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::create_dir_all(parent)
            .map_err(|error| Failure::io("make directory", parent.display(), error)),
        _ => Ok(()),
    }
}

fn info(context: &Context) -> Result {
    let printer = context.output.of::<StoreView>()?;
    let view = context.with_store(Access::Look, |session| {
        let places = &context.places;
        let region = session.kms.region();
        Ok(StoreView::new(
            &session.store.info()?,
            region,
            places.store(),
            places.kms()?,
        ))
    })?;
    printer.show(&view)
}

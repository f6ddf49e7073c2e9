//! `inspect ...`: what is on disk, decoded. The store is locked shared and nothing is written.

mod documents;
mod layout;
mod state;

use clap::{Args as ClapArgs, Subcommand};
use offshoot::check::inspect::{self, PackView};
use offshoot::io::real::RealDisk;
use offshoot::{Damage, Error, FileKms, PageNo, SegmentId, Seq};
use serde_json::{Value, json};

use crate::commands::offline::Offline;
use crate::context::Context;
use crate::exit::{Failure, Result};
use crate::render;

/// Look at what is on disk, decoded; keys are not needed
#[derive(ClapArgs, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Example:\n  offshoot inspect page pg:812\n  offshoot inspect --layout")]
pub struct Args {
    /// Print the structs of the disk format
    #[arg(long)]
    layout: bool,
    /// What to look at.
    #[command(subcommand)]
    what: Option<What>,
}

/// What to look at.
#[derive(Debug, Subcommand)]
enum What {
    Superblock(Superblock),
    Segment(Segment),
    Page(Page),
    Tree(Tree),
    Lineage(Lineage),
    Catalog(Catalog),
    Keys(Keys),
    Log(Log),
}

/// The superblocks, all copies of them
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:\n  offshoot inspect superblock")]
struct Superblock {}

/// The batches of a segment file, whether or not it is in use; or the pack that the segment is in
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:\n  offshoot inspect segment 1 --json")]
struct Segment {
    /// Its number
    number: u32,
}

/// Where a page is and what proves it
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:\n  offshoot inspect page pg@monday:812")]
struct Page {
    /// The volume or snapshot, a colon, and the page: its offset divided by the page length
    #[arg(value_name = "REF:N")]
    page: String,
}

/// The page table of a volume or snapshot, level by level
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:\n  offshoot inspect tree pg")]
struct Tree {
    /// The volume (NAME) or snapshot (NAME@SNAPSHOT, @SNAPSHOT)
    #[arg(value_name = "REF")]
    head: String,
}

/// Heads, lineage epochs and key epochs: who can reach what
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:\n  offshoot inspect lineage --json")]
struct Lineage {}

/// The catalog, and from which checkpoint and how much log it comes
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:\n  offshoot inspect catalog --json")]
struct Catalog {}

/// What wraps what: KMS keys, head keys, the keys of key epochs; no key itself
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:\n  offshoot inspect keys")]
struct Keys {}

/// The log, batch by batch, from the older checkpoint on
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:\n  offshoot inspect log --from 120 --count 10")]
struct Log {
    /// The first batch to show
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    from: u64,
    /// Most batches to show; `next seq` is the one after them
    #[arg(long, value_name = "N", default_value_t = 1000)]
    count: u32,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result {
    let Some(what) = &args.what else {
        if args.layout {
            return layout::run(context);
        }
        let text = "say what to look at: see `offshoot inspect --help`";
        return Err(Failure::Invalid(text.to_owned()));
    };
    let document = document(&Offline::open(context)?, what)?;
    context.output.document(&document, &render::text(&document))
}

fn document(store: &Offline<'_>, what: &What) -> Result<Value> {
    let (disk, kms) = (&store.disk, store.kms());
    Ok(match what {
        What::Superblock(_) => documents::superblocks(&inspect::superblocks(disk)?),
        What::Segment(args) => segment(disk, SegmentId(args.number))?,
        What::Page(args) => {
            let (head, number) = page_number(&args.page)?;
            let (kind, name) = store.head(head)?;
            documents::page(&name, &inspect::page(disk, kms, kind, &name, number)?)
        }
        What::Tree(args) => {
            let (kind, name) = store.head(&args.head)?;
            documents::tree(&name, &inspect::tree(disk, kms, kind, &name)?)
        }
        What::Lineage(_) => {
            let lineage = documents::lineage(&inspect::lineage(disk, kms)?);
            json!({ "schema": "lineage/1", "lineage": lineage })
        }
        What::Catalog(_) => state::catalog(&inspect::catalog(disk, kms)?),
        What::Keys(_) => {
            let known = store.kms.as_ref().map(FileKms::keys).transpose()?;
            state::keys(&inspect::keys(disk, kms)?, known.as_deref())
        }
        What::Log(args) => state::log(&inspect::log(
            disk,
            kms,
            Seq(args.from),
            args.count as usize,
        )?),
    })
}

/// A segment's own file, or the pack that what is left of it is in.
fn segment(disk: &RealDisk, segment: SegmentId) -> Result<Value> {
    let shown = inspect::segment(disk, segment);
    let Err(Error::Corrupt {
        damage: Damage::Missing,
        ..
    }) = shown
    else {
        return Ok(documents::segment(&shown?));
    };
    let packs = inspect::packs(disk)?;
    let has = |pack: &&PackView| pack.parts.iter().any(|part| part.segment == segment);
    match packs.iter().rev().find(has) {
        Some(pack) => Ok(documents::pack(pack)),
        None => Ok(documents::segment(&shown?)),
    }
}

fn page_number(text: &str) -> Result<(&str, PageNo)> {
    let parts = text.rsplit_once(':');
    let read = parts.and_then(|(head, page)| Some((head, PageNo(page.parse().ok()?))));
    read.ok_or_else(|| Failure::Invalid(format!("{text:?} is no page: write for example pg:812")))
}

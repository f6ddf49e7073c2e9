//! `inspect ...`: what is on disk, decoded. The store is locked shared and nothing is written. What is damaged
//! is said beside what can be read.

mod documents;
mod heatmap;
mod layout;
mod lineage;
mod raw;
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
///
/// Of a damaged store what can be read is shown, and what cannot is listed with its place and the code that
/// fsck has for it. With the KMS at hand superblock and log are authenticated; if it is not, or refuses, all is
/// shown the same, and said to be not authenticated.
#[derive(ClapArgs, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Example:\n  offshoot inspect page pg:812\n  offshoot inspect heatmap --svg store.svg\n  offshoot inspect --layout"
)]
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
    Raw(Raw),
    Heatmap(heatmap::Heatmap),
}

/// The superblocks, all copies of them
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:\n  offshoot inspect superblock")]
struct Superblock {}

/// What the slots of a segment are used for and by whom, and its batches; or the pack that it is in
///
/// The batches are those of the file, whether or not it is in use; later ones are behind damage, a hole or what
/// a crash cut off. Of the slots, header is that of the file; page and node slots are those that page tables
/// name, shared ones (had by more than one volume or snapshot) included; log slots hold headers of batches and tables that
/// an open may read; waiting slots died since the last checkpoint or lie below what cannot be read; dead ones are
/// needed by nothing; free ones were never written or are gone.
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

/// Slots as they are, with what they look like
///
/// A slot of a virtual segment is found in its file or in its pack. Fields of headers are named as --layout
/// names them. With --json bytes are hexadecimal digits.
#[derive(ClapArgs, Debug)]
#[command(
    after_help = "Example:\n  offshoot inspect raw 1:17 --count 2 --json\n  offshoot inspect raw superblock-a:1"
)]
struct Raw {
    /// A segment, a colon and a slot; or a file of the store, a colon and a slot (4 KiB) of it
    #[arg(value_name = "PLACE:SLOT")]
    place: String,
    /// Slots to show
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
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
    let store = Offline::open_to_look(context)?;
    if let What::Heatmap(args) = what
        && let Some(path) = &args.svg
    {
        return heatmap::picture(context, &store, args, path);
    }
    let (document, text) = view(&store, what)?;
    let document = with_kms_problem(&store, document);
    let text = text.unwrap_or_else(|| render::text(&document));
    context.output.document(&document, &text)
}

/// A document that also says why the KMS could not be asked, if so.
fn with_kms_problem(store: &Offline<'_>, mut document: Value) -> Value {
    let objects = document.as_object_mut().into_iter().flatten();
    let problems = objects.filter_map(|(_, value)| value.get_mut("problems")?.as_array_mut());
    if let (Some(message), Some(problems)) = (&store.kms_problem, problems.last()) {
        problems.push(json!({ "code": null, "location": "the KMS", "message": message }));
    }
    document
}

/// A view as JSON, and as text if that is not the same.
fn view(store: &Offline<'_>, what: &What) -> Result<(Value, Option<String>)> {
    let (disk, kms) = (&store.disk, store.kms());
    Ok(match what {
        What::Lineage(_) => {
            let view = inspect::lineage(disk, kms)?;
            let document = json!({ "schema": "lineage/1", "lineage": documents::lineage(&view) });
            let text = format!("{}\n{}", lineage::draw(&view), render::text(&document));
            (document, Some(text))
        }
        What::Raw(args) => {
            let view = inspect::raw(disk, &raw::place(&args.place)?, args.count)?;
            let document = documents::raw(&args.place, &view);
            let text = raw::text(&document, &view);
            (document, Some(text))
        }
        What::Heatmap(args) => {
            let (document, text) = heatmap::view(store, args)?;
            (document, Some(text))
        }
        What::Superblock(_) => (documents::superblocks(&inspect::superblocks(disk)?), None),
        What::Segment(args) => (segment(store, SegmentId(args.number))?, None),
        What::Page(args) => {
            let (head, number) = page_number(&args.page)?;
            let (kind, name) = store.head(head)?;
            let view = inspect::page(disk, kms, kind, &name, number)?;
            (documents::page(&name, &view), None)
        }
        What::Tree(args) => {
            let (kind, name) = store.head(&args.head)?;
            let view = inspect::tree(disk, kms, kind, &name)?;
            (documents::tree(&name, &view), None)
        }
        What::Catalog(_) => (state::catalog(&inspect::catalog(disk, kms)?), None),
        What::Keys(_) => {
            // A KMS that does not say has said so already, or nothing of it is needed.
            let known = store.kms.as_ref().and_then(|kms| FileKms::keys(kms).ok());
            let view = inspect::keys(disk, kms)?;
            (state::keys(&view, known.as_deref()), None)
        }
        What::Log(args) => {
            let view = inspect::log(disk, kms, Seq(args.from), args.count as usize)?;
            (state::log(&view), None)
        }
    })
}

/// A segment: what its slots are used for, as far as a superblock tells, and what is in its file.
fn segment(store: &Offline<'_>, segment: SegmentId) -> Result<Value> {
    let (mut document, noun) = segment_file(&store.disk, segment)?;
    let occupancy = match inspect::occupancy(&store.disk, store.kms(), segment) {
        Ok(occupancy) => documents::occupancy(&occupancy),
        // Its batches are there all the same.
        Err(error @ Error::Corrupt { .. }) => json!({ "owners": [], "problems": [{
            "code": null,
            "location": "the store",
            "message": error.to_string(),
        }]}),
        Err(error) => return Err(error.into()),
    };
    documents::extend(&mut document[noun], occupancy);
    Ok(document)
}

/// A segment's own file, or the pack that what is left of it is in; and what the document calls it.
fn segment_file(disk: &RealDisk, segment: SegmentId) -> Result<(Value, &'static str)> {
    let shown = inspect::segment(disk, segment);
    let Err(Error::Corrupt {
        damage: Damage::Missing,
        ..
    }) = shown
    else {
        return Ok((documents::segment(&shown?), "segment"));
    };
    let packs = inspect::packs(disk)?;
    let has = |pack: &&PackView| pack.parts.iter().any(|part| part.segment == segment);
    match packs.iter().rev().find(has) {
        Some(pack) => Ok((documents::pack(pack), "pack")),
        None => Ok((documents::segment(&shown?), "segment")),
    }
}

fn page_number(text: &str) -> Result<(&str, PageNo)> {
    let parts = text.rsplit_once(':');
    let read = parts.and_then(|(head, page)| Some((head, PageNo(page.parse().ok()?))));
    read.ok_or_else(|| Failure::Invalid(format!("{text:?} is no page: write for example pg:812")))
}

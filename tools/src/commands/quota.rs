//! `store quota ...`.

use clap::{Args, Subcommand};
use offshoot::{Quota, QuotaInfo};

use crate::context::{Access, Context};
use crate::exit::Result;
use crate::sizes;
use crate::views::QuotaView;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Show(Show),
    Set(Set),
}

/// Show how much the store may take, and how much it takes
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  offshoot store quota show --json")]
pub struct Show {}

/// Bound how much the store may take
///
/// At the bound writes, new volumes, clones and snapshots are refused (exit 17); reading, deleting,
/// discarding and all upkeep go on. A bound below what is used only stops growth. What checkpoints
/// write may pass it a little. Before anything is refused, dead space is given back.
///
/// With --keep-free the same happens, as on a full disk, when a new segment would leave less of the
/// disk free.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  offshoot store quota set --bytes 100G --heads 1000 --keep-free 10G"
)]
pub struct Set {
    #[command(flatten)]
    bounds: Bounds,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct Bounds {
    /// Most bytes of segments, or `none`
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    bytes: Option<Bound>,
    /// Most volumes, snapshots and pins together, or `none`
    #[arg(long, value_name = "COUNT", value_parser = count)]
    heads: Option<Bound>,
    /// Bytes of the disk to leave free, or `none`
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    keep_free: Option<Bound>,
}

/// A bound as it was asked for; `None` is no bound.
#[derive(Clone, Copy, Debug)]
struct Bound(Option<u64>);

fn bytes(text: &str) -> Result<Bound, String> {
    match text {
        "none" => Ok(Bound(None)),
        size => sizes::parse(size).map(|size| Bound(Some(size))),
    }
}

fn count(text: &str) -> Result<Bound, String> {
    match text {
        "none" => Ok(Bound(None)),
        count => match count.parse() {
            Ok(count) => Ok(Bound(Some(count))),
            Err(_) => Err("a number, or none".to_owned()),
        },
    }
}

/// Runs a command.
pub fn run(context: &Context, command: &Command) -> Result {
    let printer = context.output.of::<QuotaView>()?;
    let info: QuotaInfo = match command {
        Command::Show(Show {}) => {
            context.with_store(Access::Look, |session| Ok(session.store.quota()?))?
        }
        Command::Set(args) => context.with_store(Access::Own, |session| {
            let now = session.store.quota()?.quota;
            let bound = |asked: Option<Bound>, now| asked.map_or(now, |bound| bound.0);
            session.store.set_quota(Quota {
                bytes: bound(args.bounds.bytes, now.bytes),
                heads: bound(args.bounds.heads, now.heads),
                keep_free: bound(args.bounds.keep_free, now.keep_free),
            })?;
            Ok(session.store.quota()?)
        })?,
    };
    printer.show(&QuotaView::from(info))
}

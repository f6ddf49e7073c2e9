//! The offline check (fsck) and the views of `inspect`.
//!
//! Invariant: it writes nothing and shares only decoders with the engine, so that a mistake of
//! one is not repeated by the other. Damage is a [`Finding`], never an error or a panic; time and
//! memory follow the bytes that are there, not what they claim. It must not use the log, tree or
//! store modules.
#![deny(clippy::indexing_slicing)]

mod catalog;
mod claims;
mod codes;
mod data;
mod deadlists;
mod entries;
mod files;
mod finding;
mod forest;
mod generations;
mod image;
pub mod inspect;
mod keys;
mod log;
mod lost;
mod notes;
mod options;
mod overlay;
mod packs;
mod replay;
mod report;
mod scan;
mod segments;
mod space;
mod spans;
mod state;
mod summaries;
mod superblocks;
mod tables;
mod tags;
#[cfg(test)]
mod tests;
mod walk;
mod watch;

use std::io;
use std::path::Path;

use rayon::{Scope, ThreadPool};

use crate::check::data::Reader;
use crate::check::finding::Findings;
use crate::check::forest::Forest;
use crate::check::image::Image;
use crate::check::state::Head;
use crate::check::walk::Walk;
use crate::check::watch::Watch;
use crate::error::{Error, Kind, Result};
use crate::io::real::RealDisk;
use crate::io::{Disk, Lock, LockGuard};
use crate::slots::SlotSet;
use crate::units::{Location, SLOT_LEN};

pub use codes::{CODES, Code, Repair};
pub use finding::{Class, Finding, Place, Severity};
pub(crate) use lost::DamagedPages;
pub use lost::LostPages;
pub use options::{CheckOptions, Sample};
pub use report::{Report, Stats};
pub use watch::CheckProgress;

/// Checks the store in a directory. See [`check`].
pub fn check_dir(dir: &Path, options: &CheckOptions) -> Result<Report> {
    check(&open_dir(dir)?, options)
}

/// Checks a store that nobody has open for writing. See [`check_with`].
pub fn check(disk: &dyn Disk, options: &CheckOptions) -> Result<Report> {
    check_with(disk, options, &mut |_| true)
}

/// Checks a store that nobody has open for writing, and tells how far it is; if `tell` says `false`
/// the check ends, and the report says so.
///
/// Damage is in the report. Errors are a directory that is not a store, a format of a newer
/// program, a lock that another process has, a KMS that does not give the store key, and a
/// directory that cannot be listed.
pub fn check_with(
    disk: &dyn Disk,
    options: &CheckOptions,
    tell: &mut dyn FnMut(CheckProgress) -> bool,
) -> Result<Report> {
    let _guard = lock_shared(disk)?;
    Ok(examine(disk, options, &mut Watch::new(tell))?.report)
}

/// The pages that are damaged, as far as the options have them read, in a store that its only user has open and leaves
/// alone meanwhile.
pub(crate) fn damaged_pages(disk: &dyn Disk, options: &CheckOptions) -> Result<Vec<DamagedPages>> {
    Ok(examine(disk, options, &mut Watch::new(&mut |_| true))?.damaged)
}

/// The slots that page tables name in a store that its only user has open and leaves alone meanwhile;
/// `None` if not all page tables can be walked.
pub(crate) fn named_slots(disk: &dyn Disk, options: &CheckOptions) -> Result<Option<SlotSet>> {
    let options = options.structure();
    let examined = examine(disk, &options, &mut Watch::new(&mut |_| true))?;
    let Examined { report, named, .. } = examined;
    // What else is wrong may hide names, unless it is only something too much or too few.
    let is_derivable = |finding: &Finding| {
        finding.repair != Repair::Nothing || finding.class <= Class::RedundancyLost
    };
    let is_whole = report.more_findings == 0 && report.findings.iter().all(is_derivable);
    Ok(named.filter(|_| is_whole))
}

/// All that comes of a check.
#[derive(Default)]
struct Examined {
    report: Report,
    /// The slots that page tables name, if all were walked.
    named: Option<SlotSet>,
    damaged: Vec<DamagedPages>,
}

fn examine(disk: &dyn Disk, options: &CheckOptions, watch: &mut Watch<'_>) -> Result<Examined> {
    let mut findings = Findings::default();
    let mut examined =
        match Image::load(disk, options.key_service(), options.depth(), &mut findings)? {
            Some(image) => {
                if let Some(kms) = options.key_service() {
                    keys::check_mark(kms, &image, &mut findings)?;
                }
                check_image(&image, options, &mut findings, watch)?
            }
            None => Examined::default(),
        };
    let kms = options.key_service();
    examined.report.notes = notes::collect(disk, kms, &examined.report.stats)?;
    examined.report.findings = findings.list;
    examined.report.more_findings = findings.more;
    examined.report.is_cancelled = watch.is_cancelled();
    Ok(examined)
}

fn check_image(
    image: &Image<'_>,
    options: &CheckOptions,
    findings: &mut Findings,
    watch: &mut Watch<'_>,
) -> Result<Examined> {
    let files = segments::check(image, findings);
    let mut stats = Stats::of(image, files);
    // Without tables everything that refers to them would look wrong.
    if !image.complete {
        let report = Report {
            stats,
            ..Report::default()
        };
        return Ok(Examined {
            report,
            ..Examined::default()
        });
    }
    let only = options.only_head();
    let only = only.map(|(kind, name)| inspect::find_head(image, kind, name));
    let only = only.transpose()?;
    let lineages = catalog::lineage_forest(&image.state);
    catalog::check(image, &lineages, findings);
    space::check_sum(image, image.state.counted, findings);
    let keys = options.page_keys();
    let keys = keys.map(|kms| tags::Keys::open(kms, image, findings));
    let keys = keys.transpose()?;
    if let Some(kms) = options.page_keys() {
        keys::check_audit(kms, findings)?;
    }
    let pool = pool(options.worker_count())?;
    watch.expect(image.state.live.len().saturating_mul(SLOT_LEN as u64));
    let ground = Ground {
        image,
        lineages: &lineages,
        keys: keys.as_ref(),
        pool: pool.as_ref(),
        data: options.data(),
        only,
    };
    stats.locked_heads = keys.as_ref().map_or(0, |keys| keys.locked_heads);
    Ok(match &pool {
        Some(pool) => pool.in_place_scope(|scope| ground.walk(Some(scope), stats, findings, watch)),
        None => ground.walk(None, stats, findings, watch),
    })
}

/// What page tables are checked against, and how.
struct Ground<'a> {
    image: &'a Image<'a>,
    lineages: &'a Forest,
    keys: Option<&'a tags::Keys>,
    pool: Option<&'a ThreadPool>,
    data: Option<Sample>,
    only: Option<&'a Head>,
}

impl<'a> Ground<'a> {
    /// Walks the page tables of one head, or of all.
    fn walk(
        &self,
        scope: Option<&Scope<'a>>,
        mut stats: Stats,
        findings: &mut Findings,
        watch: &mut Watch<'_>,
    ) -> Examined {
        let image = self.image;
        let reader = Reader::new(image, scope, self.data, self.keys);
        let ahead = self.pool.filter(|_| self.data.is_none());
        let mut walk = Walk::new(image, self.lineages, findings, reader, ahead, watch);
        match self.only {
            Some(head) => walk.head(head),
            None => {
                let heads = image.state.heads.values();
                heads
                    .filter(|head| !head.is_deleted())
                    .for_each(|head| walk.head(head));
            }
        }
        walk.read_rest();
        let is_all = self.only.is_none() && !walk.watch.is_cancelled();
        let named = is_all.then(|| walk.claims.of_items());
        if let Some(named) = &named {
            space::check_named(image, named, walk.findings);
            if walk.is_whole() {
                space::check_leaks(image, named, walk.findings);
            }
            deadlists::check(image, self.lineages, &walk.claims, walk.findings);
            walk.check_counts();
        }
        stats.add_walk(&walk, image.superblock.geometry.page_len);
        Examined {
            damaged: walk.lost.damaged(image),
            report: Report {
                lost: walk.lost.list,
                stats,
                ..Report::default()
            },
            named,
        }
    }
}

fn pool(workers: usize) -> Result<Option<ThreadPool>> {
    if workers == 0 {
        return Ok(None);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build();
    pool.map(Some).map_err(|error| Error::Io {
        op: "start threads for",
        location: Location::Directory("the check".to_owned()),
        source: io::Error::other(error),
    })
}

/// The directory of a store, for [`check`] and [`inspect`].
pub fn open_dir(dir: &Path) -> Result<RealDisk> {
    let location = || Location::Directory(dir.display().to_string());
    RealDisk::open(dir).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotAStore {
            kind: Kind::Store,
            location: location(),
        },
        _ => Error::Io {
            op: "open",
            location: location(),
            source,
        },
    })
}

/// Keeps writers out as long as the guard lives. Where there is no lock file there is nobody to
/// keep out, and none is made: a check writes nothing.
pub(crate) fn lock_shared(disk: &dyn Disk) -> Result<Option<Box<dyn LockGuard>>> {
    let files = files::Files::list(disk)?;
    if !files.has(LOCK) || !superblocks::FILES.iter().any(|name| files.has(name)) {
        return Ok(None);
    }
    match disk.lock(LOCK, Lock::Shared) {
        Ok(guard) => Ok(Some(guard)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked {
            location: Location::Directory(disk.describe()),
            pid: disk.lock_owner(LOCK),
        }),
        Err(source) => Err(Error::Io {
            op: "lock",
            location: Location::File(LOCK.to_owned()),
            source,
        }),
    }
}

const LOCK: &str = "lock";

//! What a store holds, as plain data for people to look at.
//!
//! Every view locks the store shared and writes nothing; `store_id` alone needs no lock. A view gives what
//! can be read, and says what cannot and where ([`Problem`]); it is an error only if nothing is left of what
//! was asked for. Keys are needed for none: without the KMS, or with one that refuses, a view merely is
//! not authenticated.

mod catalog;
mod heatmap;
mod keys;
mod lineage;
mod log;
mod occupancy;
mod pack;
mod page;
mod raw;
mod segment;
mod superblock;
mod tree;
mod usage;

use std::fmt;

use crate::check::files::Files;
use crate::check::finding::{Finding, Findings};
use crate::check::image::Image;
use crate::check::options::Depth;
use crate::check::state::Head;
use crate::check::superblocks::{Chosen, FILES, choose};
use crate::error::{Damage, Error, Kind, Result};
use crate::format::catalog::HeadKind;
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::{Location, SlotAddr};

pub use catalog::{CatalogView, catalog};
pub use heatmap::{CellView, FileKind, FileMap, HeatmapView, heatmap};
pub use keys::{EpochKeyView, HeadKeyView, KeysView, keys};
pub use lineage::{HeadView, KeyEpochView, LineageEpochView, LineageView, lineage};
pub use log::{CheckpointView, LogView, log};
pub use occupancy::{OccupancyView, OwnerView, occupancy};
pub use pack::{PackPartView, PackView, packs};
pub use page::{PageData, PageState, PageView, page};
pub use raw::{RawField, RawPlace, RawSlot, RawView, raw};
pub use segment::{BatchView, RecordView, SegmentView, segment};
pub use superblock::{SuperblockSlot, SuperblockState, SuperblockView, store_id, superblocks};
pub use tree::{LevelView, NodeView, TreeView, tree};
pub use usage::SlotCounts;

/// Something that could not be read on the way to what was asked for, so that part of it may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The code that `fsck` has for it.
    pub code: Option<&'static str>,
    /// Where it is.
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

impl Problem {
    fn at(place: SlotAddr, message: impl fmt::Display) -> Self {
        Self {
            code: None,
            place: place.to_string(),
            message: message.to_string(),
        }
    }

    fn of_kms(error: &Error) -> Self {
        Self {
            code: None,
            place: "the KMS".to_owned(),
            message: format!("{error}; so nothing here is authenticated"),
        }
    }

    fn of(finding: &Finding) -> Self {
        Self {
            code: Some(finding.code),
            place: finding.place.text.clone(),
            message: finding.message.clone(),
        }
    }
}

/// A store as far as it can be read, and what stood in the way.
struct Loaded<'a> {
    image: Image<'a>,
    problems: Vec<Problem>,
}

/// Reads a store.
fn load<'a>(disk: &'a dyn Disk, kms: Option<&dyn KeyService>) -> Result<Loaded<'a>> {
    let read = |kms: Option<&dyn KeyService>, findings: &mut Findings| {
        let image = Image::load(disk, kms, Depth::Salvage, findings)?;
        image.ok_or_else(no_superblock)
    };
    let (image, problems) = without_refusal(kms, read)?;
    Ok(Loaded { image, problems })
}

/// The superblocks to go by.
fn chosen(
    disk: &dyn Disk,
    files: &Files<'_>,
    kms: Option<&dyn KeyService>,
) -> Result<(Chosen, Vec<Problem>)> {
    let read = |kms: Option<&dyn KeyService>, findings: &mut Findings| {
        let chosen = choose(disk, files, kms, findings)?;
        chosen.ok_or_else(no_superblock)
    };
    without_refusal(kms, read)
}

/// Reads with a KMS, or without it if it refuses: looking needs no key.
fn without_refusal<T>(
    kms: Option<&dyn KeyService>,
    read: impl Fn(Option<&dyn KeyService>, &mut Findings) -> Result<T>,
) -> Result<(T, Vec<Problem>)> {
    let mut problems = Vec::new();
    let mut findings = Findings::default();
    let value = match read(kms, &mut findings) {
        Err(error) if kms.is_some() => {
            findings = Findings::default();
            // If it was something else, it is so without the KMS, too.
            let value = read(None, &mut findings)?;
            problems.push(Problem::of_kms(&error));
            value
        }
        value => value?,
    };
    problems.extend(findings.list.iter().map(Problem::of));
    Ok((value, problems))
}

fn no_superblock() -> Error {
    Error::Corrupt {
        location: Location::File(FILES.join(" and ")),
        damage: Damage::Inconsistent("no slot holds a superblock"),
    }
}

/// The head of a kind and name that is not deleted.
pub(super) fn find_head<'a>(image: &'a Image<'_>, kind: Kind, name: &str) -> Result<&'a Head> {
    let mut heads = image.state.heads.values();
    let found = heads.find(|head| {
        let record = &head.record;
        !head.is_deleted() && kind_of(record.kind) == kind && record.name == name
    });
    let tables = image.superblock.tables.filter(|_| !image.complete);
    found.ok_or_else(|| match tables {
        // It may be in what is lost of them.
        Some(tables) => Error::Corrupt {
            location: Location::Slot(tables.at),
            damage: Damage::Inconsistent("the tables cannot be read in full"),
        },
        None => Error::NotFound {
            kind,
            name: name.to_owned(),
        },
    })
}

fn kind_of(kind: HeadKind) -> Kind {
    match kind {
        HeadKind::Volume => Kind::Volume,
        HeadKind::Snapshot => Kind::Snapshot,
        HeadKind::Pin => Kind::Pin,
    }
}

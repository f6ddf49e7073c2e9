//! What a store holds, as plain data for people to look at.
//!
//! Every view locks the store shared and writes nothing; `store_id` alone needs no lock. Damage on the way to what was asked for
//! is an error; damage in it is part of the view.

mod catalog;
mod keys;
mod lineage;
mod log;
mod pack;
mod page;
mod segment;
mod superblock;
mod tree;

use crate::check::finding::Findings;
use crate::check::image::Image;
use crate::check::options::Depth;
use crate::check::state::Head;
use crate::check::superblocks::FILES;
use crate::error::{Damage, Error, Kind, Result};
use crate::format::catalog::HeadKind;
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::Location;

pub use catalog::{CatalogView, catalog};
pub use keys::{EpochKeyView, HeadKeyView, KeysView, keys};
pub use lineage::{HeadView, KeyEpochView, LineageEpochView, LineageView, lineage};
pub use log::{CheckpointView, LogView, log};
pub use pack::{PackPartView, PackView, packs};
pub use page::{PageData, PageState, PageView, page};
pub use segment::{BatchView, RecordView, SegmentView, segment};
pub use superblock::{SuperblockSlot, SuperblockState, SuperblockView, store_id, superblocks};
pub use tree::{LevelView, NodeView, TreeView, tree};

/// The whole store, or what stands in the way.
fn load<'a>(disk: &'a dyn Disk, kms: Option<&dyn KeyService>) -> Result<Image<'a>> {
    let image = Image::load(disk, kms, Depth::Structure, &mut Findings::default())?;
    let corrupt = |location, what| Error::Corrupt {
        location,
        damage: Damage::Inconsistent(what),
    };
    let Some(image) = image else {
        let location = Location::File(FILES.join(" and "));
        return Err(corrupt(location, "no slot holds a superblock"));
    };
    if !image.complete {
        let at = image.superblock.tables.map(|tables| tables.at);
        let location = Location::Slot(at.unwrap_or_default());
        return Err(corrupt(location, "the tables cannot be read"));
    }
    Ok(image)
}

/// The head of a kind and name that is not deleted.
pub(super) fn find_head<'a>(image: &'a Image<'_>, kind: Kind, name: &str) -> Result<&'a Head> {
    let mut heads = image.state.heads.values();
    let found = heads.find(|head| {
        let record = &head.record;
        !head.is_deleted() && kind_of(record.kind) == kind && record.name == name
    });
    found.ok_or_else(|| Error::NotFound {
        kind,
        name: name.to_owned(),
    })
}

fn kind_of(kind: HeadKind) -> Kind {
    match kind {
        HeadKind::Volume => Kind::Volume,
        HeadKind::Snapshot => Kind::Snapshot,
        HeadKind::Pin => Kind::Pin,
    }
}

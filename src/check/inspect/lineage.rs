//! Heads, lineage epochs and key epochs.

use crate::check::inspect::{Loaded, Problem, kind_of, load};
use crate::check::lock_shared;
use crate::check::state::{Head, State};
use crate::error::{Kind, Result};
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::{HeadId, KeyEpoch, KeyId, LineageEpoch, ResourceId, SlotAddr};

/// Who descends from whom.
#[derive(Clone, Debug)]
pub struct LineageView {
    /// All heads, those deleted included, by number.
    pub heads: Vec<HeadView>,
    /// All lineage epochs, by number.
    pub lineage_epochs: Vec<LineageEpochView>,
    /// All key epochs, by number.
    pub key_epochs: Vec<KeyEpochView>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// A volume or snapshot.
#[derive(Clone, Debug)]
pub struct HeadView {
    /// Its number.
    pub head: HeadId,
    /// Volume or snapshot.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its state in a word: `available`, `deleted`, `importing` or `import_failed`.
    pub state: &'static str,
    /// Its random id.
    pub resource_id: ResourceId,
    /// What it was made from.
    pub origin_id: Option<ResourceId>,
    /// Shared by all volumes cloned from one another.
    pub group_id: Option<ResourceId>,
    /// The owner's account number.
    pub owner: u64,
    /// When it was made, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: u64,
    /// Length in bytes.
    pub len: u64,
    /// Its open lineage epoch.
    pub lineage: LineageEpoch,
    /// Its open key epoch.
    pub key_epoch: KeyEpoch,
    /// The KMS key that wraps its head key.
    pub kms_key: KeyId,
    /// The root of its page table on disk.
    pub root: Option<SlotAddr>,
}

/// A lineage epoch.
#[derive(Clone, Debug)]
pub struct LineageEpochView {
    /// Its number.
    pub lineage: LineageEpoch,
    /// The epoch above.
    pub parent: Option<LineageEpoch>,
    /// Something was written or discarded in it, as far as the records say.
    pub changed: bool,
    /// The heads that are in it now.
    pub heads: Vec<HeadId>,
}

/// A key epoch.
#[derive(Clone, Debug)]
pub struct KeyEpochView {
    /// Its number.
    pub key_epoch: KeyEpoch,
    /// The lineage epoch that its pages are born in.
    pub lineage: LineageEpoch,
    /// The key epoch above, whose key it wraps.
    pub above: Option<KeyEpoch>,
    /// An ancestor further above, likewise.
    pub far: Option<KeyEpoch>,
    /// Key epochs above it up to the root.
    pub depth: u32,
    /// Random id that its pages are bound to.
    pub random_id: [u8; 16],
}

/// Reads heads and epochs, as of the end of the log.
pub fn lineage(disk: &dyn Disk, kms: Option<&dyn KeyService>) -> Result<LineageView> {
    let _guard = lock_shared(disk)?;
    let Loaded { image, problems } = load(disk, kms)?;
    Ok(LineageView {
        problems,
        ..view(&image.state)
    })
}

/// The heads and epochs of a state.
pub(super) fn view(state: &State) -> LineageView {
    LineageView {
        problems: Vec::new(),
        heads: state.heads.values().map(head).collect(),
        lineage_epochs: lineage_epochs(state),
        key_epochs: state
            .key_epochs
            .values()
            .map(|record| KeyEpochView {
                key_epoch: record.key_epoch,
                lineage: record.lineage,
                above: record.above.map(|link| link.to),
                far: record.far.map(|link| link.to),
                depth: record.depth,
                random_id: record.random_id,
            })
            .collect(),
    }
}

fn head(head: &Head) -> HeadView {
    let record = &head.record;
    HeadView {
        head: record.head,
        kind: kind_of(record.kind),
        name: record.name.clone(),
        state: record.state.as_str(),
        resource_id: record.resource_id,
        origin_id: record.origin_id,
        group_id: record.group_id,
        owner: record.owner,
        created_at_ms: record.created_at_ms,
        len: record.len,
        lineage: record.lineage,
        key_epoch: record.key_epoch,
        kms_key: record.kms_key,
        root: head.root.map(|root| root.at),
    }
}

fn lineage_epochs(state: &State) -> Vec<LineageEpochView> {
    let mut heads = std::collections::HashMap::<_, Vec<_>>::new();
    for head in state.heads.values() {
        let in_it = heads.entry(head.record.lineage).or_default();
        in_it.push(head.record.head);
    }
    let records = state.lineages.values();
    let views = records.map(|record| LineageEpochView {
        lineage: record.lineage,
        parent: record.parent,
        changed: record.changed,
        heads: heads.remove(&record.lineage).unwrap_or_default(),
    });
    views.collect()
}

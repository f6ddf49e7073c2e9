//! The keys: what wraps what. No key is asked for, and none is shown.

use std::collections::BTreeMap;

use crate::check::inspect::{Loaded, Problem, kind_of, load};
use crate::check::lock_shared;
use crate::check::state::{Head, State};
use crate::error::{Kind, Result};
use crate::format::catalog::KeyEpochRecord;
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::{HeadId, HeadKeyId, KeyEpoch, KeyId, LineageEpoch};

/// What wraps what in a store.
#[derive(Clone, Debug)]
pub struct KeysView {
    /// The KMS key that wraps the store key.
    pub store_kms_key: KeyId,
    /// Commitment to the store key.
    pub store_key_commitment: [u8; 32],
    /// Heads that are not deleted, by number.
    pub heads: Vec<HeadKeyView>,
    /// Key epochs, by number.
    pub epochs: Vec<EpochKeyView>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// The head key of a head.
#[derive(Clone, Debug)]
pub struct HeadKeyView {
    /// The head.
    pub head: HeadId,
    /// Volume or snapshot.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The KMS key that wraps its head key.
    pub kms_key: KeyId,
    /// The id of its head key, which the KMS keeps.
    pub head_key: HeadKeyId,
    /// Its open key epoch, whose key the head key wraps.
    pub open_epoch: KeyEpoch,
    /// Key epochs that it can open: that one and those above.
    pub epoch_count: u32,
    /// Keys to be unwrapped on the way to the topmost.
    pub links_to_root: u32,
}

/// The key of a key epoch.
#[derive(Clone, Debug)]
pub struct EpochKeyView {
    /// The epoch.
    pub key_epoch: KeyEpoch,
    /// The lineage epoch that its pages are born in.
    pub lineage: LineageEpoch,
    /// The key epoch above, whose key it wraps.
    pub above: Option<KeyEpoch>,
    /// An ancestor further above, likewise.
    pub far: Option<KeyEpoch>,
    /// Key epochs above it.
    pub depth: u32,
    /// Random id that its pages are bound to.
    pub random_id: [u8; 16],
    /// Commitment to its key.
    pub commitment: [u8; 32],
    /// The heads that have it open.
    pub heads: Vec<HeadId>,
}

/// Reads which keys there are, as of the end of the log.
pub fn keys(disk: &dyn Disk, kms: Option<&dyn KeyService>) -> Result<KeysView> {
    let _guard = lock_shared(disk)?;
    let Loaded { image, problems } = load(disk, kms)?;
    let store_key = &image.superblock.store_key;
    let live: Vec<&Head> = image
        .state
        .heads
        .values()
        .filter(|head| !head.is_deleted())
        .collect();
    let mut open = BTreeMap::<KeyEpoch, Vec<HeadId>>::new();
    for head in &live {
        let record = &head.record;
        open.entry(record.key_epoch).or_default().push(record.head);
    }
    let epochs = image.state.key_epochs.values();
    Ok(KeysView {
        problems,
        store_kms_key: store_key.kms_key,
        store_key_commitment: store_key.commitment,
        heads: live
            .iter()
            .map(|head| head_key(&image.state, head))
            .collect(),
        epochs: epochs
            .map(|record| epoch_key(record, open.remove(&record.key_epoch).unwrap_or_default()))
            .collect(),
    })
}

fn head_key(state: &State, head: &Head) -> HeadKeyView {
    let record = &head.record;
    let open = state.key_epochs.get(&record.key_epoch);
    HeadKeyView {
        head: record.head,
        kind: kind_of(record.kind),
        name: record.name.clone(),
        kms_key: record.kms_key,
        head_key: record.head_key,
        open_epoch: record.key_epoch,
        epoch_count: open.map_or(0, |epoch| epoch.depth.saturating_add(1)),
        links_to_root: open.map_or(0, |epoch| links_to_root(state, epoch)),
    }
}

/// The shortest way up: `far` where there is one, else `above`.
fn links_to_root(state: &State, from: &KeyEpochRecord) -> u32 {
    let (mut links, mut at) = (0, from);
    while let Some(link) = at.far.as_ref().or(at.above.as_ref()) {
        match state.key_epochs.get(&link.to) {
            // Depths fall, or the records lie: so this ends.
            Some(next) if next.depth < at.depth => at = next,
            _ => break,
        }
        links += 1;
    }
    links
}

fn epoch_key(record: &KeyEpochRecord, heads: Vec<HeadId>) -> EpochKeyView {
    EpochKeyView {
        key_epoch: record.key_epoch,
        lineage: record.lineage,
        above: record.above.as_ref().map(|link| link.to),
        far: record.far.as_ref().map(|link| link.to),
        depth: record.depth,
        random_id: record.random_id,
        commitment: record.commitment,
        heads,
    }
}

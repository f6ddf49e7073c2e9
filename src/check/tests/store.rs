//! The store that the tests look at, and the KMS that opens it.

use super::builder::{Builder, Hook, KMS_KEY, STORE, head};
use crate::check::CheckOptions;
use crate::crypto::{Secret, WRAPPED_LEN, unwrap, wrap};
use crate::format::catalog::{
    HeadKind, HeadState, KeyEpochRecord, KeyLink, LineageRecord, RootSource, SaltRecord,
    SegmentRecord,
};
use crate::format::entry::Entry;
use crate::format::record::Record;
use crate::format::slots::{SlotsPurpose, SlotsRecord};
use crate::format::superblock::{Geometry, NextIds, Superblock, WrappedStoreKey};
use crate::io::sim::{SimDisk, SimRandom};
use crate::kms::{Context, HeadKeyInfo, KeyService, KmsError, Mark};
use crate::sync::Arc;
use crate::units::{
    HeadId, HeadKeyId, KeyEpoch, KeyId, LineageEpoch, PageNo, ResourceId, SegmentId, Seq, StoreId,
};

pub const SMALL: Geometry = Geometry {
    page_len: 4096,
    segment_slots: 24,
};

/// A store without faults.
pub fn store() -> SimDisk {
    store_with(SMALL, &|_| {})
}

/// The store, with pieces changed by the hook:
///
/// | batch | slots (segment 1) | what |
/// |---|---|---|
/// | 1 | 1 | volume "db", head 1 |
/// | 2 | 2-5 | its pages 0, 1, 2 |
/// | 3 | 6-7 | node "old" |
/// | 4, 5 | 8, 9 | tables; superblock 0 |
/// | 6 | 10 | volume "clone", head 2 |
/// | 7 | 11-13 | pages 1, 100 of "db" |
/// | 8 | 14-17 | nodes "a", "b", "top" |
/// | 9, 10 | 18, 19 | tables; superblock 1 |
/// | 11 | 20 | snapshot "snap", head 3 |
/// | 12 | 1-3 of segment 2 | pages 2, 3 of "db" |
/// | 13 | 4 | zeroes in "clone", discard in "db" |
/// | 14 | 5-6 | node "stray" of a checkpoint that did not end |
/// | 15, 16 | 7, 8 | volume "gone", head 4: made and deleted; 16 says 15 was durable |
/// | 17 | 9-10 | page 5 of "clone" |
pub fn store_with(geometry: Geometry, hook: &Hook<'_>) -> SimDisk {
    let (store_key, wrapped) = store_key();
    let mut store = Builder::new(geometry, store_key, wrapped, hook);
    let old = first_checkpoint(&mut store);
    second_checkpoint(&mut store, old);
    tail(&mut store);
    store.disk
}

fn first_checkpoint(store: &mut Builder<'_>) -> RootSource {
    store.start_segment(1);
    let mut records = vec![segment(store, 1)];
    let epochs = [epoch(1, 0)];
    records.extend(epochs.iter().flatten().cloned());
    records.push(volume(1, "db", RootSource::Empty, 1));
    store.append(records, &[]);
    store.write_pages(vec![], 1, 1, &[0, 1, 2]);
    let mut nodes = store.nodes(1);
    let old = RootSource::Node(nodes.leaf("old", 1, leaf(store, 1, 0..100)));
    store.write_nodes(nodes);
    let mut records = vec![segment(store, 1), salt(1)];
    records.extend(epochs.into_iter().flatten());
    records.push(counted(volume(1, "db", old, 1), 3));
    add_live(store, &mut records);
    let table = store.write_tables(false, records);
    store.write_superblock(&superblock(store, 0, 2), Some(table));
    old
}

fn second_checkpoint(store: &mut Builder<'_>, old: RootSource) {
    let mut records: Vec<_> = [epoch(2, 1), epoch(3, 1)].into_iter().flatten().collect();
    records.push(volume(1, "db", RootSource::Keep, 2));
    records.push(volume(2, "clone", RootSource::CopyOf(HeadId(1)), 3));
    store.append(records, &[]);
    store.copy_pages(1, 2);
    store.write_pages(vec![], 1, 2, &[1, 100]);
    let mut nodes = store.nodes(3);
    let a = nodes.leaf("a", 2, leaf(store, 1, 0..100));
    let b = nodes.leaf("b", 2, leaf(store, 1, 100..200));
    let top = RootSource::Node(nodes.inner("top", 2, &[(0, a), (100, b)]));
    store.write_nodes(nodes);
    let mut records = vec![segment(store, 1), salt(1)];
    records.extend(
        [epoch(1, 0), epoch(2, 1), epoch(3, 1)]
            .into_iter()
            .flatten(),
    );
    records.push(counted(volume(1, "db", top, 2), 4));
    records.push(counted(volume(2, "clone", old, 3), 3));
    add_live(store, &mut records);
    let table = store.write_tables(true, records);
    store.write_superblock(&superblock(store, 1, 4), Some(table));
}

fn tail(store: &mut Builder<'_>) {
    let mut records: Vec<_> = [epoch(4, 2), epoch(5, 2)].into_iter().flatten().collect();
    records.push(volume(1, "db", RootSource::Keep, 4));
    let copy = RootSource::CopyOf(HeadId(1));
    let snapshot = head(3, HeadKind::Snapshot, "snap", copy, 5);
    records.push(Record::Head(Box::new(snapshot)));
    store.append(records, &[]);
    store.copy_pages(1, 3);
    store.start_segment(2);
    store.write_pages(vec![segment(store, 2)], 1, 4, &[2, 3]);
    let zeroes = Record::Zeroes(store.cleared(2, 3, 0, 2));
    let discard = Record::Discard(store.cleared(1, 4, 100, 100));
    store.append(vec![zeroes, discard], &[]);
    let mut nodes = store.nodes(1);
    nodes.leaf("stray", 4, leaf(store, 1, 0..2));
    store.write_nodes(nodes);
    let mut records = epoch(6, 0).to_vec();
    records.push(volume(4, "gone", RootSource::Empty, 6));
    store.append(records, &[]);
    store.durable = Seq(15);
    let mut gone = head(4, HeadKind::Volume, "gone", RootSource::Keep, 6);
    gone.state = HeadState::Deleted;
    store.append(vec![Record::Head(Box::new(gone))], &[]);
    store.write_pages(vec![], 2, 3, &[5]);
}

/// All slots of the first segment that are written, counted as nodes of the first key epoch.
fn add_live(store: &Builder<'_>, records: &mut Vec<Record>) {
    let count = store.end().slot - 1;
    let epoch = records.iter_mut().find_map(|record| match record {
        Record::KeyEpoch(epoch) => Some(epoch),
        _ => None,
    });
    epoch.unwrap().live_nodes = count.into();
    records.push(Record::Slots(SlotsRecord {
        purpose: SlotsPurpose::Live,
        segment: SegmentId(1),
        runs: vec![(1, count)],
    }));
}

/// A lineage epoch and a key epoch of one number.
fn epoch(id: u32, above: u32) -> [Record; 2] {
    let link = |to: u32| KeyLink {
        to: KeyEpoch(to),
        wrapped: [2; WRAPPED_LEN],
    };
    let depth = [0, 0, 1, 1, 2, 2, 0][id as usize];
    [
        Record::Lineage(LineageRecord {
            lineage: LineageEpoch(id),
            parent: (above > 0).then_some(LineageEpoch(above)),
            changed: true,
            beside: None,
        }),
        Record::KeyEpoch(Box::new(KeyEpochRecord {
            key_epoch: KeyEpoch(id),
            lineage: LineageEpoch(id),
            depth,
            random_id: [id as u8; 16],
            commitment: [3; 32],
            above: (above > 0).then(|| link(above)),
            far: (depth > 1).then(|| link(1)),
            live_pages: 0,
            live_nodes: 0,
        })),
    ]
}

fn volume(id: u32, name: &str, root: RootSource, epoch: u32) -> Record {
    Record::Head(Box::new(head(id, HeadKind::Volume, name, root, epoch)))
}

/// With the pages that its page table maps.
fn counted(mut record: Record, page_count: u64) -> Record {
    if let Record::Head(head) = &mut record {
        head.page_count = page_count;
    }
    record
}

fn segment(store: &Builder<'_>, id: u32) -> Record {
    Record::Segment(SegmentRecord {
        segment: SegmentId(id),
        slot_count: store.geometry.segment_slots,
    })
}

fn salt(segment: u32) -> Record {
    Record::Salt(SaltRecord {
        segment: SegmentId(segment),
        first_slot: 1,
        salt: [segment as u8; 12],
    })
}

fn leaf(store: &Builder<'_>, head: u32, pages: std::ops::Range<u64>) -> Vec<(PageNo, Entry)> {
    let first = (HeadId(head), PageNo(pages.start));
    let end = (HeadId(head), PageNo(pages.end));
    let range = store.pages.range(first..end);
    range.map(|(&(_, page), &entry)| (page, entry)).collect()
}

fn superblock(store: &Builder<'_>, generation: u64, next: u32) -> Superblock {
    Superblock {
        store_id: STORE,
        generation,
        created_at_ms: 5,
        geometry: store.geometry,
        clean: false,
        next: NextIds {
            head: HeadId(next),
            lineage: LineageEpoch(next),
            key_epoch: KeyEpoch(next),
        },
        position: Default::default(),
        durable_through: Seq(0),
        tables: None,
        store_key: WrappedStoreKey {
            kms_key: KMS_KEY,
            commitment: [0; 32],
            wrapped: vec![],
        },
    }
}

fn store_key() -> (Secret, Vec<u8>) {
    let secret = Secret::from_bytes([42; 32]);
    let aad = b"store-key";
    let wrapped = wrap(&TestKms::kek(), &secret, aad, &SimRandom::new(2)).to_vec();
    (secret, wrapped)
}

/// Options with the KMS, and pages read.
pub fn thorough() -> CheckOptions {
    CheckOptions::new().kms(Arc::new(TestKms)).read_data(true)
}

/// The head key of every head.
pub fn head_secret() -> Secret {
    Secret::from_bytes([8; 32])
}

/// Opens the store key of the one store.
#[derive(Debug)]
pub struct TestKms;

impl TestKms {
    fn kek() -> Secret {
        Secret::from_bytes([9; 32])
    }
}

impl KeyService for TestKms {
    fn resolve(&self, reference: &str) -> Result<KeyId, KmsError> {
        Err(KmsError::NotFound(reference.to_owned()))
    }

    fn generate(&self, key: &KeyId, _: &Context) -> Result<(Vec<u8>, Secret), KmsError> {
        Err(KmsError::NotFound(key.to_string()))
    }

    fn decrypt(&self, key: &KeyId, wrapped: &[u8], context: &Context) -> Result<Secret, KmsError> {
        if *key != KMS_KEY {
            return Err(KmsError::NotFound(key.to_string()));
        }
        let denied = || KmsError::Denied {
            key: key.to_string(),
            action: "decrypt",
        };
        if context.store != STORE || context.resource != ResourceId(STORE.0) {
            return Err(denied());
        }
        let wrapped = wrapped.try_into().map_err(|_| denied())?;
        unwrap(&Self::kek(), wrapped, context.purpose.as_bytes()).map_err(|_| denied())
    }

    fn assign_head_key(
        &self,
        key: &KeyId,
        _: StoreId,
        _: ResourceId,
    ) -> Result<(HeadKeyId, Secret), KmsError> {
        Err(KmsError::NotFound(key.to_string()))
    }

    fn head_key(&self, _: &HeadKeyId, _: StoreId, _: ResourceId) -> Result<Secret, KmsError> {
        Ok(head_secret())
    }

    fn head_key_info(&self, id: &HeadKeyId, _: StoreId) -> Result<HeadKeyInfo, KmsError> {
        Err(KmsError::NotFound(id.to_string()))
    }

    fn rewrap_head_keys(
        &self,
        to: &KeyId,
        _: StoreId,
        _: &[(HeadKeyId, ResourceId)],
    ) -> Result<(), KmsError> {
        Err(KmsError::NotFound(to.to_string()))
    }

    fn is_newest(&self, key: &KeyId, _: &[u8]) -> Result<bool, KmsError> {
        Err(KmsError::NotFound(key.to_string()))
    }

    fn re_encrypt(&self, key: &KeyId, _: &[u8], _: &Context) -> Result<Vec<u8>, KmsError> {
        Err(KmsError::NotFound(key.to_string()))
    }

    fn refill(&self, key: &KeyId, _: StoreId) -> Result<(), KmsError> {
        Err(KmsError::NotFound(key.to_string()))
    }

    fn mark(&self, _: StoreId) -> Result<Option<Mark>, KmsError> {
        Ok(None)
    }

    fn raise_mark(&self, _: StoreId, _: &Mark) -> Result<(), KmsError> {
        Ok(())
    }

    fn accept_rollback(&self, _: StoreId, _: &Mark) -> Result<(), KmsError> {
        Ok(())
    }

    fn note_head_key(&self, _: StoreId, _: &HeadKeyId) -> Result<(), KmsError> {
        Ok(())
    }

    fn claim_head_keys(&self, _: StoreId, _: &[HeadKeyId]) -> Result<(), KmsError> {
        Ok(())
    }

    fn destroy_head_keys(&self, _: StoreId, _: &[(HeadKeyId, ResourceId)]) -> Result<(), KmsError> {
        Ok(())
    }

    fn destroy_unclaimed(&self, _: StoreId) -> Result<(), KmsError> {
        Ok(())
    }
}

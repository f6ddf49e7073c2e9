//! New heads: the records that create a volume or branch one off another head.

use crate::catalog::keys::{HeadKeys, link_aad};
use crate::catalog::state::{Catalog, Head};
use crate::crypto::{self, Secret};
use crate::error::Damage;
use crate::format::catalog::{
    HeadKind, HeadRecord, HeadState, KeyEpochRecord, KeyLink, LineageRecord, RootSource,
};
use crate::format::record::Record;
use crate::lineage::Branch;
use crate::segment::EpochKey;
use crate::source::Random;
use crate::sync::Arc;
use crate::units::{HeadId, HeadKeyId, KeyEpoch, KeyId, LineageEpoch, ResourceId};

/// A head key as the KMS assigned it.
#[derive(Debug)]
pub struct HeadKey {
    /// The KMS key that wraps it.
    pub kms_key: KeyId,
    /// Its id.
    pub id: HeadKeyId,
    /// The key.
    pub secret: Secret,
}

/// What a new head is to be.
#[derive(Debug)]
pub struct NewHead {
    /// Its random id.
    pub resource_id: ResourceId,
    /// Volume or snapshot.
    pub kind: HeadKind,
    /// Whether it is an automated snapshot.
    pub automated: bool,
    /// Its name, checked.
    pub name: String,
    /// Its state.
    pub state: HeadState,
    /// When it is made.
    pub created_at_ms: u64,
    /// Its head key.
    pub key: HeadKey,
}

/// The records that make a head, and the keys of those heads whose key epoch is new.
#[derive(Debug)]
pub struct Plan {
    /// The records of one batch.
    pub records: Vec<Record>,
    /// The new head.
    pub head: HeadId,
    /// Its keys.
    pub keys: HeadKeys,
    /// The source's new key epoch, to be added to its keys once the records are in the log.
    pub source_key: Option<Arc<EpochKey>>,
}

/// Makes an empty volume with a lineage of its own.
pub fn create_head(catalog: &Catalog, new: NewHead, len: u64, random: &dyn Random) -> Plan {
    let next = catalog.next();
    let lineage = LineageRecord {
        lineage: next.lineage,
        parent: None,
        changed: false,
        beside: None,
    };
    let (epoch, key) = new_epoch(next.key_epoch, next.lineage, random);
    let keys = HeadKeys::new(new.key.secret);
    let record = HeadRecord {
        head: next.head,
        kind: new.kind,
        automated: new.automated,
        protected: false,
        state: new.state,
        root: RootSource::Empty,
        lineage: next.lineage,
        key_epoch: epoch.key_epoch,
        resource_id: new.resource_id,
        origin_id: None,
        group_id: None,
        owner: 0,
        created_at_ms: new.created_at_ms,
        len,
        kms_key: new.key.kms_key,
        head_key: new.key.id,
        wrapped_key: keys.wrap(&new.resource_id, &epoch, &key, random),
        page_count: 0,
        name: new.name,
    };
    keys.add(Arc::new(key));
    let records = vec![
        Record::Lineage(lineage),
        Record::KeyEpoch(Box::new(epoch)),
        Record::Head(Box::new(record)),
    ];
    Plan {
        records,
        head: next.head,
        keys,
        source_key: None,
    }
}

/// Branches a volume or snapshot off a head: O(1), both hold the same root, and each side that
/// can write gets a fresh key epoch that the other side cannot open.
pub fn branch_head(
    catalog: &Catalog,
    source: &Head,
    source_keys: &HeadKeys,
    new: NewHead,
    random: &dyn Random,
) -> Result<Plan, Damage> {
    let mut next = catalog.next();
    let mut records = Vec::new();
    let mut source_record = source.record.clone();
    let mut source_key = None;
    let mut maker = EpochMaker {
        catalog,
        keys: source_keys,
        open: source.record.key_epoch,
        random,
    };
    let above = last_sealed(catalog, source)?;
    let mut sibling = source.record.lineage;
    match catalog.lineage().branch(source.record.lineage) {
        Branch::Share(_) => {}
        Branch::Split => {
            let parent = source.record.lineage;
            let (epoch, key) = maker.make(next.key_epoch, next.lineage, above)?;
            records.push(lineage_below(next.lineage, parent));
            sibling = next.lineage;
            source_record.lineage = next.lineage;
            source_record.key_epoch = epoch.key_epoch;
            source_record.wrapped_key =
                source_keys.wrap(&source_record.resource_id, &epoch, &key, random);
            records.push(Record::KeyEpoch(Box::new(epoch)));
            source_key = Some(Arc::new(key));
            next.lineage = LineageEpoch(next.lineage.0 + 1);
            next.key_epoch = KeyEpoch(next.key_epoch.0 + 1);
        }
    }
    let (epoch, key) = maker.make(next.key_epoch, next.lineage, above)?;
    records.push(Record::Lineage(LineageRecord {
        lineage: next.lineage,
        parent: None,
        changed: false,
        beside: Some(sibling),
    }));
    if new.kind == HeadKind::Volume && source_record.group_id.is_none() {
        let mut id = [0; 16];
        random.fill(&mut id);
        source_record.group_id = Some(ResourceId(id));
    }
    let keys = HeadKeys::new(new.key.secret);
    let record = HeadRecord {
        head: next.head,
        kind: new.kind,
        automated: new.automated,
        protected: false,
        state: new.state,
        root: RootSource::CopyOf(source.record.head),
        lineage: next.lineage,
        key_epoch: epoch.key_epoch,
        resource_id: new.resource_id,
        origin_id: Some(source.record.resource_id),
        group_id: source_record.group_id,
        owner: source.record.owner,
        created_at_ms: new.created_at_ms,
        len: source.record.len,
        kms_key: new.key.kms_key,
        head_key: new.key.id,
        wrapped_key: keys.wrap(&new.resource_id, &epoch, &key, random),
        page_count: 0,
        name: new.name,
    };
    keys.add(Arc::new(key));
    records.push(Record::KeyEpoch(Box::new(epoch)));
    if source_record != source.record {
        records.push(Record::Head(Box::new(source_record)));
    }
    records.push(Record::Head(Box::new(record)));
    Ok(Plan {
        records,
        head: next.head,
        keys,
        source_key,
    })
}

/// A fresh key epoch for a head in the lineage epoch that it is in: the records of one batch, and the
/// epoch's key, to be added to the head's keys.
pub fn renew_epoch(
    catalog: &Catalog,
    head: &Head,
    keys: &HeadKeys,
    random: &dyn Random,
) -> Result<(Vec<Record>, Arc<EpochKey>), Damage> {
    let record = &head.record;
    let mut maker = EpochMaker {
        catalog,
        keys,
        open: record.key_epoch,
        random,
    };
    let above = last_sealed(catalog, head)?;
    let (epoch, key) = maker.make(catalog.next().key_epoch, record.lineage, above)?;
    let renewed = HeadRecord {
        key_epoch: epoch.key_epoch,
        wrapped_key: keys.wrap(&record.resource_id, &epoch, &key, random),
        ..record.clone()
    };
    let records = vec![
        Record::KeyEpoch(Box::new(epoch)),
        Record::Head(Box::new(renewed)),
    ];
    Ok((records, Arc::new(key)))
}

/// The key epoch that the next ones link to: the nearest, from the open one upwards, that live pages
/// are sealed under. So chains grow with what is left of them, not with every branch there was.
fn last_sealed(catalog: &Catalog, source: &Head) -> Result<Option<KeyEpoch>, Damage> {
    let mut at = Some(source.record.key_epoch);
    while let Some(id) = at.filter(|&id| catalog.lineage().sealed_count(id) == 0) {
        let record = catalog.key_epoch(id);
        let record = record.ok_or(Damage::Inconsistent("a key epoch does not exist"))?;
        at = record.above.map(|link| link.to);
    }
    Ok(at)
}

fn lineage_below(lineage: LineageEpoch, parent: LineageEpoch) -> Record {
    Record::Lineage(LineageRecord {
        lineage,
        parent: Some(parent),
        changed: false,
        beside: None,
    })
}

fn new_epoch(
    id: KeyEpoch,
    lineage: LineageEpoch,
    random: &dyn Random,
) -> (KeyEpochRecord, EpochKey) {
    let secret = Secret::random(random);
    let mut random_id = [0; 16];
    random.fill(&mut random_id);
    let record = KeyEpochRecord {
        key_epoch: id,
        lineage,
        depth: 0,
        random_id,
        commitment: secret.commitment(),
        above: None,
        far: None,
        live_pages: 0,
        live_nodes: 0,
    };
    (record, EpochKey::new(id, random_id, secret))
}

struct EpochMaker<'a> {
    catalog: &'a Catalog,
    keys: &'a HeadKeys,
    open: KeyEpoch,
    random: &'a dyn Random,
}

impl EpochMaker<'_> {
    /// A key epoch below `above`, linked to it and to one far ancestor.
    fn make(
        &mut self,
        id: KeyEpoch,
        lineage: LineageEpoch,
        above: Option<KeyEpoch>,
    ) -> Result<(KeyEpochRecord, EpochKey), Damage> {
        let (mut record, key) = new_epoch(id, lineage, self.random);
        if let Some(above) = above {
            record.depth = self.record(above)?.depth + 1;
            record.above = Some(self.link(&record, &key, above)?);
            let far = self.far_above(above)?;
            record.far = match far == above {
                true => None,
                false => Some(self.link(&record, &key, far)?),
            };
        }
        Ok((record, key))
    }

    fn link(
        &self,
        record: &KeyEpochRecord,
        key: &EpochKey,
        to: KeyEpoch,
    ) -> Result<KeyLink, Damage> {
        let target = self.keys.epoch(self.open, to, self.catalog)?;
        let aad = link_aad(record, self.record(to)?);
        Ok(KeyLink {
            to,
            wrapped: crypto::wrap(&key.wrap, &target.secret, &aad, self.random),
        })
    }

    /// The far ancestor of an epoch below `above`: a jump pointer (Myers, "An applicative
    /// random-access stack", 1983), so that any ancestor is O(log depth) links away.
    fn far_above(&self, above: KeyEpoch) -> Result<KeyEpoch, Damage> {
        let jump = |id: KeyEpoch| -> Result<&KeyEpochRecord, Damage> {
            let record = self.record(id)?;
            let link = record.far.or(record.above);
            link.map_or(Ok(record), |link| self.record(link.to))
        };
        let first = jump(above)?;
        let second = jump(first.key_epoch)?;
        let even = self.record(above)?.depth - first.depth == first.depth - second.depth;
        Ok(if even { second.key_epoch } else { above })
    }

    fn record(&self, id: KeyEpoch) -> Result<&KeyEpochRecord, Damage> {
        self.catalog
            .key_epoch(id)
            .ok_or(Damage::Inconsistent("a key epoch does not exist"))
    }
}

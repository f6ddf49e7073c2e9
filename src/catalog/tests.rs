use super::{
    Catalog, Context, HeadKey, NewHead, branch_head, check_name, check_volume_name, create_head,
};
use crate::btree::{Fanout, Node, NodeSource, PageTable};
use crate::catalog::{Changed, HeadKeys, Plan};
use crate::crypto::Secret;
use crate::error::{Damage, Error, Result};
use crate::format::catalog::{HeadKind, HeadRecord, HeadState, KeyEpochRecord, RootSource};
use crate::format::entry::DataEntry;
use crate::format::node::NodeRef;
use crate::format::record::{PageDelta, PageRange, Record};
use crate::format::superblock::NextIds;
use crate::io::sim::SimRandom;
use crate::lineage::Lineage;
use crate::source::Random;
use crate::sync::Arc;
use crate::units::{
    HeadId, HeadKeyId, KeyEpoch, KeyId, LineageEpoch, PageNo, ResourceId, SegmentId, Seq, SlotAddr,
};

/// A catalog whose trees are all in memory, and the keys of its heads.
pub(super) struct Family {
    pub catalog: Catalog,
    pub random: SimRandom,
    pub heads: Vec<Member>,
    /// Pages that were written.
    pages: u32,
}

/// A head of a family.
pub(super) struct Member {
    pub id: HeadId,
    pub keys: HeadKeys,
    pub secret: Secret,
}

#[derive(Debug)]
struct NoNodes;

impl NodeSource for NoNodes {
    fn load(&self, _: &NodeRef) -> Result<Arc<Node>> {
        panic!("BUG: all nodes are in memory")
    }
}

/// What records need that load no nodes.
pub fn context() -> Context<'static> {
    let at = SlotAddr::default();
    Context {
        nodes: &NoNodes,
        fanout: Fanout::default(),
        at,
        seq: Seq(1),
    }
}

pub(super) fn empty() -> Catalog {
    let (head, lineage, key_epoch) = (HeadId(1), LineageEpoch(1), KeyEpoch(1));
    let next = NextIds {
        head,
        lineage,
        key_epoch,
    };
    Catalog::new(next, 1)
}

/// A catalog with this lineage and these key epochs, and no heads.
pub fn with_lineage(next: NextIds, lineage: Lineage, keys: Vec<KeyEpochRecord>) -> Catalog {
    let mut catalog = Catalog::new(next, 1);
    catalog.lineage = lineage;
    catalog.key_epochs = keys.into_iter().map(|key| (key.key_epoch, key)).collect();
    catalog
}

impl Family {
    pub fn new() -> Self {
        Self {
            catalog: empty(),
            random: SimRandom::new(1),
            heads: Vec::new(),
            pages: 0,
        }
    }

    fn new_head(&self, kind: HeadKind, secret: &Secret) -> NewHead {
        let mut id = [0; 16];
        self.random.fill(&mut id);
        NewHead {
            automated: false,
            resource_id: ResourceId(id),
            kind,
            name: format!("h{}", self.heads.len()),
            state: HeadState::Available,
            created_at_ms: 5,
            key: HeadKey {
                kms_key: KeyId([1; 16]),
                id: HeadKeyId(id),
                secret: secret.duplicate(),
            },
        }
    }

    fn apply(&mut self, plan: Plan, secret: Secret) -> usize {
        for record in &plan.records {
            self.catalog.apply(record, context()).unwrap();
        }
        self.heads.push(Member {
            id: plan.head,
            keys: plan.keys,
            secret,
        });
        self.heads.len() - 1
    }

    pub fn create(&mut self) -> usize {
        let secret = Secret::random(&self.random);
        let new = self.new_head(HeadKind::Volume, &secret);
        let plan = create_head(&self.catalog, new, 4096, &self.random);
        self.apply(plan, secret)
    }

    pub fn branch(&mut self, source: usize, kind: HeadKind) -> usize {
        let secret = Secret::random(&self.random);
        let new = self.new_head(kind, &secret);
        let head = self.catalog.head(self.heads[source].id).unwrap().clone();
        let keys = &self.heads[source].keys;
        let plan = branch_head(&self.catalog, &head, keys, new, &self.random).unwrap();
        if let Some(key) = &plan.source_key {
            keys.add(key.clone());
        }
        self.apply(plan, secret)
    }

    /// Changes something in a head.
    pub fn touch(&mut self, head: usize) {
        self.pages += 1;
        let at = SlotAddr {
            segment: SegmentId(1),
            slot: self.pages,
        };
        let entry = DataEntry {
            at,
            key_epoch: self.record(head).key_epoch,
            crc: 0,
            nonce: [0; 12],
            tag: [0; 16],
        };
        let delta = PageDelta {
            page: PageNo(self.pages.into()),
            entry,
            old_at: None,
            old_key_epoch: None,
        };
        let changed = Changed {
            tree: Some(PageTable::default()),
            deltas: &[delta],
            ..Changed::default()
        };
        self.catalog
            .install(self.heads[head].id, changed, context());
    }

    pub fn record(&self, head: usize) -> HeadRecord {
        self.catalog
            .head(self.heads[head].id)
            .unwrap()
            .record
            .clone()
    }

    /// The keys of a head as a new process gets them.
    pub fn unlock(&self, head: usize) -> HeadKeys {
        let record = self.record(head);
        let epoch = self.catalog.key_epoch(record.key_epoch).unwrap();
        HeadKeys::unlock(&record, epoch, self.heads[head].secret.duplicate()).unwrap()
    }
}

#[test]
fn names_are_letters_digits_and_single_inner_hyphens() {
    let long = |len: usize| "a".repeat(len);
    let good = ["a", "A", "a1", "abc-def", "a-1-b", "Z9", &long(63)];
    let bad = [
        "",
        " ",
        "-",
        "a-",
        "-a",
        "a--b",
        "1a",
        "9",
        "a_b",
        "a b",
        "a.b",
        "a/b",
        "a\\b",
        "é",
        "aé",
        "a\u{200b}",
        "a\0",
        "a\n",
        "\u{ff41}",
        "..",
        "a:b",
    ];
    for name in good {
        assert_eq!(check_volume_name(name).unwrap(), name.to_ascii_lowercase());
        assert_eq!(
            check_name(HeadKind::Snapshot, name).unwrap(),
            name.to_ascii_lowercase()
        );
    }
    for name in bad {
        for result in [
            check_volume_name(name),
            check_name(HeadKind::Snapshot, name),
        ] {
            assert!(matches!(result, Err(Error::Invalid { .. })), "{name:?}");
        }
    }
    assert!(check_volume_name(&long(64)).is_err());
    assert!(check_name(HeadKind::Snapshot, &long(255)).is_ok());
    assert!(check_name(HeadKind::Snapshot, &long(256)).is_err());
    match check_volume_name(&"é".repeat(500)) {
        Err(Error::Invalid { value, .. }) => assert_eq!(value.chars().count(), 80, "shortened"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_is_found_until_its_head_is_renamed_or_deleted() {
    let mut family = Family::new();
    let head = family.create();
    let snapshot = family.branch(head, HeadKind::Snapshot);
    let id = family.heads[head].id;
    let find = |family: &Family, kind, name: &str| {
        family.catalog.find(kind, name).map(|head| head.record.head)
    };
    assert_eq!(find(&family, HeadKind::Volume, "h0"), Some(id));
    assert_eq!(
        find(&family, HeadKind::Snapshot, "h0"),
        None,
        "kinds are apart"
    );
    assert_eq!(
        find(&family, HeadKind::Snapshot, "h1"),
        Some(family.heads[snapshot].id)
    );
    let change = |family: &mut Family, change: &dyn Fn(&mut HeadRecord)| {
        let mut record = family.catalog.heads().next().unwrap().record.clone();
        change(&mut record);
        family
            .catalog
            .apply(&Record::Head(Box::new(record)), context())
            .unwrap();
    };
    change(&mut family, &|record| record.name = "new".to_owned());
    assert_eq!(find(&family, HeadKind::Volume, "h0"), None);
    assert_eq!(find(&family, HeadKind::Volume, "new"), Some(id));
    change(&mut family, &|record| record.state = HeadState::Deleted);
    assert_eq!(find(&family, HeadKind::Volume, "new"), None);
    assert!(family.catalog.head(id).is_none());
    assert_eq!(family.catalog.heads().count(), 2, "the tombstone is kept");
    assert_eq!(
        find(&family, HeadKind::Snapshot, "h1"),
        Some(family.heads[snapshot].id)
    );
}

#[test]
fn a_tombstone_of_a_name_never_hides_the_head_that_has_it_now() {
    let mut family = Family::new();
    let old = family.create();
    let mut record = family.record(old);
    record.state = HeadState::Deleted;
    let tombstone = Record::Head(Box::new(record));
    family.catalog.apply(&tombstone, context()).unwrap();
    let new = family.create();
    let mut record = family.record(new);
    record.name = "h0".to_owned();
    family
        .catalog
        .apply(&Record::Head(Box::new(record)), context())
        .unwrap();
    // As tables hold them: in the order of numbers, or any other.
    family.catalog.apply(&tombstone, context()).unwrap();
    let found = family.catalog.find(HeadKind::Volume, "h0").unwrap();
    assert_eq!(found.record.head, family.heads[new].id);
}

#[test]
fn numbers_go_on_above_all_that_were_ever_used() {
    let mut family = Family::new();
    let first = family.create();
    family.touch(first);
    family.branch(first, HeadKind::Volume);
    let next = family.catalog.next();
    assert_eq!(
        (next.head, next.lineage, next.key_epoch),
        (HeadId(3), LineageEpoch(4), KeyEpoch(4))
    );
    let mut record = family.record(1);
    record.state = HeadState::Deleted;
    family
        .catalog
        .apply(&Record::Head(Box::new(record)), context())
        .unwrap();
    assert_eq!(family.catalog.next(), next);
}

#[test]
fn a_branch_shares_the_root_and_gives_both_sides_fresh_epochs() {
    let mut family = Family::new();
    let source = family.create();
    family.touch(source);
    let before = family.record(source);
    let clone = family.branch(source, HeadKind::Volume);
    let (source, clone) = (family.record(source), family.record(clone));
    for pair in [
        (before.key_epoch, source.key_epoch),
        (before.key_epoch, clone.key_epoch),
        (source.key_epoch, clone.key_epoch),
    ] {
        assert_ne!(pair.0, pair.1);
    }
    let lineage = family.catalog.lineage();
    assert_eq!(lineage.distance(source.lineage, before.lineage), Some(1));
    assert_eq!(lineage.distance(clone.lineage, before.lineage), Some(1));
    assert_eq!(
        (clone.origin_id, clone.len),
        (Some(source.resource_id), source.len)
    );
    assert_eq!(source.resource_id, before.resource_id);
    assert!(source.group_id.is_some() && source.group_id == clone.group_id);
    assert_eq!(before.group_id, None);
    let trees: Vec<_> = family.catalog.heads().map(|head| &head.tree).collect();
    assert!(trees[0].same_as(trees[1]));
}

#[test]
fn records_that_contradict_the_catalog_are_refused() {
    let mut family = Family::new();
    let head = family.create();
    let record = family.record(head);
    let range = PageRange {
        head: HeadId(99),
        key_epoch: record.key_epoch,
        first: PageNo(0),
        count: 1,
        gone: Vec::new(),
    };
    let changed = |change: &dyn Fn(&mut HeadRecord)| {
        let mut record = record.clone();
        change(&mut record);
        Record::Head(Box::new(record))
    };
    for bad in [
        Record::Zeroes(range.clone()),
        Record::Discard(range),
        Record::Pages {
            head: HeadId(99),
            deltas: Vec::new(),
        },
        changed(&|record| record.key_epoch = KeyEpoch(77)),
        changed(&|record| record.lineage = LineageEpoch(77)),
        changed(&|record| record.head = HeadId(50)),
        changed(&|record| record.root = RootSource::CopyOf(HeadId(99))),
    ] {
        let result = family.catalog.apply(&bad, context());
        let inconsistent = matches!(
            result,
            Err(Error::Corrupt {
                damage: Damage::Inconsistent(_),
                ..
            })
        );
        assert!(inconsistent, "{bad:?}: {result:?}");
    }
}

#[test]
fn the_table_records_of_a_catalog_make_it_again() {
    let mut family = Family::new();
    let mut last = family.create();
    for _ in 0..6 {
        family.touch(last);
        last = family.branch(last, HeadKind::Volume);
        family.branch(last, HeadKind::Snapshot);
    }
    let mut again = Catalog::new(family.catalog.next(), 1);
    for record in family.catalog.table_records() {
        again.apply(&record, context()).unwrap();
    }
    for head in family.catalog.heads() {
        let root = RootSource::Empty;
        let record = HeadRecord {
            root,
            ..head.record.clone()
        };
        again
            .apply(&Record::Head(Box::new(record)), context())
            .unwrap();
    }
    assert_eq!(again.table_records(), family.catalog.table_records());
    assert_eq!(again.next(), family.catalog.next());
    let records = |catalog: &Catalog| {
        catalog
            .heads()
            .map(|head| head.record.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(records(&again), records(&family.catalog));
}

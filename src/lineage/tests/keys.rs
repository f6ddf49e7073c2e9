//! Who can unwrap what: the key records of a store, and everything that was ever wrapped.
//!
//! Keys are numbers here. What the catalog says of them ([`reach`](crate::catalog::reach), which keys it
//! drops) is the real code's; what can be unwrapped is found by following all links there ever were.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::Catalog;
use crate::catalog::tests::{context, with_lineage};
use crate::crypto::WRAPPED_LEN;
use crate::format::catalog::{
    HeadKind, HeadRecord, HeadState, KeyEpochRecord, KeyLink, RootSource,
};
use crate::format::record::Record;
use crate::format::superblock::NextIds;
use crate::lineage::tests::store::{Head, Op, Store};
use crate::units::{HeadId, HeadKeyId, KeyEpoch, KeyId, LineageEpoch, ResourceId};

/// A key epoch that is opened. Numbers of key epochs that a crash lost are given again; those of keys
/// never are.
#[derive(Clone, Copy, Debug)]
pub struct NewKey {
    pub id: KeyEpoch,
    pub secret: u32,
    /// The next one above, whose key its record wraps.
    pub above: Option<KeyEpoch>,
}

/// What is kept of a key epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    pub secret: u32,
    pub above: Option<KeyEpoch>,
}

impl NewKey {
    pub fn record(self) -> KeyRecord {
        let Self { secret, above, .. } = self;
        KeyRecord { secret, above }
    }
}

/// The KMS, and all bytes that were ever on disk: no crash takes any of this back.
#[derive(Debug, Default)]
pub struct Vault {
    /// Head keys that exist, and the epoch keys that were ever wrapped under them.
    heads: BTreeMap<u32, BTreeSet<u32>>,
    /// The epoch keys that were ever wrapped under an epoch key.
    links: BTreeMap<u32, BTreeSet<u32>>,
}

impl Vault {
    /// Learns what is written when this is appended to the log of a store.
    pub fn learn(&mut self, op: &Op, store: &Store) {
        match *op {
            Op::Create { token, key, .. } => self.wrap(token, key, store),
            Op::NewKey { head, key } => self.wrap(store.heads[&head].token, key, store),
            Op::Branch {
                source,
                split,
                token,
                key,
                ..
            } => {
                if let Some((_, own)) = split {
                    self.wrap(store.heads[&source].token, own, store);
                }
                self.wrap(token, key, store);
            }
            _ => {}
        }
    }

    fn wrap(&mut self, token: u32, key: NewKey, store: &Store) {
        self.heads.entry(token).or_default().insert(key.secret);
        let links = self.links.entry(key.secret).or_default();
        links.extend(key.above.map(|above| store.keys[&above].secret));
    }

    /// All epoch keys that somebody with a head key and every byte of the disk can unwrap.
    pub fn opens(&self, token: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut todo: Vec<u32> = self
            .heads
            .get(&token)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        while let Some(secret) = todo.pop() {
            if found.insert(secret) {
                todo.extend(self.links.get(&secret).into_iter().flatten());
            }
        }
        found
    }

    /// All epoch keys that anybody can unwrap.
    pub fn open(&self) -> BTreeSet<u32> {
        let tokens = self.heads.keys();
        tokens.flat_map(|&token| self.opens(token)).collect()
    }

    pub fn has(&self, token: u32) -> bool {
        self.heads.contains_key(&token)
    }

    pub fn destroy(&mut self, token: u32) {
        self.heads.remove(&token);
    }

    /// Destroys the keys of heads that are not there: a crash took them before they were durable.
    pub fn keep(&mut self, tokens: &BTreeSet<u32>) {
        self.heads.retain(|token, _| tokens.contains(token));
    }
}

impl Store {
    /// The key epoch that the next ones of a head link to: the nearest that live pages are sealed
    /// under.
    pub fn last_sealed(&self, head: u32) -> Option<KeyEpoch> {
        let mut at = Some(self.heads[&head].key);
        while let Some(id) = at.filter(|&id| self.lineage.sealed_count(id) == 0) {
            at = self.keys[&id].above;
        }
        at
    }

    /// The key epochs that a head opens by the records there are, from its open one upwards.
    pub fn line(&self, head: u32) -> Vec<KeyEpoch> {
        let open = Some(self.heads[&head].key);
        std::iter::successors(open, |id| self.keys[id].above).collect()
    }

    /// The real catalog of these heads and key epochs.
    pub fn catalog(&self) -> Catalog {
        let next = NextIds {
            head: HeadId(self.last.head + 1),
            lineage: LineageEpoch(self.last.lineage + 1),
            key_epoch: KeyEpoch(self.last.key + 1),
        };
        let keys = self.keys.iter().map(|(&id, key)| key_record(id, key));
        let mut catalog = with_lineage(next, self.lineage.clone(), keys.collect());
        for (&id, head) in &self.heads {
            let record = Record::Head(Box::new(head_record(id, head)));
            catalog.apply(&record, context()).expect("a head");
        }
        catalog
    }

    /// Drops the records of keys that nothing needs, as the catalog does when a checkpoint begins.
    pub fn prune_keys(&mut self) {
        let mut catalog = self.catalog();
        let reached = self.reached_nodes().into_iter();
        let unwritten = reached.filter(|id| self.nodes[id].at.is_none());
        // A head stands for each node without an address: both keep the key epoch that they name.
        for (number, id) in (1..).zip(unwritten) {
            let any = self.heads.values().next().expect("a head reaches it");
            let holder = Head {
                key: self.nodes[&id].key,
                ..any.clone()
            };
            let record = head_record(self.last.head + number, &holder);
            let record = Record::Head(Box::new(record));
            catalog.apply(&record, context()).expect("a key epoch");
        }
        catalog.prune_keys();
        self.lineage = catalog.lineage().clone();
        self.keys.retain(|&id, key| {
            let kept = catalog.key_epoch(id);
            key.above = kept.and_then(|kept| Some(kept.above?.to));
            kept.is_some()
        });
    }

    /// Key epochs that something names: open ones, those of live items and of nodes that will be written.
    fn named_keys(&self) -> BTreeSet<KeyEpoch> {
        let open = self.heads.values().map(|head| head.key);
        let nodes = self.reached_nodes().into_iter();
        let nodes = nodes.map(|id| self.nodes[&id].key);
        let rows = self.lineage.rows().filter(|row| !row.live.is_zero());
        open.chain(nodes)
            .chain(rows.map(|row| row.key_epoch))
            .collect()
    }

    /// Right after keys were dropped: a record is there because something names its key epoch, or it is
    /// the way from one below to one above.
    pub fn check_pruned(&self) {
        let named = self.named_keys();
        for (id, key) in &self.keys {
            let is_way =
                key.above.is_some() && self.keys.values().any(|key| key.above == Some(*id));
            assert!(named.contains(id) || is_way, "LEAK: the record of {id}");
        }
    }

    /// Each head opens all pages that it maps.
    pub fn check_keys(&self) {
        for (&id, head) in self.heads.iter().filter(|(_, head)| !head.deleted) {
            let line: BTreeSet<KeyEpoch> = self.line(id).into_iter().collect();
            assert!(line.contains(&head.key));
            for item in self.reach_pages(id) {
                let key = item.key_epoch;
                assert!(
                    line.contains(&key),
                    "LOST KEY: {key} of {item:?} of head {id}"
                );
            }
        }
    }
}

fn head_record(id: u32, head: &Head) -> HeadRecord {
    HeadRecord {
        head: HeadId(id),
        kind: head.kind,
        automated: false,
        protected: false,
        state: match head.deleted {
            true => HeadState::Deleted,
            false => HeadState::Available,
        },
        root: RootSource::Empty,
        lineage: head.lineage,
        key_epoch: head.key,
        resource_id: ResourceId::default(),
        origin_id: None,
        group_id: None,
        owner: 0,
        created_at_ms: 0,
        len: 0,
        kms_key: KeyId([0; 16]),
        head_key: HeadKeyId([0; 16]),
        wrapped_key: [0; WRAPPED_LEN],
        page_count: 0,
        name: format!("h{id}"),
    }
}

fn key_record(id: KeyEpoch, key: &KeyRecord) -> KeyEpochRecord {
    KeyEpochRecord {
        key_epoch: id,
        // The rows of the lineage say it.
        lineage: LineageEpoch(0),
        depth: 0,
        random_id: [0; 16],
        commitment: [0; 32],
        above: key.above.map(|to| KeyLink {
            to,
            wrapped: [0; WRAPPED_LEN],
        }),
        far: None,
        live_pages: 0,
        live_nodes: 0,
    }
}

/// Whether a user lists heads of a kind.
pub fn is_listed(kind: HeadKind) -> bool {
    kind != HeadKind::Pin
}

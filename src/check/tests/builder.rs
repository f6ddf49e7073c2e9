//! Writes a small valid store with the encoders of `format`, and lets a test change any piece of
//! it before it is sealed, so that all checksums, hashes and chains above it are right again.

use std::collections::BTreeMap;

use crate::crypto::{Label, Secret, WRAPPED_LEN, hash};
use crate::format::batch::{BatchHeader, header_slots};
use crate::format::catalog::{HeadKind, HeadRecord, HeadState, RootSource};
use crate::format::entry::{DataEntry, Entry};
use crate::format::node::{DiskNode, Items, NodeRef};
use crate::format::record::{PageDelta, PageRange, PageRun, Record};
use crate::format::segment::{SegmentHeader, segment_file_name};
use crate::format::superblock::{Geometry, Position, Superblock, TableRef};
use crate::io::sim::{SimDisk, SimMachine, SimRandom};
use crate::io::{Access, Disk};
use crate::source::Random;
use crate::units::{
    HeadId, HeadKeyId, KeyEpoch, KeyId, LineageEpoch, PageNo, ResourceId, SLOT_LEN, SegmentId, Seq,
    SlotAddr, StoreId,
};

pub const STORE: StoreId = StoreId([7; 16]);
pub const KMS_KEY: KeyId = KeyId([8; 16]);

/// A piece of the store, right before it is sealed.
pub enum Piece<'a> {
    Segment(&'a mut SegmentHeader),
    Batch {
        seq: u64,
        header: &'a mut BatchHeader,
        records: &'a mut Vec<Record>,
        key: &'a mut Secret,
    },
    /// The encoded records of a batch.
    RecordBytes(u64, &'a mut Vec<u8>),
    /// The records of the newest tables.
    Tables(&'a mut Vec<Record>),
    /// What a table batch of the newest tables says of its place.
    Link(&'a mut u32, &'a mut Option<TableRef>),
    Node(&'a str, &'a mut DiskNode),
    NodeBytes(&'a str, &'a mut Vec<u8>),
    Ref(&'a str, &'a mut NodeRef),
    Superblock {
        mirror: u32,
        superblock: &'a mut Superblock,
        key: &'a mut Secret,
    },
}

pub type Hook<'a> = dyn Fn(Piece<'_>) + 'a;

pub struct Builder<'a> {
    pub disk: SimDisk,
    pub geometry: Geometry,
    hook: &'a Hook<'a>,
    store_key: Secret,
    wrapped: Vec<u8>,
    random: SimRandom,
    position: Position,
    /// Where the next batch goes, if not at the end of the last.
    moved_to: Option<SlotAddr>,
    pub durable: Seq,
    /// What each head holds.
    pub pages: BTreeMap<(HeadId, PageNo), Entry>,
}

impl<'a> Builder<'a> {
    pub fn new(
        geometry: Geometry,
        store_key: Secret,
        wrapped: Vec<u8>,
        hook: &'a Hook<'a>,
    ) -> Self {
        let disk = SimMachine::new().dir("store");
        for name in ["lock", "superblock-a", "superblock-b"] {
            let len = if name == "lock" { 0 } else { 8192 };
            disk.create(name, len).unwrap();
        }
        Self {
            disk,
            geometry,
            hook,
            store_key,
            wrapped,
            random: SimRandom::new(1),
            position: Position::default(),
            moved_to: None,
            durable: Seq(0),
            pages: BTreeMap::new(),
        }
    }

    pub fn start_segment(&mut self, id: u32) {
        let segment = SegmentId(id);
        let mut header = SegmentHeader {
            segment,
            store_id: STORE,
            slot_count: self.geometry.segment_slots,
        };
        (self.hook)(Piece::Segment(&mut header));
        let len = u64::from(self.geometry.segment_slots) * SLOT_LEN as u64;
        let file = self.disk.create(&segment_file_name(segment), len).unwrap();
        file.write_all_at(&header.encode(), 0).unwrap();
        self.moved_to = Some(SlotAddr { segment, slot: 1 });
    }

    /// The slot after the last batch.
    pub fn end(&self) -> SlotAddr {
        self.position.end
    }

    /// A range that a head lets go of, with the pages that it has there.
    pub fn cleared(&self, id: u32, key_epoch: u32, first: u64, count: u64) -> PageRange {
        let (from, to) = (PageNo(first), PageNo(first + count));
        let had = self.pages.range((HeadId(id), from)..(HeadId(id), to));
        let mut range = range(id, key_epoch, first, count);
        for (_, entry) in had {
            if let Entry::Data(page) = entry {
                PageRun::push(&mut range.gone, page, self.geometry.page_slots());
            }
        }
        range
    }

    fn next_at(&self) -> SlotAddr {
        self.moved_to.unwrap_or(self.position.end)
    }

    /// Appends a batch and gives the proof of its header slots.
    pub fn append(&mut self, mut records: Vec<Record>, body: &[u8]) -> TableRef {
        let at = self.next_at();
        let seq = Seq(self.position.seq.0 + 1);
        let mut header = BatchHeader {
            seq,
            durable_through: self.durable,
            at,
            previous_end: self.position.end,
            previous_chain: self.position.chain,
            salt: [at.segment.0 as u8; 12],
            body_slots: (body.len() / SLOT_LEN) as u32,
        };
        let mut key = self.store_key.derive(Label::Log);
        (self.hook)(Piece::Batch {
            seq: seq.0,
            header: &mut header,
            records: &mut records,
            key: &mut key,
        });
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.encode(&mut bytes));
        (self.hook)(Piece::RecordBytes(seq.0, &mut bytes));
        let mut slots = vec![0; header_slots(bytes.len()) as usize * SLOT_LEN];
        let chain = header.encode(&bytes, &mut slots, &key);
        let table = TableRef {
            at,
            hash: hash(&slots),
        };
        let end = at.slot + (slots.len() + body.len()) as u32 / SLOT_LEN as u32;
        slots.extend_from_slice(body);
        self.write(at, &slots);
        self.position = Position {
            seq,
            chain,
            end: SlotAddr { slot: end, ..at },
        };
        self.moved_to = None;
        table
    }

    fn write(&self, at: SlotAddr, bytes: &[u8]) {
        let name = segment_file_name(at.segment);
        let file = self.disk.open(&name, Access::ReadWrite).unwrap();
        let offset = u64::from(at.slot) * SLOT_LEN as u64;
        file.write_all_at(bytes, offset).unwrap();
    }

    /// Appends other records and pages of a head in one batch.
    pub fn write_pages(
        &mut self,
        mut records: Vec<Record>,
        head: u32,
        key_epoch: u32,
        pages: &[u64],
    ) {
        let head = HeadId(head);
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.encode(&mut bytes));
        let len = bytes.len() + Record::pages_len(pages.len());
        let mut at = self.next_at();
        at.slot += header_slots(len);
        let (mut deltas, mut body) = (Vec::new(), Vec::new());
        for &page in pages {
            let mut page_bytes = vec![0; self.geometry.page_len as usize];
            self.random.fill(&mut page_bytes);
            let mut entry = DataEntry {
                at,
                key_epoch: KeyEpoch(key_epoch),
                crc: crc32fast::hash(&page_bytes),
                nonce: [0; 12],
                tag: [0; 16],
            };
            self.random.fill(&mut entry.nonce);
            self.random.fill(&mut entry.tag);
            let old = self.pages.insert((head, PageNo(page)), Entry::Data(entry));
            let old_at = match old {
                Some(Entry::Data(old)) => Some(old.at),
                _ => None,
            };
            deltas.push(PageDelta {
                page: PageNo(page),
                entry,
                old_at,
                old_key_epoch: old.map(|old| old.key_epoch()),
            });
            at.slot += self.geometry.page_slots();
            body.extend_from_slice(&page_bytes);
        }
        records.push(Record::Pages { head, deltas });
        self.append(records, &body);
    }

    /// A head takes over all pages of another.
    pub fn copy_pages(&mut self, from: u32, to: u32) {
        let pages = self.pages.clone();
        for ((head, page), entry) in pages.into_iter().filter(|((head, _), _)| head.0 == from) {
            self.pages.insert((HeadId(to.max(head.0)), page), entry);
        }
    }

    /// Appends tables in two parts.
    pub fn write_tables(&mut self, newest: bool, mut records: Vec<Record>) -> TableRef {
        if newest {
            (self.hook)(Piece::Tables(&mut records));
        }
        let rest = records.split_off(records.len() / 2);
        let mut table = None;
        for (mut part, records) in (0..).zip([records, rest]) {
            let mut previous = table;
            if newest {
                (self.hook)(Piece::Link(&mut part, &mut previous));
            }
            let mut all = vec![Record::Table { part, previous }];
            all.extend(records);
            table = Some(self.append(all, &[]));
        }
        table.unwrap()
    }

    /// Starts a batch of `count` nodes.
    pub fn nodes(&self, count: usize) -> Nodes<'a> {
        let mut next = self.next_at();
        next.slot += header_slots(Record::nodes_len(count));
        Nodes {
            hook: self.hook,
            next,
            body: Vec::new(),
        }
    }

    pub fn write_nodes(&mut self, nodes: Nodes<'_>) {
        let crcs = nodes.body.chunks(SLOT_LEN).map(crc32fast::hash).collect();
        self.append(vec![Record::Nodes(crcs)], &nodes.body);
    }

    /// Writes both copies of a superblock for what was appended so far.
    pub fn write_superblock(&mut self, superblock: &Superblock, tables: Option<TableRef>) {
        self.durable = self.position.seq;
        for (mirror, name) in (0..).zip(["superblock-a", "superblock-b"]) {
            let mut superblock = Superblock {
                position: self.position,
                durable_through: self.durable,
                tables,
                ..superblock.clone()
            };
            superblock.store_key.wrapped.clone_from(&self.wrapped);
            superblock.store_key.commitment = self.store_key.commitment();
            let mut key = self.store_key.derive(Label::Superblock);
            let slot = superblock.generation % 2;
            (self.hook)(Piece::Superblock {
                mirror,
                superblock: &mut superblock,
                key: &mut key,
            });
            let bytes = superblock.encode(mirror, &key);
            let file = self.disk.open(name, Access::ReadWrite).unwrap();
            file.write_all_at(&bytes, slot * SLOT_LEN as u64).unwrap();
        }
    }
}

/// Nodes of one batch, front to back.
pub struct Nodes<'a> {
    hook: &'a Hook<'a>,
    next: SlotAddr,
    body: Vec<u8>,
}

impl Nodes<'_> {
    pub fn leaf(&mut self, name: &str, key_epoch: u32, pages: Vec<(PageNo, Entry)>) -> NodeRef {
        self.add(name, key_epoch, Items::Leaf(pages))
    }

    pub fn inner(&mut self, name: &str, key_epoch: u32, children: &[(u64, NodeRef)]) -> NodeRef {
        let level = children[0].1.level + 1;
        let children = children
            .iter()
            .map(|&(first, child)| (PageNo(first), child));
        let children = children.collect();
        self.add(name, key_epoch, Items::Inner { level, children })
    }

    fn add(&mut self, name: &str, key_epoch: u32, items: Items) -> NodeRef {
        let mut node = DiskNode {
            key_epoch: KeyEpoch(key_epoch),
            items,
        };
        (self.hook)(Piece::Node(name, &mut node));
        let mut slot = node.encode();
        (self.hook)(Piece::NodeBytes(name, &mut slot));
        let mut reference = NodeRef {
            at: self.next,
            level: node.level(),
            key_epoch: node.key_epoch,
            hash: hash(&slot),
        };
        (self.hook)(Piece::Ref(name, &mut reference));
        self.next.slot += 1;
        self.body.extend_from_slice(&slot);
        reference
    }
}

pub fn head(id: u32, kind: HeadKind, name: &str, root: RootSource, epoch: u32) -> HeadRecord {
    HeadRecord {
        head: HeadId(id),
        kind,
        automated: false,
        protected: false,
        state: HeadState::Available,
        root,
        lineage: LineageEpoch(epoch),
        key_epoch: KeyEpoch(epoch),
        resource_id: ResourceId([id as u8; 16]),
        origin_id: (kind != HeadKind::Volume).then_some(ResourceId([1; 16])),
        group_id: None,
        owner: 1,
        created_at_ms: 5,
        len: 200 << 16,
        kms_key: KMS_KEY,
        head_key: HeadKeyId([id as u8; 16]),
        wrapped_key: [1; WRAPPED_LEN],
        page_count: 0,
        name: name.to_owned(),
    }
}

pub fn range(head: u32, key_epoch: u32, first: u64, count: u64) -> PageRange {
    PageRange {
        head: HeadId(head),
        key_epoch: KeyEpoch(key_epoch),
        first: PageNo(first),
        count,
        gone: Vec::new(),
    }
}

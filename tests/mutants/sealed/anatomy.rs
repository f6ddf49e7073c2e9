//! Where in the files of a store every structure is, by `docs/format.md` alone.

use std::collections::{BTreeMap, BTreeSet};

use offshoot::format::LAYOUT;
use offshoot::format::layout::{Field, Struct};
use offshoot::io::{Access, Disk};
use offshoot::{Context, KeyService, ResourceId, Secret};

use offshoot_torture::nonces::{SLOT_LEN, batches};
use offshoot_torture::rig::Host;

use crate::subject::{Subject, superblocks};

/// Bytes of a file of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: String,
    pub offset: usize,
}

/// A structure.
#[derive(Clone, Debug)]
pub struct Object {
    pub layout: &'static Struct,
    /// Where it is; a superblock is there twice.
    pub places: Vec<Place>,
}

/// A batch, as it was.
#[derive(Clone, Debug)]
pub struct Batch {
    pub place: Place,
    pub header_slots: usize,
    pub records_len: usize,
}

/// A node, as it was.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub level: u8,
}

/// A copy of the records of a batch in a summary.
#[derive(Clone, Debug)]
pub struct Copy {
    pub place: Place,
    pub of: Place,
    pub len: usize,
}

/// A store taken apart.
#[derive(Debug)]
pub struct Anatomy {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Those that a reader needs: what is changed.
    pub objects: Vec<Object>,
    /// All, in the write order.
    pub batches: Vec<Batch>,
    /// All, leaves first.
    pub nodes: Vec<Node>,
    /// Index slots of each pack.
    pub packs: Vec<(Place, usize)>,
    /// Hashes and chain values that name something else.
    pub links: Vec<Place>,
    /// Checksums of nodes in records, with the nodes.
    pub node_crcs: Vec<(Place, Place)>,
    pub copies: Vec<Copy>,
    pub log_key: [u8; 32],
    pub superblock_key: [u8; 32],
    /// The file of the KMS that says how far it has seen the store, with its name, if there is one.
    pub mark: Option<(String, Vec<u8>)>,
}

pub fn layout(name: &str) -> &'static Struct {
    let found = LAYOUT.iter().find(|layout| layout.name == name);
    found.unwrap_or_else(|| panic!("no structure {name}"))
}

pub fn field(name: &str, field: &str) -> &'static Field {
    let found = layout(name).fields.iter().find(|it| it.name == field);
    found.unwrap_or_else(|| panic!("no field {name}.{field}"))
}

impl Place {
    pub fn plus(&self, more: usize) -> Self {
        let (file, offset) = (self.file.clone(), self.offset + more);
        Self { file, offset }
    }
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let bytes = &bytes[at..at + len];
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl Anatomy {
    pub fn of(subject: &Subject) -> Self {
        let (log_key, superblock_key) = keys(subject);
        let mut anatomy = Self {
            files: subject.files().into_iter().collect(),
            objects: Vec::new(),
            batches: Vec::new(),
            nodes: Vec::new(),
            packs: Vec::new(),
            links: Vec::new(),
            node_crcs: Vec::new(),
            copies: Vec::new(),
            log_key,
            superblock_key,
            mark: mark(subject),
        };
        anatomy.superblocks(subject);
        anatomy.batches(subject);
        let files = anatomy.files.keys().cloned().collect::<Vec<_>>();
        for name in files {
            let place = Place {
                file: name.clone(),
                offset: 0,
            };
            if name.starts_with("segment-") && !subject.is_unused(&name, 0) {
                anatomy.object("DiskSegmentHeader", vec![place]);
            } else if name.starts_with("pack-") {
                anatomy.pack(subject, place);
            }
        }
        anatomy.nodes.sort_by_key(|node| node.level);
        anatomy
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.objects.iter().map(|object| object.layout.name)
    }

    fn number(&self, place: &Place, name: &str, of: &str) -> usize {
        let field = field(name, of);
        number(
            &self.files[&place.file],
            place.offset + field.offset,
            field.len,
        ) as usize
    }

    fn object(&mut self, name: &str, places: Vec<Place>) {
        let layout = layout(name);
        self.objects.push(Object { layout, places });
    }

    fn link(&mut self, place: &Place, name: &str, of: &str) {
        self.links.push(place.plus(field(name, of).offset));
    }

    fn superblocks(&mut self, subject: &Subject) {
        for superblock in superblocks(&subject.machine) {
            let offset = (superblock.generation % 2) as usize * SLOT_LEN;
            let names = ["superblock-a", "superblock-b"];
            let places = names.map(|file| Place {
                file: file.to_owned(),
                offset,
            });
            for place in &places {
                self.link(place, "DiskSuperblock", "chain");
                self.link(place, "DiskSuperblock", "table_hash");
            }
            self.object("DiskSuperblock", places.to_vec());
        }
    }

    fn batches(&mut self, subject: &Subject) {
        let mut all = batches(&subject.machine);
        all.sort_by_key(|batch| batch.header.seq);
        let newest = superblocks(&subject.machine).remove(0);
        let tables = tables(&newest, &all);
        let mut by_chain = BTreeMap::new();
        for batch in &all {
            let at = batch.header.at;
            let file = offshoot::format::segment::segment_file_name(at.segment);
            let place = Place {
                file,
                offset: at.slot as usize * SLOT_LEN,
            };
            let is_used = batch.header.seq > newest.position.seq || tables.contains(&at);
            self.link(&place, "DiskBatchHeader", "previous_chain");
            let records = place.plus(layout("DiskBatchHeader").len);
            let body = place.plus((batch.body().slot - at.slot) as usize * SLOT_LEN);
            let (header_slots, records_len) =
                ((body.offset - place.offset) / SLOT_LEN, batch.records.len());
            by_chain.insert(batch.chain, (records.clone(), records_len));
            if is_used {
                self.object("DiskBatchHeader", vec![place.clone()]);
            }
            let mut walk = Walk {
                subject,
                is_used,
                body,
                by_chain: &by_chain,
            };
            self.records(&mut walk, records, records_len);
            self.batches.push(Batch {
                place,
                header_slots,
                records_len,
            });
        }
    }

    fn records(&mut self, walk: &mut Walk<'_>, mut at: Place, len: usize) {
        let end = at.offset + len;
        while at.offset < end {
            let (kind, len) = (
                self.number(&at, "RecordHeader", "kind"),
                self.number(&at, "RecordHeader", "len"),
            );
            if walk.is_used {
                self.object("RecordHeader", vec![at.clone()]);
            }
            let body = at.plus(layout("RecordHeader").len);
            self.record(walk, kind, &body, len);
            at = body.plus(len);
        }
    }

    fn record(&mut self, walk: &mut Walk<'_>, kind: usize, at: &Place, len: usize) {
        let name = match kind {
            1 => "DiskPages",
            2 | 3 => "DiskRange",
            4 => return self.node_record(walk, at, len),
            5 => "DiskHead",
            6 => "DiskLineage",
            7 => "DiskKeyEpoch",
            8 => "DiskSegment",
            9 => "DiskSalt",
            10 => "DiskTable",
            11 => return self.summary(walk, at),
            12 => "DiskSlots",
            13 => "DiskQuota",
            14 => "DiskPack",
            kind => panic!("record {kind}"),
        };
        if walk.is_used {
            self.object(name, vec![at.clone()]);
        }
        let rest = at.plus(layout(name).len);
        match name {
            "DiskPages" => {
                let count = self.number(at, name, "count");
                for n in 0..count {
                    let delta = rest.plus(n * layout("DiskPageDelta").len);
                    if walk.is_used {
                        let entry = delta.plus(field("DiskPageDelta", "entry").offset);
                        self.object("DiskPageDelta", vec![delta]);
                        self.object("DiskEntry", vec![entry]);
                    }
                }
                walk.body.offset += count * SLOT_LEN;
            }
            "DiskRange" => self.array(
                walk,
                "DiskPageRun",
                &rest,
                self.number(at, name, "run_count"),
            ),
            "DiskHead" => {
                let root = at.plus(field(name, "root").offset);
                self.link(&root, "DiskNodeRef", "hash");
                if walk.is_used && self.number(at, name, "root_kind") == 4 {
                    self.object("DiskNodeRef", vec![root]);
                }
            }
            "DiskTable" => self.link(at, name, "previous_hash"),
            "DiskSlots" if self.number(at, name, "form") == 1 => {
                self.array(walk, "DiskSlotRun", &rest, self.number(at, name, "count"));
            }
            "DiskPack" => self.link(at, name, "index_hash"),
            _ => {}
        }
    }

    fn array(&mut self, walk: &Walk<'_>, name: &str, at: &Place, count: usize) {
        for n in 0..count {
            if walk.is_used {
                self.object(name, vec![at.plus(n * layout(name).len)]);
            }
        }
    }

    fn node_record(&mut self, walk: &mut Walk<'_>, at: &Place, len: usize) {
        for crc in (0..len).step_by(4) {
            self.node_crcs.push((at.plus(crc), walk.body.clone()));
            let is_used = !walk.subject.is_unused(&walk.body.file, walk.body.offset);
            self.node(walk.body.clone(), is_used);
            walk.body.offset += SLOT_LEN;
        }
    }

    fn node(&mut self, place: Place, is_used: bool) {
        let count = self.number(&place, "NodeHeader", "item_count");
        let level = self.number(&place, "NodeHeader", "level") as u8;
        let items = place.plus(layout("NodeHeader").len);
        if is_used {
            self.object("NodeHeader", vec![place.clone()]);
        }
        for n in 0..count {
            let item = items.plus(n * layout("LeafItem").len);
            let inside = item.plus(field("LeafItem", "entry").offset);
            let names = if level == 0 {
                ("LeafItem", "DiskEntry")
            } else {
                ("InnerItem", "DiskNodeRef")
            };
            if level > 0 {
                self.link(&inside, "DiskNodeRef", "hash");
            }
            if is_used {
                self.object(names.0, vec![item]);
                self.object(names.1, vec![inside]);
            }
        }
        self.nodes.push(Node { place, level });
    }

    fn summary(&mut self, walk: &Walk<'_>, at: &Place) {
        self.link(at, "DiskSummary", "before_chain");
        let count = self.number(at, "DiskSummary", "count");
        let items = at.plus(layout("DiskSummary").len);
        let mut records = items.plus(count * layout("DiskSummaryItem").len);
        if walk.is_used {
            self.object("DiskSummary", vec![at.clone()]);
        }
        for n in 0..count {
            let item = items.plus(n * layout("DiskSummaryItem").len);
            self.link(&item, "DiskSummaryItem", "chain");
            let chain = item.plus(field("DiskSummaryItem", "chain").offset);
            let chain: [u8; 32] = self.files[&chain.file][chain.offset..][..32]
                .try_into()
                .unwrap();
            let len = self.number(&item, "DiskSummaryItem", "records_len");
            // The batch itself may be gone with its segment.
            if let Some((of, _)) = walk.by_chain.get(&chain).cloned() {
                let place = records.clone();
                self.copies.push(Copy { place, of, len });
            }
            records = records.plus(len);
            if walk.is_used {
                self.object("DiskSummaryItem", vec![item]);
            }
        }
    }

    fn pack(&mut self, subject: &Subject, place: Place) {
        let index_slots = self.number(&place, "DiskPackHeader", "index_slots");
        let parts = self.number(&place, "DiskPackHeader", "part_count");
        let segment_slots = self.number(&place, "DiskPackHeader", "segment_slots");
        self.object("DiskPackHeader", vec![place.clone()]);
        let mut at = place.plus(layout("DiskPackHeader").len);
        for _ in 0..parts {
            let runs = self.number(&at, "DiskPackPart", "run_count");
            self.object("DiskPackPart", vec![at.clone()]);
            at = at.plus(layout("DiskPackPart").len);
            for _ in 0..runs {
                self.object("DiskSlotRun", vec![at.clone()]);
                at = at.plus(layout("DiskSlotRun").len);
            }
            if runs == 0 {
                at = at.plus(segment_slots.div_ceil(8));
            }
        }
        let magic = field("NodeHeader", "magic").len;
        let slots = index_slots..self.number(&place, "DiskPackHeader", "slot_count");
        for slot in slots {
            let node = place.plus(slot * SLOT_LEN);
            // No ciphertext starts so, or it would be as unlikely as a collision.
            if self.files[&node.file].get(node.offset..node.offset + magic) == Some(b"OFND") {
                let is_used = !subject.is_unused(&node.file, node.offset);
                self.node(node, is_used);
            }
        }
        self.packs.push((place, index_slots));
    }
}

/// What is known on the way through the records of a batch.
struct Walk<'a> {
    subject: &'a Subject,
    is_used: bool,
    /// The next body slot.
    body: Place,
    /// Records of the batches so far.
    by_chain: &'a BTreeMap<[u8; 32], (Place, usize)>,
}

/// The table batches that a superblock names.
fn tables(
    superblock: &offshoot::format::superblock::Superblock,
    all: &[offshoot::format::batch::BatchHead],
) -> BTreeSet<offshoot::SlotAddr> {
    let (mut found, mut next) = (BTreeSet::new(), superblock.tables);
    while let Some(table) = next {
        found.insert(table.at);
        let batch = all
            .iter()
            .find(|batch| batch.header.at == table.at)
            .unwrap();
        let first = offshoot::format::record::Records::new(&batch.records).next();
        next = match first {
            Some(Ok(offshoot::format::record::Record::Table { previous, .. })) => previous,
            other => panic!("{other:?}"),
        };
    }
    found
}

fn keys(subject: &Subject) -> ([u8; 32], [u8; 32]) {
    let superblock = superblocks(&subject.machine).remove(0);
    let kms = Host::new(&subject.machine.kill(), 5).open_kms().unwrap();
    let context = Context {
        store: superblock.store_id,
        resource: ResourceId(superblock.store_id.0),
        purpose: "store-key",
    };
    let (key, wrapped) = (superblock.store_key.kms_key, superblock.store_key.wrapped);
    let secret = kms.decrypt(&key, &wrapped, &context).unwrap();
    (derive(&secret, "log"), derive(&secret, "superblock"))
}

fn derive(secret: &Secret, label: &str) -> [u8; 32] {
    let (mut key, info) = ([0; 32], format!("offshoot v0 {label}"));
    let hkdf = hkdf::Hkdf::<sha2::Sha256>::new(None, secret.expose());
    hkdf.expand(info.as_bytes(), &mut key).unwrap();
    key
}

fn mark(subject: &Subject) -> Option<(String, Vec<u8>)> {
    let kms = subject.machine.dir("kms");
    let mut names = kms.list().unwrap().into_iter();
    let name = names.find(|name| name.starts_with("mark-"))?;
    let file = kms.open(&name, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some((name, bytes))
}

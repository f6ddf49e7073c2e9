//! Makes every checksum, hash and chain value of a store right again.

use std::collections::{BTreeMap, HashMap};

use offshoot::io::sim::SimMachine;
use offshoot::io::{Access, Disk};

use offshoot_torture::nonces::SLOT_LEN;

use super::anatomy::{Anatomy, Place, field, layout};
use super::values::Mutant;

type Files = BTreeMap<String, Vec<u8>>;
type Hash = [u8; 32];

/// What something was called, and what it is called now.
#[derive(Default)]
struct Renamed(HashMap<Hash, Hash>);

impl Renamed {
    fn note(&mut self, old: Hash, new: Hash) {
        if old != new && old != [0; 32] {
            self.0.insert(old, new);
        }
    }

    /// Follows, where a name is what it was.
    fn apply(&self, files: &mut Files, place: &Place) {
        let bytes = at(files, place, 32);
        let old: Hash = (&*bytes).try_into().unwrap();
        if let Some(new) = self.0.get(&old) {
            bytes.copy_from_slice(new);
        }
    }
}

fn at<'a>(files: &'a mut Files, place: &Place, len: usize) -> &'a mut [u8] {
    let bytes = files.get_mut(&place.file).unwrap();
    &mut bytes[place.offset..place.offset + len]
}

/// Puts the CRC-32 of what follows behind it, or of what is before.
fn crc_after(bytes: &mut [u8], name: &str) {
    let field = field(name, "crc");
    let end = field.offset + field.len;
    let crc = crc32fast::hash(&bytes[end..]);
    bytes[field.offset..end].copy_from_slice(&crc.to_le_bytes());
}

fn crc_before(bytes: &mut [u8], name: &str) {
    let field = field(name, "crc");
    let crc = crc32fast::hash(&bytes[..field.offset]);
    bytes[field.offset..field.offset + field.len].copy_from_slice(&crc.to_le_bytes());
}

/// A machine whose store has one field changed and all else that depends on it made right.
pub fn mutate(machine: &SimMachine, anatomy: &Anatomy, mutant: &Mutant) -> SimMachine {
    let mut files = anatomy.files.clone();
    for place in &mutant.places {
        at(&mut files, place, mutant.value.len()).copy_from_slice(&mutant.value);
    }
    let (files, mark) = seal_with_mark(anatomy, files);
    let machine = machine.kill();
    let (store, kms) = (machine.dir("store"), machine.dir("kms"));
    for (name, bytes) in &files {
        if *bytes != anatomy.files[name] {
            let file = store.open(name, Access::ReadWrite).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
    }
    if let (Some((name, _)), Some(mark)) = (&anatomy.mark, mark) {
        let file = kms.open(name, Access::ReadWrite).unwrap();
        file.write_all_at(&mark, 0).unwrap();
    }
    machine
}

/// The files with all that depends on what is in them made right.
pub fn seal(anatomy: &Anatomy, files: Files) -> Files {
    seal_with_mark(anatomy, files).0
}

fn seal_with_mark(anatomy: &Anatomy, mut files: Files) -> (Files, Option<Vec<u8>>) {
    let mut renamed = Renamed::default();
    let in_file = |place: &Place, from: usize, len: usize| {
        let place = place.clone();
        move |link: &&Place| {
            link.file == place.file
                && (place.offset + from..place.offset + len).contains(&link.offset)
        }
    };
    for node in &anatomy.nodes {
        let links: Vec<_> = anatomy
            .links
            .iter()
            .filter(in_file(&node.place, 0, SLOT_LEN))
            .collect();
        links
            .iter()
            .for_each(|link| renamed.apply(&mut files, link));
        let old = *blake3::hash(&anatomy.files[&node.place.file][node.place.offset..][..SLOT_LEN])
            .as_bytes();
        let slot = at(&mut files, &node.place, SLOT_LEN);
        crc_after(slot, "NodeHeader");
        renamed.note(old, *blake3::hash(slot).as_bytes());
    }
    for (crc, node) in &anatomy.node_crcs {
        let was =
            crc32fast::hash(&anatomy.files[&node.file][node.offset..][..SLOT_LEN]).to_le_bytes();
        let is = crc32fast::hash(at(&mut files, node, SLOT_LEN)).to_le_bytes();
        let bytes = at(&mut files, crc, 4);
        if *bytes == was {
            bytes.copy_from_slice(&is);
        }
    }
    for (pack, index_slots) in &anatomy.packs {
        let len = index_slots * SLOT_LEN;
        let old = *blake3::hash(&anatomy.files[&pack.file][..len]).as_bytes();
        let index = at(&mut files, pack, len);
        crc_after(index, "DiskPackHeader");
        renamed.note(old, *blake3::hash(index).as_bytes());
    }
    for batch in &anatomy.batches {
        seal_batch(anatomy, &mut files, &mut renamed, batch);
    }
    for object in anatomy
        .objects
        .iter()
        .filter(|object| object.layout.name == "DiskSegmentHeader")
    {
        crc_before(
            at(&mut files, &object.places[0], SLOT_LEN),
            "DiskSegmentHeader",
        );
    }
    for object in anatomy
        .objects
        .iter()
        .filter(|object| object.layout.name == "DiskSuperblock")
    {
        for place in &object.places {
            let links: Vec<_> = anatomy
                .links
                .iter()
                .filter(in_file(place, 0, SLOT_LEN))
                .collect();
            links
                .iter()
                .for_each(|link| renamed.apply(&mut files, link));
            let slot = at(&mut files, place, SLOT_LEN);
            let mac = field("DiskSuperblock", "mac");
            let hash = *blake3::keyed_hash(&anatomy.superblock_key, &slot[..mac.offset]).as_bytes();
            slot[mac.offset..mac.offset + mac.len].copy_from_slice(&hash);
            crc_before(slot, "DiskSuperblock");
        }
    }
    let mark = seal_mark(anatomy, &renamed);
    (files, mark)
}

fn seal_batch(
    anatomy: &Anatomy,
    files: &mut Files,
    renamed: &mut Renamed,
    batch: &super::anatomy::Batch,
) {
    let place = &batch.place;
    let range = place.offset..place.offset + batch.header_slots * SLOT_LEN;
    let is_inside = |it: &Place| it.file == place.file && range.contains(&it.offset);
    for copy in anatomy.copies.iter().filter(|copy| is_inside(&copy.place)) {
        let was = &anatomy.files[&copy.of.file][copy.of.offset..][..copy.len];
        let is = files[&copy.of.file][copy.of.offset..][..copy.len].to_vec();
        let bytes = at(files, &copy.place, copy.len);
        if *bytes == *was {
            bytes.copy_from_slice(&is);
        }
    }
    let links: Vec<_> = anatomy
        .links
        .iter()
        .filter(|link| is_inside(link))
        .collect();
    links.iter().for_each(|link| renamed.apply(files, link));
    let old = &anatomy.files[&place.file][range.clone()];
    let chain = field("DiskBatchHeader", "chain");
    let name_of = |bytes: &[u8]| -> Hash {
        bytes[chain.offset..chain.offset + chain.len]
            .try_into()
            .unwrap()
    };
    let (old_chain, old_hash) = (name_of(old), *blake3::hash(old).as_bytes());
    // What it says of its own length is believed, as a reader would.
    let count = field("DiskBatchHeader", "header_slots");
    let claimed = at(files, &place.plus(count.offset), count.len)
        .try_into()
        .unwrap();
    let claimed = u32::from_le_bytes(claimed) as usize;
    let left = (files[&place.file].len() - place.offset) / SLOT_LEN;
    let slots = if (1..=left).contains(&claimed) {
        claimed
    } else {
        batch.header_slots
    };
    let bytes = at(files, place, slots * SLOT_LEN);
    let end = chain.offset + chain.len;
    let new = *blake3::keyed_hash(&anatomy.log_key, &bytes[end..]).as_bytes();
    bytes[chain.offset..end].copy_from_slice(&new);
    crc_after(bytes, "DiskBatchHeader");
    renamed.note(old_chain, new);
    renamed.note(old_hash, *blake3::hash(bytes).as_bytes());
    debug_assert!(batch.records_len + layout("DiskBatchHeader").len <= range.len());
}

/// The file of the KMS, with what the last batch that it has seen is called now.
fn seal_mark(anatomy: &Anatomy, renamed: &Renamed) -> Option<Vec<u8>> {
    const CRC: std::ops::Range<usize> = 12..16;
    const CHAIN: std::ops::Range<usize> = 56..88;
    let mut bytes = anatomy.mark.as_ref()?.1.clone();
    let old: Hash = bytes[CHAIN].try_into().unwrap();
    if let Some(new) = renamed.0.get(&old) {
        bytes[CHAIN].copy_from_slice(new);
        bytes[CRC].fill(0);
        let crc = crc32fast::hash(&bytes);
        bytes[CRC].copy_from_slice(&crc.to_le_bytes());
    }
    Some(bytes)
}

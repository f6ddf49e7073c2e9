//! Slots as they are, and what they look like.

use crate::check::files::{Files, Trouble};
use crate::check::finding::Findings;
use crate::check::image::Image;
use crate::check::lock_shared;
use crate::check::options::Depth;
use crate::error::{Damage, Error, Result};
use crate::format::layout::Struct;
use crate::format::{batch, is_zero, node, pack, segment, superblock};
use crate::io::Disk;
use crate::units::{Location, SLOT_LEN, SlotAddr};

/// Most slots of one look.
const COUNT_MAX: u32 = 1024;

/// Where slots are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawPlace {
    /// In a virtual segment, whichever file that is in.
    Address(SlotAddr),
    /// In a file, by its name.
    File(String, u32),
}

/// Slots.
#[derive(Clone, Debug)]
pub struct RawView {
    /// The slots, as far as the file goes.
    pub slots: Vec<RawSlot>,
    /// Slots that were asked for and are not there.
    pub missing: u32,
}

/// A slot.
#[derive(Clone, Debug)]
pub struct RawSlot {
    /// Its index, in the segment or in the file.
    pub slot: u32,
    /// What it looks like by its first bytes: `zeroes`, `superblock`, `segment_header`, `pack_index`,
    /// `batch_header`, `node`, or `other`: ciphertext, or the rest of a header.
    pub looks_like: &'static str,
    /// Why it is not what it looks like, as far as it says so itself.
    pub problem: Option<String>,
    /// The fields that such a slot begins with.
    pub fields: Vec<RawField>,
    /// CRC-32 of the whole slot: that of a page of one slot is in its entry.
    pub crc: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A field of a struct of the disk format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawField {
    /// Its name, as `inspect --layout` has it.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Reads slots, up to 1024. A segment that is in a pack is found there, if the tables can be read.
pub fn raw(disk: &dyn Disk, place: &RawPlace, count: u32) -> Result<RawView> {
    let _guard = lock_shared(disk)?;
    let count = count.clamp(1, COUNT_MAX);
    let files = Files::list(disk)?;
    let image = match place {
        RawPlace::Address(at) if !files.has(&segment::segment_file_name(at.segment)) => {
            Image::load(disk, None, Depth::Salvage, &mut Findings::default())?
        }
        _ => None,
    };
    let read = |slot| match (place, &image) {
        (RawPlace::File(name, _), _) => files.read_named(name, slot, 1),
        (RawPlace::Address(at), Some(image)) => image.files.read(SlotAddr { slot, ..*at }, 1),
        (RawPlace::Address(at), None) => files.read_own(SlotAddr { slot, ..*at }, 1),
    };
    let (first, segment) = match place {
        RawPlace::Address(at) => (at.slot, Some(at.segment)),
        RawPlace::File(name, first) => (*first, segment::segment_of_file(name)),
    };
    let mut slots = Vec::new();
    for index in 0..count {
        let slot = first.saturating_add(index);
        let at = segment.map(|segment| SlotAddr { segment, slot });
        match read(slot) {
            Ok(bytes) => slots.push(view(&read, at, slot, bytes)),
            Err(Trouble::Damage(Damage::Truncated | Damage::Missing)) if index > 0 => break,
            Err(trouble) if index == 0 => return Err(unreadable(place, trouble)),
            Err(trouble) => slots.push(broken(slot, &trouble)),
        }
    }
    let missing = count.saturating_sub(slots.len() as u32);
    Ok(RawView { slots, missing })
}

fn unreadable(place: &RawPlace, trouble: Trouble) -> Error {
    let location = match place {
        RawPlace::Address(at) => Location::Slot(*at),
        RawPlace::File(name, _) => Location::File(name.clone()),
    };
    trouble.at(location)
}

/// A slot that the operating system does not give.
fn broken(slot: u32, trouble: &Trouble) -> RawSlot {
    RawSlot {
        slot,
        looks_like: "unreadable",
        problem: Some(trouble.to_string()),
        fields: Vec::new(),
        crc: 0,
        bytes: Vec::new(),
    }
}

type Read<'a> = dyn Fn(u32) -> Result<Vec<u8>, Trouble> + 'a;

fn view(read: &Read<'_>, at: Option<SlotAddr>, slot: u32, bytes: Vec<u8>) -> RawSlot {
    let (looks_like, layout, whole) = look(read, at, &bytes);
    RawSlot {
        slot,
        looks_like,
        problem: whole.err().map(|damage| damage.to_string()),
        fields: layout.map_or_else(Vec::new, |layout| fields(layout, &bytes)),
        crc: crc32fast::hash(&bytes),
        bytes,
    }
}

type Look = (&'static str, Option<&'static Struct>, Result<(), Damage>);

/// What a slot looks like, and whether it is whole as far as it can say.
fn look(read: &Read<'_>, at: Option<SlotAddr>, bytes: &[u8]) -> Look {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if is_zero(bytes) {
        ("zeroes", None, Ok(()))
    } else if starts(&superblock::MAGIC) {
        let decode = |mirror| superblock::Superblock::decode(bytes, mirror).map(drop);
        // Only the name of its file says which mirror it should be.
        let whole = decode(0).or_else(|damage| decode(1).map_err(|_| damage));
        (
            "superblock",
            Some(&superblock::DiskSuperblock::LAYOUT),
            whole,
        )
    } else if starts(&segment::MAGIC) {
        let whole = segment::SegmentHeader::decode(bytes).map(drop);
        let layout = &segment::DiskSegmentHeader::LAYOUT;
        ("segment_header", Some(layout), whole)
    } else if starts(&pack::MAGIC) {
        let whole = pack::PackIndex::peek(bytes, u32::MAX).map(drop);
        ("pack_index", Some(&pack::DiskPackHeader::LAYOUT), whole)
    } else if starts(&batch::MAGIC) {
        // It knows where it should be, which a packed file does not say.
        let whole = at.map_or(Ok(()), |at| batch(read, at, bytes));
        ("batch_header", Some(&batch::DiskBatchHeader::LAYOUT), whole)
    } else if starts(&node::MAGIC) {
        let whole = node::DiskNode::decode_any(bytes).map(drop);
        ("node", Some(&node::NodeHeader::LAYOUT), whole)
    } else {
        ("other", None, Ok(()))
    }
}

/// Whether a batch is whole: its checksum is over all its header slots.
fn batch(read: &Read<'_>, at: SlotAddr, bytes: &[u8]) -> Result<(), Damage> {
    let left = superblock::SEGMENT_SLOTS_MAX.saturating_sub(at.slot);
    let count = batch::BatchHead::peek(bytes, at, left)?;
    let mut slots = bytes.to_vec();
    for slot in (at.slot..).take(count as usize).skip(1) {
        match read(slot) {
            Ok(bytes) => slots.extend(bytes),
            Err(_) => return Err(Damage::Truncated),
        }
    }
    batch::BatchHead::decode(&slots, at, left).map(drop)
}

fn fields(layout: &Struct, bytes: &[u8]) -> Vec<RawField> {
    let fields = layout
        .fields
        .iter()
        .filter(|field| field.len <= SLOT_LEN / 4);
    let fields = fields.filter_map(|field| {
        let end = field.offset.checked_add(field.len)?;
        Some(RawField {
            name: field.name,
            bytes: bytes.get(field.offset..end)?.to_vec(),
        })
    });
    fields.collect()
}

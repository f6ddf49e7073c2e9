//! What fields are set to.

use std::collections::BTreeMap;
use std::fmt;

use offshoot::format::layout::Field;

use super::anatomy::{Anatomy, Object, Place};

/// Most objects of a structure in which a field is changed, and most values of other objects that are tried.
const OBJECTS_MAX: usize = 8;
const OTHERS_MAX: usize = 2;

/// A field with another value.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub layout: &'static str,
    pub field: &'static str,
    pub places: Vec<Place>,
    pub was: Vec<u8>,
    pub value: Vec<u8>,
    /// How the value came about.
    pub how: &'static str,
}

impl Mutant {
    /// The structure and the field.
    pub fn field_name(&self) -> String {
        format!("{}.{}", self.layout, self.field)
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.places[0];
        let (slot, byte) = (place.offset / 4096, place.offset % 4096);
        let show = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .take(20)
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        write!(
            f,
            "{} {} ({} to {}) in {}, slot {slot}, byte {byte}",
            self.field_name(),
            self.how,
            show(&self.was),
            show(&self.value),
            place.file
        )
    }
}

/// What is computed anew, so that a change of it would not last, and what is made of other structures.
fn is_skipped(layout: &str, field: &str) -> bool {
    let of_seal = matches!(
        (layout, field),
        ("DiskSuperblock", "mac" | "crc")
            | ("DiskSegmentHeader" | "DiskPackHeader" | "NodeHeader", "crc")
            | ("DiskBatchHeader", "crc" | "chain")
    );
    let is_struct = matches!(
        (layout, field),
        ("DiskPageDelta" | "LeafItem", "entry") | ("InnerItem", "child") | ("DiskHead", "root")
    );
    of_seal || is_struct
}

/// All mutants of a store.
pub fn mutants(anatomy: &Anatomy) -> Vec<Mutant> {
    let mut by_layout = BTreeMap::<&str, Vec<&Object>>::new();
    for object in &anatomy.objects {
        by_layout
            .entry(object.layout.name)
            .or_default()
            .push(object);
    }
    let mut mutants = Vec::new();
    for (layout, objects) in by_layout {
        let count = objects.len().min(OBJECTS_MAX);
        for n in 0..count {
            let object = objects[n * objects.len() / count];
            for field in object
                .layout
                .fields
                .iter()
                .filter(|field| !is_skipped(layout, field.name))
            {
                let was = value(anatomy, object, field);
                let others = objects.iter().map(|other| value(anatomy, other, field));
                for (how, value) in values(&was, others) {
                    let places = object
                        .places
                        .iter()
                        .map(|place| place.plus(field.offset))
                        .collect();
                    let was = was.clone();
                    mutants.push(Mutant {
                        layout,
                        field: field.name,
                        places,
                        was,
                        value,
                        how,
                    });
                }
            }
        }
    }
    mutants
}

fn value(anatomy: &Anatomy, object: &Object, field: &Field) -> Vec<u8> {
    let place = object.places[0].plus(field.offset);
    anatomy.files[&place.file][place.offset..place.offset + field.len].to_vec()
}

/// 0, 1, the greatest, one more, one less, and those of others; each once, none as it was.
fn values(was: &[u8], others: impl Iterator<Item = Vec<u8>>) -> Vec<(&'static str, Vec<u8>)> {
    let mut one = vec![0; was.len()];
    one[0] = 1;
    let mut found = vec![
        ("0", vec![0; was.len()]),
        ("1", one),
        ("greatest", vec![0xFF; was.len()]),
        ("one more", plus_one(was)),
        ("one less", minus_one(was)),
    ];
    let mut distinct: Vec<Vec<u8>> = Vec::new();
    for other in others {
        if distinct.len() < OTHERS_MAX && other != was && !distinct.contains(&other) {
            distinct.push(other);
        }
    }
    found.extend(distinct.into_iter().map(|other| ("of another", other)));
    let mut seen: Vec<Vec<u8>> = vec![was.to_vec()];
    found.retain(|(_, value)| {
        let is_new = !seen.contains(value);
        seen.push(value.clone());
        is_new
    });
    found
}

fn plus_one(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for byte in &mut bytes {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    bytes
}

fn minus_one(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for byte in &mut bytes {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xFF {
            break;
        }
    }
    bytes
}

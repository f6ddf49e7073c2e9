//! The newtypes every other module speaks in: page numbers, addresses, sequence numbers, ids.
//!
//! Invariant: an id is opaque. Nothing here knows how a value is stored or what it refers to.

use std::fmt;

/// Length of a slot in bytes, whatever the page size.
pub const SLOT_LEN: usize = 4096;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A logical page number: the byte offset in a volume divided by the page length.
    PageNo(u64)
}
number! {
    /// The place of a batch in the write order of a store; the first batch has 1.
    Seq(u64)
}
number! {
    /// The number of a head (a volume or a snapshot) in its store; never used twice.
    HeadId(u32)
}
number! {
    /// A key epoch: pages sealed under one epoch key. 0 is none.
    KeyEpoch(u32)
}
number! {
    /// A lineage epoch: an interval of history between two branch points. 0 is none.
    LineageEpoch(u32)
}
number! {
    /// A virtual segment: an address space of slots. A file of its own stands for it, or later a
    /// part of a packed file. The first is 1.
    SegmentId(u32)
}

number! {
    /// A packed file: slots of several virtual segments that were moved together. Never used
    /// twice.
    PackId(u64)
}

/// A virtual segment and a slot in it. Such an address never changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotAddr {
    /// The virtual segment.
    pub segment: SegmentId,
    /// The slot, from 0; slot 0 of a segment is its header.
    pub slot: u32,
}

impl fmt::Display for SlotAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} slot {}", self.segment, self.slot)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Reads the form that `Display` writes (8-4-4-4-12 hexadecimal digits).
            pub fn parse(text: &str) -> Option<Self> {
                parse_uuid(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(&self.0, f)
            }
        }
    };
}

id! {
    /// The random, immutable id of a volume or snapshot; unique across stores.
    ResourceId
}
id! {
    /// The random id of a store.
    StoreId
}
id! {
    /// The id (UUID) of a KMS key.
    KeyId
}
id! {
    /// The id of a head key, which only the KMS keeps.
    HeadKeyId
}

fn write_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let ends = [8, 13, 18, 23];
    if text.len() != 36 || !text.is_ascii() || ends.iter().any(|&at| text.as_bytes()[at] != b'-') {
        return None;
    }
    let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'-').collect();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The state of a KMS key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    /// The key does its work.
    Enabled,
    /// The key is switched off until somebody enables it.
    Disabled,
    /// The key waits to be deleted, and does no work any more.
    PendingDeletion,
    /// The key's secret was destroyed. Nobody gets it back.
    Deleted,
    /// The key's record is not there (any more).
    Missing,
}

impl KeyState {
    /// The state in words with `_` between them, as programs read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::PendingDeletion => "pending_deletion",
            Self::Deleted => "deleted",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PendingDeletion => "pending deletion",
            other => other.as_str(),
        })
    }
}

/// Where something was found to be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A directory.
    Directory(String),
    /// A file of the store or of the KMS, by its name there.
    File(String),
    /// A slot of a segment.
    Slot(SlotAddr),
    /// A logical page of a head, with the slot it is read from.
    Page {
        /// The head's name.
        head: String,
        /// The logical page.
        page: PageNo,
        /// Where its bytes are.
        at: SlotAddr,
    },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(name) => write!(f, "directory {name}"),
            Self::File(name) => write!(f, "file {name}"),
            Self::Slot(at) => at.fmt(f),
            Self::Page { head, page, at } => write!(f, "page {page} of {head} ({at})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_bad_text_is_refused() {
        let id = KeyId([0x1f; 16]);
        assert_eq!(KeyId::parse(&id.to_string()), Some(id));
        for bad in [
            "",
            "1f",
            "1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1",
            &"é".repeat(18),
        ] {
            assert_eq!(KeyId::parse(bad), None, "{bad}");
        }
        assert_eq!(KeyId::parse("+f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f"), None);
    }
}

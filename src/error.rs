//! One error type for callers, grouped by what the caller can do, and what can be wrong with bytes.

use std::fmt;
use std::io;

use crate::units::{KeyState, Location, PageNo, Seq};

/// A result with the library's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Variants differ where a caller would act differently.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Fix the call.
    /// An argument breaks a rule.
    #[error("{what} {value:?} is not valid: {rule}")]
    Invalid {
        /// What the argument is.
        what: &'static str,
        /// Its value, shortened if long.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A range of bytes does not lie in the volume.
    #[error("bytes {offset} to {} are outside the volume of {volume_len} bytes", .offset.saturating_add(*.len))]
    OutOfBounds {
        /// First byte of the range.
        offset: u64,
        /// Length of the range in bytes.
        len: u64,
        /// Length of the volume in bytes.
        volume_len: u64,
    },
    /// There is nothing of that name.
    #[error("there is no {kind} named {name:?}")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The name is taken.
    #[error("a {kind} named {name:?} exists already")]
    AlreadyExists {
        /// What exists.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// A limit would be passed.
    #[error("the limit of {max} {limit} is reached")]
    LimitExceeded {
        /// What is limited, in the plural.
        limit: &'static str,
        /// The limit.
        max: u64,
    },
    /// The store was opened for reading only.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// The state of a volume or snapshot forbids the call.
    #[error("{name:?} is {state}, which forbids this")]
    InvalidState {
        /// Its name.
        name: String,
        /// Its state.
        state: &'static str,
    },
    /// The store would take more than its quota. Nothing was changed.
    #[error(
        "the store's quota of {quota} {what} is reached ({used} are used): delete something or raise it"
    )]
    QuotaExceeded {
        /// What the quota is of, in the plural.
        what: &'static str,
        /// The quota.
        quota: u64,
        /// How much is used.
        used: u64,
    },
    /// It is protected against deletion.
    #[error("{kind} {name:?} is protected against deletion: take the protection away first")]
    Protected {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
    },

    // Ask the key's owner.
    /// A KMS key cannot be used.
    #[error("KMS key {key} is {state}: ask its owner")]
    KeyUnavailable {
        /// The key, as far as it is known.
        key: String,
        /// Its state.
        state: KeyState,
    },
    /// The KMS refuses.
    #[error("the KMS refuses to {action} with key {key}")]
    AccessDenied {
        /// The key.
        key: String,
        /// What was asked of it.
        action: &'static str,
    },

    // Fix the machine.
    /// Another process has the store or the KMS.
    #[error("{location} is locked by {}", Owner(.pid))]
    Locked {
        /// What is locked.
        location: Location,
        /// The owner's process id, if it is known.
        pid: Option<u32>,
    },
    /// The disk is full. Nothing was changed.
    #[error("no space: {need} bytes are needed, {free} are free")]
    NoSpace {
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        free: u64,
    },
    /// The operating system reports an error.
    #[error("cannot {op} {location}: {source}")]
    Io {
        /// What was attempted.
        op: &'static str,
        /// On what.
        location: Location,
        /// What the operating system said.
        source: io::Error,
    },

    // Give the right input.
    /// There is no store, or no KMS, in that place.
    #[error("{location} holds no {kind}")]
    NotAStore {
        /// What is missing.
        kind: Kind,
        /// Where it was looked for.
        location: Location,
    },
    /// A newer program wrote this.
    #[error(
        "{location} has format version {found}; this program reads version {known}: use a newer offshoot"
    )]
    UnsupportedVersion {
        /// Where the version is.
        location: Location,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// The KMS does not know this store.
    #[error("this KMS cannot open the store: it has no key {key}")]
    WrongKms {
        /// The key that wraps the store key.
        key: String,
    },

    /// The store is not what the KMS has seen of it.
    #[error(
        "the store was set back: its last change is {found}, and the KMS has seen change {mark} of it"
    )]
    RolledBack {
        /// The store's last change.
        found: Seq,
        /// A later change, or one of another history, that was durable.
        mark: Seq,
    },

    // Run fsck; reopen; start again.
    /// Bytes on disk are not what was written.
    #[error("{location} is damaged: {damage}; run fsck")]
    Corrupt {
        /// Where.
        location: Location,
        /// What is wrong.
        damage: Damage,
    },
    /// The contents of a page were damaged, and a repair gave them up. What is written to the whole of it, or
    /// discards it, makes it good again.
    #[error(
        "page {page} of {kind} {name:?} was damaged and is lost: write all of it, or discard it"
    )]
    PageLost {
        /// What it is a page of.
        kind: Kind,
        /// Its name.
        name: String,
        /// The page.
        page: PageNo,
    },
    /// An erasure began and could not be ended: keys are destroyed, or may be, and what they opened cannot be read any
    /// more, while it is still on the list. Erase it again when what failed is gone.
    #[error("erasing {kind} {name:?} is begun and not done ({source}): erase it again")]
    EraseUnfinished {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
        /// What failed.
        source: Box<Error>,
    },
    /// An earlier write or sync failed: what is on disk is not known. Reopen the store.
    #[error("the store stopped after a failed write or sync: reopen it")]
    Poisoned,
}

/// Kinds of things that have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A volume.
    Volume,
    /// A snapshot.
    Snapshot,
    /// A pin.
    Pin,
    /// A KMS key or alias.
    Key,
    /// A store.
    Store,
    /// A KMS.
    Kms,
    /// A segment.
    Segment,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Volume => "volume",
            Self::Snapshot => "snapshot",
            Self::Pin => "pin",
            Self::Key => "key",
            Self::Store => "store",
            Self::Kms => "KMS",
            Self::Segment => "segment",
        })
    }
}

/// What can be wrong with bytes read from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Damage {
    /// A file that is referred to is not there.
    Missing,
    /// Fewer bytes than there must be.
    Truncated,
    /// The first bytes do not say what this should be.
    BadMagic,
    /// An unknown format version.
    BadVersion(u32),
    /// The checksum does not match.
    BadChecksum,
    /// The authentication tag or keyed hash does not match.
    BadTag,
    /// The hash that the parent names does not match.
    BadHash,
    /// A valid object of another place, store or life.
    WrongIdentity,
    /// A field has a value it can never have.
    OutOfRange(&'static str),
    /// Bytes that must be zero are not.
    NotZero,
    /// Objects contradict each other.
    Inconsistent(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is missing"),
            Self::Truncated => f.write_str("it is too short"),
            Self::BadMagic => f.write_str("it does not start with its magic number"),
            Self::BadVersion(found) => write!(f, "its format version {found} is not known"),
            Self::BadChecksum => f.write_str("its checksum does not match"),
            Self::BadTag => f.write_str("its authentication tag does not match"),
            Self::BadHash => f.write_str("it is not what its parent names"),
            Self::WrongIdentity => f.write_str("it belongs elsewhere"),
            Self::OutOfRange(field) => write!(f, "{field} is out of range"),
            Self::NotZero => f.write_str("reserved bytes are not zero"),
            Self::Inconsistent(what) => write!(f, "{what}"),
        }
    }
}

struct Owner<'a>(&'a Option<u32>);

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

//! offshoot: an encrypted block store with real copy-on-write volumes.
//!
//! A [`Store`] is a directory of segment files. It holds volumes and snapshots, each with a page
//! table of its own; a clone shares all pages with its source and costs one small write. Every
//! page is encrypted and authenticated under keys that a key service guards, of which
//! [`FileKms`] is a simulation in files.
//!
//! ```
//! # fn main() -> offshoot::Result<()> {
//! # let dir = tempfile::tempdir().expect("a temporary directory");
//! # let dir = dir.path();
//! use offshoot::{FileKms, Options};
//!
//! let kms = FileKms::create(&dir.join("kms"), "local")?;
//! kms.create_key(Some("alias/offshoot-store"))?;
//! let key = kms.create_key(Some("alias/default"))?.id;
//! let store = Options::new().create(dir.join("store"), kms)?;
//! let db = store.create_volume("db", 64 << 30, &key)?;
//! db.write_all_at(b"hello", 4096)?; // visible to readers
//! db.flush()?; // durable
//! let trial = db.create_clone("trial", &key)?;
//! trial.write_all_at(b"HELLO", 4096)?;
//! let mut bytes = [0; 5];
//! db.read_exact_at(&mut bytes, 4096)?;
//! assert_eq!(&bytes, b"hello");
//! store.close()?; // dropping cannot report errors
//! # Ok(())
//! # }
//! ```
//!
//! # Layers
//!
//! Modules use lower ranks only, from bottom to top: `error`, `units`, `sync`, `sys`, `source`;
//! [`io`], `crypto`; [`format`](mod@format), `kms`; `segment`, `file_kms`; `log`; `btree`,
//! `lineage`; `volume`, `catalog`; `maintenance`; `store`. `check` stands beside them.
#![deny(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests may panic"))]

mod error;
mod slots;
mod source;
mod sync;
mod sys;
mod units;

mod crypto;
pub mod io;

pub mod format;
mod kms;

mod file_kms;
mod segment;

mod log;

mod btree;
mod lineage;

mod catalog;
mod volume;

mod maintenance;

mod store;

pub mod check;

pub use crate::crypto::{PAGE_CIPHER, Secret};
pub use crate::error::{Damage, Error, Kind, Result};
pub use crate::file_kms::{AliasInfo, AuditLine, AuditReport, FileKms, KeyInfo};
pub use crate::format::catalog::{HeadKind, HeadState};
pub use crate::format::quota::Quota;
pub use crate::format::scrub::{ScrubFault, ScrubFinding};
pub use crate::kms::{Context, HeadKeyInfo, KeyService, KmsError, Mark};
pub use crate::source::{Clock, Random};
pub use crate::store::{
    Charge, Cursor, DeletionPart, DeletionPlan, DeletionProtection, ErasePlan, Import, Machine,
    Options, Pin, PinInfo, QuotaInfo, Reclaimed, Rekey, RekeyPlan, RekeyStart, RekeyStep, Repaired,
    Revocation, RewrapPlan, Scrub, ScrubOptions, ScrubState, ScrubStep, SharedWith, Snapshot,
    SnapshotInfo, SnapshotType, SpaceInfo, StillReadable, Store, StoreInfo, StoreStats, Usage,
    Volume, VolumeInfo,
};
pub use crate::units::{
    HeadId, HeadKeyId, KeyEpoch, KeyId, KeyState, LineageEpoch, Location, PackId, PageNo,
    ResourceId, SegmentId, Seq, SlotAddr, StoreId,
};
pub use crate::volume::{Extent, ExtentKind, Extents};

/// The examples of the README are tested with those of the library.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! Stores: public handles, options, opening and closing, and the one place that orders writes
//! and syncs (`commit`).

mod branch;
mod checkpoint;
mod commit;
mod cursor;
mod erase;
mod handles;
mod import;
mod info;
mod inner;
mod mark;
mod nodes;
mod open;
mod options;
mod quota;
mod read;
mod reclaim;
mod rekey;
mod remove;
mod repair;
mod rewrap;
mod snapshot;
mod space;
mod stats;
mod volume;
mod worker;
mod write;

pub use cursor::Cursor;
pub use erase::{ErasePlan, StillReadable};
pub use handles::Store;
pub use import::Import;
pub use info::{
    DeletionPlan, DeletionProtection, SnapshotInfo, SnapshotType, StoreInfo, Usage, VolumeInfo,
};
pub use options::{Machine, Options, Revocation};
pub use quota::QuotaInfo;
pub use rekey::{Rekey, RekeyPlan, RekeyStart, RekeyStep};
pub use repair::Repaired;
pub use rewrap::RewrapPlan;
pub use snapshot::Snapshot;
pub use space::Reclaimed;
pub use stats::StoreStats;
pub use volume::Volume;

//! Stores: public handles, options, opening and closing, and the one place that orders writes
//! and syncs (`commit`).

mod branch;
mod checkpoint;
mod commit;
mod cursor;
mod handles;
mod import;
mod info;
mod inner;
mod mark;
mod nodes;
mod open;
mod options;
mod read;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "liveness, which calls it, is being made")
)]
mod reclaim;
mod rewrap;
mod snapshot;
mod stats;
mod volume;
mod worker;
mod write;

pub use cursor::Cursor;
pub use handles::Store;
pub use import::Import;
pub use info::{SnapshotInfo, SnapshotType, StoreInfo, Usage, VolumeInfo};
pub use options::{Machine, Options, Revocation};
pub use rewrap::RewrapPlan;
pub use snapshot::Snapshot;
pub use stats::StoreStats;
pub use volume::Volume;

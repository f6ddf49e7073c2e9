//! The catalog: names, heads, lineage and key epochs, as the log's records make them.
//!
//! Invariant: the catalog is a function of the records applied so far. A live store and one that
//! rolls forward apply the same records through the same code.

mod branch;
mod keys;
mod names;
mod prune;
mod reach;
mod space;
mod state;
#[cfg(test)]
pub mod tests;

pub use branch::Plan;
pub use branch::{HeadKey, NewHead, branch_head, create_head, renew_epoch};
pub use keys::HeadKeys;
pub use names::{check_name, check_volume_name};
pub use reach::{Reach, reach};
#[cfg(test)]
pub use space::Space;
pub use state::{
    Catalog, Changed, ChangedNodes, Context, Head, discard, page_runs, set_page, set_range,
};

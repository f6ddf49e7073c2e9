//! Maintenance: what is done behind the users' backs, as plans that others carry out.
//!
//! Invariant: a plan is a function of what it is given; nothing here reads or writes files.

mod plan;

pub use plan::{Action, FileState, Policy, plan, spares_max};

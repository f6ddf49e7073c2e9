//! A running PostgreSQL cluster on a volume, and clones of it that run beside it.

mod cluster;
mod ledger;
mod load;
mod mounted;
mod programs;
mod served;
mod server;
mod steps;

use std::path::Path;
use std::rc::Rc;

pub use programs::Programs;

use crate::context::Context;
use crate::exit::Result;

/// Runs all steps in a directory, and prints the table.
pub fn run(context: &Context, programs: Programs, dir: &Path) -> Result {
    steps::run(context, Rc::new(programs), dir)
}

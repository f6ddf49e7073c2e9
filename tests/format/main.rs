//! The disk format as `docs/format.md` and the golden store have it.
//!
//! `UPDATE=1 cargo test --test format` writes both anew.

mod doc;
mod golden;

use std::path::PathBuf;

/// A file or folder of the project.
fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn is_update() -> bool {
    std::env::var_os("UPDATE").is_some_and(|value| value == "1")
}

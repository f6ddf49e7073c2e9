//! Stores that somebody has changed: what fsck must name, and what no read may show.

mod bytes;
mod judge;
mod many;
mod parts;
mod sealed;
mod subject;

//! Names of volumes and snapshots.

use crate::error::{Error, Result};
use crate::format::catalog::HeadKind;

const VOLUME_RULE: &str =
    "1 to 63 letters, digits and single inner hyphens, a letter first; case does not count";
const SNAPSHOT_RULE: &str =
    "1 to 255 letters, digits and single inner hyphens, a letter first; case does not count";

/// The form in which a volume's name is kept, if it is one.
pub fn check_volume_name(name: &str) -> Result<String> {
    check("volume name", name, 63, VOLUME_RULE)
}

/// The form in which the name of a head of this kind is kept, if it is one.
pub fn check_name(kind: HeadKind, name: &str) -> Result<String> {
    match kind {
        HeadKind::Volume => check_volume_name(name),
        HeadKind::Snapshot => check("snapshot name", name, 255, SNAPSHOT_RULE),
        HeadKind::Pin => check("pin name", name, 255, SNAPSHOT_RULE),
    }
}

fn check(what: &'static str, name: &str, max: usize, rule: &'static str) -> Result<String> {
    let is_name = (1..=max).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && !name.ends_with('-')
        && !name.contains("--");
    match is_name {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(Error::Invalid {
            what,
            value: name.chars().take(80).collect(),
            rule,
        }),
    }
}

//! What is no fault of the store, and its owner should know all the same.

use crate::check::image::Image;
use crate::check::keys::as_error;
use crate::check::report::Stats;
use crate::error::{Error, Result};
use crate::format::pack::pack_of_file;
use crate::format::segment::segment_of_file;
use crate::io::Disk;
use crate::kms::KeyService;
use crate::units::Location;

/// Bytes that the files of segments and packs take on the disk: what a quota bounds, but for holes.
pub(super) fn used_bytes(image: &Image<'_>) -> u64 {
    let names = image.files.names.iter();
    let counts = |name: &&String| segment_of_file(name).is_some() || pack_of_file(name).is_some();
    let lens = names
        .filter(counts)
        .filter_map(|name| image.files.allocated_len(name));
    lens.fold(0, u64::saturating_add)
}

/// Quotas that are passed, and files that others than their owner may read or write.
pub(super) fn collect(
    disk: &dyn Disk,
    kms: Option<&dyn KeyService>,
    stats: &Stats,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let used = [
        ("bytes", stats.quota.bytes, stats.used_bytes),
        (
            "volumes, snapshots and pins",
            stats.quota.heads,
            stats.volumes + stats.snapshots + stats.pins,
        ),
    ];
    for (what, quota, used) in used {
        if let Some(quota) = quota.filter(|&quota| used > quota) {
            notes.push(format!(
                "the quota of {quota} {what} is passed: there are {used}"
            ));
        }
    }
    let exposed = disk.exposed().map_err(|source| Error::Io {
        op: "look at the permissions in",
        location: Location::Directory(disk.describe()),
        source,
    })?;
    notes.extend(note_exposed("the store", &exposed));
    if let Some(kms) = kms {
        let exposed = kms.exposed_files().map_err(as_error)?;
        notes.extend(note_exposed("the KMS", &exposed));
    }
    Ok(notes)
}

fn note_exposed(what: &str, names: &[String]) -> Option<String> {
    let first = names.first()?;
    let more = match names.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Some(format!(
        "others than its owner may get at files of {what} (modes should be 0700 and 0600): {first}{more}"
    ))
}

//! Making and opening the directory.

use zeroize::Zeroizing;

use crate::error::{Damage, Error, Kind, Result};
use crate::file_kms::audit;
use crate::file_kms::files::Files;
use crate::file_kms::heads::{self, Heads};
use crate::file_kms::inner::{Inner, read_aliases, read_keys};
use crate::file_kms::keys::{self, Aliases, KeyRing};
use crate::file_kms::pool::Pools;
use crate::file_kms::reference;
use crate::io::{Access, Disk, Lock};
use crate::source::{Clock, Random};
use crate::sync::{Arc, Mutex};

const NAMES: [&str; 4] = ["aliases", "audit", "heads", "keys"];

/// Makes the files of a KMS without keys.
pub(super) fn create(
    disk: Arc<dyn Disk>,
    region: &str,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<Arc<dyn Disk>> {
    reference::check_region(region)?;
    let files = Files(disk);
    let lock = files.lock(Lock::Exclusive)?;
    ensure_nothing_is_lost(&files)?;
    let mut kms = [0; 16];
    random.fill(&mut kms);
    files.publish("audit", audit::first_line(kms).as_bytes())?;
    files.publish("aliases", &keys::encode_aliases(&Aliases::new(), kms))?;
    files.publish("heads", &heads::encode_empty(kms))?;
    let created_at_ms = clock.now_ms();
    let ring = KeyRing {
        kms,
        region: region.to_owned(),
        created_at_ms,
        keys: Vec::new(),
    };
    // Last, since this is the file by which a KMS is known.
    files.publish("keys", &ring.encode())?;
    drop(lock);
    Ok(files.0)
}

/// Reads and checks all files of a KMS.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Inner> {
    let files = Files(disk);
    // Before the lock is made: what is no KMS stays as it is.
    if !files
        .list()?
        .iter()
        .any(|name| NAMES.contains(&name.as_str()))
    {
        return Err(no_kms(&files));
    }
    let lock = files.lock(Lock::Shared)?;
    if !files.exists("keys")? {
        return Err(match files.exists("heads")? {
            true => files.damage("keys", Damage::Missing),
            false => no_kms(&files),
        });
    }
    let (ring, _) = read_keys(&files)?;
    read_aliases(&files, ring.kms)?;
    audit::check(&files, ring.kms)?;
    let mut pools = Pools::default();
    pools
        .index
        .rescan(&Heads::open(&files, ring.kms, Access::Read)?)?;
    drop(lock);
    let (region, kms, pools) = (ring.region, ring.kms, Mutex::new(pools));
    Ok(Inner {
        files,
        clock,
        random,
        region,
        kms,
        pools,
    })
}

fn no_kms(files: &Files) -> Error {
    Error::NotAStore {
        kind: Kind::Kms,
        location: files.directory(),
    }
}

/// Refuses to make a KMS over another one. What a creation left that was cut off is no KMS yet:
/// it has no file `keys`, and no head keys.
fn ensure_nothing_is_lost(files: &Files) -> Result<()> {
    let unused = |bytes: Zeroizing<Vec<u8>>| heads::is_empty(&bytes);
    let lost = files.exists("keys")?
        || (files.exists("heads")? && !files.read("heads", heads::EMPTY_LEN).is_ok_and(unused));
    if lost {
        return Err(Error::AlreadyExists {
            kind: Kind::Kms,
            name: files.0.describe(),
        });
    }
    Ok(())
}

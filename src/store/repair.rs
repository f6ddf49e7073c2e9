//! Repair: what follows from the rest of the store is written again. Nothing is invented: a page that
//! is damaged becomes a lost one, which says so to whoever reads it.
//!
//! Invariant: nothing that is there is written over. Superblock files are replaced by whole ones, lost
//! pages are changes in the log like others, all else is checkpoints, which are made beside what they
//! replace; so a crash leaves the store as it was, mended in part or mended, and a repair that is done
//! again gives the same.

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::check::{self, CheckOptions, DamagedPages, Repair, Report};
use crate::error::Result;
use crate::io::{Disk, Lock};
use crate::kms::KeyService;
use crate::log::Superblocks;
use crate::store::inner::Inner;
use crate::store::open::lock;
use crate::store::options::{Machine, Options};
use crate::store::write::Clear;
use crate::sync::Arc;
use crate::units::PageNo;

/// What a repair came to.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// What was wrong before.
    pub found: Report,
    /// What is wrong after. The same if nothing of it can be repaired.
    pub left: Report,
    /// Whether anything was written.
    pub is_changed: bool,
}

impl Options {
    /// Checks a store, and repairs what follows from the rest of it: copies of superblocks, the tables
    /// of the older one, the set of live slots. What it does about each finding is in
    /// [`check::Finding::repair`]. Pages that the check has read and found damaged become lost ones in all volumes
    /// and snapshots that share them ([`crate::Error::PageLost`]); nodes that are damaged stay as they
    /// are: reading what is below them is an error. The store must be one that opens; nobody may
    /// have it open.
    pub fn repair(
        &self,
        dir: impl AsRef<Path>,
        kms: impl KeyService + 'static,
        check: &CheckOptions,
    ) -> Result<Repaired> {
        self.repair_on(Self::real_machine(dir.as_ref())?, Arc::new(kms), check)
    }

    /// Like `repair`, on any machine.
    pub fn repair_on(
        &self,
        machine: Machine,
        kms: Arc<dyn KeyService>,
        check: &CheckOptions,
    ) -> Result<Repaired> {
        let disk = machine.disk.clone();
        let check = check.clone().kms(kms.clone());
        let found = check::check(&*disk, &check)?;
        let can_repair = |repair| repair != Repair::Nothing;
        if !found.findings.iter().any(|it| can_repair(it.repair)) {
            return Ok(Repaired {
                left: found.clone(),
                found,
                is_changed: false,
            });
        }
        mend_superblock_files(&*disk)?;
        // Nothing may be reclaimed by a set of live slots that is wrong.
        let options = self.clone().read_only(false).workers(0).auto_reclaim(false);
        let store = options.open_on(machine, kms)?;
        let inner = &store.0;
        // One puts what is deleted out of the way, and two leave no older tables.
        inner.force_checkpoint()?;
        inner.force_checkpoint()?;
        let is_damaged = |repair| repair == Repair::LostPages;
        if found.findings.iter().any(|it| is_damaged(it.repair)) {
            while give_up(inner, &check::damaged_pages(&*disk, &check.pages())?)? {}
        }
        if let Some(named) = check::named_slots(&*disk, &check)? {
            let is_mended = inner.state.write().space_mut().mend(&named);
            if is_mended {
                inner.force_checkpoint()?;
                inner.force_checkpoint()?;
            }
        }
        store.close()?;
        Ok(Repaired {
            found,
            left: check::check(&*disk, &check)?,
            is_changed: true,
        })
    }
}

/// Makes damaged pages lost ones; whether there were any.
fn give_up(inner: &Inner, damaged: &[DamagedPages]) -> Result<bool> {
    for pages in damaged {
        let head = inner.state.read().head(pages.head).cloned();
        if let Some(head) = head {
            let runtime = inner.runtime(&head);
            let range = pages.first..PageNo(pages.first.0 + pages.count);
            inner.clear_pages(&runtime, Clear::Lose, range)?;
        }
    }
    inner.flush()?;
    // The first lets die what no volume or snapshot has any more; no older tables name the pages then.
    inner.force_checkpoint()?;
    inner.force_checkpoint()?;
    Ok(!damaged.is_empty())
}

/// Makes the two files whole, so that the next checkpoints have where to write.
fn mend_superblock_files(disk: &dyn Disk) -> Result<()> {
    let _guard = lock(disk, Lock::Exclusive)?;
    Superblocks::mend_files(disk)
}

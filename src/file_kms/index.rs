//! Where head keys and free slots are in the file `heads`.
//!
//! Invariant: a slot is reused only if it is all zeroes. A damaged slot is left alone, and hinders
//! only those who look for a key that is not found.

use std::collections::BTreeMap;

use crate::error::{Damage, Result};
use crate::file_kms::heads::{Heads, Slot};
use crate::file_kms::records::HeadRecord;
use crate::units::HeadKeyId;

/// Where head keys and free slots are, as far as this process knows.
#[derive(Debug, Default)]
pub(super) struct Index {
    known: u32,
    slots: BTreeMap<HeadKeyId, u32>,
    free: Vec<u32>,
    damage: Option<Damage>,
}

impl Index {
    /// Reads everything anew.
    pub(super) fn rescan(&mut self, heads: &Heads<'_>) -> Result<()> {
        *self = Self::default();
        self.scan_on(heads)
    }

    /// Where a head key is. If a damaged slot may be the one, that is an error.
    pub(super) fn find(
        &mut self,
        heads: &Heads<'_>,
        id: &HeadKeyId,
    ) -> Result<Option<(u32, HeadRecord)>> {
        for rescanned in [false, true] {
            if let Some(&slot) = self.slots.get(id)
                && let Slot::Used(record) = heads.read(slot)?
                && record.id == id.0
            {
                return Ok(Some((slot, *record)));
            }
            if !rescanned {
                self.rescan(heads)?;
            }
        }
        match self.damage {
            Some(damage) => Err(heads.damage(damage)),
            None => Ok(None),
        }
    }

    /// Where head keys are, all by one look at the file. If a damaged slot may be one that is not
    /// found, that is an error.
    pub(super) fn find_all(
        &mut self,
        heads: &Heads<'_>,
        ids: &[HeadKeyId],
    ) -> Result<Vec<Option<(u32, HeadRecord)>>> {
        self.rescan(heads)?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let record = match self.slots.get(id) {
                Some(&slot) => match heads.read(slot)? {
                    Slot::Used(record) => Some((slot, *record)),
                    Slot::Free => None,
                    Slot::Damaged(damage) => return Err(heads.damage(damage)),
                },
                None => None,
            };
            if let (None, Some(damage)) = (&record, self.damage) {
                return Err(heads.damage(damage));
            }
            found.push(record);
        }
        Ok(found)
    }

    /// Free slots to write head keys to; the file grows if it has not enough.
    pub(super) fn allocate(&mut self, heads: &mut Heads<'_>, count: usize) -> Result<Vec<u32>> {
        // Another process may have grown the file.
        self.scan_on(heads)?;
        let mut slots = Vec::with_capacity(count);
        while slots.len() < count {
            match self.free.pop() {
                // It may also have taken the slot.
                Some(slot) if matches!(heads.read(slot)?, Slot::Free) => slots.push(slot),
                Some(_) => {}
                None => {
                    heads.grow()?;
                    self.scan_on(heads)?;
                }
            }
        }
        Ok(slots)
    }

    /// The free slots, as far as this process knows.
    pub(super) fn free(&self) -> &[u32] {
        &self.free
    }

    /// Notes where a new head key is.
    pub(super) fn add(&mut self, id: HeadKeyId, slot: u32) {
        self.slots.insert(id, slot);
    }

    fn scan_on(&mut self, heads: &Heads<'_>) -> Result<()> {
        let mut free = Vec::new();
        heads.scan(self.known, |slot, content| match content {
            Slot::Free => free.push(slot),
            Slot::Damaged(damage) => self.damage = Some(damage),
            Slot::Used(record) => {
                if self.slots.insert(HeadKeyId(record.id), slot).is_some() {
                    self.damage = Some(Damage::Inconsistent("a head key is there twice"));
                }
            }
        })?;
        // Low slots are taken first: they are at the end.
        free.reverse();
        free.append(&mut self.free);
        self.free = free;
        self.known = heads.slot_count();
        Ok(())
    }
}

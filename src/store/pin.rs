//! Pins: named holders of a state, for whoever reads it for long.
//!
//! A pin is a head of its own that starts with the pinned head's root, like a snapshot, but on no list
//! of snapshots. So nothing that happens to the pinned head afterwards, its deletion included, touches
//! what the pin reads; no other death waits for it; and it outlives the process.

use std::ops::Range;

use crate::catalog::Head;
use crate::error::Result;
use crate::format::catalog::HeadKind;
use crate::store::branch::Making;
use crate::store::handles::Store;
use crate::store::info::Usage;
use crate::store::inner::Runtime;
use crate::store::snapshot::Snapshot;
use crate::store::volume::Volume;
use crate::store::worker::Opened;
use crate::sync::Arc;
use crate::units::{KeyId, ResourceId};
use crate::volume::Extents;

/// A pin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinInfo {
    /// Its name, in lower case: who holds it, or what for.
    pub name: String,
    /// Its random id.
    pub id: ResourceId,
    /// The volume or snapshot whose state it holds; that may be deleted.
    pub held_id: ResourceId,
    /// Length in bytes.
    pub len: u64,
    /// The KMS key that guards its keys: that of the head it was made from.
    pub kms_key: KeyId,
    /// When it was made, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: u64,
}

/// A pin: the state of a volume or snapshot, to be read until it is released.
///
/// Dropping this does not release it.
#[derive(Clone, Debug)]
pub struct Pin {
    store: Arc<Opened>,
    runtime: Arc<Runtime>,
}

impl PinInfo {
    fn of(head: &Head) -> Self {
        let record = &head.record;
        Self {
            name: record.name.clone(),
            id: record.resource_id,
            held_id: record.origin_id.unwrap_or_default(),
            len: record.len,
            kms_key: record.kms_key,
            created_at_ms: record.created_at_ms,
        }
    }
}

impl Pin {
    fn make(store: &Arc<Opened>, source: &Runtime, key: &KeyId, name: &str) -> Result<Self> {
        let runtime = store.branch(source, Making::Pin, name, key)?;
        Ok(Self {
            store: store.clone(),
            runtime,
        })
    }

    /// What the pin is; `NotFound` once it is released.
    pub fn info(&self) -> Result<PinInfo> {
        let head = self.store.head_of(&self.runtime)?;
        Ok(PinInfo::of(&head))
    }

    /// Its name, in lower case.
    pub fn name(&self) -> Result<String> {
        Ok(self.info()?.name)
    }

    /// Its length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no pin is empty")]
    pub fn len(&self) -> Result<u64> {
        Ok(self.store.head_of(&self.runtime)?.record.len)
    }

    /// Fills `buf` from `offset`, never in part.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.store.read(&self.runtime, buf, offset)
    }

    /// What a range holds.
    pub fn extents(&self, range: Range<u64>) -> Result<Extents<'_>> {
        self.store.extents(&self.runtime, range)
    }

    /// What the pin takes: its exclusive bytes are those that are kept for it alone.
    pub fn usage(&self) -> Result<Usage> {
        self.store.usage(&self.runtime)
    }

    /// Ends the pin. Its keys are not needed. Durable on return.
    pub fn release(self) -> Result<()> {
        self.store.delete(&self.runtime)
    }
}

impl Volume {
    /// Holds the volume's state as it is now under a name, whatever happens to the volume, until
    /// [`Pin::release`]. Costs what a snapshot does. Durable on return.
    pub fn pin(&self, name: &str) -> Result<Pin> {
        Pin::make(&self.store, &self.runtime, &self.info()?.kms_key, name)
    }
}

impl Snapshot {
    /// Holds the snapshot's state under a name, also if the snapshot is deleted, until
    /// [`Pin::release`]. Durable on return.
    pub fn pin(&self, name: &str) -> Result<Pin> {
        Pin::make(&self.store, &self.runtime, &self.info()?.kms_key, name)
    }
}

impl Store {
    /// The pin of that name.
    pub fn pin(&self, name: &str) -> Result<Pin> {
        let head = self.0.find(HeadKind::Pin, name)?;
        Ok(Pin {
            store: self.0.clone(),
            runtime: self.0.runtime(&head),
        })
    }

    /// All pins, oldest first.
    pub fn pins(&self) -> Vec<PinInfo> {
        let ids = self.0.head_ids(HeadKind::Pin).into_iter();
        let heads = ids.filter_map(|id| self.0.head(id, HeadKind::Pin).ok());
        heads.map(|head| PinInfo::of(&head)).collect()
    }
}

//! Creating, branching, renaming, resizing and deleting heads: each one batch, durable on return.

use crate::catalog::{
    Head, HeadKey, NewHead, Plan, branch_head, check_name, check_volume_name, create_head,
};
use crate::error::{Error, Result};
use crate::format::batch::header_len;
use crate::format::catalog::{HeadKind, HeadRecord, HeadState};
use crate::format::record::{PageRange, Record};
use crate::store::info::SnapshotType;
use crate::store::inner::{Commit, Inner, Runtime, kind_of, kms_error};
use crate::store::quota::HEAD_SLOTS;
use crate::store::reserve::{Purpose, RECORD_SLOTS};
use crate::store::write::Clear;
use crate::sync::{Arc, Ordering};
use crate::units::{HeadId, KeyId, Location, PageNo, ResourceId, SlotAddr};

/// Longest volume in bytes.
const LEN_MAX: u64 = i64::MAX as u64;

/// What is branched off a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Making {
    Clone,
    Snapshot(SnapshotType),
    Pin,
}

impl Making {
    fn kind(self) -> HeadKind {
        match self {
            Self::Clone => HeadKind::Volume,
            Self::Snapshot(_) => HeadKind::Snapshot,
            Self::Pin => HeadKind::Pin,
        }
    }
}

impl Inner {
    /// Makes an empty volume.
    pub fn create(
        &self,
        name: &str,
        len: u64,
        key: &KeyId,
        state: HeadState,
    ) -> Result<Arc<Runtime>> {
        self.writable()?;
        let name = check_volume_name(name)?;
        let len = self.check_len(len)?;
        self.check_free(HeadKind::Volume, &name)?;
        let new = self.new_head(HeadKind::Volume, name, state, key)?;
        self.make_room(HEAD_SLOTS)?;
        let mut commit = self.commit_for(Purpose::Growth, RECORD_SLOTS, 0)?;
        self.check_free(HeadKind::Volume, &new.name)?;
        self.check_head_quota(&commit)?;
        let plan = create_head(&self.state.read(), new, len, &*self.random);
        let made = self.commit_plan(&mut commit, plan, None)?;
        drop(commit);
        self.flush()?;
        self.settle(&made, key);
        Ok(made)
    }

    /// Branches a volume or a snapshot off a head.
    pub fn branch(
        &self,
        source: &Runtime,
        making: Making,
        name: &str,
        key: &KeyId,
    ) -> Result<Arc<Runtime>> {
        self.writable()?;
        let kind = making.kind();
        let name = check_name(kind, name)?;
        self.check_free(kind, &name)?;
        let source_keys = self.keys(source)?;
        self.fold(source.head)?;
        let automated = making == Making::Snapshot(SnapshotType::Automated);
        let new = NewHead {
            automated,
            ..self.new_head(kind, name, HeadState::Available, key)?
        };
        self.make_room(HEAD_SLOTS)?;
        let mut commit = self.commit_for(Purpose::Growth, RECORD_SLOTS, 0)?;
        self.check_free(kind, &new.name)?;
        self.check_head_quota(&commit)?;
        let head = self.head(source.head, source.kind)?;
        if head.record.state != HeadState::Available {
            return Err(Error::InvalidState {
                name: head.record.name,
                state: head.record.state.as_str(),
            });
        }
        let state = self.state.read();
        let plan = source_keys
            .open_epoch(&head.record, &state)
            .and_then(|_| branch_head(&state, &head, &source_keys, new, &*self.random));
        drop(state);
        let plan = plan.map_err(|damage| Error::Corrupt {
            location: Location::File(format!("keys of {}", head.record.name)),
            damage,
        })?;
        let made = self.commit_plan(&mut commit, plan, Some(&source_keys))?;
        drop(commit);
        self.flush()?;
        self.settle(&made, key);
        Ok(made)
    }

    /// Writes the records of a new head and shows it.
    fn commit_plan(
        &self,
        commit: &mut Commit,
        plan: Plan,
        source_keys: Option<&crate::catalog::HeadKeys>,
    ) -> Result<Arc<Runtime>> {
        // A reader may see the new epoch as soon as the records are applied.
        if let (Some(keys), Some(key)) = (source_keys, plan.source_key) {
            keys.add(key);
        }
        self.commit_records(commit, &plan.records)?;
        let head = self
            .state
            .read()
            .head(plan.head)
            .cloned()
            .expect("BUG: it was just made");
        let runtime = self.runtime(&head);
        self.set_keys(&runtime, plan.keys);
        Ok(runtime)
    }

    /// Writes records that load no nodes, and applies them.
    pub fn commit_records(&self, commit: &mut Commit, records: &[Record]) -> Result<()> {
        self.usable()?;
        let mut encoded = Vec::new();
        for record in records {
            record.encode(&mut encoded);
        }
        let bytes = vec![0; header_len(encoded.len())];
        self.append_plain(commit, &encoded, bytes, 0)?;
        commit.credit.add_records(encoded.len());
        let mut state = self.state.write();
        for record in records {
            // The log has it, so memory must not go on without it.
            let context = self.context(SlotAddr::default(), commit.log.position().seq);
            if let Err(error) = state.apply(record, context) {
                self.poisoned.store(true, Ordering::SeqCst);
                return Err(error);
            }
        }
        Ok(())
    }

    fn new_head(
        &self,
        kind: HeadKind,
        name: String,
        state: HeadState,
        key: &KeyId,
    ) -> Result<NewHead> {
        let mut id = [0; 16];
        self.random.fill(&mut id);
        let resource_id = ResourceId(id);
        let assigned = self.kms.assign_head_key(key, self.store_id(), resource_id);
        let (id, secret) = assigned.map_err(|error| kms_error(error, key))?;
        Ok(NewHead {
            resource_id,
            kind,
            automated: false,
            name,
            state,
            created_at_ms: self.clock.now_ms(),
            key: HeadKey {
                kms_key: *key,
                id,
                secret,
            },
        })
    }

    /// Tells the KMS that a head is durable and lets it fill its pool again. An error is not the
    /// caller's, whose head is made: a checkpoint claims the key, and who finds the pool empty
    /// fills it and says what is wrong.
    fn settle(&self, made: &Runtime, key: &KeyId) {
        if let Ok(head) = self.head(made.head, made.kind) {
            let _ = self
                .kms
                .note_head_key(self.store_id(), &head.record.head_key);
        }
        let _ = self.kms.refill(key, self.store_id());
    }

    fn check_free(&self, kind: HeadKind, name: &str) -> Result<()> {
        match self.state.read().find(kind, name) {
            Some(_) => Err(Error::AlreadyExists {
                kind: kind_of(kind),
                name: name.to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn check_len(&self, len: u64) -> Result<u64> {
        let rounded = len.checked_next_multiple_of(u64::from(self.page_len()));
        rounded
            .filter(|&rounded| len > 0 && rounded <= LEN_MAX)
            .ok_or_else(|| Error::Invalid {
                what: "volume size",
                value: len.to_string(),
                rule: "1 to 2^63 - 65536 bytes; it is rounded up to a page",
            })
    }

    /// Changes a head's record; the change is durable on return.
    pub fn update(
        &self,
        runtime: &Runtime,
        purpose: Purpose,
        change: impl FnOnce(&mut HeadRecord) -> Result<()>,
    ) -> Result<()> {
        self.writable()?;
        let mut commit = self.commit_for(purpose, RECORD_SLOTS, 0)?;
        let head = self.head(runtime.head, runtime.kind)?;
        let mut record = head.record.clone();
        change(&mut record)?;
        if record.name != head.record.name {
            self.check_free(runtime.kind, &record.name)?;
        }
        if record != head.record {
            self.commit_records(&mut commit, &[Record::Head(Box::new(record))])?;
        }
        drop(commit);
        self.flush()
    }

    /// Changes a volume's length. What is past a smaller one is dropped first, a part at a time.
    pub fn resize(&self, runtime: &Runtime, len: u64) -> Result<()> {
        self.writable()?;
        let len = self.check_len(len)?;
        let _turn = runtime.locks.lock(PageNo(0)..PageNo(u64::MAX));
        let page_len = u64::from(self.page_len());
        let old = self.head(runtime.head, runtime.kind)?;
        Runtime::check_writable(&old)?;
        let (first, end) = (len / page_len, old.record.len / page_len);
        self.clear_pages(
            runtime,
            Clear::Discard,
            PageNo(first)..PageNo(end.max(first)),
        )?;
        let purpose = match first < end {
            true => Purpose::Release,
            false => Purpose::Growth,
        };
        let mut commit = self.commit_for(purpose, RECORD_SLOTS, 0)?;
        let head = self.head(runtime.head, runtime.kind)?;
        Runtime::check_writable(&head)?;
        let mut records = vec![Record::Head(Box::new(HeadRecord {
            len,
            ..head.record.clone()
        }))];
        if first < end {
            // Nothing is left there; but so that whoever reads the log sees it.
            records.push(Record::Discard(PageRange {
                head: runtime.head,
                key_epoch: head.record.key_epoch,
                first: PageNo(first),
                count: end - first,
                gone: Vec::new(),
            }));
        }
        self.commit_records(&mut commit, &records)?;
        drop(commit);
        self.flush()
    }

    /// Finds a head by its name.
    pub fn find(&self, kind: HeadKind, name: &str) -> Result<Head> {
        let checked = check_name(kind, name)?;
        self.open()?;
        let found = self.state.read().find(kind, &checked).cloned();
        found.ok_or_else(|| crate::store::inner::gone(kind, name))
    }

    /// Ends what imports left behind that did not finish before the last close or crash.
    pub fn end_imports(&self) -> Result<()> {
        let mut records = Vec::new();
        for head in self.state.read().heads() {
            let state = match head.record.state {
                HeadState::ImportingNew => HeadState::Deleted,
                HeadState::Importing => HeadState::ImportFailed,
                _ => continue,
            };
            records.push(Record::Head(Box::new(HeadRecord {
                state,
                ..head.record.clone()
            })));
        }
        for record in records {
            self.commit_records(&mut self.commit.lock(), &[record])?;
        }
        Ok(())
    }

    /// The ids of all heads that the catalog knows.
    pub fn head_ids(&self, kind: HeadKind) -> Vec<HeadId> {
        let state = self.state.read();
        let live = state
            .heads()
            .filter(|head| head.record.kind == kind && head.record.state != HeadState::Deleted);
        live.map(|head| head.record.head).collect()
    }
}

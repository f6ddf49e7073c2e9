//! Makes views of volumes and snapshots of an open store.

use std::cell::RefCell;
use std::collections::HashMap;

use offshoot::{
    Charge, DeletionProtection, Error, KeyId, PinInfo, ResourceId, SnapshotInfo, Usage, VolumeInfo,
};

use crate::exit::Result;
use crate::refs;
use crate::session::Session;
use crate::views::head::{PinView, SnapshotView, UsageView, VolumeView};
use crate::views::{id_text, key_text, time};

/// Makes views of volumes and snapshots: knows the names behind ids.
pub struct Heads<'a> {
    session: &'a Session,
    region: String,
    account: String,
    key_arns: HashMap<KeyId, String>,
    names: HashMap<ResourceId, String>,
    charges: HashMap<ResourceId, Charge>,
    problem: RefCell<Option<Error>>,
}

impl<'a> Heads<'a> {
    /// Of an open store.
    pub fn new(session: &'a Session) -> Result<Self> {
        let keys = session.kms.keys()?;
        let key_arns: HashMap<_, _> = keys.into_iter().map(|key| (key.id, key.arn)).collect();
        // Everything in a store belongs to the account of the store's own key.
        let account = key_arns
            .get(&session.store.info()?.kms_key)
            .and_then(|arn| account_of(arn));
        let volumes = session
            .store
            .volumes()
            .into_iter()
            .map(|it| (it.id, it.name));
        let snapshots = session.store.snapshots().into_iter();
        let names = volumes
            .chain(snapshots.map(|it| (it.id, format!("@{}", it.name))))
            .collect();
        let charges = session.store.charges()?.into_iter();
        Ok(Self {
            session,
            charges: charges.map(|charge| (charge.id, charge)).collect(),
            region: session.kms.region(),
            account: account.unwrap_or_default(),
            key_arns,
            names,
            problem: RefCell::new(None),
        })
    }

    /// The name of a volume, or `@` and that of a snapshot.
    pub fn name(&self, id: ResourceId) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// Fails if a view had to leave something out that its key and state would allow to see.
    pub fn complete(self) -> Result<(), Error> {
        self.problem.into_inner().map_or(Ok(()), Err)
    }

    /// What a head holds. One that cannot be looked into does not hide the others.
    fn usage(&self, id: ResourceId, usage: offshoot::Result<Usage>) -> UsageView {
        match usage {
            Ok(usage) => {
                let charge = self.charges.get(&id);
                UsageView {
                    charged_bytes: charge.map(|charge| charge.charged_bytes),
                    split_bytes: charge.map(|charge| charge.split_bytes),
                    ..usage.into()
                }
            }
            Err(
                Error::KeyUnavailable { .. }
                | Error::AccessDenied { .. }
                | Error::InvalidState { .. },
            ) => UsageView::default(),
            Err(error) => {
                self.problem.borrow_mut().get_or_insert(error);
                UsageView::default()
            }
        }
    }

    /// A volume.
    pub fn volume(&self, info: VolumeInfo) -> VolumeView {
        let usage = self
            .session
            .store
            .volume(&info.name)
            .and_then(|volume| volume.usage());
        VolumeView {
            id: info.id.to_string(),
            arn: refs::volume_arn(&self.region, &self.account, &info.name),
            region: self.region.clone(),
            status: info.state.as_str(),
            deletion_protection: info.deletion_protection == DeletionProtection::On,
            kms_key_id: key_text(info.kms_key),
            kms_key_arn: self.key_arns.get(&info.kms_key).cloned(),
            origin_id: id_text(info.origin_id),
            origin_name: info
                .origin_id
                .and_then(|id| self.name(id))
                .map(str::to_owned),
            clone_group_id: id_text(info.group_id),
            created_at: time(info.created_at_ms),
            size_bytes: info.len,
            usage: self.usage(info.id, usage),
            name: info.name,
        }
    }

    /// A snapshot.
    pub fn snapshot(&self, info: SnapshotInfo) -> SnapshotView {
        let usage = self
            .session
            .store
            .snapshot(&info.name)
            .and_then(|it| it.usage());
        SnapshotView {
            id: info.id.to_string(),
            arn: refs::snapshot_arn(&self.region, &self.account, &info.name),
            region: self.region.clone(),
            status: info.state.as_str(),
            kms_key_id: key_text(info.kms_key),
            kms_key_arn: self.key_arns.get(&info.kms_key).cloned(),
            snapshot_type: info.snapshot_type.as_str(),
            volume_id: info.volume_id.to_string(),
            volume_name: self.name(info.volume_id).map(str::to_owned),
            created_at: time(info.created_at_ms),
            size_bytes: info.len,
            usage: self.usage(info.id, usage),
            name: info.name,
        }
    }
}

impl Heads<'_> {
    /// A pin.
    pub fn pin(&self, info: PinInfo) -> PinView {
        let usage = self
            .session
            .store
            .pin(&info.name)
            .and_then(|pin| pin.usage());
        let usage = self.usage(info.id, usage);
        let held_name = self.name(info.held_id).map(str::to_owned);
        PinView::new(info, held_name, usage)
    }
}

fn account_of(arn: &str) -> Option<String> {
    arn.split(':').nth(4).map(str::to_owned)
}

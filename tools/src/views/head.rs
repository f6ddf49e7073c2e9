//! Volumes and snapshots, and what is mapped in them.

use std::cell::RefCell;
use std::collections::HashMap;

use offshoot::{Error, Extent, ExtentKind, KeyId, ResourceId, SnapshotInfo, Usage, VolumeInfo};
use serde::Serialize;

use crate::context::Session;
use crate::exit::Result;
use crate::output::View;
use crate::refs;
use crate::views::{id_text, key_text, time};

/// A volume.
#[derive(Debug, Default, Serialize)]
pub struct VolumeView {
    name: String,
    id: String,
    arn: String,
    region: String,
    status: &'static str,
    kms_key_id: String,
    kms_key_arn: Option<String>,
    origin_id: Option<String>,
    origin_name: Option<String>,
    clone_group_id: Option<String>,
    created_at: String,
    size_bytes: u64,
    #[serde(flatten)]
    usage: UsageView,
}

impl View for VolumeView {
    const NOUN: &'static str = "volume";
    const PLURAL: &'static str = "volumes";
    const LIST: &'static str = "volume-list/1";
    const FIELDS: &'static [&'static str] = &[
        "name",
        "id",
        "arn",
        "region",
        "status",
        "kms_key_id",
        "kms_key_arn",
        "origin_id",
        "origin_name",
        "clone_group_id",
        "created_at",
        "size_bytes",
        "referenced_bytes",
        "exclusive_bytes",
        "exclusive_settled",
        "shared_bytes",
    ];
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "status",
        "size_bytes",
        "referenced_bytes",
        "exclusive_bytes",
        "shared_bytes",
        "origin_name",
        "created_at",
    ];
}

/// A snapshot.
#[derive(Debug, Default, Serialize)]
pub struct SnapshotView {
    name: String,
    id: String,
    arn: String,
    region: String,
    status: &'static str,
    kms_key_id: String,
    kms_key_arn: Option<String>,
    volume_id: String,
    volume_name: Option<String>,
    created_at: String,
    size_bytes: u64,
    #[serde(flatten)]
    usage: UsageView,
}

impl View for SnapshotView {
    const NOUN: &'static str = "snapshot";
    const PLURAL: &'static str = "snapshots";
    const LIST: &'static str = "snapshot-list/1";
    const FIELDS: &'static [&'static str] = &[
        "name",
        "id",
        "arn",
        "region",
        "status",
        "kms_key_id",
        "kms_key_arn",
        "volume_id",
        "volume_name",
        "created_at",
        "size_bytes",
        "referenced_bytes",
        "exclusive_bytes",
        "exclusive_settled",
        "shared_bytes",
    ];
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "volume_name",
        "status",
        "size_bytes",
        "referenced_bytes",
        "exclusive_bytes",
        "shared_bytes",
        "created_at",
    ];
}

/// What a head holds; nothing is said where it cannot be known.
#[derive(Debug, Default, Serialize)]
struct UsageView {
    referenced_bytes: Option<u64>,
    exclusive_bytes: Option<u64>,
    exclusive_settled: Option<bool>,
    shared_bytes: Option<u64>,
}

/// What is mapped in one range.
#[derive(Debug, Default, Serialize)]
pub struct ExtentView {
    offset_bytes: u64,
    length_bytes: u64,
    kind: &'static str,
    depth: u32,
}

impl View for ExtentView {
    const NOUN: &'static str = "extent";
    const PLURAL: &'static str = "extents";
    const LIST: &'static str = "volume-map/1";
    const NAME: &'static str = "offset_bytes";
    const FIELDS: &'static [&'static str] = &["offset_bytes", "length_bytes", "kind", "depth"];
    const COLUMNS: &'static [&'static str] = Self::FIELDS;
}

impl From<Extent> for ExtentView {
    fn from(extent: Extent) -> Self {
        let kind = match extent.kind {
            ExtentKind::Data => "data",
            ExtentKind::Zero => "zero",
            ExtentKind::Hole => "hole",
        };
        let (offset_bytes, length_bytes) = (extent.offset, extent.len);
        Self {
            offset_bytes,
            length_bytes,
            kind,
            depth: extent.depth,
        }
    }
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self {
            referenced_bytes: Some(usage.referenced_bytes),
            exclusive_bytes: Some(usage.exclusive_bytes),
            exclusive_settled: Some(usage.exclusive_settled),
            shared_bytes: Some(usage.shared_bytes),
        }
    }
}

/// Makes views of volumes and snapshots: knows the names behind ids.
pub struct Heads<'a> {
    session: &'a Session,
    region: String,
    account: String,
    key_arns: HashMap<KeyId, String>,
    names: HashMap<ResourceId, String>,
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
        Ok(Self {
            session,
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
    fn usage(&self, usage: offshoot::Result<Usage>) -> UsageView {
        match usage {
            Ok(usage) => usage.into(),
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
            usage: self.usage(usage),
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
            volume_id: info.volume_id.to_string(),
            volume_name: self.name(info.volume_id).map(str::to_owned),
            created_at: time(info.created_at_ms),
            size_bytes: info.len,
            usage: self.usage(usage),
            name: info.name,
        }
    }
}

fn account_of(arn: &str) -> Option<String> {
    arn.split(':').nth(4).map(str::to_owned)
}

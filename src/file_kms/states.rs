//! Changes of a key's state: enabled, disabled, rotated, deleted.
//!
//! Each is a line of the audit that is durable before it happens, then one replacement of `keys`:
//! so a crash leaves the state before or the state after.

use std::ops::RangeInclusive;

use crate::crypto::Secret;
use crate::error::{Error, Kind, Result};
use crate::file_kms::audit::Event;
use crate::file_kms::inner::Inner;
use crate::file_kms::keys::{Aliases, Key, KeyRing, KeyVersion, RECORDS_MAX, Status};
use crate::file_kms::pool::Pools;
use crate::file_kms::reference::{self, Target};
use crate::file_kms::{FileKms, KeyInfo, info};
use crate::io::Lock;
use crate::kms::STORE_KEY_ALIAS;
use crate::units::{KeyId, KeyState};

/// How many days a key waits to be deleted.
const DELETION_DAYS: RangeInclusive<u32> = 7..=30;
const DAY_S: u64 = 24 * 60 * 60;

/// What is to become of a key.
#[derive(Clone, Copy, Debug)]
enum Change {
    Enable,
    Disable,
    Rotate,
    ScheduleDeletion { days: u32 },
    CancelDeletion,
}

/// A change that is allowed.
struct Planned {
    id: KeyId,
    /// How the key stands afterwards; `None` if it stands so already.
    status: Option<Status>,
}

impl FileKms {
    /// Lets a disabled key do its work again. `InvalidState` if it is to be or was deleted.
    pub fn enable_key(&self, reference: &str) -> Result<KeyInfo> {
        self.0.change(reference, Change::Enable)
    }

    /// Switches a key off: nothing is wrapped or unwrapped under it until it is enabled.
    /// `InvalidState` for the key of the stores, and if it is to be or was deleted.
    pub fn disable_key(&self, reference: &str) -> Result<KeyInfo> {
        self.0.change(reference, Change::Disable)
    }

    /// Adds a version to a key, which wraps from now on; older ones only unwrap. `InvalidState`
    /// if the key is not enabled.
    pub fn rotate_key(&self, reference: &str) -> Result<KeyInfo> {
        self.0.change(reference, Change::Rotate)
    }

    /// Switches a key off and destroys it in 7 to 30 days: all that is wrapped under it is lost
    /// then. `InvalidState` for the key of the stores, and if it is to be or was deleted.
    pub fn schedule_key_deletion(&self, reference: &str, days: u32) -> Result<KeyInfo> {
        self.0.change(reference, Change::deletion_in(days)?)
    }

    /// What the key would be after `schedule_key_deletion`, which fails likewise.
    pub fn plan_key_deletion(&self, reference: &str, days: u32) -> Result<KeyInfo> {
        let change = Change::deletion_in(days)?;
        let _locked = self.0.lock(Lock::Shared)?;
        let (aliases, (mut ring, _)) = (self.0.aliases()?, self.0.ring()?);
        let planned = self.0.plan(&ring, &aliases, reference, change)?;
        let key = ring.key_mut(&planned.id)?;
        key.status = planned.status.unwrap_or(key.status);
        let now_ms = self.0.clock.now_ms();
        Ok(info(&ring, ring.key(&planned.id)?, &aliases, now_ms))
    }

    /// Keeps a key that was to be deleted. It is disabled then. `InvalidState` if it was not.
    pub fn cancel_key_deletion(&self, reference: &str) -> Result<KeyInfo> {
        self.0.change(reference, Change::CancelDeletion)
    }
}

impl Change {
    fn deletion_in(days: u32) -> Result<Self> {
        match DELETION_DAYS.contains(&days) {
            true => Ok(Self::ScheduleDeletion { days }),
            false => Err(Error::Invalid {
                what: "days",
                value: days.to_string(),
                rule: "7 to 30",
            }),
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Enable => "enable-key",
            Self::Disable => "disable-key",
            Self::Rotate => "rotate-key",
            Self::ScheduleDeletion { .. } => "schedule-deletion",
            Self::CancelDeletion => "cancel-deletion",
        }
    }

    fn stops_the_key(self) -> bool {
        matches!(self, Self::Disable | Self::ScheduleDeletion { .. })
    }

    /// How the key stands afterwards; `None` if it stands so already.
    fn status(self, key: &Key, now_ms: u64) -> Result<Option<Status>> {
        let state = key.status.state(now_ms);
        let after = match (self, state) {
            (Self::Enable, KeyState::Enabled) | (Self::Disable, KeyState::Disabled) => {
                return Ok(None);
            }
            (Self::Enable, KeyState::Disabled) | (Self::Rotate, KeyState::Enabled) => {
                Status::Enabled
            }
            (Self::Disable, KeyState::Enabled)
            | (Self::CancelDeletion, KeyState::PendingDeletion) => Status::Disabled,
            (Self::ScheduleDeletion { days }, KeyState::Enabled | KeyState::Disabled) => {
                let at_s = deletion_at_s(now_ms, days)?;
                Status::PendingDeletion { at_s }
            }
            _ => return Err(invalid_state(&key.id, state)),
        };
        Ok(Some(after))
    }
}

impl Inner {
    fn change(&self, reference: &str, change: Change) -> Result<KeyInfo> {
        let mut locked = self.lock(Lock::Exclusive)?;
        let aliases = self.aliases()?;
        let (mut ring, _) = self.live_ring(&mut locked.pools)?;
        let now_ms = self.clock.now_ms();
        let planned = self.plan(&ring, &aliases, reference, change)?;
        if let Some(status) = planned.status {
            let purpose = self.purpose(change, &ring, &planned.id)?;
            let pools = &mut locked.pools;
            self.audit_state(pools, change.action(), Some(&planned.id), &purpose)?;
            let key = ring.key_mut(&planned.id)?;
            key.status = status;
            if matches!(change, Change::Rotate) {
                key.versions.push(self.new_version());
            }
            self.publish_keys(&mut locked.pools, &ring.encode())?;
        }
        Ok(info(&ring, ring.key(&planned.id)?, &aliases, now_ms))
    }

    fn plan(
        &self,
        ring: &KeyRing,
        aliases: &Aliases,
        reference: &str,
        change: Change,
    ) -> Result<Planned> {
        let target = reference::parse(reference, &self.region)?;
        let key = find(ring, aliases, target, reference)?;
        if change.stops_the_key() {
            refuse_store_key(aliases, &key.id)?;
        }
        let status = change.status(key, self.clock.now_ms())?;
        if matches!(change, Change::Rotate) {
            check_room(ring)?;
        }
        Ok(Planned { id: key.id, status })
    }

    fn purpose(&self, change: Change, ring: &KeyRing, id: &KeyId) -> Result<String> {
        Ok(match change {
            Change::Rotate => format!("version {}", ring.key(id)?.newest() + 1),
            Change::ScheduleDeletion { days } => format!("in {days} days"),
            Change::Enable | Change::Disable | Change::CancelDeletion => String::new(),
        })
    }

    pub(super) fn new_version(&self) -> KeyVersion {
        KeyVersion {
            created_at_ms: self.clock.now_ms(),
            material: Secret::random(&*self.random),
        }
    }

    /// Destroys the secrets of keys whose deletion date has come; whether there were any.
    pub(super) fn destroy_due(&self, pools: &mut Pools, ring: &mut KeyRing) -> Result<bool> {
        let now_ms = self.clock.now_ms();
        let mut destroyed = false;
        for key in &mut ring.keys {
            if let Status::PendingDeletion { at_s } = key.status
                && key.status.is_due(now_ms)
            {
                self.audit_state(pools, "delete-key", Some(&key.id), "")?;
                key.destroy(at_s);
                destroyed = true;
            }
        }
        Ok(destroyed)
    }

    /// Notes a change of state, durably.
    pub(super) fn audit_state(
        &self,
        pools: &mut Pools,
        action: &str,
        key: Option<&KeyId>,
        purpose: &str,
    ) -> Result<()> {
        let event = Event {
            action,
            key,
            purpose,
            store: None,
            resource: None,
        };
        self.audit_change(pools, event)
    }
}

/// The key that a reference names.
pub(super) fn find<'a>(
    ring: &'a KeyRing,
    aliases: &Aliases,
    target: Target<'_>,
    reference: &str,
) -> Result<&'a Key> {
    let not_found = || Error::NotFound {
        kind: Kind::Key,
        name: reference.to_owned(),
    };
    match target {
        Target::Key(id) => ring
            .keys
            .iter()
            .find(|key| key.id == id)
            .ok_or_else(not_found),
        Target::Alias(name) => ring.key(aliases.get(name).ok_or_else(not_found)?),
    }
}

/// Refuses one more record than `keys` may have.
pub(super) fn check_room(ring: &KeyRing) -> Result<()> {
    if ring.record_count() >= RECORDS_MAX {
        return Err(Error::LimitExceeded {
            limit: "KMS keys and their versions",
            max: RECORDS_MAX as u64,
        });
    }
    Ok(())
}

/// Refuses the key that the stores of the region cannot be opened without.
fn refuse_store_key(aliases: &Aliases, id: &KeyId) -> Result<()> {
    match aliases.get(store_key_name()) == Some(id) {
        true => Err(refuse_alias()),
        false => Ok(()),
    }
}

/// The alias of the stores' key, without `alias/`.
pub(super) fn store_key_name() -> &'static str {
    STORE_KEY_ALIAS
        .strip_prefix("alias/")
        .expect("BUG: it is an alias")
}

/// The error for whoever would take the stores' key away.
pub(super) fn refuse_alias() -> Error {
    Error::InvalidState {
        name: STORE_KEY_ALIAS.to_owned(),
        state: "the region's own key",
    }
}

pub(super) fn invalid_state(id: &KeyId, state: KeyState) -> Error {
    Error::InvalidState {
        name: id.to_string(),
        state: state.as_str(),
    }
}

fn deletion_at_s(now_ms: u64, days: u32) -> Result<u32> {
    let at_s = now_ms.div_ceil(1000) + u64::from(days) * DAY_S;
    u32::try_from(at_s).map_err(|_| Error::LimitExceeded {
        limit: "seconds since 1970 of a deletion date",
        max: u32::MAX.into(),
    })
}

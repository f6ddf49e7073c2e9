//! Aliases: names that stand for keys and can be moved.

use crate::error::{Error, Kind, Result};
use crate::file_kms::FileKms;
use crate::file_kms::inner::Inner;
use crate::file_kms::keys::{self, Aliases, RECORDS_MAX};
use crate::file_kms::reference::{self, ACCOUNT};
use crate::file_kms::states::{find, invalid_state, refuse_alias, store_key_name};
use crate::io::Lock;
use crate::units::{KeyId, KeyState};

/// A name that stands for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AliasInfo {
    /// Its name, `alias/NAME`.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The key it stands for.
    pub key: KeyId,
}

impl FileKms {
    /// Makes an alias (`NAME`, `alias/NAME` or its ARN) stand for a key, or for another than
    /// before. `InvalidState` if that key is to be or was deleted, and for the alias of the
    /// stores' key.
    pub fn set_alias(&self, alias: &str, reference: &str) -> Result<AliasInfo> {
        let inner = &self.0;
        let name = inner.alias_name(alias)?;
        let target = reference::parse(reference, &inner.region)?;
        let mut locked = inner.lock(Lock::Exclusive)?;
        let mut aliases = inner.aliases()?;
        let (ring, _) = inner.live_ring(&mut locked.pools)?;
        let key = find(&ring, &aliases, target, reference)?;
        let before = aliases.get(name);
        if before == Some(&key.id) {
            return Ok(inner.alias_info(name, key.id));
        }
        if before.is_some() && name == store_key_name() {
            return Err(refuse_alias());
        }
        let state = key.status.state(inner.clock.now_ms());
        if !matches!(state, KeyState::Enabled | KeyState::Disabled) {
            return Err(invalid_state(&key.id, state));
        }
        aliases.insert(name.to_owned(), key.id);
        if aliases.len() > RECORDS_MAX {
            return Err(Error::LimitExceeded {
                limit: "aliases",
                max: RECORDS_MAX as u64,
            });
        }
        inner.audit_state(&mut locked.pools, "set-alias", Some(&key.id), name)?;
        inner.publish_aliases(&aliases)?;
        Ok(inner.alias_info(name, key.id))
    }

    /// Takes an alias away; its key stays. `InvalidState` for the alias of the stores' key.
    pub fn delete_alias(&self, alias: &str) -> Result<AliasInfo> {
        let inner = &self.0;
        let name = inner.alias_name(alias)?;
        let mut locked = inner.lock(Lock::Exclusive)?;
        let mut aliases = inner.aliases()?;
        let key = aliases.remove(name).ok_or_else(|| Error::NotFound {
            kind: Kind::Key,
            name: format!("alias/{name}"),
        })?;
        if name == store_key_name() {
            return Err(refuse_alias());
        }
        inner.audit_state(&mut locked.pools, "delete-alias", Some(&key), name)?;
        inner.publish_aliases(&aliases)?;
        Ok(inner.alias_info(name, key))
    }

    /// All aliases, in the order of their names.
    pub fn aliases(&self) -> Result<Vec<AliasInfo>> {
        let _locked = self.0.lock(Lock::Shared)?;
        let aliases = self.0.aliases()?;
        let info = |(name, key): (&String, &KeyId)| self.0.alias_info(name, *key);
        Ok(aliases.iter().map(info).collect())
    }
}

impl Inner {
    fn alias_name<'a>(&self, alias: &'a str) -> Result<&'a str> {
        reference::alias_name(alias, &self.region)
    }

    fn alias_info(&self, name: &str, key: KeyId) -> AliasInfo {
        AliasInfo {
            name: format!("alias/{name}"),
            arn: reference::alias_arn(&self.region, ACCOUNT, name),
            key,
        }
    }

    pub(super) fn publish_aliases(&self, aliases: &Aliases) -> Result<()> {
        let bytes = keys::encode_aliases(aliases, self.kms);
        self.files.publish("aliases", &bytes)
    }
}

//! What a server serves: a table that can change while it serves.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use offshoot::Store;

use crate::exit::{Failure, Result};
use crate::nbd::protocol::handshake::{Catalogue, Offer};
use crate::session::{Head, Readable};

/// Longest name of an export.
const NAME_LEN_MAX: usize = 4096;

/// A volume or snapshot that is served.
pub struct Export {
    /// What it is.
    pub head: Head,
    /// Where it is.
    pub store: Store,
    name: String,
    read_only: bool,
    page_len: u32,
}

impl Export {
    /// A head under a name. A snapshot is read-only whatever is asked.
    pub fn new(head: Head, name: &str, read_only: bool, store: &Store) -> Result<Self> {
        if name.is_empty() || name.len() > NAME_LEN_MAX || name.contains('\0') {
            return Err(Failure::Invalid(format!(
                "an export's name is of 1 to {NAME_LEN_MAX} bytes, none of them 0"
            )));
        }
        let read_only = read_only || matches!(head, Head::Snapshot(_));
        Ok(Self {
            head,
            page_len: store.info()?.page_len,
            store: store.clone(),
            name: name.to_owned(),
            read_only,
        })
    }

    /// What a client is told of it now.
    fn offer(&self) -> offshoot::Result<Offer> {
        let kind = match &self.head {
            Head::Volume(_) => "volume",
            Head::Snapshot(_) => "snapshot",
        };
        let size = self.head.len()?;
        Ok(Offer {
            name: self.name.clone(),
            description: format!("offshoot {kind} {}", self.head.name()?),
            size,
            page_len: self.page_len,
            read_only: self.read_only,
        })
    }
}

/// The exports by name.
#[derive(Default)]
pub struct Exports {
    by_name: RwLock<BTreeMap<String, Arc<Export>>>,
    /// Names are told to nobody.
    unlisted: bool,
}

impl Exports {
    /// None yet.
    pub fn new(unlisted: bool) -> Self {
        Self {
            by_name: RwLock::default(),
            unlisted,
        }
    }

    /// Serves one more from now on.
    pub fn add(&self, export: Export) -> Result {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        if by_name.contains_key(&export.name) {
            return Err(Failure::Invalid(format!(
                "two exports would be named {:?}: name one with REF=EXPORT",
                export.name
            )));
        }
        by_name.insert(export.name.clone(), Arc::new(export));
        Ok(())
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name.keys().cloned().collect()
    }

    /// A single export has the empty name too.
    fn get(&self, name: &str) -> Option<Arc<Export>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        match name {
            "" if by_name.len() == 1 => by_name.values().next().cloned(),
            name => by_name.get(name).cloned(),
        }
    }
}

impl Catalogue for Exports {
    type Export = Arc<Export>;

    fn list(&self) -> Option<Vec<String>> {
        (!self.unlisted).then(|| self.names())
    }

    /// An export whose volume was deleted is like one that never was.
    fn find(&self, name: &str) -> Option<(Arc<Export>, Offer)> {
        let export = self.get(name)?;
        let offer = export.offer().ok()?;
        Some((export, offer))
    }
}

//! Clones that live as long as they are served.

use std::cell::RefCell;

use offshoot::{Error, Volume};

use crate::exit::Result;
use crate::session::Head;

/// Most of a source's name that is in a clone's.
const NAME_LEN_MAX: usize = 40;

/// The clones.
#[derive(Default)]
pub struct Ephemeral(RefCell<Vec<Volume>>);

impl Ephemeral {
    /// Makes a clone of a volume or snapshot, under a name that is free.
    pub fn clone_of(&self, head: &Head) -> Result<Head> {
        let (name, key) = (head.name()?, head.kms_key()?);
        let short: String = name.chars().take(NAME_LEN_MAX).collect();
        let short = short.trim_end_matches('-');
        let mut number = 0;
        let clone = loop {
            number += 1;
            let name = format!("{short}-nbd-{}-{number}", std::process::id());
            match head.create_clone(&name, &key) {
                // One of another process of that id, which was killed.
                Err(Error::AlreadyExists { .. }) => {}
                made => break made?,
            }
        };
        self.0.borrow_mut().push(clone.clone());
        Ok(Head::Volume(clone))
    }

    /// Deletes them all. The first failure is told.
    pub fn delete(self) -> Result {
        let mut outcome = Ok(());
        for clone in self.0.into_inner() {
            let deleted = clone.delete();
            if outcome.is_ok() {
                outcome = deleted;
            }
        }
        Ok(outcome?)
    }
}

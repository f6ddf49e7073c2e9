//! Whose command it is: that of this process, or of one that asked it.

use std::sync::Arc;

use crate::control::client::Client;

/// Where output goes, and who is asked.
#[derive(Clone, Debug, Default)]
pub enum Caller {
    /// This process's own standard input, output and error.
    #[default]
    Here,
    /// Those of another.
    Client(Arc<Client>),
}

impl Caller {
    /// Whether nobody waits for the command any more.
    pub fn has_left(&self) -> bool {
        match self {
            Self::Here => false,
            Self::Client(client) => client.has_left(),
        }
    }
}

//! What the check complains of.

use std::fmt;

use crate::check::codes::Code;

/// How bad a finding is, from least to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Space is taken by nothing.
    Leak,
    /// All is there, but something that should be there twice is not.
    RedundancyLost,
    /// What describes the data is damaged.
    CorruptMetadata,
    /// Data is damaged.
    CorruptData,
    /// Bytes are whole and were not written by a holder of the key.
    AuthFailure,
    /// The store is older than it has been.
    Rollback,
}

impl Class {
    /// The class as output names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::RedundancyLost => "redundancy_lost",
            Self::CorruptMetadata => "corrupt_metadata",
            Self::CorruptData => "corrupt_data",
            Self::AuthFailure => "auth_failure",
            Self::Rollback => "rollback",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Number and name of the kind of complaint; see [`super::CODES`].
    pub code: &'static str,
    /// How bad it is.
    pub class: Class,
    /// Where it is.
    pub location: String,
    /// What was found there.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            class,
            location,
            message,
        } = self;
        write!(f, "{code} ({class}): {location}: {message}")
    }
}

/// Most findings that are kept: damage of one kind repeats itself.
pub(super) const FINDINGS_MAX: usize = 1000;

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The first ones.
    pub list: Vec<Finding>,
    /// How many were not kept.
    pub more: u64,
}

impl Findings {
    pub fn add(&mut self, code: Code, location: impl fmt::Display, message: impl fmt::Display) {
        if self.list.len() >= FINDINGS_MAX {
            self.more += 1;
            return;
        }
        self.list.push(Finding {
            code: code.code,
            class: code.class,
            location: location.to_string(),
            message: message.to_string(),
        });
    }

    /// Whether further findings are only counted.
    pub fn is_full(&self) -> bool {
        self.list.len() >= FINDINGS_MAX
    }
}

//! What the check complains of.

use std::fmt;

use crate::check::codes::{Code, Repair};
use crate::units::{PageNo, SlotAddr};

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

impl Class {
    /// What a finding of the class means for those who have data in the store.
    pub fn severity(self) -> Severity {
        match self {
            Self::Leak => Severity::Notice,
            Self::RedundancyLost => Severity::Warning,
            Self::CorruptMetadata | Self::CorruptData => Severity::Error,
            Self::AuthFailure | Self::Rollback => Severity::Alarm,
        }
    }
}

/// How much a finding matters, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// No data is at risk.
    Notice,
    /// No data is lost; the next damage may lose some.
    Warning,
    /// Data is lost, or cannot be reached.
    Error,
    /// Somebody may have changed the store.
    Alarm,
}

impl Severity {
    /// The severity as output names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Alarm => "alarm",
        }
    }
}

/// Where a finding is: in words, and as numbers where there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// In words.
    pub text: String,
    /// The slot.
    pub at: Option<SlotAddr>,
    /// The volume or snapshot, with its kind.
    pub head: Option<String>,
    /// The page.
    pub page: Option<PageNo>,
}

impl From<SlotAddr> for Place {
    fn from(at: SlotAddr) -> Self {
        Self {
            text: at.to_string(),
            at: Some(at),
            ..Self::default()
        }
    }
}

impl From<String> for Place {
    fn from(text: String) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }
}

impl From<&String> for Place {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
    pub place: Place,
    /// What was found there.
    pub message: String,
    /// What `Store::repair` does about it.
    pub repair: Repair,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            class,
            place,
            message,
            ..
        } = self;
        write!(f, "{code} ({class}): {place}: {message}")
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
    pub fn add(&mut self, code: Code, place: impl Into<Place>, message: impl fmt::Display) {
        if self.list.len() >= FINDINGS_MAX {
            self.more += 1;
            return;
        }
        self.list.push(Finding {
            code: code.code,
            class: code.class,
            place: place.into(),
            message: message.to_string(),
            repair: code.repair,
        });
    }

    /// Whether further findings are only counted.
    pub fn is_full(&self) -> bool {
        self.list.len() >= FINDINGS_MAX
    }
}

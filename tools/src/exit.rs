//! What is wrong, as a person, a program and a shell see it: message, kind, exit code.

use std::io;

use offshoot::{Error, Kind};

/// A result with the tool's error.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Why a command stops.
#[derive(Debug)]
pub enum Failure {
    /// The library says no.
    Library(Error),
    /// An argument is wrong.
    Invalid(String),
    /// A file or a volume's data is in the way.
    AlreadyExists(String),
    /// There is no such thing.
    NotFound(String),
    /// What is to be written can only be read.
    ReadOnly(String),
    /// A file of the user's cannot be used.
    Io {
        /// What was attempted.
        op: &'static str,
        /// On what.
        what: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is done, but not all could be shown.
    Partial(Error),
    /// What must not change was changed.
    Broken(String),
    /// Nobody reads what is printed any more. Not an error.
    StdoutClosed,
    /// The process that has the store does not do this for others.
    InUse(String),
    /// The process that has the store did this, and it failed there: kind, message, exit code.
    Told(String, String, u8),
    /// The user changed their mind; says what was left undone.
    Cancelled(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

impl Failure {
    /// An error of the operating system.
    pub fn io(op: &'static str, what: impl std::fmt::Display, source: io::Error) -> Self {
        Self::Io {
            op,
            what: what.to_string(),
            source,
        }
    }

    /// The kind in JSON, and the exit code.
    pub fn class(&self) -> (&str, u8) {
        match self {
            Self::Library(error) => class_of(error),
            Self::Invalid(_) => ("invalid", 2),
            Self::AlreadyExists(_) => ("already_exists", 15),
            Self::NotFound(_) => ("not_found", 14),
            Self::ReadOnly(_) => ("read_only", 16),
            Self::Io { .. } => ("io", 1),
            Self::Partial(error) => (class_of(error).0, 3),
            Self::Broken(_) => ("corrupt", 18),
            Self::InUse(_) => ("locked", 11),
            Self::Told(kind, _, code) => (kind, *code),
            Self::StdoutClosed => ("stdout_closed", 0),
            Self::Cancelled(_) => ("cancelled", 130),
        }
    }

    /// What is wrong and what to do.
    pub fn message(&self) -> String {
        match self {
            Self::Library(error) => match advice(error) {
                Some(advice) => format!("{error}; {advice}"),
                None => error.to_string(),
            },
            Self::Invalid(text)
            | Self::AlreadyExists(text)
            | Self::NotFound(text)
            | Self::ReadOnly(text)
            | Self::Broken(text)
            | Self::InUse(text)
            | Self::Told(_, text, _) => text.clone(),
            Self::Io { op, what, source } => format!("cannot {op} {what}: {source}"),
            Self::Partial(error) => format!("not all can be shown: {error}"),
            Self::StdoutClosed => "standard output is closed".to_owned(),
            Self::Cancelled(text) => format!("cancelled: {text}"),
        }
    }
}

/// The table of exit codes: the kind is the library's variant.
fn class_of(error: &Error) -> (&'static str, u8) {
    match error {
        Error::Io { .. } => ("io", 1),
        Error::Invalid { .. } => ("invalid", 2),
        Error::OutOfBounds { .. } => ("out_of_bounds", 2),
        Error::NotAStore { .. } => ("not_a_store", 10),
        Error::Locked { .. } => ("locked", 11),
        Error::KeyUnavailable { .. } => ("key_unavailable", 12),
        Error::WrongKms { .. } => ("wrong_kms", 12),
        Error::AccessDenied { .. } => ("access_denied", 13),
        Error::NotFound { .. } => ("not_found", 14),
        Error::AlreadyExists { .. } => ("already_exists", 15),
        Error::ReadOnly => ("read_only", 16),
        Error::Protected { .. } => ("protected", 16),
        Error::InvalidState { .. } => ("invalid_state", 16),
        Error::LimitExceeded { .. } => ("limit_exceeded", 17),
        Error::NoSpace { .. } => ("no_space", 17),
        Error::QuotaExceeded { .. } => ("quota_exceeded", 17),
        Error::Corrupt { .. } => ("corrupt", 18),
        Error::PageLost { .. } => ("page_lost", 18),
        Error::EraseUnfinished { source, .. } => ("erase_unfinished", class_of(source).1),
        Error::Poisoned => ("poisoned", 18),
        Error::UnsupportedVersion { .. } => ("unsupported_version", 18),
        Error::RolledBack { .. } => ("rolled_back", 18),
        _ => ("failed", 1),
    }
}

/// What to do, where the library cannot know it: it knows no commands.
fn advice(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NotAStore {
            kind: Kind::Kms, ..
        } => "name the right one with --home or --kms, or make one with `offshoot store init`",
        Error::NotAStore { .. } => {
            "name the right one with --home or --store, or make one with `offshoot store init`"
        }
        Error::Locked { .. } => "wait until it ends",
        Error::WrongKms { .. } => "name the KMS it was made with, by --home or --kms",
        Error::NotFound {
            kind: Kind::Volume, ..
        } => "see `offshoot volume list`",
        Error::NotFound {
            kind: Kind::Snapshot,
            ..
        } => "see `offshoot snapshot list`",
        Error::NotFound {
            kind: Kind::Key, ..
        } => "see `offshoot key list`",
        Error::NotFound {
            kind: Kind::Pin, ..
        } => "see `offshoot store pin list`",
        Error::AlreadyExists {
            kind: Kind::Volume | Kind::Snapshot | Kind::Pin,
            ..
        } => "take another name",
        Error::InvalidState {
            state: "import_failed",
            ..
        } => "import into it again with --force, or delete it",
        Error::Protected { .. } => "`offshoot volume modify NAME --no-deletion-protection` does",
        Error::RolledBack { .. } => {
            "bring the newest state back, or go on from this one with --accept-rollback"
        }
        Error::QuotaExceeded { .. } => "see `offshoot store quota show`",
        Error::NoSpace { .. } => {
            "make room on the disk of the store, and of the KMS if that is elsewhere"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use offshoot::Location;

    use super::*;

    #[test]
    fn every_error_has_the_documented_kind_and_code() {
        let place = || Location::Directory("d".to_owned());
        let name = || "n".to_owned();
        let io = || io::Error::other("x");
        let table = [
            (
                Error::Io {
                    op: "read",
                    location: place(),
                    source: io(),
                },
                "io",
                1,
            ),
            (
                Error::Invalid {
                    what: "size",
                    value: name(),
                    rule: "r",
                },
                "invalid",
                2,
            ),
            (
                Error::OutOfBounds {
                    offset: 1,
                    len: 1,
                    volume_len: 1,
                },
                "out_of_bounds",
                2,
            ),
            (
                Error::NotAStore {
                    kind: Kind::Store,
                    location: place(),
                },
                "not_a_store",
                10,
            ),
            (
                Error::Locked {
                    location: place(),
                    pid: None,
                },
                "locked",
                11,
            ),
            (Error::WrongKms { key: name() }, "wrong_kms", 12),
            (
                Error::AccessDenied {
                    key: name(),
                    action: "use",
                },
                "access_denied",
                13,
            ),
            (
                Error::NotFound {
                    kind: Kind::Volume,
                    name: name(),
                },
                "not_found",
                14,
            ),
            (
                Error::AlreadyExists {
                    kind: Kind::Key,
                    name: name(),
                },
                "already_exists",
                15,
            ),
            (Error::ReadOnly, "read_only", 16),
            (
                Error::Protected {
                    kind: Kind::Volume,
                    name: name(),
                },
                "protected",
                16,
            ),
            (
                Error::InvalidState {
                    name: name(),
                    state: "importing",
                },
                "invalid_state",
                16,
            ),
            (
                Error::LimitExceeded {
                    limit: "volumes",
                    max: 1,
                },
                "limit_exceeded",
                17,
            ),
            (Error::NoSpace { need: 1, free: 0 }, "no_space", 17),
            (
                Error::QuotaExceeded {
                    what: "bytes",
                    quota: 1,
                    used: 1,
                },
                "quota_exceeded",
                17,
            ),
            (Error::Poisoned, "poisoned", 18),
            (
                Error::PageLost {
                    kind: Kind::Volume,
                    name: name(),
                    page: offshoot::PageNo(7),
                },
                "page_lost",
                18,
            ),
            (
                Error::RolledBack {
                    found: offshoot::Seq(1),
                    mark: offshoot::Seq(2),
                },
                "rolled_back",
                18,
            ),
        ];
        for (error, kind, code) in table {
            // The kind is the variant's name.
            let debug = format!("{error:?}");
            let variant: String = debug.chars().take_while(|c| c.is_alphanumeric()).collect();
            assert_eq!(kind.replace('_', ""), variant.to_lowercase());
            assert_eq!(Failure::from(error).class(), (kind, code));
        }
    }

    #[test]
    fn advice_follows_the_message() {
        let error = Error::NotFound {
            kind: Kind::Volume,
            name: "pg".to_owned(),
        };
        let message = Failure::from(error).message();
        assert_eq!(
            message,
            "there is no volume named \"pg\"; see `offshoot volume list`"
        );
    }
}

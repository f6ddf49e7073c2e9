//! The library's errors as NBD has them.

use offshoot::Error;

use crate::nbd::protocol::numbers::Errno;
use crate::nbd::protocol::request::Command;

/// The number for a client. The text goes beside it where the client can take one.
pub fn errno(error: &Error, command: Command) -> Errno {
    match error {
        Error::ReadOnly | Error::InvalidState { .. } => Errno::Perm,
        Error::NoSpace { .. } | Error::QuotaExceeded { .. } | Error::LimitExceeded { .. } => {
            Errno::NoSpace
        }
        // The volume has shrunk since the client came.
        Error::OutOfBounds { .. } if matches!(command, Command::Write | Command::WriteZeroes) => {
            Errno::NoSpace
        }
        Error::OutOfBounds { .. } | Error::Invalid { .. } => Errno::Invalid,
        _ => Errno::Io,
    }
}

#[cfg(test)]
mod tests {
    use offshoot::{Damage, KeyState, Kind, Location};

    use super::*;

    #[test]
    fn every_error_has_the_number_that_tells_the_client_what_to_do() {
        let name = || "pg".to_owned();
        let location = || Location::File(name());
        let outside = || Error::OutOfBounds {
            offset: 1,
            len: 1,
            volume_len: 1,
        };
        let table = [
            (Error::ReadOnly, Errno::Perm),
            (Error::NoSpace { need: 1, free: 0 }, Errno::NoSpace),
            (
                Error::QuotaExceeded {
                    what: "bytes",
                    quota: 1,
                    used: 1,
                },
                Errno::NoSpace,
            ),
            (Error::Poisoned, Errno::Io),
            (
                Error::PageLost {
                    kind: Kind::Volume,
                    name: name(),
                    page: offshoot::PageNo(1),
                },
                Errno::Io,
            ),
            (
                Error::Corrupt {
                    location: location(),
                    damage: Damage::BadTag,
                },
                Errno::Io,
            ),
            (
                Error::KeyUnavailable {
                    key: name(),
                    state: KeyState::Disabled,
                },
                Errno::Io,
            ),
            (
                Error::NotFound {
                    kind: Kind::Volume,
                    name: name(),
                },
                Errno::Io,
            ),
        ];
        for (error, number) in table {
            assert_eq!(errno(&error, Command::Write), number, "{error:?}");
        }
        assert_eq!(errno(&outside(), Command::Write), Errno::NoSpace);
        assert_eq!(errno(&outside(), Command::WriteZeroes), Errno::NoSpace);
        assert_eq!(errno(&outside(), Command::Read), Errno::Invalid);
        assert_eq!(errno(&outside(), Command::Trim), Errno::Invalid);
    }
}

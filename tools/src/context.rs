//! What every command gets: the places, the output, and the store opened and closed around it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use offshoot::{Error, FileKms, Kind, Location, Options, Revocation};

use crate::caller::Caller;
use crate::cli::{self, Global};
use crate::control::client::Client;
use crate::control::owner::Owner;
use crate::exit::{Failure, Result};
use crate::output::Output;
use crate::places::Places;
use crate::progress::Progress;
use crate::session::Session;

/// How long keys are used without asking the KMS again.
const LEASE: Duration = Duration::from_secs(1);

/// What holds for the whole run.
pub struct Context {
    /// Where things are.
    pub places: Places,
    /// How to print.
    pub output: Output,
    /// Whose command it is.
    pub caller: Caller,
    /// The command line.
    pub args: Vec<OsString>,
    /// The store, if this process has it already.
    held: Option<Session>,
    progress: crate::cli::Progress,
    quiet: bool,
    revocation: Revocation,
    accept_rollback: bool,
}

/// How a command uses the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The store is locked exclusively; recovery may write.
    Own,
    /// The same, and `Look` where nothing can be written: a full or read-only disk.
    Read,
    /// The store is locked shared, and nothing is written to it.
    Look,
}

impl Context {
    /// From the options of every command.
    pub fn new(global: &Global, args: Vec<OsString>) -> Result<Self> {
        Self::with(global, Places::new(global)?, Caller::Here, args)
    }

    /// For a command of another process, on the store that this one has.
    pub fn for_client(
        global: &Global,
        places: Places,
        session: Session,
        client: Arc<Client>,
    ) -> Result<Self> {
        let context = Self::with(global, places, Caller::Client(client), Vec::new())?;
        Ok(Self {
            held: Some(session),
            ..context
        })
    }

    fn with(global: &Global, places: Places, caller: Caller, args: Vec<OsString>) -> Result<Self> {
        Ok(Self {
            places,
            output: Output::new(global, caller.clone())?,
            caller,
            args,
            held: None,
            progress: global.progress,
            quiet: global.quiet,
            accept_rollback: global.accept_rollback,
            revocation: match global.revocation {
                cli::Revocation::Lease => Revocation::Lease(LEASE),
                cli::Revocation::OnDetach => Revocation::OnDetach,
            },
        })
    }

    /// Opens the KMS.
    pub fn kms(&self) -> Result<FileKms> {
        let kms = FileKms::open(self.places.kms()?)?;
        if self.places.region_named && kms.region() != self.places.region {
            let (is, named) = (kms.region(), &self.places.region);
            return Err(Failure::Invalid(format!(
                "this KMS is of region {is}, not {named}"
            )));
        }
        Ok(kms)
    }

    /// Opens the KMS, if it is there: some looking is possible without.
    pub fn kms_if_there(&self) -> Result<Option<FileKms>> {
        if self.places.kms().is_err() {
            return Ok(None);
        }
        match self.kms() {
            Ok(kms) => Ok(Some(kms)),
            Err(Failure::Library(Error::NotAStore { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the store, works, and closes it also if the work failed. What the work returns is
    /// printed afterwards: only a closed store has certainly done its part.
    pub fn with_store<T>(
        &self,
        access: Access,
        work: impl FnOnce(&Session) -> Result<T>,
    ) -> Result<T> {
        if let Some(session) = &self.held {
            let value = work(session)?;
            if access == Access::Own {
                session.store.flush()?;
            }
            return Ok(value);
        }
        let session = self.open(access)?;
        let outcome = work(&session);
        let closed = session.store.close();
        let value = outcome?;
        match closed {
            // Nothing was changed that could be lost: the next open recovers the same state.
            Err(error) if access == Access::Read && forbids_writes(&error) => {}
            closed => closed?,
        }
        Ok(value)
    }

    /// The same for long work: meanwhile other commands are answered, if that can be.
    pub fn with_managed_store<T>(
        &self,
        access: Access,
        work: impl FnOnce(&Session) -> Result<T>,
    ) -> Result<T> {
        self.with_store(access, |session| {
            let _owner = match self.held {
                None => Owner::start(self, session).ok(),
                Some(_) => None,
            };
            work(session)
        })
    }

    /// How progress is shown that is not of bytes; not at all if only names are wanted.
    pub fn progress_form(&self) -> crate::cli::Progress {
        match self.quiet {
            true => crate::cli::Progress::Never,
            false => self.progress,
        }
    }

    /// Shows how far long work is; `total` in bytes if it is known.
    pub fn progress(
        &self,
        operation: impl Into<Cow<'static, str>>,
        total: Option<u64>,
    ) -> Progress {
        Progress::new(&self.caller, self.progress, self.quiet, operation, total)
    }

    fn open(&self, access: Access) -> Result<Session> {
        let directory = self.places.store();
        let kms = match self.kms() {
            // With neither there, the store is what the user misses.
            Err(Failure::Library(Error::NotAStore { .. })) if !directory.exists() => {
                let location = Location::Directory(directory.display().to_string());
                return Err(Error::NotAStore {
                    kind: Kind::Store,
                    location,
                }
                .into());
            }
            kms => kms?,
        };
        let open = |read_only| {
            let options = Options::new().read_only(read_only);
            let options = options
                .revocation(self.revocation)
                .accept_rollback(self.accept_rollback);
            options.open(directory, kms.clone())
        };
        let store = match open(access == Access::Look) {
            Err(error) if access == Access::Read && forbids_writes(&error) => open(true)?,
            store => store?,
        };
        Ok(Session { store, kms })
    }
}

/// Whether nothing can be written there, but perhaps read.
fn forbids_writes(error: &Error) -> bool {
    match error {
        Error::NoSpace { .. } => true,
        Error::Io { source, .. } => matches!(
            source.kind(),
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied | ErrorKind::StorageFull
        ),
        _ => false,
    }
}

/// Refuses a range that does not lie in `len` bytes, before anything is done with it.
pub fn check_range(offset: u64, length: u64, len: u64) -> Result<Range<u64>> {
    match offset.checked_add(length) {
        Some(end) if end <= len => Ok(offset..end),
        _ => Err(Error::OutOfBounds {
            offset,
            len: length,
            volume_len: len,
        }
        .into()),
    }
}

/// The range from an offset over a length, by default to the end.
pub fn range(offset: u64, length: Option<u64>, len: u64) -> Result<Range<u64>> {
    check_range(offset, length.unwrap_or(len.saturating_sub(offset)), len)
}

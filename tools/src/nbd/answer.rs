//! Doing what a request asks, and its reply.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use offshoot::{Error, Extent, ExtentKind, Volume};

use crate::nbd::errors::errno;
use crate::nbd::exports::Export;
use crate::nbd::protocol::meta::Contexts;
use crate::nbd::protocol::numbers::{Errno, flag};
use crate::nbd::protocol::reply::{self, DATA_CHUNK_LEN};
use crate::nbd::protocol::request::{Command, Refusal, Request, Terms};
use crate::nbd::protocol::status::{EXTENTS_MAX, Status};
use crate::nbd::record::Recorder;
use crate::session::{Head, Readable};

/// Shorter reads are answered without a look for holes.
const SPARSE_LEN_MIN: u32 = 64 << 10;
/// A read with more pieces is answered in one.
const PIECES_MAX: usize = 64;
/// How much CACHE reads at a time.
const CACHE_LEN: u64 = 1 << 20;

/// What a connection serves, and how.
pub struct Service {
    pub export: Arc<Export>,
    pub terms: Terms,
    pub contexts: Contexts,
    pub recorder: Option<Arc<Recorder>>,
}

/// Why a request failed.
struct Failed {
    errno: Errno,
    text: String,
}

impl From<Refusal> for Failed {
    fn from((errno, text): Refusal) -> Self {
        let text = text.to_owned();
        Self { errno, text }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let text = format!("it was done, but cannot be recorded: {error}");
        let errno = Errno::Io;
        Self { errno, text }
    }
}

type Done = Result<(), Failed>;

/// A range of a read, and whether it is a hole.
type Piece = (Range<u64>, bool);

impl Service {
    /// Bytes that the reply will have, about.
    pub fn reply_len(request: &Request) -> usize {
        match request.command {
            Command::Read => request.len as usize + DATA_CHUNK_LEN,
            Command::BlockStatus => 2 * (8 * EXTENTS_MAX + DATA_CHUNK_LEN),
            _ => DATA_CHUNK_LEN,
        }
    }

    /// Does a request and puts its reply behind what is in `out`. `wanted` says whether somebody
    /// still waits for it.
    pub fn answer(
        &self,
        request: &Request,
        payload: &[u8],
        wanted: &dyn Fn() -> bool,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let done = self.perform(request, payload, wanted, out);
        if let Err(failed) = done {
            // Nothing of a read leaves before all of it is verified.
            out.truncate(start);
            self.refuse(request, failed.errno, &failed.text, out);
        } else if out.len() == start {
            out.extend(reply::simple(request.cookie, None));
        }
    }

    /// Does writes together, if all of them can be done. If not, or if that fails, it is as if none was
    /// done: each is to be done by itself, and gets an answer of its own.
    pub fn write_many(&self, writes: &[(Request, &[u8])]) -> bool {
        let refused = |(request, _): &(Request, &[u8])| request.check(&self.terms).is_err();
        let Head::Volume(volume) = &self.export.head else {
            return false;
        };
        if self.recorder.is_some() || writes.iter().any(refused) {
            return false;
        }
        let writes: Vec<(u64, &[u8])> = writes
            .iter()
            .map(|(request, payload)| (request.offset, *payload))
            .collect();
        volume.write_many(&writes).is_ok()
    }

    /// Puts the reply to a request that fails.
    pub fn refuse(&self, request: &Request, errno: Errno, text: &str, out: &mut Vec<u8>) {
        match self.terms.structured {
            true => reply::error_chunk(request.cookie, errno, text, out),
            false => out.extend(reply::simple(request.cookie, Some(errno))),
        }
    }

    fn perform(
        &self,
        request: &Request,
        payload: &[u8],
        wanted: &dyn Fn() -> bool,
        out: &mut Vec<u8>,
    ) -> Done {
        request.check(&self.terms)?;
        match request.command {
            Command::Read => self.read(request, out),
            Command::BlockStatus => self.block_status(request, out),
            Command::Cache => self.cache(request, wanted),
            _ => match &self.recorder {
                None => self.change(request, payload),
                Some(recorder) => {
                    let range = self.changed(request);
                    recorder.record(request, range, payload, || self.change(request, payload))
                }
            },
        }
    }

    /// Whatever is not a look.
    fn change(&self, request: &Request, payload: &[u8]) -> Done {
        let failed = |error| failed(request, &error);
        let range = self.changed(request);
        match request.command {
            Command::Write => {
                let written = self.volume()?.write_all_at(payload, range.start);
                written.map_err(failed)?;
            }
            Command::Trim if range.is_empty() => {}
            Command::Trim => self.volume()?.discard(range).map_err(failed)?,
            Command::WriteZeroes if request.has(flag::NO_HOLE) => {
                self.volume()?.write_zeroes(range).map_err(failed)?;
            }
            Command::WriteZeroes => self.volume()?.discard(range).map_err(failed)?,
            _ => {}
        }
        if request.command == Command::Flush || request.has(flag::FUA) {
            self.export.store.flush().map_err(failed)?;
        }
        Ok(())
    }

    /// The bytes that a request changes: a TRIM leaves pages that it covers in part.
    fn changed(&self, request: &Request) -> Range<u64> {
        let range = request.offset..request.end();
        if request.command != Command::Trim {
            return range;
        }
        let page_len = u64::from(self.terms.page_len);
        let start = range.start.next_multiple_of(page_len);
        start..(range.end / page_len * page_len).max(start)
    }

    fn volume(&self) -> Result<&Volume, Failed> {
        match &self.export.head {
            Head::Volume(volume) => Ok(volume),
            Head::Snapshot(_) => Err((Errno::Perm, "a snapshot is read-only").into()),
        }
    }

    fn read(&self, request: &Request, out: &mut Vec<u8>) -> Done {
        if !self.terms.structured {
            out.extend(reply::simple(request.cookie, None));
            return self.read_piece(request, request.offset, request.len, out);
        }
        if request.len == 0 {
            reply::none_chunk(request.cookie, out);
            return Ok(());
        }
        let one_piece = request.has(flag::DF) || request.len < SPARSE_LEN_MIN;
        let pieces = match one_piece {
            true => None,
            false => self.pieces(request)?,
        };
        let Some(pieces) = pieces else {
            let (offset, len) = (request.offset, request.len);
            out.extend(reply::data_chunk(request.cookie, offset, len, true));
            return self.read_piece(request, offset, len, out);
        };
        let count = pieces.len();
        for (index, (range, hole)) in pieces.into_iter().enumerate() {
            let last = index + 1 == count;
            let len = (range.end - range.start) as u32;
            if hole {
                reply::hole_chunk(request.cookie, range.start, len, last, out);
            } else {
                out.extend(reply::data_chunk(request.cookie, range.start, len, last));
                self.read_piece(request, range.start, len, out)?;
            }
        }
        Ok(())
    }

    /// The range of a read as data and holes, if there are holes and not too many pieces.
    fn pieces(&self, request: &Request) -> Result<Option<Vec<Piece>>, Failed> {
        let failed = |error| failed(request, &error);
        let range = request.offset..request.end();
        let mut pieces: Vec<Piece> = Vec::new();
        for extent in self.export.head.extents(range).map_err(failed)? {
            let Extent {
                offset, len, kind, ..
            } = extent.map_err(failed)?;
            let hole = kind != ExtentKind::Data;
            let count = pieces.len();
            match pieces.last_mut() {
                Some((range, was_hole)) if *was_hole == hole => range.end = offset + len,
                _ if count == PIECES_MAX => return Ok(None),
                _ => pieces.push((offset..offset + len, hole)),
            }
        }
        Ok(pieces.iter().any(|(_, hole)| *hole).then_some(pieces))
    }

    fn read_piece(&self, request: &Request, offset: u64, len: u32, out: &mut Vec<u8>) -> Done {
        let start = out.len();
        out.resize(start + len as usize, 0);
        let into = out.get_mut(start..).unwrap_or_default();
        let read = self.export.head.read_exact_at(into, offset);
        read.map_err(|error| failed(request, &error))
    }

    /// Reads what is there, so that it is in memory and known to be whole.
    fn cache(&self, request: &Request, wanted: &dyn Fn() -> bool) -> Done {
        let failed = |error| failed(request, &error);
        let mut bytes = vec![0; CACHE_LEN.min(u64::from(request.len)) as usize];
        let range = request.offset..request.end();
        for extent in self.export.head.extents(range).map_err(failed)? {
            let extent = extent.map_err(failed)?;
            let end = extent.offset + extent.len;
            let mut next = extent.offset;
            while extent.kind == ExtentKind::Data && next < end && wanted() {
                let len = (end - next).min(CACHE_LEN);
                let into = bytes.get_mut(..len as usize).unwrap_or_default();
                self.export.head.read_exact_at(into, next).map_err(failed)?;
                next += len;
            }
        }
        Ok(())
    }

    fn block_status(&self, request: &Request, out: &mut Vec<u8>) -> Done {
        let failed = |error| failed(request, &error);
        let max = match request.has(flag::REQ_ONE) {
            true => 1,
            false => EXTENTS_MAX,
        };
        let mut all: Vec<Status> = self
            .contexts
            .iter()
            .map(|context| Status::new(context, max))
            .collect();
        let range = request.offset..request.end();
        for extent in self.export.head.extents(range).map_err(failed)? {
            let extent = extent.map_err(failed)?;
            all.iter_mut().for_each(|status| status.push(&extent));
            if all.iter().all(Status::is_full) {
                break;
            }
        }
        let count = all.len();
        for (index, status) in all.iter().enumerate() {
            reply::status_chunk(request.cookie, status, index + 1 == count, out);
        }
        Ok(())
    }
}

fn failed(request: &Request, error: &Error) -> Failed {
    Failed {
        errno: errno(error, request.command),
        text: error.to_string(),
    }
}

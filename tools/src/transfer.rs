//! Moving bytes between files and volumes, a mebibyte at a time, zeroes apart.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, mpsc};
use std::thread;

use offshoot::{Error, ExtentKind, Volume};

use crate::exit::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::session::Readable;
use crate::source::{self, Source};
use crate::sparse::{self, DataRanges};
use crate::stdout::Out;

/// What is read and written at once: the store takes a mebibyte as one atomic write.
const CHUNK: u64 = 1 << 20;
/// Chunks that are read ahead of the one that is being written.
const CHUNKS_AHEAD: usize = 2;

/// What becomes of zeroes in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroes {
    /// They are left out: the volume has nothing there.
    Skip,
    /// They replace what is there.
    Write,
}

/// Writes into a volume from `base` on.
pub struct Writer<'a> {
    target: Target<'a>,
    progress: Progress,
}

/// Where bytes of a source go.
#[derive(Clone, Copy)]
struct Target<'a> {
    volume: &'a Volume,
    base: u64,
    zeroes: Zeroes,
    block: usize,
}

/// Bytes of a source, and the hole before them.
struct Part {
    hole: Range<u64>,
    bytes: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// `block` is the store's page length.
    pub fn new(
        volume: &'a Volume,
        base: u64,
        zeroes: Zeroes,
        block: u32,
        progress: Progress,
    ) -> Self {
        let target = Target {
            volume,
            base,
            zeroes,
            block: block as usize,
        };
        Self { target, progress }
    }

    /// Writes all of a source and returns its length.
    pub fn write(mut self, source: &Source) -> Result<u64> {
        let len = match source {
            Source::File { file, len, name } => self.write_file(file, *len, name)?,
            Source::Stream { file, name } => self.write_stream(file, name)?,
        };
        self.progress.finish();
        Ok(len)
    }

    fn write_file(&mut self, file: &File, len: u64, name: &str) -> Result<u64> {
        let interrupt = Interrupt::new();
        let target = self.target;
        let (send, parts) = mpsc::sync_channel(CHUNKS_AHEAD);
        let (give_back, spare) = mpsc::channel();
        // Gone once somebody has failed: then the reader has nobody to send to and stops.
        let parts = Mutex::new(Some(parts));
        let progress = Mutex::new((0, &mut self.progress));
        let next = || {
            let parts = lock(&parts);
            parts.as_ref().and_then(|parts| parts.recv().ok())
        };
        let write = |part: io::Result<Part>| -> Result<Vec<u8>> {
            interrupt.check()?;
            let Part { hole, bytes } = part.map_err(|error| Failure::io("read", name, error))?;
            let end = hole.end + bytes.len() as u64;
            let count = end - hole.start;
            target.zeroes(hole.clone())?;
            target.bytes(&bytes, hole.end)?;
            let mut progress = lock(&progress);
            progress.0 += count;
            let done = progress.0;
            progress.1.at(done);
            Ok(bytes)
        };
        let work = || {
            let give_back = give_back.clone();
            while let Some(part) = next() {
                match write(part) {
                    Ok(bytes) => _ = give_back.send(bytes),
                    Err(error) => {
                        lock(&parts).take();
                        return Err(error);
                    }
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            // The next chunks are read while others are encrypted and written.
            scope.spawn(move || read_ahead(file, len, target, &send, &spare));
            let helper = match target.zeroes {
                Zeroes::Skip => Some(scope.spawn(work)),
                // What is there is replaced from the front on, so that a crash leaves the front.
                Zeroes::Write => None,
            };
            let done = work();
            let helped = helper.map_or(Ok(()), |helper| {
                helper.join().expect("BUG: the other writer panicked")
            });
            done.and(helped)
        })?;
        self.progress.at(len);
        Ok(len)
    }

    fn write_stream(&mut self, stream: &File, name: &str) -> Result<u64> {
        let target = self.target;
        let volume_len = target.volume.len()?;
        let mut buffer = vec![0; CHUNK as usize];
        let mut at = 0;
        loop {
            let offset = target.base + at;
            let want = CHUNK - offset % CHUNK;
            let bytes = &mut buffer[..want as usize];
            let read = source::read_full(stream, bytes)
                .map_err(|error| Failure::io("read", name, error))?;
            let fits = (read as u64).min(volume_len - offset);
            target.bytes(&bytes[..fits as usize], at)?;
            at += fits;
            self.progress.at(at);
            if fits < read as u64 {
                let offset = target.base + at;
                return Err(Error::OutOfBounds {
                    offset,
                    len: 1,
                    volume_len,
                }
                .into());
            }
            if (read as u64) < want {
                return Ok(at);
            }
        }
    }
}

impl Target<'_> {
    /// Writes bytes that lie at `at` in the source.
    fn bytes(&self, bytes: &[u8], at: u64) -> Result {
        let offset = self.base + at;
        let phase = (offset % self.block as u64) as usize;
        for (run, zero) in sparse::runs(bytes, phase, self.block) {
            let start = at + run.start as u64;
            if zero {
                self.zeroes(start..at + run.end as u64)?;
            } else {
                self.volume.write_all_at(&bytes[run], self.base + start)?;
            }
        }
        Ok(())
    }

    fn zeroes(&self, range: Range<u64>) -> Result {
        if self.zeroes == Zeroes::Write && !range.is_empty() {
            self.volume
                .write_zeroes(self.base + range.start..self.base + range.end)?;
        }
        Ok(())
    }
}

/// Sends a file in chunks of data, each with the hole before it. Chunks are as the store takes
/// them. Ends when nobody listens.
fn read_ahead(
    file: &File,
    len: u64,
    target: Target<'_>,
    send: &mpsc::SyncSender<io::Result<Part>>,
    spare: &mpsc::Receiver<Vec<u8>>,
) {
    let mut end = 0;
    let mut read = |part: Range<u64>| {
        let mut bytes = spare.try_recv().unwrap_or_default();
        bytes.resize((part.end - part.start) as usize, 0);
        file.read_exact_at(&mut bytes, part.start)?;
        let hole = end..part.start;
        end = part.end;
        Ok(Part { hole, bytes })
    };
    for range in DataRanges::new(file, len, target.block as u64) {
        let parts: Box<dyn Iterator<Item = io::Result<_>>> = match range {
            Ok(range) => Box::new(chunks(range, target.base).map(&mut read)),
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        for part in parts {
            let failed = part.is_err();
            if send.send(part).is_err() || failed {
                return;
            }
        }
    }
    if end < len {
        let (hole, bytes) = (end..len, Vec::new());
        // Nobody listens any more only if somebody has failed.
        let _ = send.send(Ok(Part { hole, bytes }));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("BUG: a writer panicked with this lock")
}

/// Writes a range of a head to standard output, holes as zeroes.
pub fn print(head: &dyn Readable, range: Range<u64>, mut progress: Progress) -> Result {
    let mut out = Out::new();
    let start = range.start;
    let mut buffer = vec![0; CHUNK as usize];
    for part in chunks(range, 0) {
        let bytes = &mut buffer[..(part.end - part.start) as usize];
        head.read_exact_at(bytes, part.start)?;
        out.write(bytes)?;
        progress.at(part.end - start);
    }
    out.finish()?;
    progress.finish();
    Ok(())
}

/// Writes what a head holds into a file; returns the bytes written. Holes and zeroes are left
/// out (`Skip`: the file is known to have nothing there) or written.
pub fn save(
    head: &dyn Readable,
    file: &File,
    name: &str,
    zeroes: Zeroes,
    mut progress: Progress,
) -> Result<u64> {
    let interrupt = Interrupt::new();
    let mut buffer = vec![0; CHUNK as usize];
    let mut written = 0;
    for extent in head.extents(0..head.len()?)? {
        let extent = extent?;
        let range = extent.offset..extent.offset + extent.len;
        let data = extent.kind == ExtentKind::Data;
        if !data && zeroes == Zeroes::Skip {
            progress.at(range.end);
            continue;
        }
        for part in chunks(range, 0) {
            interrupt.check()?;
            let bytes = &mut buffer[..(part.end - part.start) as usize];
            if data {
                head.read_exact_at(bytes, part.start)?;
            } else {
                bytes.fill(0);
            }
            write_at(file, bytes, part.start, name)?;
            written += bytes.len() as u64;
            progress.at(part.end);
        }
    }
    progress.finish();
    Ok(written)
}

fn write_at(file: &File, bytes: &[u8], offset: u64, name: &str) -> Result {
    file.write_all_at(bytes, offset)
        .map_err(|error: io::Error| Failure::io("write", name, error))
}

/// Splits a range where it crosses a chunk's end, counted from `base` before its offset 0.
fn chunks(range: Range<u64>, base: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let room = CHUNK - (base + at) % CHUNK;
        let part = at..range.end.min(at.saturating_add(room));
        at = part.end;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_where_those_of_the_volume_do() {
        let parts: Vec<_> = chunks(10..(2 << 20) + 1, 4096).collect();
        let first = CHUNK - 4096;
        let wanted = [
            10..first,
            first..first + CHUNK,
            first + CHUNK..(2 << 20) + 1,
        ];
        assert_eq!(parts, wanted);
        assert_eq!(chunks(5..5, 0).count(), 0);
    }
}

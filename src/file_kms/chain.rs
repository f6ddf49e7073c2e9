//! The lines of the audit and the chain of hashes through them.
//!
//! Each line ends in the hash of the chain up to the line before it and of itself. A line that
//! does not continue the chain does not count: a crash left it, or somebody changed something.
//! What is synced is written only once all before it is durable, so a crash never tears a line
//! before a synced one: if such a line does not continue the chain, the audit was changed.

use std::fmt::Write;
use std::ops::Range;

use crate::crypto;
use crate::error::{Error, Result};
use crate::file_kms::files::Files;
use crate::io::{DiskFile, is_on_medium};
use crate::sync::Arc;

/// Bytes read at a time.
const CHUNK_LEN: u64 = 64 << 10;
/// How a line starts.
pub(super) const START: &str = r#"{"time_ms":"#;
/// What comes before the chain value in a line that was synced.
const SYNCED: &str = r#","synced":true"#;
/// The same in any line.
const CHAIN: &str = r#","chain":""#;
/// Behind the start of [`CHAIN`]: 64 hexadecimal digits and the line's end.
const END: &str = "\"}";

/// A value of the chain.
pub(super) type Tip = [u8; 32];

/// The file `audit`, and how much of it there was when it was opened.
pub(super) struct AuditFile<'a> {
    files: &'a Files,
    pub file: Arc<dyn DiskFile>,
    pub len: u64,
    name: &'static str,
}

impl<'a> AuditFile<'a> {
    pub(super) fn new(
        files: &'a Files,
        name: &'static str,
        file: Arc<dyn DiskFile>,
    ) -> Result<Self> {
        let len = file
            .len()
            .map_err(|source| files.error("read", name, source))?;
        Ok(Self {
            files,
            file,
            len,
            name,
        })
    }

    /// The lines from an offset on.
    pub(super) fn lines(&self, offset: u64) -> Lines<'_> {
        Lines {
            audit: self,
            next: offset.min(self.len),
            bytes: Vec::new(),
            at: 0,
        }
    }

    /// Whether what is appended now starts a line.
    pub(super) fn ends_a_line(&self) -> Result<bool> {
        let mut last = [0];
        if let Some(at) = self.len.checked_sub(1) {
            self.fill(&mut last, at)?;
        }
        Ok(last == *b"\n")
    }

    /// The chain value of the last synced line, and where it ends.
    pub(super) fn last_synced(&self) -> Result<Option<(u64, Tip)>> {
        let pattern_len = (SYNCED.len() + CHAIN.len() + 64 + END.len()) as u64;
        let mut end = self.len;
        while end > 0 {
            let start = end.saturating_sub(CHUNK_LEN);
            // A line that lies over the end of this part belongs to it.
            let len = (end + pattern_len).min(self.len) - start;
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
            self.fill(&mut bytes, start)?;
            if let Some((at, tip)) = find_synced(&bytes) {
                return Ok(Some((start + at as u64, tip)));
            }
            end = start;
        }
        Ok(None)
    }

    /// Whether the medium holds a range as it is read.
    pub(super) fn is_on_medium(&self, range: Range<u64>) -> Result<bool> {
        let mut at = range.start;
        while at < range.end {
            let mut bytes = vec![0; (range.end - at).min(CHUNK_LEN) as usize];
            self.fill(&mut bytes, at)?;
            let is_there = is_on_medium(&*self.files.0, self.name, &bytes, at);
            if !is_there.map_err(|source| self.error(source))? {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }

    fn fill(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let read = self.file.read_exact_at(bytes, offset);
        read.map_err(|source| self.error(source))
    }

    fn error(&self, source: std::io::Error) -> Error {
        self.files.error("read", self.name, source)
    }
}

/// Reads lines one after the other.
pub(super) struct Lines<'a> {
    audit: &'a AuditFile<'a>,
    /// Where the next part of the file is.
    next: u64,
    bytes: Vec<u8>,
    /// Bytes given out already.
    at: usize,
}

impl Lines<'_> {
    /// The next line, without its end. The last one may lack it.
    pub(super) fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut searched = self.at;
        loop {
            let rest = self.bytes.get(searched..).unwrap_or_default();
            if let Some(len) = rest.iter().position(|&byte| byte == b'\n') {
                let line = self.bytes[self.at..searched + len].to_vec();
                self.at = searched + len + 1;
                return Ok(Some(line));
            }
            if self.next == self.audit.len {
                let line = self.bytes.split_off(self.at.min(self.bytes.len()));
                self.bytes.clear();
                self.at = 0;
                return Ok((!line.is_empty()).then_some(line));
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            searched = self.bytes.len();
            let len = (self.audit.len - self.next).min(CHUNK_LEN) as usize;
            self.bytes.resize(searched + len, 0);
            self.audit.fill(&mut self.bytes[searched..], self.next)?;
            self.next += len as u64;
        }
    }
}

/// The first value: that of the line which says what the file is.
pub(super) fn genesis(first_line: &str) -> Tip {
    crypto::hash(first_line.trim_end().as_bytes())
}

/// Ends a line: `body` is what it says, without the last bracket. The value that it adds.
pub(super) fn finish(body: &mut String, synced: bool, tip: &Tip) -> Tip {
    body.push_str(if synced { SYNCED } else { r#","synced":false"# });
    let next = link(tip, body.as_bytes());
    body.push_str(CHAIN);
    for byte in next {
        write!(body, "{byte:02x}").expect("BUG: a string refuses text");
    }
    body.push_str(END);
    body.push('\n');
    next
}

/// The value after a line, if it continues the chain.
pub(super) fn continued(line: &[u8], tip: &Tip) -> Option<Tip> {
    let (body, next) = split(line)?;
    (link(tip, body) == next).then_some(next)
}

/// The value that a line names if it says of itself that it was synced. It must be there from its
/// start: of a line that was not synced in the end, a power loss may have left the end only.
pub(super) fn of_synced(line: &[u8]) -> Option<Tip> {
    let (body, tip) = split(line)?;
    let is_synced = body.starts_with(START.as_bytes()) && body.ends_with(SYNCED.as_bytes());
    is_synced.then_some(tip)
}

fn link(tip: &Tip, body: &[u8]) -> Tip {
    crypto::hash(&[tip, body].concat())
}

/// What a line says, and the chain value it names.
fn split(line: &[u8]) -> Option<(&[u8], Tip)> {
    let rest = line.strip_suffix(END.as_bytes())?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
    Some((rest.strip_suffix(CHAIN.as_bytes())?, value(digits)?))
}

fn value(digits: &[u8]) -> Option<Tip> {
    let mut tip = [0; 32];
    for (byte, pair) in tip.iter_mut().zip(digits.chunks_exact(2)) {
        if !pair
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        {
            return None;
        }
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(tip)
}

/// The value of the last synced line in bytes, and where that line ends.
fn find_synced(bytes: &[u8]) -> Option<(usize, Tip)> {
    let lines = bytes.split(|&byte| byte == b'\n').rev();
    let mut end = bytes.len();
    for line in lines {
        if let Some(tip) = of_synced(line) {
            return Some((end, tip));
        }
        end = end.saturating_sub(line.len() + 1);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(body: &str, synced: bool, tip: &Tip) -> (String, Tip) {
        let mut line = body.to_owned();
        let next = finish(&mut line, synced, tip);
        (line, next)
    }

    #[test]
    fn a_line_continues_one_chain_only() {
        let (text, next) = line("{\"time_ms\":1", true, &[1; 32]);
        let bytes = text.trim_end().as_bytes();
        assert_eq!(continued(bytes, &[1; 32]), Some(next));
        assert_eq!(continued(bytes, &[2; 32]), None);
        assert_eq!(of_synced(bytes), Some(next));
        for at in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[at] ^= 1;
            assert_eq!(continued(&bad, &[1; 32]), None, "byte {at}");
            assert_eq!(continued(&bytes[..at], &[1; 32]), None);
        }
        let (text, _) = line("{\"time_ms\":1", false, &[1; 32]);
        assert_eq!(of_synced(text.trim_end().as_bytes()), None);
    }

    #[test]
    fn the_last_synced_line_is_found_wherever_it_is() {
        let (synced, tip) = line("{\"time_ms\":1", true, &[1; 32]);
        let (other, _) = line("{\"time_ms\":2", false, &tip);
        let text = format!("{other}{synced}{other}{other}");
        let end = other.len() + synced.len() - 1;
        assert_eq!(find_synced(text.as_bytes()), Some((end, tip)));
        assert_eq!(find_synced(other.as_bytes()), None);
        assert_eq!(find_synced(b""), None);
    }
}

//! The file `audit`: a line of JSON for each use of a key.
//!
//! Lines of use are not synced, so a power loss can take the last ones; what changes a key's
//! state is synced before it happens. Whoever appends holds the lock.
//!
//! After a sync that failed, of this or another process, the cache may show lines as clean that are not on the medium, and no
//! later sync writes them. So lines count as durable once the medium has them: if it does not after a sync that succeeded, all
//! lines go to another file (`docs/decisions/0015`).
//!
//! After a crash the chain goes on from the last line that continues it. To find that one the
//! lines from the last synced one on are read, no more.

use std::fmt::{self, Write};

use crate::error::{Damage, Result};
use crate::file_kms::chain::{self, AuditFile, Tip};
use crate::file_kms::files::Files;
use crate::file_kms::inner::Inner;
use crate::file_kms::pool::Pools;
use crate::file_kms::records::VERSION;
use crate::io::{Access, DiskFile, publish};
use crate::units::{KeyId, ResourceId, StoreId};

const NAME: &str = "audit";
/// A line is synced if more bytes than that had to be read to append it.
const SCAN_LEN_MAX: u64 = 256 << 10;
/// Behind the file is room for lines of one to two such lengths, some hundred: who uses up the
/// disk needs keys to give space back.
const ROOM_LEN: u64 = 128 << 10;
/// Lines are shorter: the longest that a caller can put into one is an alias or a purpose.
const LINE_LEN_MAX: u64 = 4 << 10;

/// A line of the audit.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AuditLine<'a> {
    /// Its number in the file, from 1; the first line says what the file is, and is left out.
    pub number: u64,
    /// What it says: a JSON object, if it is whole.
    pub text: &'a str,
    /// Whether it continues the chain of hashes.
    pub in_chain: bool,
}

/// What a look through the whole audit found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditReport {
    /// Lines that continue the chain of hashes.
    pub lines: u64,
    /// Other lines. A crash can leave some.
    pub loose_lines: u64,
    /// The first line that no crash explains: something was changed there or taken away.
    pub broken_at: Option<u64>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event<'a> {
    pub action: &'a str,
    pub key: Option<&'a KeyId>,
    pub purpose: &'a str,
    pub store: Option<StoreId>,
    pub resource: Option<ResourceId>,
}

/// The first line: it says what the file is, as the headers of the other files do.
pub(super) fn first_line(kms: [u8; 16]) -> String {
    let kms = KeyId(kms);
    let mut line = format!(r#"{{"file":"offshoot kms audit","version":{VERSION},"kms":"{kms}""#);
    let crc = crc32fast::hash(line.as_bytes());
    line.push_str(&format!(",\"crc32\":\"{crc:08x}\"}}\n"));
    line
}

/// Checks the first line.
pub(super) fn check(files: &Files, kms: [u8; 16]) -> Result<()> {
    let expected = first_line(kms);
    let mut found = vec![0; expected.len()];
    files
        .open(NAME, Access::Read)?
        .read_exact_at(&mut found, 0)
        .map_err(|source| files.error("read", NAME, source))?;
    check_first_line(&found, &expected).map_err(|damage| files.damage(NAME, damage))
}

fn check_first_line(found: &[u8], expected: &str) -> Result<(), Damage> {
    if found == expected.as_bytes() {
        return Ok(());
    }
    let start = r#"{"file":"offshoot kms audit","version":"#;
    let rest = found
        .strip_prefix(start.as_bytes())
        .ok_or(Damage::BadMagic)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let version = std::str::from_utf8(&rest[..digits])
        .ok()
        .and_then(|text| text.parse().ok());
    match version {
        Some(VERSION) => Err(Damage::BadChecksum),
        Some(newer) => Err(Damage::BadVersion(newer)),
        None => Err(Damage::OutOfRange("version")),
    }
}

/// Where the chain ends, as far as this process knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    /// Bytes of the file that are accounted for.
    len: u64,
    tip: Tip,
    /// How many of them are durable.
    durable_len: u64,
    /// Up to where this process asked for space.
    room_end: u64,
}

/// When a line is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// When the system likes.
    Later,
    /// Before the call returns, and only after all lines before it are.
    Now,
}

impl Inner {
    /// Appends a line for a use of a key. The system writes it when it likes.
    pub(super) fn audit_use(&self, pools: &mut Pools, event: Event<'_>) -> Result<()> {
        self.append(&mut pools.audit, event, Sync::Later)
    }

    /// Appends a line for a change of state, durably.
    pub(super) fn audit_change(&self, pools: &mut Pools, event: Event<'_>) -> Result<()> {
        self.append(&mut pools.audit, event, Sync::Now)
    }

    fn append(&self, known: &mut Option<Tail>, event: Event<'_>, sync: Sync) -> Result<()> {
        let mut audit = self.audit_file(Access::ReadWrite)?;
        // Forgotten if this fails: what is on disk then is not known.
        let (mut tail, scanned) = self.tail(&audit, known.take())?;
        // Who comes next has less to look through then.
        let sync = if scanned > SCAN_LEN_MAX {
            Sync::Now
        } else {
            sync
        };
        tail.room_end = keep_room(&*audit.file, &tail);
        if sync == Sync::Now && tail.durable_len < tail.len {
            self.make_durable(&mut audit, &mut tail, &[])?;
        }
        // A line that a crash cut off stays alone on its line.
        let start = if audit.ends_a_line()? { "" } else { "\n" };
        let mut line = event.body(self.clock.now_ms());
        tail.tip = chain::finish(&mut line, sync == Sync::Now, &tail.tip);
        line.insert_str(0, start);
        match sync {
            Sync::Later => {
                let written = audit.file.write_all_at(line.as_bytes(), tail.len);
                written
                    .map_err(|source| self.files.write_error(NAME, line.len() as u64, source))?;
                tail.len += line.len() as u64;
            }
            Sync::Now => self.make_durable(&mut audit, &mut tail, line.as_bytes())?,
        }
        *known = Some(tail);
        Ok(())
    }

    /// Appends bytes and makes them durable, and all before them.
    ///
    /// A sync is not believed: after one that failed, of which perhaps another process was told, no sync of this file may make
    /// its lines durable.
    fn make_durable(&self, audit: &mut AuditFile<'_>, tail: &mut Tail, bytes: &[u8]) -> Result<()> {
        let fail = |source| self.files.write_error(NAME, bytes.len() as u64, source);
        publish::write_durable(&*audit.file, bytes, tail.len).map_err(fail)?;
        tail.len += bytes.len() as u64;
        if !audit.is_on_medium(tail.durable_len..tail.len)? {
            audit.file = publish::renew(&*self.files.0, NAME).map_err(fail)?;
            tail.room_end = 0;
        }
        tail.durable_len = tail.len;
        Ok(())
    }

    /// Where the chain ends now, and how many bytes were read to know it.
    fn tail(&self, audit: &AuditFile<'_>, known: Option<Tail>) -> Result<(Tail, u64)> {
        let known = known.filter(|tail| tail.len <= audit.len);
        if let Some(tail) = known.filter(|tail| tail.len == audit.len) {
            return Ok((tail, 0));
        }
        let start = match known {
            Some(tail) => Some((tail.len, tail.tip)),
            None => audit.last_synced()?,
        };
        let first_line = first_line(self.kms);
        let first_len = first_line.len() as u64;
        let (offset, mut tip) = start.unwrap_or_else(|| (first_len, chain::genesis(&first_line)));
        let durable_len = match known {
            Some(tail) => tail.durable_len,
            // The last synced line says that all before it is durable; its own sync may have failed.
            None => offset.saturating_sub(LINE_LEN_MAX).max(first_len),
        };
        let mut lines = audit.lines(offset);
        while let Some(line) = lines.next_line()? {
            tip = chain::continued(&line, &tip).unwrap_or(tip);
        }
        let tail = Tail {
            len: audit.len,
            tip,
            durable_len: durable_len.min(audit.len),
            room_end: 0,
        };
        Ok((tail, audit.len - offset.min(audit.len)))
    }

    pub(super) fn audit_file(&self, access: Access) -> Result<AuditFile<'_>> {
        AuditFile::new(&self.files, NAME, self.files.open(NAME, access)?)
    }

    /// Reads all lines but the first, and follows the chain.
    pub(super) fn read_audit(
        &self,
        audit: &AuditFile<'_>,
        each: &mut dyn FnMut(AuditLine<'_>),
    ) -> Result<AuditReport> {
        let first_line = first_line(self.kms);
        let mut tip = chain::genesis(&first_line);
        let mut report = AuditReport::default();
        let mut lines = audit.lines(first_line.len() as u64);
        let (mut number, mut gap) = (1, None);
        while let Some(line) = lines.next_line()? {
            number += 1;
            let next = chain::continued(&line, &tip);
            match (next, chain::of_synced(&line)) {
                (Some(next), _) => {
                    (tip, gap) = (next, None);
                    report.lines += 1;
                }
                (None, synced) => {
                    let first = *gap.get_or_insert(number);
                    report.loose_lines += 1;
                    if let Some(next) = synced {
                        report.broken_at.get_or_insert(first);
                        (tip, gap) = (next, None);
                    }
                }
            }
            each(AuditLine {
                number,
                text: &String::from_utf8_lossy(&line),
                in_chain: next.is_some(),
            });
        }
        Ok(report)
    }
}

/// Asks for the space of the lines that come, if there is too little; up to where there is some.
fn keep_room(file: &dyn DiskFile, tail: &Tail) -> u64 {
    let least = tail.len - tail.len % ROOM_LEN + 2 * ROOM_LEN;
    if tail.room_end < least {
        // On a full disk lines go on as far as there is room, and then fail.
        let _ = file.keep_room(least);
    }
    least
}

impl Event<'_> {
    /// What the line says, but for its end.
    fn body(&self, now_ms: u64) -> String {
        let mut out = String::new();
        self.write(now_ms, &mut out)
            .expect("BUG: a string refuses text");
        out
    }

    fn write(&self, now_ms: u64, out: &mut String) -> fmt::Result {
        write!(out, r#"{}{now_ms},"action":"#, chain::START)?;
        quote(self.action, out)?;
        out.push_str(",\"key\":");
        optional(self.key, out)?;
        out.push_str(",\"purpose\":");
        quote(self.purpose, out)?;
        out.push_str(",\"store\":");
        optional(self.store, out)?;
        out.push_str(",\"resource\":");
        optional(self.resource, out)
    }
}

fn optional(id: Option<impl fmt::Display>, out: &mut String) -> fmt::Result {
    match id {
        Some(id) => write!(out, "\"{id}\""),
        None => write!(out, "null"),
    }
}

fn quote(text: &str, out: &mut String) -> fmt::Result {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => write!(out, "\\{letter}")?,
            '\0'..='\u{1f}' => write!(out, "\\u{:04x}", u32::from(letter))?,
            _ => out.push(letter),
        }
    }
    out.push('"');
    Ok(())
}

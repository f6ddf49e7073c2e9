//! The file `audit`: a line of JSON for each use of a key.
//!
//! Lines of use are not synced, so a power loss can take the last ones; what changes a key's
//! state is synced before it happens. Whoever appends holds the lock.

use std::fmt::{self, Write};

use crate::error::{Damage, Result};
use crate::file_kms::files::Files;
use crate::file_kms::records::VERSION;
use crate::io::{Access, publish};
use crate::units::{KeyId, ResourceId, StoreId};

const NAME: &str = "audit";

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

/// Appends a line; the system writes it when it likes.
pub(super) fn append(files: &Files, now_ms: u64, event: Event<'_>) -> Result<()> {
    write(files, now_ms, event, |file, line, offset| {
        file.write_all_at(line, offset)
    })
}

/// Appends a line, durably.
pub(super) fn append_durable(files: &Files, now_ms: u64, event: Event<'_>) -> Result<()> {
    write(files, now_ms, event, publish::write_durable)
}

fn write(
    files: &Files,
    now_ms: u64,
    event: Event<'_>,
    write: impl FnOnce(&dyn crate::io::DiskFile, &[u8], u64) -> std::io::Result<()>,
) -> Result<()> {
    let read_error = |source| files.error("read", NAME, source);
    let file = files.open(NAME, Access::ReadWrite)?;
    let len = file.len().map_err(read_error)?;
    let mut last = [0];
    let at = len
        .checked_sub(1)
        .ok_or_else(|| files.damage(NAME, Damage::Truncated))?;
    file.read_exact_at(&mut last, at).map_err(read_error)?;
    // A line that a crash cut off stays alone on its line.
    let mut text = if last == *b"\n" {
        String::new()
    } else {
        "\n".to_owned()
    };
    event
        .write(now_ms, &mut text)
        .expect("BUG: a string refuses text");
    write(&*file, text.as_bytes(), len)
        .map_err(|source| files.write_error(NAME, text.len() as u64, source))
}

impl Event<'_> {
    fn write(&self, now_ms: u64, out: &mut String) -> fmt::Result {
        write!(out, r#"{{"time_ms":{now_ms},"action":"#)?;
        quote(self.action, out)?;
        out.push_str(",\"key\":");
        optional(self.key, out)?;
        out.push_str(",\"purpose\":");
        quote(self.purpose, out)?;
        out.push_str(",\"store\":");
        optional(self.store, out)?;
        out.push_str(",\"resource\":");
        optional(self.resource, out)?;
        out.push_str("}\n");
        Ok(())
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

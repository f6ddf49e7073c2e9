//! The file `scrub`: what the store's own reading of itself has come to, and what it found.
//!
//! Lines of fields between tabs; the last line is the CRC-32 of all before, so that a file is as it was
//! written or of no use. It is replaced as a whole, never appended to, and nothing depends on it: without it
//! a scrub begins anew.

use std::fmt::Write;

use crate::error::Damage;
use crate::format::catalog::NAME_LEN_MAX;
use crate::units::{HeadId, PageNo, SegmentId, SlotAddr, StoreId};

/// The name of the file.
pub const SCRUB_FILE: &str = "scrub";
/// Most findings that are kept.
pub const FINDINGS_MAX: usize = 1000;
/// Most bytes of a file: more than that many findings take.
pub const SCRUB_LEN_MAX: u64 = 1 << 20;
/// Most bytes of a field: a name with its kind, or what a finding says.
const FIELD_LEN_MAX: usize = NAME_LEN_MAX + 16;

const FIRST_LINE: &str = "offshoot scrub\t0";

/// What a scrub found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScrubFault {
    /// A page cannot be read, or does not match its checksum.
    PageDamaged,
    /// A page is whole and its tag does not match.
    PageForged,
    /// A node of a page table cannot be read or is not what its parent names: what lies below it is lost.
    NodeDamaged,
    /// A table batch of a checkpoint is damaged: an open needs it, or may need it.
    TableDamaged,
    /// A copy of the newest superblock is gone.
    SuperblockCopyLost,
    /// A copy of the superblock before it is.
    OlderSuperblockCopyLost,
}

/// What scrubs have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubRecord {
    /// Passes that were begun: the number of the last one.
    pub pass: u64,
    /// When that began.
    pub began_at_ms: u64,
    /// Where it goes on, if it has not ended: at this page of this head.
    pub next: Option<(HeadId, PageNo)>,
    /// The heads that it is about; none means all.
    pub only: Vec<HeadId>,
    /// Bytes that it has read.
    pub done_bytes: u64,
    /// When the last pass over all heads ended.
    pub ended_at_ms: Option<u64>,
    /// What is damaged, as far as scrubs know.
    pub findings: Vec<ScrubFinding>,
    /// Findings that there was no room for.
    pub more: u64,
}

/// Something damaged that a scrub found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubFinding {
    /// What is wrong.
    pub fault: ScrubFault,
    /// The last pass that found it.
    pub pass: u64,
    /// When it was found first.
    pub first_at_ms: u64,
    /// When it was found last.
    pub last_at_ms: u64,
    /// The slot.
    pub at: Option<SlotAddr>,
    /// A volume, snapshot or pin that has it, with its kind.
    pub head: Option<String>,
    /// The page; of a node the first one that it may hold.
    pub page: Option<PageNo>,
    /// What was found there.
    pub message: String,
}

const FAULTS: [ScrubFault; 6] = [
    ScrubFault::PageDamaged,
    ScrubFault::PageForged,
    ScrubFault::NodeDamaged,
    ScrubFault::TableDamaged,
    ScrubFault::SuperblockCopyLost,
    ScrubFault::OlderSuperblockCopyLost,
];

impl ScrubFault {
    /// The code that `fsck` has for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::PageDamaged => "OF-0514 page-damaged",
            Self::PageForged => "OF-0518 page-not-authentic",
            Self::NodeDamaged => "OF-0501 node-damaged",
            Self::TableDamaged => "OF-0401 table-damaged",
            Self::SuperblockCopyLost => "OF-0102 superblock-mirror-lost",
            Self::OlderSuperblockCopyLost => "OF-0103 superblock-older-lost",
        }
    }

    /// All of them.
    pub fn all() -> [Self; 6] {
        FAULTS
    }

    fn number(self) -> &'static str {
        self.code().split(' ').next().unwrap_or_default()
    }
}

impl ScrubFinding {
    /// Whether it is about the same thing.
    pub fn is_same(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.fault, it.at);
        key(self) == key(other) && (self.at.is_some() || self.message == other.message)
    }
}

impl ScrubRecord {
    /// Notes something that was found: once, however often.
    pub fn note(&mut self, found: ScrubFinding) {
        if let Some(known) = self.findings.iter_mut().find(|known| known.is_same(&found)) {
            let first_at_ms = known.first_at_ms;
            *known = ScrubFinding {
                first_at_ms,
                ..found
            };
        } else if self.findings.len() < FINDINGS_MAX {
            self.findings.push(found);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// The contents of the file.
    pub fn encode(&self, store: StoreId) -> Vec<u8> {
        let mut text = format!("{FIRST_LINE}\nstore\t{store}\n");
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "pass\t{}\t{}\t{}",
            self.pass, self.began_at_ms, self.done_bytes
        );
        if let Some((head, page)) = self.next {
            let _ = writeln!(text, "next\t{head}\t{page}");
        }
        for head in &self.only {
            let _ = writeln!(text, "only\t{head}");
        }
        if let Some(ended_at_ms) = self.ended_at_ms {
            let _ = writeln!(text, "ended\t{ended_at_ms}");
        }
        for found in self.findings.iter().take(FINDINGS_MAX) {
            encode_finding(found, &mut text);
        }
        let _ = writeln!(text, "more\t{}", self.more);
        let crc = crc32fast::hash(text.as_bytes());
        let _ = writeln!(text, "crc32\t{crc:08x}");
        text.into_bytes()
    }

    /// Reads the file of a store.
    pub fn decode(bytes: &[u8], store: StoreId) -> Result<Self, Damage> {
        if bytes.len() as u64 > SCRUB_LEN_MAX {
            return Err(Damage::OutOfRange("length"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Damage::BadChecksum)?;
        if !text.starts_with(FIRST_LINE) {
            return Err(Damage::BadMagic);
        }
        let last = text.rfind("\ncrc32\t").ok_or(Damage::Truncated)?;
        let (before, last) = text.split_at(last + 1);
        let crc = crc32fast::hash(before.as_bytes());
        if last != format!("crc32\t{crc:08x}\n") {
            return Err(Damage::BadChecksum);
        }
        let before = before.trim_end_matches('\n');
        let mut lines = before.split('\n').skip(1);
        if lines.next() != Some(&format!("store\t{store}")) {
            return Err(Damage::WrongIdentity);
        }
        let mut record = Self::default();
        for line in lines {
            record.decode_line(line).ok_or(Damage::OutOfRange("line"))?;
        }
        Ok(record)
    }

    fn decode_line(&mut self, line: &str) -> Option<()> {
        let mut fields = line.split('\t');
        match fields.next()? {
            "pass" => {
                self.pass = number(fields.next())?;
                self.began_at_ms = number(fields.next())?;
                self.done_bytes = number(fields.next())?;
            }
            "next" => {
                let head = HeadId(number(fields.next())?);
                self.next = Some((head, PageNo(number(fields.next())?)));
            }
            "only" => self.only.push(HeadId(number(fields.next())?)),
            "ended" => self.ended_at_ms = Some(number(fields.next())?),
            "found" if self.findings.len() < FINDINGS_MAX => {
                self.findings.push(decode_finding(&mut fields)?);
            }
            "more" => self.more = number(fields.next())?,
            _ => return None,
        }
        fields.next().is_none().then_some(())
    }
}

fn encode_finding(it: &ScrubFinding, text: &mut String) {
    let optional = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let number = it.fault.number();
    let segment = optional(it.at.map(|at| at.segment.to_string()));
    let slot = optional(it.at.map(|at| at.slot.to_string()));
    let page = optional(it.page.map(|page| page.to_string()));
    let head = optional(it.head.as_deref().map(plain));
    let (pass, first, last) = (it.pass, it.first_at_ms, it.last_at_ms);
    let message = plain(&it.message);
    let _ = writeln!(
        text,
        "found\t{number}\t{pass}\t{first}\t{last}\t{segment}\t{slot}\t{page}\t{head}\t{message}"
    );
}

fn decode_finding<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Option<ScrubFinding> {
    let code = fields.next()?;
    let fault = FAULTS.into_iter().find(|fault| fault.number() == code)?;
    let (pass, first_at_ms) = (number(fields.next())?, number(fields.next())?);
    let last_at_ms = number(fields.next())?;
    let at = match (fields.next()?, fields.next()?) {
        ("-", "-") => None,
        (segment, slot) => Some(SlotAddr {
            segment: SegmentId(number(Some(segment))?),
            slot: number(Some(slot))?,
        }),
    };
    let page = match fields.next()? {
        "-" => None,
        page => Some(PageNo(number(Some(page))?)),
    };
    let head = Some(fields.next()?).filter(|head| *head != "-");
    Some(ScrubFinding {
        fault,
        pass,
        first_at_ms,
        last_at_ms,
        at,
        head: head.map(str::to_owned),
        page,
        message: fields.next()?.to_owned(),
    })
}

fn number<T: std::str::FromStr>(field: Option<&str>) -> Option<T> {
    field?.parse().ok()
}

/// Text that fits into a field.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for sign in text.chars() {
        if plain.len() + sign.len_utf8() > FIELD_LEN_MAX {
            break;
        }
        plain.push(if sign.is_control() { ' ' } else { sign });
    }
    plain
}

//! Requests: their header, and what can be refused without looking at the export's bytes.

use crate::nbd::protocol::numbers::{Errno, REQUEST_MAGIC, flag};
use crate::nbd::protocol::reader::Reader;

/// Length of a request's header.
pub const HEADER_LEN: usize = 28;
/// Most bytes that one READ or WRITE moves.
pub const PAYLOAD_LEN_MAX: u32 = 32 << 20;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Read,
    Write,
    Disconnect,
    Flush,
    Trim,
    Cache,
    WriteZeroes,
    BlockStatus,
    /// A number that stands for nothing here.
    Unknown(u16),
}

/// A request without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub flags: u16,
    pub command: Command,
    /// What the client calls it by.
    pub cookie: u64,
    pub offset: u64,
    pub len: u32,
}

/// Why a request is refused.
pub type Refusal = (Errno, &'static str);

/// What a connection has agreed on, as far as requests depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub size: u64,
    pub page_len: u32,
    pub read_only: bool,
    /// Replies are in chunks.
    pub structured: bool,
    /// A context of block status is chosen.
    pub has_contexts: bool,
}

impl Command {
    fn of(number: u16) -> Self {
        match number {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            5 => Self::Cache,
            6 => Self::WriteZeroes,
            7 => Self::BlockStatus,
            _ => Self::Unknown(number),
        }
    }

    /// Its number.
    pub fn number(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Disconnect => 2,
            Self::Flush => 3,
            Self::Trim => 4,
            Self::Cache => 5,
            Self::WriteZeroes => 6,
            Self::BlockStatus => 7,
            Self::Unknown(number) => number,
        }
    }

    /// Whether it changes bytes.
    pub fn changes(self) -> bool {
        matches!(self, Self::Write | Self::Trim | Self::WriteZeroes)
    }

    /// Flags that go with it. FUA goes with all.
    fn flags(self) -> u16 {
        flag::FUA
            | match self {
                Self::Read => flag::DF,
                Self::WriteZeroes => flag::NO_HOLE | flag::FAST_ZERO,
                Self::BlockStatus => flag::REQ_ONE,
                _ => 0,
            }
    }
}

impl Request {
    /// Decodes a header: `None` if it does not begin like one, and then nothing after it can be
    /// understood either.
    pub fn decode(header: &[u8; HEADER_LEN]) -> Option<Self> {
        let mut reader = Reader::new(header);
        if reader.u32()? != REQUEST_MAGIC {
            return None;
        }
        Some(Self {
            flags: reader.u16()?,
            command: Command::of(reader.u16()?),
            cookie: reader.u64()?,
            offset: reader.u64()?,
            len: reader.u32()?,
        })
    }

    /// Its header.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend(REQUEST_MAGIC.to_be_bytes());
        header.extend(self.flags.to_be_bytes());
        header.extend(self.command.number().to_be_bytes());
        header.extend(self.cookie.to_be_bytes());
        header.extend(self.offset.to_be_bytes());
        header.extend(self.len.to_be_bytes());
        header.try_into().expect("BUG: a header has this length")
    }

    /// Bytes that follow the header: a WRITE's, whatever else is wrong with it.
    pub fn payload_len(&self) -> u32 {
        match self.command {
            Command::Write => self.len,
            _ => 0,
        }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The end of its range, which [`Request::check`] found inside the export.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.len))
    }

    /// Refuses what no export could do, and what this one cannot.
    pub fn check(&self, terms: &Terms) -> Result<(), Refusal> {
        if let Command::Unknown(_) = self.command {
            return Err((Errno::Invalid, "unknown command"));
        }
        if self.flags & !self.command.flags() != 0 {
            return Err((Errno::Invalid, "unknown flag for this command"));
        }
        if self.has(flag::DF) && self.command == Command::Read && !terms.structured {
            return Err((
                Errno::Invalid,
                "this flag needs structured replies, which were not negotiated",
            ));
        }
        if terms.read_only && self.command.changes() {
            return Err((Errno::Perm, "the export is read-only"));
        }
        match self.command {
            Command::Flush if self.offset != 0 || self.len != 0 => {
                return Err((Errno::Invalid, "a flush has no range"));
            }
            Command::Flush | Command::Disconnect => return Ok(()),
            Command::Read if self.len > PAYLOAD_LEN_MAX => {
                return Err((Errno::Invalid, "a read is of at most 32 MiB"));
            }
            Command::BlockStatus if !terms.has_contexts => {
                return Err((Errno::Invalid, "no metadata context was negotiated"));
            }
            Command::BlockStatus if self.len == 0 => {
                return Err((Errno::Invalid, "block status of nothing"));
            }
            _ => {}
        }
        match self.offset.checked_add(u64::from(self.len)) {
            Some(end) if end <= terms.size => {}
            _ if matches!(self.command, Command::Write | Command::WriteZeroes) => {
                return Err((Errno::NoSpace, "the range is past the end of the export"));
            }
            _ => return Err((Errno::Invalid, "the range is past the end of the export")),
        }
        if self.has(flag::FAST_ZERO) && !self.is_aligned(terms.page_len) {
            return Err((
                Errno::NotSupported,
                "zeroes that do not fill whole pages are not fast",
            ));
        }
        Ok(())
    }

    fn is_aligned(&self, page_len: u32) -> bool {
        let page_len = u64::from(page_len);
        self.offset.is_multiple_of(page_len) && u64::from(self.len).is_multiple_of(page_len)
    }
}

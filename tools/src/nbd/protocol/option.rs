//! The data of options.

use crate::nbd::protocol::reader::Reader;

/// Longest string that the protocol allows.
const STRING_LEN_MAX: usize = 4096;

/// Why an option's data is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is not what it should be.
    Malformed,
    /// A string is too long.
    TooBig,
}

/// INFO or GO: an export, and what the client would like to know of it.
#[derive(Debug, PartialEq, Eq)]
pub struct InfoOption<'a> {
    pub name: &'a str,
    pub wants: Vec<u16>,
}

/// LIST_META_CONTEXT or SET_META_CONTEXT: an export, and contexts by name or by pattern.
#[derive(Debug, PartialEq, Eq)]
pub struct MetaOption<'a> {
    pub name: &'a str,
    pub queries: Vec<&'a [u8]>,
}

/// The name of an export. An embedded zero could hide what follows from whoever prints it.
pub fn export_name(bytes: &[u8]) -> Result<&str, Wrong> {
    if bytes.len() > STRING_LEN_MAX {
        return Err(Wrong::TooBig);
    }
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.contains('\0') => Ok(name),
        _ => Err(Wrong::Malformed),
    }
}

impl<'a> InfoOption<'a> {
    /// Decodes it.
    pub fn decode(data: &'a [u8]) -> Result<Self, Wrong> {
        let mut reader = Reader::new(data);
        let name = export_name(reader.string().ok_or(Wrong::Malformed)?)?;
        let count = reader.u16().ok_or(Wrong::Malformed)?;
        let mut wants = Vec::new();
        for _ in 0..count {
            wants.push(reader.u16().ok_or(Wrong::Malformed)?);
        }
        match reader.is_empty() {
            true => Ok(Self { name, wants }),
            false => Err(Wrong::Malformed),
        }
    }
}

impl<'a> MetaOption<'a> {
    /// Decodes it.
    pub fn decode(data: &'a [u8]) -> Result<Self, Wrong> {
        let mut reader = Reader::new(data);
        let name = export_name(reader.string().ok_or(Wrong::Malformed)?)?;
        let count = reader.u32().ok_or(Wrong::Malformed)?;
        let mut queries = Vec::new();
        for _ in 0..count {
            let query = reader.string().ok_or(Wrong::Malformed)?;
            if query.len() > STRING_LEN_MAX {
                return Err(Wrong::TooBig);
            }
            queries.push(query);
        }
        match reader.is_empty() {
            true => Ok(Self { name, queries }),
            false => Err(Wrong::Malformed),
        }
    }
}

//! The numbers of the protocol, under the names that its specification gives them.

/// First bytes that a server sends.
pub const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Starts an option; second bytes that a server sends.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// Starts the answer to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Starts a request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Starts a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Starts a chunk of a structured reply.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags, the same in both directions.
pub mod handshake_flag {
    /// The server answers options that it does not know.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// No padding after the old way to choose an export.
    pub const NO_ZEROES: u16 = 2;
}

/// Options.
pub mod opt {
    /// The old way to choose an export.
    pub const EXPORT_NAME: u32 = 1;
    /// The client leaves.
    pub const ABORT: u32 = 2;
    /// Names of the exports.
    pub const LIST: u32 = 3;
    /// Go over to TLS.
    pub const STARTTLS: u32 = 5;
    /// What an export is.
    pub const INFO: u32 = 6;
    /// The same, and choose it.
    pub const GO: u32 = 7;
    /// Replies in chunks.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Contexts that block status could be asked in.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Contexts that block status will be asked in.
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Answers to options.
pub mod rep {
    /// Done.
    pub const ACK: u32 = 1;
    /// An export.
    pub const SERVER: u32 = 2;
    /// Something about an export.
    pub const INFO: u32 = 3;
    /// A context of block status.
    pub const META_CONTEXT: u32 = 4;
    /// The option is not known.
    pub const ERR_UNSUP: u32 = 0x8000_0001;
    /// The server is set not to do that.
    pub const ERR_POLICY: u32 = 0x8000_0002;
    /// The option's data is wrong, or it comes too early.
    pub const ERR_INVALID: u32 = 0x8000_0003;
    /// There is no such export.
    pub const ERR_UNKNOWN: u32 = 0x8000_0006;
    /// The option's data is too long.
    pub const ERR_TOO_BIG: u32 = 0x8000_0009;
}

/// Kinds of information on an export.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Its name.
    pub const NAME: u16 = 1;
    /// A text for people.
    pub const DESCRIPTION: u16 = 2;
    /// Block sizes: minimum, preferred, most in one request.
    pub const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub mod transmission {
    /// This field says something.
    pub const HAS_FLAGS: u16 = 1;
    /// Nothing can be changed.
    pub const READ_ONLY: u16 = 1 << 1;
    /// FLUSH is known.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// The flag FUA is known.
    pub const SEND_FUA: u16 = 1 << 3;
    /// TRIM is known.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// WRITE_ZEROES is known.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The flag DF is known.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers what was answered on the others.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// CACHE is known.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// The flag FAST_ZERO is known.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Flags of requests.
pub mod flag {
    /// Durable before the answer.
    pub const FUA: u16 = 1;
    /// Zeroes that stay mapped.
    pub const NO_HOLE: u16 = 1 << 1;
    /// The answer in one piece.
    pub const DF: u16 = 1 << 2;
    /// One extent is enough.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Fail rather than write zeroes slowly.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Kinds of chunks.
pub mod chunk {
    /// The flag on the last chunk of a reply.
    pub const DONE: u16 = 1;
    /// Nothing, only the end.
    pub const NONE: u16 = 0;
    /// Bytes and where they are.
    pub const OFFSET_DATA: u16 = 1;
    /// Zeroes and where they are.
    pub const OFFSET_HOLE: u16 = 2;
    /// Extents.
    pub const BLOCK_STATUS: u16 = 5;
    /// The request failed.
    pub const ERROR: u16 = 0x8001;
}

/// What can be wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// It cannot be written.
    Perm = 1,
    /// Bytes cannot be read or made durable.
    Io = 5,
    /// The request is wrong.
    Invalid = 22,
    /// There is no room.
    NoSpace = 28,
    /// It would not be fast.
    NotSupported = 95,
    /// The server ends.
    Shutdown = 108,
}

//! A raw NBD client: it sends what it is told, and knows the protocol only as far as it must to read.

use std::io::{Read, Write};
use std::time::Duration;

pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
pub const REQUEST_MAGIC: u32 = 0x2560_9513;

pub const LIST: u32 = 3;
pub const GO: u32 = 7;
pub const STRUCTURED_REPLY: u32 = 8;
pub const SET_META_CONTEXT: u32 = 10;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISCONNECT: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const CACHE: u16 = 5;
pub const WRITE_ZEROES: u16 = 6;
pub const BLOCK_STATUS: u16 = 7;

pub const FUA: u16 = 1;
pub const NO_HOLE: u16 = 2;
pub const DF: u16 = 4;
pub const REQ_ONE: u16 = 8;
pub const FAST_ZERO: u16 = 16;

pub const EPERM: u32 = 1;
pub const EIO: u32 = 5;
pub const EINVAL: u32 = 22;
pub const ENOSPC: u32 = 28;
pub const ENOTSUP: u32 = 95;

/// How long a server may take to say anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A stream to a server.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A client that is connected.
pub struct Client {
    pub stream: Box<dyn Stream>,
    cookie: u64,
}

/// All of the reply to one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub cookie: u64,
    pub error: u32,
    pub text: String,
    /// Chunks of data and holes: their offset and bytes, or the length of the hole.
    pub pieces: Vec<(u64, Result<Vec<u8>, u32>)>,
    /// The extents of each context: length and state.
    pub status: Vec<(u32, Vec<(u32, u32)>)>,
}

impl Reply {
    /// The bytes of a read from an offset, pieces put together.
    pub fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        assert_eq!((self.error, self.text.as_str()), (0, ""));
        let mut bytes = vec![0xee; len];
        let mut covered = 0;
        for (at, piece) in &self.pieces {
            let start = (at - offset) as usize;
            match piece {
                Ok(data) => bytes[start..start + data.len()].copy_from_slice(data),
                Err(hole) => bytes[start..start + *hole as usize].fill(0),
            }
            covered += piece.as_ref().map_or_else(|hole| *hole as usize, Vec::len);
        }
        assert_eq!(covered, len, "the pieces do not cover the read");
        bytes
    }
}

impl Client {
    /// Greets a server.
    pub fn greet(stream: impl Stream + 'static) -> Self {
        let mut client = Self {
            stream: Box::new(stream),
            cookie: 0,
        };
        assert_eq!(&client.take::<18>(), b"NBDMAGICIHAVEOPT\0\x03");
        client.put(&3_u32.to_be_bytes());
        client
    }

    /// Chooses an export with simple replies.
    pub fn simple(stream: impl Stream + 'static, export: &str) -> Self {
        let mut client = Self::greet(stream);
        client.go(export);
        client
    }

    /// Greets a server that may send it away.
    pub fn try_greet(mut stream: impl Stream + 'static) -> Option<Self> {
        stream.read_exact(&mut [0; 18]).ok()?;
        let mut client = Self {
            stream: Box::new(stream),
            cookie: 0,
        };
        client.put(&3_u32.to_be_bytes());
        Some(client)
    }

    /// Chooses an export with structured replies and both contexts.
    pub fn structured(stream: impl Stream + 'static, export: &str) -> Self {
        Self::greet(stream).choose(export)
    }

    /// The same for a client that is greeted.
    pub fn choose(mut self, export: &str) -> Self {
        let client = &mut self;
        client.option(STRUCTURED_REPLY, b"");
        assert_eq!(client.answer().0, 1);
        let mut data = string(export.as_bytes());
        data.extend(2_u32.to_be_bytes());
        data.extend(string(b"base:allocation"));
        data.extend(string(b"qemu:allocation-depth"));
        client.option(SET_META_CONTEXT, &data);
        for _ in 0..2 {
            assert_eq!(client.answer().0, 4);
        }
        assert_eq!(client.answer().0, 1);
        client.go(export);
        self
    }

    /// Sends bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a server that listens");
    }

    /// Receives so many bytes.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream
            .read_exact(&mut bytes)
            .expect("bytes of the server");
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    fn bytes(&mut self, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.stream
            .read_exact(&mut bytes)
            .expect("bytes of the server");
        bytes
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(len) => len == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Sends an option.
    pub fn option(&mut self, number: u32, data: &[u8]) {
        let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
        bytes.extend(number.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        self.put(&bytes);
    }

    /// Receives an answer to an option: its kind and data.
    pub fn answer(&mut self) -> (u32, Vec<u8>) {
        assert_eq!(self.u64(), 0x0003_e889_0455_65a9);
        self.u32();
        let (kind, len) = (self.u32(), self.u32());
        (kind, self.bytes(len))
    }

    /// Chooses an export; returns its size and flags.
    pub fn go(&mut self, export: &str) -> (u64, u16) {
        let mut data = string(export.as_bytes());
        data.extend([0, 0]);
        self.option(GO, &data);
        let (kind, info) = self.answer();
        assert_eq!(kind, 3, "{}", String::from_utf8_lossy(&info));
        assert_eq!(self.answer().0, 1);
        let size = u64::from_be_bytes(info[2..10].try_into().expect("a size"));
        (size, u16::from_be_bytes([info[10], info[11]]))
    }

    /// Sends a request; returns its cookie.
    pub fn send(&mut self, command: u16, flags: u16, offset: u64, len: u32, payload: &[u8]) -> u64 {
        self.cookie += 1;
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend(payload);
        self.put(&bytes);
        self.cookie
    }

    /// Receives the reply to any request; `len` is that of a READ whose reply is simple.
    pub fn reply(&mut self, len: u32) -> Reply {
        let mut reply = Reply::default();
        loop {
            let magic = self.u32();
            if magic == 0x6744_6698 {
                (reply.error, reply.cookie) = (self.u32(), self.u64());
                if len > 0 && reply.error == 0 {
                    let data = self.bytes(len);
                    reply.pieces.push((0, Ok(data)));
                }
                return reply;
            }
            assert_eq!(magic, 0x668e_33ef);
            let head: [u8; 16] = self.take();
            let done = head[1] == 1;
            reply.cookie = u64::from_be_bytes(head[4..12].try_into().expect("a cookie"));
            let len = u32::from_be_bytes(head[12..].try_into().expect("a length"));
            let data = self.bytes(len);
            reply.chunk(u16::from_be_bytes([head[2], head[3]]), &data);
            if done {
                return reply;
            }
        }
    }

    /// A request without payload, and its reply.
    pub fn ask(&mut self, command: u16, flags: u16, offset: u64, len: u32) -> Reply {
        let cookie = self.send(command, flags, offset, len, b"");
        let simple_len = if command == READ { len } else { 0 };
        let reply = self.reply(simple_len);
        assert_eq!(reply.cookie, cookie);
        reply
    }

    /// Reads bytes that must be readable. Only for structured replies.
    pub fn read(&mut self, offset: u64, len: u32) -> Vec<u8> {
        self.ask(READ, 0, offset, len).bytes(offset, len as usize)
    }

    /// Writes bytes; returns the reply.
    pub fn try_write(&mut self, offset: u64, bytes: &[u8]) -> Reply {
        self.send(WRITE, 0, offset, bytes.len() as u32, bytes);
        self.reply(0)
    }

    /// Writes bytes that must be writable.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let reply = self.try_write(offset, bytes);
        assert_eq!((reply.error, reply.text.as_str()), (0, ""));
    }

    /// A request without payload that must succeed.
    pub fn ok(&mut self, command: u16, flags: u16, offset: u64, len: u32) {
        let reply = self.ask(command, flags, offset, len);
        assert_eq!((reply.error, reply.text.as_str()), (0, ""));
    }
}

impl Reply {
    fn chunk(&mut self, kind: u16, data: &[u8]) {
        let number = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().expect("4 bytes"));
        let offset = || u64::from_be_bytes(data[..8].try_into().expect("8 bytes"));
        match kind {
            0 => assert!(data.is_empty()),
            1 => self.pieces.push((offset(), Ok(data[8..].to_vec()))),
            2 => self.pieces.push((offset(), Err(number(8)))),
            5 => {
                let extents = (4..data.len()).step_by(8);
                let extents = extents.map(|at| (number(at), number(at + 4))).collect();
                self.status.push((number(0), extents));
            }
            0x8001 => {
                self.error = number(0);
                let len = usize::from(u16::from_be_bytes([data[4], data[5]]));
                self.text = String::from_utf8(data[6..6 + len].to_vec()).expect("UTF-8");
            }
            _ => panic!("a chunk of kind {kind}"),
        }
    }
}

/// A length and bytes.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    let mut string = (bytes.len() as u32).to_be_bytes().to_vec();
    string.extend(bytes);
    string
}

impl Client {
    /// Reads the greeting and says nothing: the stream has said it.
    pub fn greet_nothing(stream: impl Stream + 'static) -> Self {
        let mut client = Self {
            stream: Box::new(stream),
            cookie: 0,
        };
        client.take::<18>();
        client
    }
}

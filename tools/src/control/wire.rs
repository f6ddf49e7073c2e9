//! What owner and asker say to each other: a hello each, then frames.
//!
//! A frame is its length (4 bytes, little-endian), its kind (1 byte) and as many bytes as the length
//! says. **Invariant:** any bytes give a message or an error; no more is held than has arrived.

use std::io;
use std::time::Instant;

use offshoot::StoreId;
use serde::{Deserialize, Serialize};

use crate::nbd::socket::Socket;

/// Another version is not talked to.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"offshoot";
/// Magic, version, store id.
const HELLO_LEN: usize = 28;
const HEADER_LEN: usize = 5;
/// Longest request: no command line is longer but one of very many names.
pub const FRAME_LEN_MAX: usize = 1 << 20;
/// Most output in one frame.
pub const OUTPUT_LEN_MAX: usize = 64 << 10;
/// How much is received at once.
const RECEIVE_LEN: usize = 64 << 10;

const REQUEST: u8 = b'R';
const ANSWER: u8 = b'A';
const OUTPUT: u8 = b'O';
const QUESTION: u8 = b'Q';
const PROGRESS: u8 = b'P';
const DONE: u8 = b'D';
const FAILED: u8 = b'F';

/// A command for the owner.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The command line, the program's name first.
    pub args: Vec<String>,
    /// Somebody is there who can be asked whether to go on.
    pub can_ask: bool,
}

/// How far a command is.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Step {
    pub operation: String,
    pub done: u64,
    pub total: Option<u64>,
    pub finished: bool,
}

/// Why a command has failed, as it would have told it itself.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub kind: String,
    pub message: String,
    pub code: u8,
}

/// What one end says.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// To the owner: run this. The first message, and only one.
    Request(Request),
    /// To the owner: yes or no.
    Answer(bool),
    /// Bytes for standard output.
    Output(Vec<u8>),
    /// Ask the user.
    Question(String),
    /// Show how far it is.
    Progress(Step),
    /// The last message: the exit code.
    Done(u8),
    /// The last message: it has failed.
    Failed(Failed),
}

impl Message {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Request(request) => (REQUEST, json(request)),
            Self::Answer(yes) => (ANSWER, vec![u8::from(*yes)]),
            Self::Output(bytes) => return frame(OUTPUT, bytes),
            Self::Question(text) => (QUESTION, text.as_bytes().to_vec()),
            Self::Progress(step) => (PROGRESS, json(step)),
            Self::Done(code) => (DONE, vec![*code]),
            Self::Failed(failed) => (FAILED, json(failed)),
        };
        frame(kind, &payload)
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Option<Self> {
        Some(match (kind, payload.as_slice()) {
            (REQUEST, json) => Self::Request(serde_json::from_slice(json).ok()?),
            (ANSWER, [yes @ (0 | 1)]) => Self::Answer(*yes == 1),
            (OUTPUT, _) => Self::Output(payload),
            (QUESTION, _) => Self::Question(String::from_utf8(payload).ok()?),
            (PROGRESS, json) => Self::Progress(serde_json::from_slice(json).ok()?),
            (DONE, [code]) => Self::Done(*code),
            (FAILED, json) => Self::Failed(serde_json::from_slice(json).ok()?),
            _ => return None,
        })
    }
}

/// Says hello and hears it, until a moment. An end of another version or store is an error.
pub fn greet(socket: &Socket, store: StoreId, deadline: Instant) -> io::Result<()> {
    let hello = hello(store);
    socket.send_by(&hello, deadline)?;
    let mut heard = [0; HELLO_LEN];
    fill(socket, &mut heard, Some(deadline))?;
    match heard == hello {
        true => Ok(()),
        false => Err(bad("another version or store")),
    }
}

/// Receives a message; `None` when the other end has closed between two. It waits for ever, or
/// until a moment.
pub fn receive(socket: &Socket, deadline: Option<Instant>) -> io::Result<Option<Message>> {
    let mut header = [0; HEADER_LEN];
    let (first, rest) = header.split_at_mut(1);
    if receive_some(socket, first, deadline)? == 0 {
        return Ok(None);
    }
    fill(socket, rest, deadline)?;
    let [a, b, c, d, kind] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len > FRAME_LEN_MAX {
        return Err(bad("a frame that is too long"));
    }
    let mut payload = Vec::new();
    while payload.len() < len {
        let mut part = vec![0; RECEIVE_LEN.min(len - payload.len())];
        let count = receive_some(socket, &mut part, deadline)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        payload.extend(part.into_iter().take(count));
    }
    let message = Message::decode(kind, payload);
    message.map(Some).ok_or_else(|| bad("no message"))
}

fn fill(socket: &Socket, mut into: &mut [u8], deadline: Option<Instant>) -> io::Result<()> {
    while !into.is_empty() {
        let count = receive_some(socket, into, deadline)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        into = into.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

fn receive_some(socket: &Socket, into: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
    match deadline {
        Some(deadline) => socket.receive_by(into, deadline),
        None => socket.receive(into),
    }
}

fn hello(store: StoreId) -> [u8; HELLO_LEN] {
    let mut hello = [0; HELLO_LEN];
    let fields = MAGIC
        .into_iter()
        .chain(VERSION.to_le_bytes())
        .chain(store.0);
    for (byte, value) in hello.iter_mut().zip(fields) {
        *byte = value;
    }
    hello
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("BUG: a message of 4 GiB");
    let mut frame = len.to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend(payload);
    frame
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("BUG: plain fields that are no JSON")
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (Socket, Socket) {
        let (a, b) = UnixStream::pair().expect("sockets");
        (Socket::new(a.into()), Socket::new(b.into()))
    }

    fn messages() -> Vec<Message> {
        vec![
            Message::Request(Request {
                args: vec!["offshoot".to_owned(), "\u{e9}\n\"".to_owned()],
                can_ask: true,
            }),
            Message::Answer(true),
            Message::Answer(false),
            Message::Output(Vec::new()),
            Message::Output(vec![0xff; 1000]),
            Message::Question("delete all".to_owned()),
            Message::Progress(Step {
                operation: "rekey".to_owned(),
                done: u64::MAX,
                total: None,
                finished: false,
            }),
            Message::Done(130),
            Message::Failed(Failed {
                kind: "not_found".to_owned(),
                message: "none".to_owned(),
                code: 14,
            }),
        ]
    }

    #[test]
    fn what_is_said_is_heard_and_then_the_end() {
        for message in messages() {
            let (says, hears) = pair();
            says.send_all(&message.encode()).expect("a socket");
            drop(says);
            let heard = receive(&hears, None).expect("a message");
            assert_eq!(heard, Some(message));
            assert_eq!(receive(&hears, None).expect("an end"), None);
        }
    }

    #[test]
    fn a_frame_that_is_cut_off_is_an_error() {
        for message in messages() {
            let frame = message.encode();
            for len in 1..frame.len() {
                let (says, hears) = pair();
                says.send_all(&frame[..len]).expect("a socket");
                drop(says);
                assert!(receive(&hears, None).is_err(), "{len} of {message:?}");
            }
        }
    }

    #[test]
    fn a_kind_with_the_payload_of_another_is_no_message_of_it() {
        for kind in 0..=u8::MAX {
            for message in messages() {
                let payload = message.encode().split_off(HEADER_LEN);
                if let Some(decoded) = Message::decode(kind, payload) {
                    assert_eq!(decoded.encode()[4], kind);
                }
            }
        }
    }

    #[test]
    fn only_the_same_hello_is_greeted() {
        let store = StoreId([7; 16]);
        let soon = || Instant::now() + std::time::Duration::from_secs(10);
        let hellos = [
            (hello(store).to_vec(), true),
            (hello(StoreId([8; 16])).to_vec(), false),
            (hello(store)[..27].to_vec(), false),
            (vec![b'x'; HELLO_LEN], false),
        ];
        for (said, expected) in hellos {
            let (says, hears) = pair();
            says.send_all(&said).expect("a socket");
            // Who has said too little leaves.
            let _says = (said.len() == HELLO_LEN).then_some(says);
            assert_eq!(greet(&hears, store, soon()).is_ok(), expected);
        }
    }
}

//! A raw end of a control socket: it sends what it is told.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::nbd::client::PATIENCE;
use crate::support::Place;

/// A connection to the owner of a store.
pub struct Peer(pub UnixStream);

/// The sockets of owners in a place.
pub fn sockets(place: &Place) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path("run/offshoot"));
    let entries = entries.into_iter().flatten();
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

/// The hello of a store.
pub fn hello(version: u32, id: &str) -> Vec<u8> {
    let digits = id.replace('-', "");
    let bytes = (0..16).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hex"));
    let mut hello = b"offshoot".to_vec();
    hello.extend(version.to_le_bytes());
    hello.extend(bytes);
    hello
}

/// The id of the store in a place.
pub fn store_id(place: &Place) -> String {
    let info = place.json(&["store", "info"]);
    info["store"]["id"].as_str().expect("an id").to_owned()
}

impl Peer {
    /// Connects and says nothing.
    pub fn connect(place: &Place) -> Self {
        let sockets = sockets(place);
        let stream = UnixStream::connect(&sockets[0]).expect("an owner");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(stream)
    }

    /// Connects and says hello.
    pub fn greet(place: &Place, id: &str) -> Self {
        let mut peer = Self::connect(place);
        peer.put(&hello(1, id));
        let mut heard = [0; 28];
        peer.0.read_exact(&mut heard).expect("a hello");
        assert_eq!(heard.to_vec(), hello(1, id));
        peer
    }

    /// Sends bytes, if anybody takes them.
    pub fn put(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Sends a frame.
    pub fn frame(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.push(kind);
        frame.extend(payload);
        self.put(&frame);
    }

    /// Asks for a command.
    pub fn request(&mut self, args: &[&str], can_ask: bool) {
        let args: Vec<_> = ["offshoot"].iter().chain(args).collect();
        let request = json!({ "args": args, "can_ask": can_ask });
        self.frame(b'R', request.to_string().as_bytes());
    }

    /// The next frame; `None` when the owner has closed.
    pub fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        match self.0.read_exact(&mut header) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Err(error) => panic!("the owner says nothing: {error}"),
        }
        let len = u32::from_le_bytes(header[..4].try_into().expect("4 bytes"));
        let mut payload = vec![0; len as usize];
        self.0.read_exact(&mut payload).expect("a frame");
        Some((header[4], payload))
    }

    /// The next frame of a kind.
    pub fn hear_of(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let (heard, payload) = self.hear().expect("a frame");
            if heard == kind {
                return payload;
            }
        }
    }

    /// How a command has failed.
    pub fn failure(&mut self) -> Value {
        serde_json::from_slice(&self.hear_of(b'F')).expect("JSON")
    }
}

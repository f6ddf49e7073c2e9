//! The handshake on a socket, within a time.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::nbd::exports::{Export, Exports};
use crate::nbd::protocol::handshake::{Chosen, Handshake, Progress, greeting};
use crate::nbd::socket::Socket;

/// How long a client may take to choose.
const DEADLINE: Duration = Duration::from_secs(10);
/// How much is received at once.
const RECEIVE_LEN: usize = 4096;

/// A chosen export, and what came behind the choice.
pub type Agreed = (Chosen<Arc<Export>>, Vec<u8>);

/// Talks with a client until it has chosen; `None` if it leaves, or is sent away.
pub fn negotiate(socket: &Socket, exports: &Exports) -> io::Result<Option<Agreed>> {
    negotiate_within(socket, exports, DEADLINE)
}

/// The same, within a time.
pub fn negotiate_within(
    socket: &Socket,
    exports: &Exports,
    within: Duration,
) -> io::Result<Option<Agreed>> {
    let deadline = Instant::now() + within;
    socket.send_by(&greeting(), deadline)?;
    let mut handshake = Handshake::new(exports);
    let (mut input, mut out) = (Vec::new(), Vec::new());
    loop {
        let (taken, progress) = handshake.step(&input, &mut out);
        input.drain(..taken);
        socket.send_by(&out, deadline)?;
        out.clear();
        match progress {
            Progress::Chosen(chosen) => {
                socket.wait_for_ever()?;
                return Ok(Some((chosen, input)));
            }
            Progress::Closed => return Ok(None),
            Progress::Open if taken > 0 => {}
            Progress::Open => {
                let mut bytes = [0; RECEIVE_LEN];
                let len = socket.receive_by(&mut bytes, deadline)?;
                if len == 0 {
                    return Ok(None);
                }
                input.extend(bytes.iter().take(len));
            }
        }
    }
}

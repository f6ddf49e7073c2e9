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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    fn negotiated(within: Duration, client: impl FnOnce(UnixStream) + Send + 'static) -> bool {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let client = thread::spawn(move || client(ours));
        let socket = Socket::new(theirs.into());
        let outcome = negotiate_within(&socket, &Exports::new(false), within);
        socket.end();
        client.join().expect("a client");
        outcome.is_ok()
    }

    #[test]
    fn a_client_that_sends_a_byte_at_a_time_is_sent_away_in_time() {
        let begun = Instant::now();
        let in_time = negotiated(Duration::from_millis(300), |mut client| {
            // Each byte comes soon after the last one, so only a time for all of them helps.
            for byte in [0, 0, 0, 3].iter().chain(b"IHAVEOPT").cycle() {
                thread::sleep(Duration::from_millis(20));
                if client.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        });
        assert!(!in_time);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_client_that_takes_no_answers_is_sent_away_in_time() {
        let in_time = negotiated(Duration::from_millis(300), |mut client| {
            let list = b"IHAVEOPT\0\0\0\x63\0\0\0\0".repeat(1000);
            let mut greeting = [0; 18];
            let _ = client.read_exact(&mut greeting);
            let _ = client.write_all(&[0, 0, 0, 3]);
            while client.write_all(&list).is_ok() {}
        });
        assert!(!in_time);
    }
}

//! A connected socket of any family.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, UCred, connect, recv, sendmsg, shutdown, socket_with,
};

/// What the kernel is asked to keep of what a client has not taken yet, in bytes.
const SEND_BUFFER_LEN: usize = 2 << 20;

/// A connection to a client.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Of a descriptor that is connected.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Connects to a Unix socket, waiting so long if it has many clients.
    pub fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// Who is at the other end of a Unix socket.
    pub fn peer(&self) -> io::Result<UCred> {
        Ok(sockopt::socket_peercred(&self.0)?)
    }

    /// Waits for bytes; 0 when the client sends no more.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let (len, _) = retry_on_intr(|| recv(&self.0, &mut *into, RecvFlags::empty()))?;
        Ok(len)
    }

    /// Whether there are bytes to receive, or the client has ended.
    pub fn has_more(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = retry_on_intr(|| recv(&self.0, &mut [0; 1][..], flags));
        !matches!(peeked, Err(Errno::AGAIN))
    }

    /// Waits for bytes until a moment.
    pub fn receive_by(&self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        self.wait_until(Timeout::Recv, deadline)?;
        self.receive(into)
    }

    /// Sends all until a moment.
    pub fn send_by(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            self.wait_until(Timeout::Send, deadline)?;
            let len = self.send(&[IoSlice::new(bytes)])?;
            bytes = bytes.get(len..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends all, however long that takes.
    pub fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let len = self.send(&[IoSlice::new(bytes)])?;
            bytes = bytes.get(len..).unwrap_or_default();
        }
        Ok(())
    }

    /// Asks for room in the kernel for a long reply, so that its sender and the client do not wait for each
    /// other all the way. The system gives as much as it lets anybody have.
    pub fn grow_send_buffer(&self) {
        // Without it sending is slower, no more.
        let _ = sockopt::set_socket_send_buffer_size(&self.0, SEND_BUFFER_LEN);
    }

    /// Calls wait for ever from now on.
    pub fn wait_for_ever(&self) -> io::Result<()> {
        sockopt::set_socket_timeout(&self.0, Timeout::Recv, None)?;
        sockopt::set_socket_timeout(&self.0, Timeout::Send, None)?;
        Ok(())
    }

    /// Sends some, waiting until that can be.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_with(parts, SendFlags::NOSIGNAL)
    }

    /// Sends some, or `WouldBlock`.
    pub fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_with(parts, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    /// Takes no more from the client.
    pub fn end_receiving(&self) {
        // If it is not connected any more, that is as good.
        let _ = shutdown(&self.0, Shutdown::Read);
    }

    /// Ends the connection under whoever waits for it.
    pub fn end(&self) {
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    fn send_with(&self, parts: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
        let sent =
            retry_on_intr(|| sendmsg(&self.0, parts, &mut SendAncillaryBuffer::default(), flags))?;
        Ok(sent)
    }

    fn wait_until(&self, which: Timeout, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::TIMEDOUT.into());
        }
        // Less than the kernel's unit would mean for ever.
        let left = left.max(Duration::from_millis(1));
        Ok(sockopt::set_socket_timeout(&self.0, which, Some(left))?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_was_sent_is_seen_before_it_is_received_and_so_is_the_end() {
        let (client, server) = UnixStream::pair().expect("a pair");
        let (client, server) = (Socket::new(client.into()), Socket::new(server.into()));
        assert!(!server.has_more());
        client.send_all(b"x").expect("a byte");
        assert!(server.has_more());
        assert_eq!(server.receive(&mut [0; 8]).expect("a byte"), 1);
        assert!(!server.has_more());
        drop(client);
        assert!(server.has_more());
    }
}
